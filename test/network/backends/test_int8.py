"""The encoder in 8-bit integers against the encoder, and the two rules that make its integers."""

import math

import pytest
import torch
from checkout import ROOT

from shared_pose_ros.bundle import BundleError, load_bundle
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.inference_cost import noise_frame
from shared_pose_ros.network.backends import int8
from shared_pose_ros.network.backends.folding import FoldedBlock
from shared_pose_ros.network.backends.fused import FusedNetwork
from shared_pose_ros.network.backends.int8 import Int8Encoder, feature_range, round_kernel
from shared_pose_ros.network.backends.precision import has_int8
from shared_pose_ros.network.crop import crop_objects, normalize_crops
from shared_pose_ros.network.strided_encoder import CompactEncoder
from shared_pose_ros.replay.bag_frames import read_frames

MODELS = ROOT / "models"
DEMO = MODELS / "demo_parts.pose.pt"
needs_int8 = pytest.mark.skipif(not has_int8(), reason="the processor has no 8-bit dot products")


@pytest.fixture(scope="module")
def network():
    return load_bundle(DEMO).module.network


@pytest.fixture(scope="module")
def crops():
    """Of the demo's parts, (B, 3, 64, 64), and the objects' numbers."""
    facts = load_bundle(DEMO).metadata
    known = {item.class_id: number for number, item in enumerate(facts.objects)}
    found, index = [], []
    for frame in read_frames(MODELS / "demo_bag")[:4]:
        boxes = torch.tensor([frame.boxes[name].tolist() for name in frame.boxes], dtype=torch.float32)
        found.append(normalize_crops(crop_objects(torch.tensor(frame.image), boxes, facts.crop_pad, facts.crop_size)))
        index += [known[frame.truth[name].class_id] for name in frame.boxes]
    return torch.cat(found), torch.tensor(index)


def difference(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@needs_int8
def test_a_trained_encoder_keeps_its_codes_and_poses(network, crops):
    images, index = crops
    encoder = Int8Encoder(network.encoder.state_dict(), 64).eval()
    with torch.no_grad():
        expected, found = network.encoder(images), encoder(images)
        assert found.dtype == torch.float32 and difference(found, expected) < 0.05
        (rotations, logits), (turned, _) = (network.hypotheses(codes, index) for codes in (expected, found))
    first, rows = logits.argmax(1), torch.arange(len(index))
    trace = torch.einsum("bij,bij->b", rotations[rows, first], turned[rows, first])
    angles = torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))
    assert len(angles) > 20 and float(angles.median()) < 2.0
    # A border of zeros, of the first block's input or of another map, would be seen.
    for number in range(1, 4):
        broken = Int8Encoder(network.encoder.state_dict(), 64)
        broken.borders[number] = torch.full_like(broken.borders[number], int8.OFFSET)
        with torch.no_grad():
            assert (broken(images) - expected).norm() > 2 * (found - expected).norm()


@needs_int8
def test_other_crops_of_a_call_change_nothing(network, crops):
    images = crops[0][:7]
    encoder = torch.jit.script(Int8Encoder(network.encoder.state_dict(), 64).eval())
    with torch.no_grad():
        together = encoder(torch.cat([images, torch.ones(2, 3, 64, 64), torch.zeros(1, 3, 64, 64)]))
        for number in range(7):
            assert torch.equal(encoder(images[number : number + 1])[0], together[number])


@needs_int8
def test_norms_that_no_training_leaves_are_computed_too():
    """Channels that are off or reversed, means of 0, borders far from the features: finite, and near where trained."""
    torch.manual_seed(0)
    encoder = CompactEncoder(48)
    dice = torch.Generator().manual_seed(1)
    for block in encoder.blocks:
        block.norm.momentum = None
        block.norm.weight.data.uniform_(-1.5, 1.5, generator=dice)
        block.norm.bias.data.uniform_(-1.0, 1.0, generator=dice)
        block.norm.weight.data[3] = 0.0
        block.convolution.bias.data[5] = -100.0  # never on
    crops = torch.rand(16, 3, 48, 48, generator=dice)
    with torch.no_grad():
        encoder.train()(crops)
        encoder.eval()
        assert difference(Int8Encoder(encoder.state_dict(), 48)(crops), encoder(crops)) < 0.05
        for block in encoder.blocks:
            block.norm.reset_running_stats()
        assert Int8Encoder(encoder.state_dict(), 48)(crops).isfinite().all()


def block_of(mean, deviation):
    empty = torch.zeros(0)
    return FoldedBlock(empty, empty, empty, empty, torch.tensor(mean), torch.tensor(deviation), 8)


def test_ranges_are_exceeded_as_rarely_as_they_say(monkeypatch):
    monkeypatch.setattr(int8, "_TAIL", 4.0)
    dice = torch.Generator().manual_seed(0)
    drawn = torch.empty(4, 200_000).exponential_(generator=dice)
    # On in a tenth, in half and in all of the cases, the mean then 3; and never below 2.
    on = torch.rand(4, 200_000, generator=dice) < torch.tensor([[0.1], [0.5], [1.0], [1.0]])
    features = torch.where(on, drawn * torch.tensor([[3.0], [3.0], [3.0], [1.0]]), 0.0)
    features[3] += 2.0
    block = block_of(features.mean(1).tolist(), features.std(1).tolist())
    exceeded = (features > feature_range(block, torch.zeros(4))[:, None]).double().mean(1)
    torch.testing.assert_close(exceeded, torch.full_like(exceeded, math.exp(-4.0)), rtol=0.08, atol=0)


def test_borders_fit_into_the_ranges():
    block = block_of([1.0, 1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0, 0.0])
    border = torch.tensor([0.0, 50.0, -9.0, -0.25, 0.0])
    found = feature_range(block, border)
    assert found[0] == 12.0 and found[1] == 50.0 and found[4] > 0
    integers = border / found * (255 - int8.OFFSET) + int8.OFFSET
    assert (integers[[0, 1, 2, 3]] > -1e-3).all() and (integers < 255.001).all()
    assert integers[2] == pytest.approx(0.0, abs=1e-3) and integers[3] == pytest.approx(0.0, abs=1e-3)


def test_rounding_keeps_what_neighbours_share():
    dice = torch.Generator().manual_seed(0)
    kernel = torch.randn(4, 3, 5, 5, generator=dice)
    integers, step = round_kernel(kernel, 0.7)
    assert integers.dtype == torch.int8 and int(integers.abs().max()) == 127
    torch.testing.assert_close(step, kernel.abs().amax((1, 2, 3)) / 127)
    plain = (kernel / step[:, None, None, None]).round()
    # Neighbours that correlate as assumed, drawn: the error of the sums is a fraction of that of plain rounding.
    places = torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0))
    covariance = 0.7 ** (places[:, None] - places).abs().sum(-1) + 0.2
    inputs = torch.randn(2000, 3, 25, generator=dice) @ torch.linalg.cholesky(covariance).T
    sums = [torch.einsum("oik,bik->bo", (q * step[:, None, None, None] - kernel).flatten(2), inputs).square().mean()
            for q in (integers, plain)]  # fmt: skip
    assert sums[0] < 0.5 * sums[1]
    single = torch.randn(6, 8, 1, 1, generator=dice)
    integers, step = round_kernel(single, 0.7)
    assert torch.equal(integers, (single / step[:, None, None, None]).round().to(torch.int8))


@needs_int8
@pytest.mark.slow
def test_estimators_run_in_it_when_asked_and_where_auto_finds_the_same_codes(tiny_bundle, monkeypatch):
    before = DEMO.read_bytes()
    estimator = PoseEstimator.load(DEMO, "cpu", "int8")
    image, boxes, index = noise_frame(5, len(estimator.metadata.objects))
    assert estimator.precision == "int8" and estimator.estimate(image, boxes, index).rotations.shape[0] == 5
    assert DEMO.read_bytes() == before and load_bundle(DEMO).precision == "fp32"
    # Norms that were never trained know nothing of the features.
    with pytest.raises(BundleError, match="cannot run in int8: its latent codes would differ.*give precision auto"):
        PoseEstimator.load(tiny_bundle, "cpu", "int8")
    assert PoseEstimator.load(tiny_bundle, "cpu", "auto").precision in ("bf16", "fp32")
    monkeypatch.setattr("shared_pose_ros.network.backends.precision.has_int8", lambda *_: False)
    with pytest.raises(ValueError, match="int8 needs an x86 processor"):
        PoseEstimator.load(DEMO, "cpu", "int8")


@needs_int8
def test_crops_in_parts_are_the_crops_in_one(network, crops):
    images, index = crops
    fast = FusedNetwork(network, 64, "int8").eval()
    with torch.no_grad():
        whole = fast.code(images)
        fast.at_once = 3
        assert torch.equal(fast.code(images[:10]), whole[:10])
        assert fast.code(images[:0]).shape == (0, 128) and fast(images[:0], index[:0])[0].shape[0] == 0
