"""The fused refiner against the refiner as it was trained."""

import math

import pytest
import torch

from shared_pose_ros.geometry.rotations import rotation_angle
from shared_pose_ros.network.backends.fused import can_pack
from shared_pose_ros.network.backends.fused_refiner import FusedRefiner
from shared_pose_ros.network.backends.precision import has_bf16
from shared_pose_ros.network.refiner import REFINER_SIZE, RENDER_CHANNELS, PoseRefiner

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained():
    """A refiner whose norms have seen something; one channel of each trunk is switched off."""
    torch.manual_seed(0)
    network = PoseRefiner()
    with torch.no_grad():
        for _ in range(5):
            network(*given(), torch.arange(3).repeat_interleave(2))
        for name, parameter in network.named_parameters():
            if "norm" in name or ".1." in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
        network.crop_blocks[1].norm.weight[3] = 0.0
        network.render_blocks[2].norm.weight[5] = 0.0
        network.output.weight.mul_(60)
    return network.eval()


def given(seed=0):
    generator = torch.Generator().manual_seed(seed)
    crops = torch.randn(3, 3, REFINER_SIZE, REFINER_SIZE, generator=generator)
    return crops, torch.randn(6, RENDER_CHANNELS, REFINER_SIZE, REFINER_SIZE, generator=generator)


@pytest.mark.parametrize(("precision", "degrees", "logarithm"), [("fp32", 0.01, 1e-4), ("bf16", 2.0, 0.1)])
def test_it_answers_as_the_network_does(trained, precision, degrees, logarithm):
    if not can_pack(CPU, precision) or (precision == "bf16" and not has_bf16()):
        pytest.skip("this processor has no such convolutions")
    crop_of = torch.tensor([2, 0, 1, 1, 0, 2])
    with torch.inference_mode():
        crops, renders = given(1)
        increments, errors = trained(crops, renders, crop_of)
        fused = FusedRefiner(trained, precision)
        found, found_errors = fused.compare(fused.seen(crops), renders, crop_of)
    assert rotation_angle(increments, torch.eye(3).expand(6, 3, 3)).amin() > math.radians(5)
    assert rotation_angle(found, increments).amax() < math.radians(degrees)
    assert (found_errors - errors).abs().amax() < logarithm


def test_it_says_where_it_cannot(trained, monkeypatch):
    monkeypatch.setattr("shared_pose_ros.network.backends.fused_refiner.can_pack", lambda *_: False)
    with pytest.raises(ValueError, match="precision fp32 cannot be fused on this processor"):
        FusedRefiner(trained, "fp32")
