"""Reads and verifies bundles, and makes the fastest form of their network that computes the same."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from shared_pose_ros.bundle import torchscript
from shared_pose_ros.bundle.archive import Archive, ArchiveError, first_line, last_line, read_archive
from shared_pose_ros.bundle.example import BOXES, Answer, answer, disagreement, example_input, unpack_answer
from shared_pose_ros.bundle.metadata import BundleError, BundleMetadata
from shared_pose_ros.bundle.rebuild import inference_module, rebuild
from shared_pose_ros.bundle.refiner_entry import REFINER_ENTRY, Refiner, unpack_refiner
from shared_pose_ros.geometry.display_mesh import MOST_FACES, MOST_FINE_FACES, DisplayMesh, unpack_meshes
from shared_pose_ros.network.backends.fused import FusedNetwork, why_not_fused
from shared_pose_ros.network.backends.precision import CODE_TOLERANCES, usable_precisions
from shared_pose_ros.network.crop import crop_objects, normalize_crops
from shared_pose_ros.network.inference_module import PixelsToHypotheses
from shared_pose_ros.network.pose_network import PoseNetwork

SUFFIX = ".pose.pt"
MESHES, FINE_MESHES = "meshes.npz", "fine_meshes.npz"
"""Entries of the file: for pictures and positions, and finer ones for refinement."""
# Crops that tell a StridedEncoder from another encoder with its weights.
_FEW = 2


@dataclass(frozen=True)
class Bundle:
    """A loaded, verified bundle.

    Attributes:
        module: from pixels to hypotheses, on its device.
        metadata: the facts.
        meshes: for pictures and positions, one or None for each object.
        precision: that its encoder runs in.
        remark: why it runs slower than it could, or another way than those of this package do; empty if it does not.
        fine_meshes: for refinement, one or None for each object; empty where there are none.
        refiner: of hypotheses, None without one; on the CPU.
    """

    module: nn.Module
    metadata: BundleMetadata
    meshes: tuple[DisplayMesh | None, ...] = ()
    precision: str = "fp32"
    remark: str = ""
    refiner: Refiner | None = None
    fine_meshes: tuple[DisplayMesh | None, ...] = ()


def load_bundle(path: str | Path, device: torch.device | str = "cpu", precision: str | None = None) -> Bundle:
    """Read a bundle and verify schema, weights, example and meshes.

    The network is rebuilt in the classes of this package; of one that they do not describe, the file's graph is run.

    Args:
        path: of a ``.pose.pt`` file.
        device: where it is to run.
        precision: None for the network as it was exported, whose weights have the names and values that they had then;
            else what ``network.backends.precision.usable_precisions`` takes, for a module that only answers, as fast as
            it can.

    Raises:
        BundleError: no file, not a bundle, another schema, changed weights, an example that comes out differently,
            meshes that are none, or a precision that its network does not run in.
        ValueError: a precision that is unknown, or that the device cannot compute in.
    """
    path, device = Path(path), torch.device(device)
    if not path.is_file():
        raise BundleError(f"no bundle at {path}; give the path of a {SUFFIX} file")
    try:
        archive = read_archive(path)
    except ArchiveError as error:
        raise BundleError(f"{path} is damaged or not a bundle ({error}); export or copy it again") from error
    if "metadata.json" not in archive.extra:
        raise BundleError(
            f"{path} is a TorchScript file without metadata.json, not a bundle; make one with shared_pose export"
        )
    metadata = BundleMetadata.from_json(archive.extra["metadata.json"], str(path))
    module, computed, remark = _verified(path, archive, metadata, device)
    count = len(metadata.objects)
    meshes = _verified_meshes(path, archive.extra.get(MESHES, b""), count, MOST_FACES) or (None,) * count
    fine = _verified_meshes(path, archive.extra.get(FINE_MESHES, b""), count, MOST_FINE_FACES)
    refiner = _verified_refiner(path, archive.extra.get(REFINER_ENTRY, b""))
    bundle = Bundle(module, metadata, meshes, "fp32", remark, refiner, fine)
    del archive  # it holds the weights as they were stored
    if precision is None:
        return bundle
    return _fastest(path, bundle, usable_precisions(precision, device), computed, precision in ("auto", "fp32"))


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 over names and bytes of all parameters and buffers, in name order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _verified(
    path: Path, archive: Archive, metadata: BundleMetadata, device: torch.device
) -> tuple[nn.Module, Answer, str]:
    """The network in fp32, what it computes for the example, and a remark if it is the file's graph."""
    expected = _stored_answer(path, archive)
    try:
        module: nn.Module = rebuild(metadata, archive.weights)
    except ValueError as error:
        foreign = archive.problem or str(error)
    else:
        module = _in_fp32(path, module, metadata).to(device)
        computed = _computed(path, module, len(metadata.objects), device)
        difference = disagreement(expected, computed)
        if not difference:
            return module, computed, ""
        foreign = f"this package's network with its weights computes other poses ({difference})"
    try:
        module = torchscript.load(path, device)
    except Exception as error:  # of a torch that has no TorchScript any more, too
        raise BundleError(
            f"{path} holds no network that can be run: {foreign}, and the TorchScript graph cannot be loaded "
            f"({first_line(error)}); export or copy it again"
        ) from error
    module = _in_fp32(path, module, metadata)
    computed = _computed(path, module, len(metadata.objects), device)
    difference = disagreement(expected, computed)
    if difference:
        raise BundleError(
            f"{path} computes other poses on this machine than where it was exported ({difference}); export it again"
        )
    return module, computed, f"it runs as the graph that was exported: {foreign}"


def _in_fp32(path: Path, module: nn.Module, metadata: BundleMetadata) -> nn.Module:
    """The module, once its weights are those that were exported."""
    found = weights_sha256(module)
    if found != metadata.weights_sha256:
        raise BundleError(
            f"weights of {path} have SHA-256 {found[:9]}…, not {metadata.weights_sha256[:9]}… as exported; copy again"
        )
    return module.float() if metadata.storage == "fp16" else module


def _stored_answer(path: Path, archive: Archive) -> Answer:
    if "example.pt" not in archive.extra:
        raise BundleError(f"{path} holds no example to verify it with; export it again")
    try:
        return unpack_answer(archive.extra["example.pt"])
    except Exception as error:  # an unpickler raises whatever it meets
        raise BundleError(f"the example in {path} is damaged ({first_line(error)}); export it again") from error


def _computed(path: Path, module: nn.Module, objects: int, device: torch.device) -> Answer:
    """What the module computes for the example."""
    try:
        return answer(module, objects, device)
    except Exception as error:  # a foreign module raises whatever it meets
        raise BundleError(f"{path} cannot compute its own example ({last_line(error)}); export it again") from error


def _verified_meshes(path: Path, data: bytes, objects: int, most_faces: int) -> tuple[DisplayMesh | None, ...]:
    """Those of the file; empty in a bundle from before there were any, or from a training without CAD at hand."""
    if not data:
        return ()
    try:
        return unpack_meshes(data, objects, most_faces)
    except ValueError as error:
        raise BundleError(f"display meshes of {path} are damaged ({error}); export or copy it again") from error


def _verified_refiner(path: Path, data: bytes) -> Refiner | None:
    """That of the file; None in one that has none."""
    try:
        return unpack_refiner(data) if data else None
    except ValueError as error:
        raise BundleError(f"the refiner in {path} is damaged ({error}); export or copy it again") from error


def _fastest(path: Path, bundle: Bundle, precisions: Sequence[str], computed: Answer, unfused: bool) -> Bundle:
    """The bundle with its network fused, in the first precision in which the latent codes are the same.

    Args:
        path: of the file, for messages.
        bundle: verified, with its network in fp32; it is used up where a fused one is found.
        precisions: to try, in this order.
        computed: what the network computes for the example.
        unfused: where there is none, take the network as it is; else that is a BundleError.
    """
    metadata, network = bundle.metadata, cast(PoseNetwork, getattr(bundle.module, "network", bundle.module))
    # A few crops tell: those of thirty objects would take as long as all of the warming up.
    image, boxes, _ = example_input(len(metadata.objects), computed[0].device)
    with torch.no_grad():
        crops = normalize_crops(crop_objects(image, boxes[:BOXES], metadata.crop_pad, metadata.crop_size))
        problem = _why_not_fused(bundle, network, crops, computed)
        codes = crops if problem else network._finish(network.encoder(crops))
        for precision in () if problem else precisions:
            fused = FusedNetwork(network, metadata.crop_size, precision).eval()
            difference, limit = (fused.code(crops) - codes).abs().max() / codes.abs().max(), CODE_TOLERANCES[precision]
            if difference <= limit:  # a NaN is not
                fused.drop_original()
                module, remark = torchscript.script_if_possible(inference_module(fused, metadata).eval())
                return dataclasses.replace(bundle, module=module, precision=precision, remark=remark)
            problem = f"its latent codes would differ by {difference:.2g} of the largest (limit {limit})"
    if not unfused:
        raise BundleError(f"{path} cannot run in {precisions[-1]}: {problem}; give precision auto or fp32")
    module, remark = bundle.module, bundle.remark or f"it is not fused: {problem}"
    if isinstance(module, PixelsToHypotheses):
        module, eager = torchscript.script_if_possible(module)
        remark = "; ".join(filter(None, (remark, eager)))
    return dataclasses.replace(bundle, module=module, remark=remark)


def _why_not_fused(bundle: Bundle, network: nn.Module, crops: Tensor, computed: Answer) -> str:
    """Why the bundle's network has no fused form within this package's cropping and merging; empty if it has one."""
    metadata = bundle.metadata
    try:
        problem = why_not_fused(network, crops[:_FEW])
        if problem or isinstance(bundle.module, PixelsToHypotheses):
            return problem
        found = answer(inference_module(network, metadata), len(metadata.objects), crops.device, BOXES)
        difference = disagreement((computed[0][:BOXES], computed[1][:BOXES]), found)
    except Exception as error:  # a foreign module raises whatever it meets
        return f"its network is not one of this package's ({last_line(error)})"
    return f"this package's cropping and merging give other poses than its graph ({difference})" if difference else ""
