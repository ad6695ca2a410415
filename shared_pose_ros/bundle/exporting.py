"""Writes bundles: a network compiled and compared, or a bundle again with other meshes."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from shared_pose_ros.bundle import torchscript
from shared_pose_ros.bundle.archive import EXTRA, archive_root
from shared_pose_ros.bundle.example import answer, disagreement, pack_answer
from shared_pose_ros.bundle.loading import FINE_MESHES, MESHES, SUFFIX, load_bundle, weights_sha256
from shared_pose_ros.bundle.metadata import SCHEMA_VERSION, BundleError, BundleMetadata
from shared_pose_ros.bundle.rebuild import inference_module
from shared_pose_ros.bundle.refiner_entry import REFINER_ENTRY
from shared_pose_ros.geometry.display_mesh import DisplayMesh, pack_meshes
from shared_pose_ros.network.backends.precision import STORAGES, halve
from shared_pose_ros.network.codebook_network import CodebookNetwork
from shared_pose_ros.network.pose_network import PoseNetwork

TTA_ROTATIONS = (1, 4)


def export_bundle(
    network: PoseNetwork | CodebookNetwork,
    metadata: BundleMetadata,
    path: str | Path,
    meshes: Sequence[DisplayMesh | None] = (),
    fine_meshes: Sequence[DisplayMesh | None] = (),
    refiner: bytes = b"",
) -> BundleMetadata:
    """Script the network, check it against the eager one, and write the file atomically.

    Args:
        network: trained; it is moved to the CPU and put in evaluation mode.
        metadata: facts; torch_version and weights_sha256 are filled in. With storage fp16 the network's weights are
            rounded, here too.
        path: must end in ``.pose.pt``.
        meshes: for pictures, positions and refinement, one or None for each object; empty for none.
        fine_meshes: for refinement by rendering, in the same way.
        refiner: of ``pack_refiner``; empty for none.

    Returns:
        The metadata as written.

    Raises:
        BundleError: wrong file name, a number of objects or hypotheses that differs from the network's, weights that
            fp16 cannot hold, a network that TorchScript cannot compile, a scripted output that differs from the eager
            one, or a file that cannot be written.
    """
    path = _named(path)
    _check(network, metadata)
    if metadata.storage == "fp16":
        _halved(network).float()  # the example is what the stored weights compute
    module = inference_module(network.cpu().eval(), metadata).eval()
    scripted = torchscript.script(module)
    expected = answer(module, len(metadata.objects))
    difference = disagreement(expected, answer(scripted, len(metadata.objects)))
    if difference:
        raise BundleError(f"the scripted network differs from the eager one ({difference}); export it again")
    if metadata.storage == "fp16":
        scripted = _halved(copy.deepcopy(scripted))  # it shares its weights with the network
    metadata = dataclasses.replace(
        metadata,
        metrics=json.loads(json.dumps(metadata.metrics)),  # as a reader will find them: lists, not tuples
        torch_version=torch.__version__,
        weights_sha256=weights_sha256(scripted),
        schema_version=SCHEMA_VERSION,
    )
    extra = {"metadata.json": metadata.to_json().encode(), "example.pt": pack_answer(expected)}
    extra |= _packed(MESHES, meshes, len(metadata.objects)) | _packed(FINE_MESHES, fine_meshes, len(metadata.objects))
    extra |= {REFINER_ENTRY: refiner} if refiner else {}
    _write(path, lambda partial: torchscript.save(scripted, partial, extra))
    return metadata


def copy_with_meshes(
    source: str | Path,
    path: str | Path,
    meshes: Sequence[DisplayMesh | None],
    fine_meshes: Sequence[DisplayMesh | None] = (),
) -> BundleMetadata:
    """Write the bundle ``source`` again with these meshes, one or None for each object, or none at all.

    Nothing else changes; returns its metadata.

    Raises:
        BundleError: a bundle that cannot be used, a wrong file name, or a file that cannot be written.
    """
    metadata = load_bundle(source).metadata
    entries = {
        name: _packed(name, some, len(metadata.objects)).get(name, b"")
        for name, some in ((MESHES, meshes), (FINE_MESHES, fine_meshes))
    }
    _copy(source, _named(path), entries)
    return metadata


def copy_with_refiner(source: str | Path, path: str | Path, refiner: bytes) -> BundleMetadata:
    """Write the bundle ``source`` again with this refiner (of ``pack_refiner``), or without any.

    Nothing else changes; returns its metadata.

    Raises:
        BundleError: a bundle that cannot be used, a wrong file name, or a file that cannot be written.
    """
    metadata = load_bundle(source).metadata
    _copy(source, _named(path), {REFINER_ENTRY: refiner})
    return metadata


def _copy(source: str | Path, path: Path, changed: Mapping[str, bytes]) -> None:
    """Write the archive again with these extra entries in place of its own; an empty one is left out."""

    def write(partial: Path) -> None:
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(partial, "w") as new:
            extra = archive_root(old) + EXTRA
            for entry in old.infolist():
                if entry.filename.removeprefix(extra) not in changed:
                    new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry), entry.compress_type)
            for name, data in changed.items():
                if data:
                    new.writestr(zipfile.ZipInfo(extra + name), data)

    _write(path, write)


def _check(network: PoseNetwork | CodebookNetwork, metadata: BundleMetadata) -> None:
    if len(metadata.objects) != network.head.objects:
        raise BundleError(
            f"metadata names {len(metadata.objects)} objects, the network has {network.head.objects}; correct them"
        )
    if metadata.hypotheses != network.head.hypotheses:
        raise BundleError(
            f"metadata names {metadata.hypotheses} hypotheses, the network has {network.head.hypotheses}; correct them"
        )
    if metadata.tta_rotations not in TTA_ROTATIONS:
        known = ", ".join(map(str, TTA_ROTATIONS))
        raise BundleError(f"tta_rotations is {metadata.tta_rotations}; it must be one of {known}")
    if metadata.storage not in STORAGES:
        raise BundleError(f"storage is {metadata.storage!r}; it must be one of {', '.join(STORAGES)}")


def _named(path: str | Path) -> Path:
    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise BundleError(f"bundle file {path.name!r} must end in {SUFFIX}; rename it")
    return path


def _packed(name: str, meshes: Sequence[DisplayMesh | None], objects: int) -> dict[str, bytes]:
    """The file's entry of them, if there are any."""
    if meshes and len(meshes) != objects:
        raise BundleError(f"{len(meshes)} meshes for {objects} objects; give one or None for each")
    return {name: pack_meshes(meshes)} if any(mesh is not None for mesh in meshes) else {}


def _write(path: Path, write: Callable[[Path], None]) -> None:
    """Atomically: a failure leaves the file that was there."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise BundleError(f"{path} could not be written ({error}); free space or choose another --out") from error


def _halved(module: nn.Module) -> nn.Module:
    try:
        halve(module)
    except ValueError as error:
        raise BundleError(f"the weights cannot be stored in fp16 ({error}); export without --half") from error
    return module
