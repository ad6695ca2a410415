"""The bundle: one file, ``name.pose.pt``, that holds a trained network from pixels to sorted hypotheses, and its facts.

A TorchScript archive with extra entries: ``metadata.json`` (see ``BundleMetadata``), ``example.pt`` (an input and
the output that the exporting machine computed for it) and, where the CAD was at hand, ``meshes.npz`` (for pictures
and positions, see ``geometry.display_mesh``). Loading checks schema, weights, example and meshes, so that a damaged or
foreign file is refused with a reason instead of giving wrong poses. TorchScript is deprecated upstream: only this
module names it.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared_pose_ros.geometry.display_mesh import DisplayMesh, pack_meshes, unpack_meshes
from shared_pose_ros.network.backends.fused import QuickNetwork, can_be_quick
from shared_pose_ros.network.backends.precision import CODE_TOLERANCES, STORAGES, halve, usable_precisions
from shared_pose_ros.network.crop import crop_objects, normalize_crops
from shared_pose_ros.network.inference_module import PixelsToHypotheses
from shared_pose_ros.network.pose_network import PoseNetwork

SCHEMA_VERSION = 1
SUFFIX = ".pose.pt"
TURNS = (1, 4)
# fp32 kernels of different processors differ in the last digits; a wrong weight shows far above this.
_EXAMPLE_TOLERANCE = 2e-3
_EXAMPLE_BOXES = 10
# Merging takes the densest hypothesis first; where two are as dense, those last digits decide which.
_EXAMPLE_OUTLIERS = 0.2


class BundleError(RuntimeError):
    """A bundle cannot be written or used; the message is one sentence with the reason and the remedy."""


@dataclass(frozen=True)
class BundleObject:
    """What a cell needs to know of one object.

    Attributes:
        class_id: the string that the detector publishes.
        aliases: other strings that mean the same object.
        name: for people.
        diameter: metres.
        extents: edges of the CAD's bounding box, metres.
        centre: centre of that box in the CAD frame, metres.
        scale: half the largest extent, metres.
        symmetries: as ``meshes.symmetries.Symmetries.to_dict`` gives them.
    """

    class_id: str
    aliases: tuple[str, ...]
    name: str
    diameter: float
    extents: tuple[float, float, float]
    centre: tuple[float, float, float]
    scale: float
    symmetries: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BundleObject:
        """Of plain values, as JSON has them."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


@dataclass(frozen=True)
class BundleMetadata:
    """Facts of a bundle; ``objects`` are in the network's order."""

    name: str
    objects: tuple[BundleObject, ...]
    hypotheses: int
    crop_pad: float
    crop_size: int
    encoder_width: str
    tuning: str
    normalize_code: bool
    preset: str
    samples: int
    seed: int
    commit: str
    turns: int = 1  # times that the network looks at a crop: 4 is once in each quarter turn (test_time_augmentation)
    metrics: dict[str, Any] = field(default_factory=dict)
    storage: str = "fp32"  # of the weights in the file: fp16 takes half of it; they are fp32 once loaded
    torch_version: str = ""
    weights_sha256: str = ""  # of the weights as stored
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Bundle:
    """A loaded, verified bundle.

    Attributes:
        module: from pixels to hypotheses, scripted, on its device.
        metadata: the facts.
        meshes: for pictures and positions, one or None for each object.
        precision: that its encoder runs in.
    """

    module: nn.Module
    metadata: BundleMetadata
    meshes: tuple[DisplayMesh | None, ...] = ()
    precision: str = "fp32"


def export_bundle(
    network: PoseNetwork,
    metadata: BundleMetadata,
    path: str | Path,
    meshes: Sequence[DisplayMesh | None] = (),
) -> BundleMetadata:
    """Script the network, check it against the eager one, and write the file atomically.

    Args:
        network: trained; it is moved to the CPU and put in evaluation mode.
        metadata: facts; torch_version and weights_sha256 are filled in. With storage fp16 the network's weights are
            rounded, here too.
        path: must end in ``.pose.pt``.
        meshes: for pictures and positions, one or None for each object; empty for none.

    Returns:
        The metadata as written.

    Raises:
        BundleError: wrong file name, a number of objects or hypotheses that differs from the network's, weights that
            fp16 cannot hold, a scripted output that differs from the eager one, or a file that cannot be written.
    """
    path = _named(path)
    if len(metadata.objects) != network.head.objects:
        raise BundleError(
            f"metadata names {len(metadata.objects)} objects, the network has {network.head.objects}; correct them"
        )
    if metadata.hypotheses != network.head.hypotheses:
        raise BundleError(
            f"metadata names {metadata.hypotheses} hypotheses, the network has {network.head.hypotheses}; correct them"
        )
    if metadata.turns not in TURNS:
        raise BundleError(f"turns is {metadata.turns}; it must be one of {', '.join(map(str, TURNS))}")
    if metadata.storage not in STORAGES:
        raise BundleError(f"storage is {metadata.storage!r}; it must be one of {', '.join(STORAGES)}")
    if metadata.storage == "fp16":
        _halved(network).float()  # the example is what the stored weights compute
    module = PixelsToHypotheses(network.cpu().eval(), metadata.crop_pad, metadata.crop_size, metadata.turns).eval()
    scripted = torch.jit.script(module)
    image, boxes, object_index = _example_input(network.head.objects)
    with torch.no_grad():
        expected = module(image, boxes, object_index)
        _compare(expected, scripted(image, boxes, object_index), "the scripted network differs from the eager one")
    if metadata.storage == "fp16":
        scripted = _halved(copy.deepcopy(scripted))  # it shares its weights with the network
    digest = weights_sha256(scripted)
    metadata = dataclasses.replace(
        metadata,
        metrics=json.loads(json.dumps(metadata.metrics)),  # as a reader will find them: lists, not tuples
        torch_version=torch.__version__,
        weights_sha256=digest,
        schema_version=SCHEMA_VERSION,
    )
    example = io.BytesIO()
    torch.save({"rotations": expected[0], "confidences": expected[1]}, example)
    extra = {"metadata.json": json.dumps(dataclasses.asdict(metadata)), "example.pt": example.getvalue()}
    _write(scripted, path, extra, meshes, len(metadata.objects))
    return metadata


def copy_with_meshes(source: str | Path, path: str | Path, meshes: Sequence[DisplayMesh | None]) -> BundleMetadata:
    """Write the bundle ``source`` again with these meshes, one or None for each object, or none at all.

    Nothing else changes; returns its metadata.

    Raises:
        BundleError: a bundle that cannot be used, a wrong file name, or a file that cannot be written.
    """
    path, metadata = _named(path), load_bundle(source).metadata
    module, extra = _read(Path(source), "cpu")
    _write(module, path, {name: extra[name] for name in ("metadata.json", "example.pt")}, meshes, len(metadata.objects))
    return metadata


def _named(path: str | Path) -> Path:
    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise BundleError(f"bundle file {path.name!r} must end in {SUFFIX}; rename it")
    return path


def _write(
    module: nn.Module,
    path: Path,
    extra: dict[str, str | bytes],
    meshes: Sequence[DisplayMesh | None],
    objects: int,
) -> None:
    """Atomically: a failure leaves the file that was there."""
    if meshes and len(meshes) != objects:
        raise BundleError(f"{len(meshes)} meshes for {objects} objects; give one or None for each")
    if any(mesh is not None for mesh in meshes):
        extra = {**extra, "meshes.npz": pack_meshes(meshes)}
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.jit.save(module, str(partial), _extra_files=extra)
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


def load_bundle(path: str | Path, device: torch.device | str = "cpu", precision: str | None = None) -> Bundle:
    """Read a bundle and verify schema, weights, example and meshes.

    Args:
        path: of a ``.pose.pt`` file.
        device: where it is to run.
        precision: None for the graph of the file, whose weights have the names and values that were exported; else
            what ``network.backends.precision.usable_precisions`` takes, for a module that only answers, as fast as
            it can.

    Raises:
        BundleError: no file, not a bundle, another schema, changed weights, an example that comes out differently, or
            meshes that are none.
        ValueError: a precision that is unknown, or that the device cannot compute in.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError(f"no bundle at {path}; give the path of a {SUFFIX} file")
    module, extra = _read(path, device)
    metadata = _read_metadata(path, extra["metadata.json"])
    found = weights_sha256(module)
    if found != metadata.weights_sha256:
        raise BundleError(
            f"weights of {path} have SHA-256 {found[:9]}…, not {metadata.weights_sha256[:9]}… as exported; copy again"
        )
    if metadata.storage == "fp16":
        module.float()
    computed = _verify_example(path, module, extra["example.pt"], len(metadata.objects), device)
    bundle = Bundle(module, metadata, _verified_meshes(path, extra["meshes.npz"], len(metadata.objects)))
    if precision is None:
        return bundle
    quick = _quick_module(path, module, metadata, usable_precisions(precision, torch.device(device)), computed)
    if quick is not None:
        return dataclasses.replace(bundle, module=quick[0], precision=quick[1])
    if precision not in ("auto", "fp32"):
        raise BundleError(f"{path} was exported by an older version and runs in fp32 only; export it again")
    return bundle


def _read(path: Path, device: torch.device | str) -> tuple[nn.Module, dict[str, str | bytes]]:
    """The module and the extra entries, empty where the file has none."""
    extra: dict[str, str | bytes] = {"metadata.json": "", "example.pt": "", "meshes.npz": ""}
    try:
        return torch.jit.load(str(path), map_location=device, _extra_files=extra).eval(), extra
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"{path} is damaged or not a bundle ({reason}); export or copy it again") from error


def _verified_meshes(path: Path, data: str | bytes, objects: int) -> tuple[DisplayMesh | None, ...]:
    """Those of the file; all None in a bundle from before there were any, or from a training without CAD at hand."""
    if not data:
        return (None,) * objects
    try:
        return unpack_meshes(data if isinstance(data, bytes) else data.encode(), objects)
    except ValueError as error:
        raise BundleError(f"display meshes of {path} are damaged ({error}); export or copy it again") from error


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 over names and bytes of all parameters and buffers, in name order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read_metadata(path: Path, text: str | bytes) -> BundleMetadata:
    if not text:
        raise BundleError(
            f"{path} is a TorchScript file without metadata.json, not a bundle; make one with shared_pose export"
        )
    try:
        values = json.loads(text)
        version = values.get("schema_version")
    except (ValueError, AttributeError) as error:
        raise BundleError(f"metadata of {path} are damaged ({error}); export or copy it again") from error
    if version != SCHEMA_VERSION:
        raise BundleError(f"{path} has schema version {version}, this package reads {SCHEMA_VERSION}; export it again")
    try:
        objects = tuple(BundleObject.from_dict(entry) for entry in values.pop("objects"))
        return BundleMetadata(objects=objects, **values)
    except (TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"metadata of {path} do not fit schema {SCHEMA_VERSION} ({error}); export again") from error


def _verify_example(
    path: Path, module: nn.Module, example: str | bytes, objects: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """What the module computes for the example, once it is what the exporting machine computed."""
    if not example:
        raise BundleError(f"{path} holds no example to verify it with; export it again")
    try:
        stored = torch.load(io.BytesIO(example), weights_only=True)
        expected = stored["rotations"], stored["confidences"]
        with torch.no_grad():
            rotations, confidences = module(*(tensor.to(device) for tensor in _example_input(objects)))
    except Exception as error:  # an unpickler and a foreign module raise whatever they meet
        reason = str(error).strip().splitlines()[-1:]
        raise BundleError(f"{path} cannot compute its own example ({''.join(reason)}); export it again") from error
    complaint = f"{path} computes other poses on this machine than where it was exported"
    _compare(expected, (rotations.cpu(), confidences.cpu()), complaint)
    return rotations, confidences


def _quick_module(
    path: Path, module: nn.Module, metadata: BundleMetadata, precisions: Sequence[str], computed: tuple[Tensor, Tensor]
) -> tuple[nn.Module, str] | None:
    """The verified module's network in its quick form, with this package's cropping and merging, and its precision.

    Both are checked against what the module computed for the example. The first precision is taken in which the codes
    are the graph's.

    Returns None for a network without the parts that it takes; then nothing has been changed. Otherwise ``module`` is
    used up.
    """
    network, facts = getattr(module, "network", None), (metadata.crop_pad, metadata.crop_size, metadata.turns)
    if not can_be_quick(network):
        return None
    image, boxes, object_index = (tensor.to(computed[0].device) for tensor in _example_input(len(metadata.objects)))
    # A few crops tell: those of thirty objects would take as long as all of the warming up.
    boxes, object_index = boxes[:_EXAMPLE_BOXES], object_index[:_EXAMPLE_BOXES]
    expected = computed[0][:_EXAMPLE_BOXES], computed[1][:_EXAMPLE_BOXES]
    with torch.no_grad():
        found = PixelsToHypotheses(network, *facts)(image, boxes, object_index)
        _compare(expected, found, f"this version of the package computes other poses than the graph of {path}")
        crops = normalize_crops(crop_objects(image, boxes, *facts[:2]))
        codes = network._finish(network.encoder(crops))
        for precision in precisions:
            quick = QuickNetwork(network, metadata.crop_size, precision).eval()
            difference, limit = (quick.code(crops) - codes).abs().max() / codes.abs().max(), CODE_TOLERANCES[precision]
            if difference <= limit:  # a NaN is not
                quick.drop_original()
                return torch.jit.script(PixelsToHypotheses(quick, *facts).eval()), precision
    raise BundleError(
        f"the encoder of {path} computes other codes in {precision} than the graph (difference {difference:.2g} of "
        f"the largest, limit {limit}); choose another precision"
    )


def _example_input(objects: int) -> tuple[Tensor, Tensor, Tensor]:
    """A fixed image with structure, ten boxes or one an object (some shrink, some grow, one crosses the border)."""
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    image = torch.stack([rows * 2 + columns, rows * columns // 40, (rows * 7) ^ (columns * 3)], dim=-1).remainder(256)
    index = torch.arange(max(objects, _EXAMPLE_BOXES))
    boxes = torch.stack([20 + index * 9 % 90, 15 + index * 17 % 70, 10 + index * 13 % 80, 12 + index * 7 % 60], dim=1)
    return image.to(torch.uint8), boxes.to(torch.float32), index.remainder(objects)


def _compare(expected: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor], complaint: str) -> None:
    shapes = [tuple(tensor.shape for tensor in pair) for pair in (expected, found)]
    if shapes[0] != shapes[1]:
        raise BundleError(f"{complaint} (shapes {shapes[1]}, not {shapes[0]}); export it again")
    # Near-equal confidences may swap places, so hypotheses are compared by their confidence-weighted mean.
    weighted = [(rotations * confidences[..., None, None]).sum(dim=1) for rotations, confidences in (expected, found)]
    difference = (weighted[0] - weighted[1]).abs().flatten(1).amax(dim=1)
    difference = torch.maximum(difference, (expected[1] - found[1]).abs().amax(dim=1))
    # Not "greater than": a NaN differs too.
    apart = ~(difference <= _EXAMPLE_TOLERANCE)
    if apart.float().mean() > _EXAMPLE_OUTLIERS:
        raise BundleError(
            f"{complaint} (largest difference {difference.max():.2g}, limit {_EXAMPLE_TOLERANCE}, "
            f"in {int(apart.sum())} of {len(apart)} boxes); export it again"
        )
