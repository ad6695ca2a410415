"""The fused form of a network against its plain form."""

import numpy as np
import pytest
import torch
from bundle_facts import make_metadata

from shared_pose_ros.bundle import BundleError, export_bundle, load_bundle
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.inference_cost import noise_frame
from shared_pose_ros.network.backends import fused, int8
from shared_pose_ros.network.backends.fused import FusedEncoder, FusedNetwork
from shared_pose_ros.network.backends.precision import CODE_TOLERANCES
from shared_pose_ros.network.codebook_network import Codebook, CodebookNetwork
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.network.strided_encoder import CompactEncoder


def trained(encoder):
    """Norms as a training leaves them: shifts matter, also at the border; one channel is off."""
    generator = torch.Generator().manual_seed(1)
    for block in encoder.blocks:
        for tensor, low, high in (
            (block.norm.running_mean, 0.0, 0.5),
            (block.norm.running_var, 0.2, 2.0),
            (block.norm.weight.data, -1.5, 1.5),
            (block.norm.bias.data, -1.0, 1.0),
        ):
            tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))
        block.norm.weight.data[3] = 0.0
    return encoder.eval()


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return trained(CompactEncoder(48))


def difference(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_fused_encoder_is_the_encoder(encoder, monkeypatch, packed, precision):
    if not packed:
        monkeypatch.setattr(fused, "can_pack", lambda device, precision: False)
    fast = FusedEncoder(encoder.state_dict(), 48, precision).eval()
    assert packed or not fast.packed
    with torch.no_grad():
        for count in (1, 3, 8, 20):
            crops = torch.rand(count, 3, 48, 48, generator=torch.Generator().manual_seed(count))
            codes = fast(crops)
            assert codes.dtype == torch.float32
            assert difference(codes, encoder(crops)) < {"fp32": 1e-5, "bf16": 0.02}[precision]


def test_a_border_of_zeros_would_be_wrong(encoder):
    fast = FusedEncoder(encoder.state_dict(), 48, "fp32").eval()
    fast.borders = [torch.zeros_like(border) for border in fast.borders]
    crops = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert difference(fast(crops), encoder(crops)) > 0.01


def test_only_x86_with_the_instructions_packs(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(fused, "has_bf16", lambda: False)
    assert not fused.can_pack(cpu, "bf16") and not fused.can_pack(torch.device("cuda"), "fp32")
    monkeypatch.setattr(fused.platform, "machine", lambda: "aarch64")
    assert not fused.can_pack(cpu, "fp32")


@pytest.mark.parametrize("normalize", [True, False])
def test_networks_answer_alike(normalize):
    torch.manual_seed(0)
    network = PoseNetwork(3, 4, "compact", 32, normalize).eval()
    trained(network.encoder)
    book = CodebookNetwork(network.encoder, Codebook(torch.eye(128)[None].expand(3, -1, -1), torch.rand(128, 3, 3), 2))
    crops, index = torch.rand(5, 3, 32, 32), torch.tensor([0, 1, 2, 1, 0])
    with torch.no_grad():
        for one in (network, book.eval()):
            fast = FusedNetwork(one, 32, "fp32").eval()
            torch.testing.assert_close(fast(crops, index), one(crops, index), atol=1e-4, rtol=1e-4)
            assert fused.why_not_fused(one, crops) == ""
            # In parts: 2 + 2 + 1 crops.
            fast.at_once = 2
            torch.testing.assert_close(fast(crops, index), one(crops, index), atol=1e-4, rtol=1e-4)
            assert fast.code(crops[:0]).shape == (0, 128)
    assert fused.why_not_fused(torch.nn.Linear(2, 2), crops) == "its network has no encoder"


@pytest.mark.slow
def test_an_estimator_answers_as_the_network_of_the_file(tiny_bundle):
    plain = load_bundle(tiny_bundle).module
    image, boxes, index = noise_frame(9, 3)
    with torch.no_grad():
        rotations, confidences = plain(
            torch.from_numpy(image), torch.from_numpy(boxes).float(), torch.from_numpy(index)
        )
    for precision, limit in (("fp32", 1e-4), ("bf16", 0.05)):
        estimator = PoseEstimator.load(tiny_bundle, "cpu", precision)
        assert estimator.precision == precision
        found = estimator.estimate(image, boxes, index)
        np.testing.assert_allclose(found.confidences, confidences, atol=limit)
        weighted = [(r * c[..., None, None]).sum(1) for r, c in
                    ((found.rotations, found.confidences), (rotations.numpy(), confidences.numpy()))]  # fmt: skip
        np.testing.assert_allclose(weighted[0], weighted[1], atol=limit)
    assert PoseEstimator.load(tiny_bundle, "cpu").precision in ("fp32", "bf16")  # int8 is for trained networks
    with pytest.raises(ValueError, match="fp16 is for GPUs"):
        PoseEstimator.load(tiny_bundle, "cpu", "fp16")


@pytest.mark.slow
def test_a_fused_form_that_computes_otherwise_is_not_taken(tiny_bundle, monkeypatch):
    monkeypatch.setitem(CODE_TOLERANCES, "bf16", 1e-6)
    with pytest.raises(BundleError, match=r"cannot run in bf16: its latent codes would differ .*\(limit 1e-06\)"):
        load_bundle(tiny_bundle, "cpu", "bf16")
    monkeypatch.setattr(fused.FusedEncoder, "forward", lambda self, crops: torch.zeros(len(crops), 128))
    monkeypatch.setattr(int8.Int8Encoder, "forward", lambda self, crops: torch.zeros(len(crops), 128))
    bundle = load_bundle(tiny_bundle, "cpu", "auto")
    assert bundle.precision == "fp32" and "not fused: its latent codes would differ by 1 of" in bundle.remark
    assert "network.encoder.linear.weight" in bundle.module.state_dict()


@pytest.mark.slow
def test_half_storage_makes_the_round_trip(tiny_bundle, tmp_path):
    torch.manual_seed(0)
    network = PoseNetwork(3, 4, "compact", 32).eval()
    exact = network.encoder.linear.weight.clone()
    written = export_bundle(network, make_metadata(storage="fp16"), tmp_path / "half.pose.pt")
    assert network.encoder.linear.weight.dtype == torch.float32
    torch.testing.assert_close(network.encoder.linear.weight, exact, atol=2**-25, rtol=2**-11)
    # Weights are nearly all of a bundle; the rest, the graph and the facts, is as large in both.
    half, whole = (tmp_path / "half.pose.pt").stat().st_size, tiny_bundle.stat().st_size
    saved = 2 * sum(tensor.numel() for tensor in network.parameters() if tensor.ndim > 1)
    assert whole - half == pytest.approx(saved, rel=0.01)
    bundle = load_bundle(tmp_path / "half.pose.pt")
    assert bundle.metadata == written and written.storage == "fp16"
    for name, tensor in bundle.module.network.state_dict().items():
        torch.testing.assert_close(tensor, network.state_dict()[name], atol=0, rtol=0)
    plain, rounded = (PoseEstimator.load(path, "cpu", "fp32") for path in (tiny_bundle, tmp_path / "half.pose.pt"))
    image, boxes, index = noise_frame(4, 3)
    first, second = plain.estimate(image, boxes, index), rounded.estimate(image, boxes, index)
    np.testing.assert_allclose(first.confidences, second.confidences, atol=2e-3)
    with torch.no_grad():
        network.encoder.linear.weight[0, 0] = 1e6
    with pytest.raises(BundleError, match="cannot be stored in fp16.*without --half"):
        export_bundle(network, make_metadata(storage="fp16"), tmp_path / "x.pose.pt")
    with pytest.raises(BundleError, match="storage is 'int4'"):
        export_bundle(network, make_metadata(storage="int4"), tmp_path / "x.pose.pt")
