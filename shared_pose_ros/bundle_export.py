"""From trainings to bundles and back: exports, CAD for pictures, and weights of a bundle to train on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shared_pose_ros.baselines.object_specific import combine_networks
from shared_pose_ros.bundle import (
    SUFFIX,
    Bundle,
    BundleMetadata,
    BundleObject,
    RefinerFacts,
    copy_with_meshes,
    export_bundle,
    load_bundle,
    pack_refiner,
    unpack_refiner,
)
from shared_pose_ros.geometry.display_mesh import DisplayMesh, unpack_meshes
from shared_pose_ros.meshes.display import display_mesh, fine_mesh
from shared_pose_ros.meshes.mesh import Mesh
from shared_pose_ros.meshes.object_set import ObjectModel, ObjectSet
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.training.checkpoint import CHECKPOINT_NAME, CheckpointError, load_checkpoint
from shared_pose_ros.training.config import RefinerConfig, TrainingConfig, config_from_dict, load_preset
from shared_pose_ros.training.incremental import Extension
from shared_pose_ros.training.refiner_weights import refiner_checkpoint, refiner_weights
from shared_pose_ros.training.transfer import TrainedWeights, weights_of_checkpoint

# An object whose CAD is larger or smaller than the bundle says by more than this is another one, or in another unit.
_EXTENT_TOLERANCE = 0.02


def add_cad(source: Path, objects: ObjectSet, out: Path) -> BundleMetadata:
    """Write a bundle again with display meshes of the CAD; objects that the CAD lacks keep what they have.

    Raises:
        BundleError: the bundle cannot be used or written.
        ValueError: CAD of another size, or of none of the bundle's objects.
    """
    bundle = load_bundle(source)
    described = bundle.metadata.objects
    meshes = _meshes(described, bundle.meshes, objects, display_mesh)
    return copy_with_meshes(source, out, meshes, _meshes(described, bundle.fine_meshes, objects, fine_mesh))


def read_refiner(path: Path) -> bytes:
    """A refiner for a bundle: of a file of ``pack_refiner``, a training's folder, or another bundle.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    try:
        if path.name.endswith(SUFFIX):
            refiner = load_bundle(path).refiner
            if refiner is None:
                raise ValueError("the bundle has none")
            return pack_refiner(refiner.network, refiner.facts)
        if path.is_dir():
            return _trained_refiner(path)
        data = path.read_bytes()
        unpack_refiner(data)
    except (OSError, ValueError, CheckpointError) as error:
        raise ValueError(f"no refiner in {path} ({error}); give models/refiner.npz or a bundle that has one") from error
    return data


def _trained_refiner(folder: Path) -> bytes:
    state = refiner_checkpoint(folder)
    config = config_from_dict(state["config"], RefinerConfig)
    synthesis = load_preset(config.images.split(",")[0]).synthesis
    made = sum(entry["class_id"].startswith("random_") for entry in state["objects"])
    facts = RefinerFacts(
        samples=state.get("earlier_samples", 0) + state["step"] * config.batch_size,
        objects=f"{len(state['objects']) - made} objects" + (f", {made} random parts" if made else ""),
        commit=state["commit"],
        crop_pad=synthesis.crop_pad,
    )
    return pack_refiner(refiner_weights(folder), facts)


def _meshes(
    described: Sequence[BundleObject],
    kept: Sequence[DisplayMesh | None],
    objects: ObjectSet | None,
    make: Callable[[Mesh], DisplayMesh],
) -> list[DisplayMesh | None]:
    """The mesh of each described object: of the CAD where given, else the one that was kept."""
    meshes = list(kept) or [None] * len(described)
    if objects is None:
        return meshes
    found = [cad_of(item, objects) for item in described]
    if not any(found):
        raise ValueError(f"the CAD is of {', '.join(objects.class_ids)}, the bundle of other objects; give its CAD")
    for place, (item, model) in enumerate(zip(described, found)):
        if model is not None:
            limit = _EXTENT_TOLERANCE * max(item.extents)
            if any(abs(one - other) > limit for one, other in zip(model.extents, item.extents)):
                sizes = [" × ".join(f"{1e3 * side:.1f}" for side in sides) for sides in (model.extents, item.extents)]
                raise ValueError(f"the CAD of {item.class_id} is {sizes[0]} mm, trained were {sizes[1]} mm; check it")
            meshes[place] = make(model.mesh)
    return meshes


def cad_of(item: BundleObject, objects: ObjectSet) -> ObjectModel | None:
    """CAD of the class id, else of an alias."""
    places = [objects.index(label) for label in (item.class_id, *item.aliases)]
    return next((objects[place] for place in places if place is not None), None)


def export_folder(
    folder: Path, out: Path, tta_rotations: int = 4, objects: ObjectSet | None = None, storage: str = "fp32",
    with_meshes: bool = True,
    refiner: bytes = b"",
) -> BundleMetadata:  # fmt: skip
    """Write the bundle of a training: of its checkpoint, or of all object-specific ones (``train --separate``).

    Args:
        folder: of ``shared_pose train --out``, or of one of its stages, see ``newest_stage``.
        out: the bundle's path.
        tta_rotations: in the image's plane that the bundle averages over for each crop, 1 or 4.
        objects: CAD for pictures, in place of what the training has kept.
        storage: of the weights, "fp32" or "fp16".
        with_meshes: False leaves meshes out.
        refiner: of ``pack_refiner``, to refine hypotheses; empty for none.

    Raises:
        CheckpointError: no usable checkpoint, or object-specific networks on different encoders.
        BundleError: the bundle cannot be made or written.
        ValueError: CAD of another size, or of none of the objects.
    """
    folder = Path(folder)
    trained = [] if (folder / CHECKPOINT_NAME).exists() else _separate_networks(folder)
    if trained:
        network = combine_networks([one.network for one in trained])
    else:
        trained = [_load(folder)]
        network = trained[0].network
    config, state = trained[0].config, trained[0].state
    metadata = BundleMetadata(
        name=Path(out).name.removesuffix(SUFFIX),
        objects=tuple(item for one in trained for item in one.objects),
        hypotheses=config.hypotheses,
        crop_pad=config.synthesis.crop_pad,
        crop_size=config.crop_size,
        encoder_width=config.width,
        tuning=config.tuning,
        normalize_code=config.normalize_code,
        preset=state["preset"],
        samples=sum(one.samples for one in trained),
        seed=config.seed,
        commit=state["commit"],
        tta_rotations=tta_rotations,
        storage=storage,
        metrics=state.get("metrics", {}) if len(trained) == 1 else {},
    )
    kept = [mesh for one in trained for mesh in one.meshes]
    meshes = _meshes(metadata.objects, kept, objects, display_mesh) if with_meshes else ()
    fine = _meshes(metadata.objects, (), objects, fine_mesh) if with_meshes and objects else ()
    return export_bundle(network, metadata, Path(out), meshes, fine, refiner)


def newest_stage(folder: Path) -> Path:
    """The folder of a training's latest stage that has a checkpoint.

    The last stage's is ``folder`` itself; earlier ones lie in it and are called ``1-compact``. Where no stage has one,
    it is ``folder``.
    """
    stages = [path.parent for path in folder.glob(f"*-*/{CHECKPOINT_NAME}") if path.parent.name.split("-")[0].isdigit()]
    if (folder / CHECKPOINT_NAME).exists() or not stages:
        return folder
    return max(stages, key=lambda path: int(path.name.split("-")[0]))


@dataclass(frozen=True)
class _Trained:
    """A checkpoint: its network, settings, objects and their display meshes, samples, and everything else in it."""

    network: PoseNetwork
    config: TrainingConfig
    objects: tuple[BundleObject, ...]
    meshes: tuple[DisplayMesh | None, ...]
    samples: int
    state: dict[str, Any]


def _separate_networks(folder: Path) -> list[_Trained]:
    """Those that ``train --separate`` left: a folder is called as its network's only object."""
    folders = [path.parent for path in sorted(folder.glob(f"*/{CHECKPOINT_NAME}"))]
    found = [(path.name, _load(path)) for path in folders]
    return [trained for name, trained in found if [item.class_id for item in trained.objects] == [name]]


def _load(folder: Path) -> _Trained:
    state = load_checkpoint(folder / CHECKPOINT_NAME)
    config = config_from_dict(state["config"])
    objects = tuple(BundleObject.from_dict(entry) for entry in state["objects"])
    network = PoseNetwork(len(objects), config.hypotheses, config.width, config.crop_size, config.normalize_code)
    try:
        network.load_state_dict(state["network"])
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint in {folder} does not fit its own configuration ({error})") from error
    samples = state.get("earlier_samples", 0) + state["step"] * config.batch_size
    packed = state.get("display_meshes", b"")  # older checkpoints have none
    meshes = unpack_meshes(packed, len(objects)) if packed else (None,) * len(objects)
    return _Trained(network, config, objects, meshes, samples, state)


def trained_weights(path: Path) -> TrainedWeights:
    """The weights of a training folder or of a bundle, to begin another training with."""
    return _bundle_weights(load_bundle(path)) if path.name.endswith(SUFFIX) else weights_of_checkpoint(path)


def _bundle_weights(bundle: Bundle) -> TrainedWeights:
    facts, weights = bundle.metadata, bundle.module.get_submodule("network").state_dict()
    if "head.output.weight" not in weights:
        raise ValueError(f"bundle {facts.name} holds a codebook or separate heads; give one of a shared network")
    return TrainedWeights(
        origin=facts.name,
        network=weights,
        class_ids=tuple(entry.class_id for entry in facts.objects),
        hypotheses=facts.hypotheses,
        crop_size=facts.crop_size,
        samples=facts.samples,
    )


def extended_bundle(path: Path, objects: ObjectSet, config: TrainingConfig) -> tuple[Extension, TrainingConfig]:
    """The bundle's network, to add objects to it, and the settings with the shape of that network.

    Nothing is left for the auxiliary decoder to teach.

    Raises:
        ValueError: the bundle knows one of the objects already.
    """
    bundle = load_bundle(path)
    facts = bundle.metadata
    known = {name for entry in facts.objects for name in (entry.class_id, *entry.aliases)}
    twice = sorted(known.intersection(objects.class_ids))
    if twice:
        raise ValueError(f"{path} knows {', '.join(twice)} already; leave them out with --subset or rename them")
    config = replace(
        config, width=facts.encoder_width, crop_size=facts.crop_size, hypotheses=facts.hypotheses,
        normalize_code=facts.normalize_code, tuning=facts.tuning,
        synthesis=replace(config.synthesis, crop_pad=facts.crop_pad), loss=replace(config.loss, auxiliary_weight=0.0),
    )  # fmt: skip
    return Extension(_bundle_weights(bundle), tuple(asdict(entry) for entry in facts.objects), bundle.meshes), config
