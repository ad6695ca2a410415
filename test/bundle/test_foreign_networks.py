"""Bundles of networks that this package's classes do not describe run as the graph that was exported."""

import pytest
import torch
import torch.nn.functional as F
from bundle_facts import make_metadata
from torch import nn

from shared_pose_ros.bundle import BundleError, export_bundle, load_bundle
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.inference_cost import noise_frame
from shared_pose_ros.network.crop import crop_objects, normalize_crops
from shared_pose_ros.network.inference_module import PixelsToHypotheses
from shared_pose_ros.network.pose_head import PoseHead
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.network.strided_encoder import CompactEncoder

CHANNELS = CompactEncoder.channels


class Block(nn.Module):
    """As the package's block, with its sizes free; what halves the map is a stride or a mean."""

    def __init__(self, channels_in, channels_out, kernel=5, stride=2, groups=1, norm=True, bias=True, slope=0.0):
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(channels_out) if norm else nn.Identity()
        self.slope, self.shrink = slope, 2 // stride

    def forward(self, features):
        return F.avg_pool2d(self.norm(F.leaky_relu(self.convolution(features), self.slope)), self.shrink)


class Blocks(nn.Module):
    """An encoder with the attributes of the package's own, of any number and kind of blocks."""

    def __init__(self, channels=CHANNELS, latent=128, **kind):
        super().__init__()
        sizes = (3, *channels)
        self.blocks = nn.Sequential(*(Block(a, b, **kind) for a, b in zip(sizes, sizes[1:])))
        self.linear = nn.Linear(channels[-1] * (32 >> len(channels)) ** 2, latent)

    def forward(self, crops):
        return self.linear(self.blocks(crops).flatten(1))


class Residual(nn.Module):
    """An encoder with other attributes altogether."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 4, 4)
        self.branch = nn.Sequential(nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))
        self.project = nn.Linear(32, 128)

    def forward(self, crops):
        features = self.stem(crops)
        return self.project((features + self.branch(features)).mean((2, 3)))


class NamedAlike(nn.Module):
    """Blocks and a linear layer that are something else."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Conv2d(3, 8, 8, 8)
        self.linear = nn.Conv2d(8, 128, 4)

    def forward(self, crops):
        return self.linear(torch.tanh(self.blocks(crops))).flatten(1)


class Leaky(CompactEncoder):
    """The package's encoder by names and shapes, which computes something else."""

    def forward(self, crops):
        return self.linear(torch.flatten(torch.tanh(self.blocks(crops)), 1))


class Pooled(nn.Module):
    """Without any weight of its own."""

    def forward(self, crops):
        return F.adaptive_avg_pool2d(crops.mean(1), (8, 16)).flatten(1)


KINDS = {
    "other attributes": Residual,
    "attributes of other types": NamedAlike,
    "three blocks": lambda: Blocks(CHANNELS[:3]),
    "five blocks": lambda: Blocks((*CHANNELS, 32)),
    "kernels of 3": lambda: Blocks(kernel=3),
    "stride of 1": lambda: Blocks(stride=1),
    "without norms": lambda: Blocks(norm=False),
    "convolutions without bias": lambda: Blocks(bias=False),
    "leaky": lambda: Blocks(slope=0.3),
    "in groups": lambda: Blocks((33, 66, 66, 66), groups=3),
    "latent codes of 64": lambda: Blocks(latent=64),
    "names and shapes alike": lambda: Leaky(32),
    "no weights": Pooled,
}


class NarrowHead(nn.Module):
    """A head that takes latent codes of 64."""

    def __init__(self):
        super().__init__()
        self.wide = PoseHead(3, 4)
        self.objects, self.hypotheses = 3, 4

    def forward(self, code, object_index):
        return self.wide(F.pad(code, [0, 64]), object_index)


def network_with(encoder):
    """Random weights, as if trained: norms let the differences between crops through."""
    network = PoseNetwork(3, 4, "compact", 32)
    network.encoder = encoder
    if encoder(torch.rand(2, 3, 32, 32)).shape[1] == 64:
        network.head = NarrowHead()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
                module.running_var.uniform_(0.01, 0.05)
                module.weight.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_another_encoder_runs_as_it_was_exported(kind, tmp_path):
    torch.manual_seed(0)
    network = network_with(KINDS[kind]())
    path = tmp_path / "foreign.pose.pt"
    export_bundle(network, make_metadata(), path)
    image, boxes, index = noise_frame(9, 3)
    tensors = torch.from_numpy(image), torch.from_numpy(boxes).float(), torch.from_numpy(index)
    with torch.no_grad():
        expected = PixelsToHypotheses(network, 1.2, 32).eval()(*tensors)
    assert float(expected[0].std(dim=0).max()) > 0.1  # the crops are told apart
    for precision in (None, "auto", "fp32"):
        bundle = load_bundle(path, "cpu", precision)
        assert bundle.precision == "fp32" and bundle.remark.startswith("it runs as the graph that was exported: ")
        with torch.no_grad():
            torch.testing.assert_close(bundle.module(*tensors), expected, atol=1e-5, rtol=0)
    with pytest.raises(BundleError, match="cannot run in bf16: "):
        PoseEstimator.load(path, "cpu", "bf16")


def test_a_foreign_head_does_not_slow_down_the_packages_encoder(tmp_path):
    torch.manual_seed(0)
    network, path = network_with(CompactEncoder(32)), tmp_path / "foreign.pose.pt"
    network.head.output = nn.Sequential(network.head.output)
    export_bundle(network, make_metadata(), path)
    image, boxes, index = noise_frame(9, 3)
    expected = load_bundle(path)
    assert "not those of a compact encoder and a head" in expected.remark
    bundle = load_bundle(path, "cpu", "bf16")
    assert (bundle.precision, bundle.remark) == ("bf16", "")
    tensors = torch.from_numpy(image), torch.from_numpy(boxes).float(), torch.from_numpy(index)
    with torch.no_grad():
        found, plain = bundle.module(*tensors), expected.module(*tensors)
    torch.testing.assert_close(found[1], plain[1], atol=0.05, rtol=0)


class Mirrored(PixelsToHypotheses):
    """As of a version of the package with another convention."""

    def __init__(self, network, metadata):
        super().__init__(network, metadata.crop_pad, metadata.crop_size)

    def forward(self, image, boxes, object_index):
        crops = normalize_crops(crop_objects(image, boxes, self.crop_pad, self.crop_size))
        rotations, logits = self.network(crops.flip(3), object_index)
        return rotations, torch.softmax(logits, dim=1)


def test_what_an_older_version_computed_around_the_network_stays(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network, path = network_with(CompactEncoder(32)), tmp_path / "older.pose.pt"
    with monkeypatch.context() as patch:
        patch.setattr("shared_pose_ros.bundle.exporting.inference_module", Mirrored)
        export_bundle(network, make_metadata(), path)
    image, boxes, index = noise_frame(9, 3)
    tensors = torch.from_numpy(image), torch.from_numpy(boxes).float(), torch.from_numpy(index)
    with torch.no_grad():
        expected = Mirrored(network, make_metadata()).eval()(*tensors)
    for precision in (None, "auto"):
        bundle = load_bundle(path, "cpu", precision)
        assert bundle.precision == "fp32" and "with its weights computes other poses" in bundle.remark
        with torch.no_grad():
            torch.testing.assert_close(bundle.module(*tensors), expected, atol=1e-5, rtol=0)
    with pytest.raises(BundleError, match="cropping and merging give other poses than its graph"):
        load_bundle(path, "cpu", "bf16")
