"""The auxiliary surface decoder: shapes, locality, and the target's cells."""

import torch

from shared_pose_ros.network.strided_encoder import CompactEncoder
from shared_pose_ros.training.auxiliary_decoder import SURFACE_CHANNELS, SurfaceDecoder, surface_target


def test_the_map_has_a_cell_for_every_four_pixels_at_every_crop_size():
    for size in (32, 48, 64):
        maps = CompactEncoder(size).eval().maps(torch.rand(2, 3, size, size))
        decoded = SurfaceDecoder(3, "compact")(maps, torch.tensor([0, 2]))
        assert decoded.shape == (2, SURFACE_CHANNELS, size // 4, size // 4)


def test_every_cell_is_read_off_from_its_own_features():
    torch.manual_seed(0)
    decoder = SurfaceDecoder(2, "compact")
    maps = [torch.zeros(1)] * 2 + [torch.rand(1, 128, 8, 8), torch.rand(1, 128, 4, 4)]
    index = torch.tensor([1])
    before = decoder(maps, index)
    changed = [*maps[:3], maps[3].clone()]
    changed[3][:, :, 1, 2] += 1.0
    moved = ((decoder(changed, index) - before).abs().amax(dim=1)[0] > 1e-6).nonzero()
    assert moved.amin(dim=0).tolist() == [4, 8] and moved.amax(dim=0).tolist() == [7, 11]
    assert not torch.equal(decoder(maps, torch.tensor([0])), before)


def test_the_target_is_the_mean_of_each_cell():
    layers = torch.rand(2, SURFACE_CHANNELS, 16, 16)
    target = surface_target(layers)
    assert target.shape == (2, SURFACE_CHANNELS, 4, 4)
    torch.testing.assert_close(target[1, 3, 2, 1], layers[1, 3, 8:12, 4:8].mean())
