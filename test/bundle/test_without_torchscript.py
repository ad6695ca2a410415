"""Bundles outlive TorchScript: old and new files load, and answer as before, where all of torch.jit fails."""

import dataclasses

import numpy as np
import pytest
import torch
from bundle_facts import make_meshes, make_metadata
from checkout import ROOT

from shared_pose_ros.bundle import BundleError, copy_with_meshes, export_bundle, load_bundle
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.inference_cost import noise_frame
from shared_pose_ros.network.codebook_network import Codebook, CodebookNetwork
from shared_pose_ros.network.inference_module import PixelsToHypotheses
from shared_pose_ros.network.pose_head import PoseHead
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.network.separate_heads import SeparateHeads
from shared_pose_ros.network.strided_encoder import CompactEncoder

# Exported by earlier versions of the package, whose classes had other names and modules.
OLD = [ROOT / "models" / name for name in ("demo_parts.pose.pt", "tless30.pose.pt")]
CALLS = ("load", "script", "trace", "save", "freeze", "jit_module_from_flatbuffer", "optimize_for_inference")


@pytest.fixture
def no_torchscript(monkeypatch):
    """Whatever of TorchScript reads, compiles or writes raises."""

    def gone(*_, **__):
        raise RuntimeError("TorchScript was removed")

    for name in CALLS:
        monkeypatch.setattr(torch.jit, name, gone)
    for name in ("import_ir_module", "import_ir_module_from_buffer"):
        monkeypatch.setattr(torch._C, name, gone)


def shared(hypotheses=4):
    return PoseNetwork(3, hypotheses, "compact", 32, normalize_code=True)


def separate():
    network = shared()
    network.head = SeparateHeads([PoseHead(1, 4) for _ in range(3)])
    return network


def codebook():
    views = torch.linalg.qr(torch.randn(20, 3, 3))[0]
    codes = torch.nn.functional.normalize(torch.randn(3, 20, 128), dim=2)
    return CodebookNetwork(CompactEncoder(32), Codebook(codes.half(), views, 4))


def answer(module, frame):
    image, boxes, index = frame
    with torch.inference_mode():
        return module(torch.from_numpy(image), torch.from_numpy(boxes).float(), torch.from_numpy(index))


@pytest.mark.slow
@pytest.mark.parametrize("make", [shared, separate, codebook])
@pytest.mark.parametrize(("storage", "rotations"), [("fp32", 4), ("fp16", 1)])
def test_a_new_bundle_is_the_eager_network_to_the_bit(make, storage, rotations, tmp_path, request):
    torch.manual_seed(0)
    network, path = make().eval(), tmp_path / "new.pose.pt"
    metadata = dataclasses.replace(make_metadata(storage=storage), normalize_code=True, tta_rotations=rotations)
    metadata = export_bundle(network, metadata, path, make_meshes())
    request.getfixturevalue("no_torchscript")
    bundle = load_bundle(path)
    assert bundle.metadata == metadata and [mesh is None for mesh in bundle.meshes] == [False, False, True]
    assert type(bundle.module.network) is type(network) and bundle.remark == ""
    assert bundle.module.network.state_dict().keys() == network.state_dict().keys()
    for name, tensor in bundle.module.network.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name
    eager = PixelsToHypotheses(network, 1.2, 32, rotations).eval()
    frame = noise_frame(9, 3)
    for found, expected in zip(answer(bundle.module, frame), answer(eager, frame)):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.name)
def test_an_old_bundle_is_the_graph_that_it_holds(path, request):
    graph = torch.jit.load(str(path)).eval().float()
    expected = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    request.getfixturevalue("no_torchscript")
    bundle = load_bundle(path)
    assert bundle.module.state_dict().keys() == expected.keys() and bundle.remark == ""
    assert bundle.metadata.tta_rotations == 4
    assert all(torch.equal(tensor, expected[name]) for name, tensor in bundle.module.state_dict().items())
    # T-LESS's CAD may not be given away.
    assert [mesh is not None for mesh in bundle.meshes] == [path is OLD[0]] * len(bundle.metadata.objects)
    frame = noise_frame(8, len(bundle.metadata.objects))
    # The graph of an older version crops by other sums: the last digits differ.
    for one, other in zip(answer(bundle.module, frame), answer(graph, frame)):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("path", OLD, ids=lambda path: path.name)
@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_an_estimator_without_it_answers_to_the_bit_as_with_it(path, precision, request):
    with_it = PoseEstimator.load(path, "cpu", precision)
    frame = noise_frame(7, len(with_it.metadata.objects))
    expected = with_it.estimate(*frame)
    request.getfixturevalue("no_torchscript")
    without = PoseEstimator.load(path, "cpu", precision)
    assert without.precision == with_it.precision and with_it.remark == ""
    assert without.remark == "TorchScript cannot compile it (RuntimeError: TorchScript was removed)"
    found = without.estimate(*frame)
    np.testing.assert_array_equal(found.rotations, expected.rotations)
    np.testing.assert_array_equal(found.confidences, expected.confidences)


def test_meshes_are_added_without_it_and_the_graph_stays(tiny_network, tmp_path, request):
    plain, out = tmp_path / "plain.pose.pt", tmp_path / "with.pose.pt"
    export_bundle(tiny_network, make_metadata(), plain)
    request.getfixturevalue("no_torchscript")
    copy_with_meshes(plain, out, make_meshes())
    assert load_bundle(out).meshes[0] is not None
    request.getfixturevalue("monkeypatch").undo()
    frame = noise_frame(3, 3)
    graphs = [torch.jit.load(str(path)) for path in (plain, out)]
    for one, other in zip(*(answer(graph, frame) for graph in graphs)):
        assert torch.equal(one, other)


def test_a_network_of_other_classes_is_refused_by_name(tmp_path, request):
    network = shared().eval()
    network.head.output = torch.nn.Sequential(network.head.output)
    metadata = dataclasses.replace(make_metadata(), normalize_code=True)
    export_bundle(network, metadata, tmp_path / "foreign.pose.pt")
    request.getfixturevalue("no_torchscript")
    with pytest.raises(BundleError, match=r"weights are not .* first is network\.head\.output\.0\.bias.*was removed"):
        load_bundle(tmp_path / "foreign.pose.pt")
