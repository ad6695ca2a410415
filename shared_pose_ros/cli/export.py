"""``shared_pose export``: a training folder becomes one bundle file; or a bundle gets the CAD that pictures show."""

from __future__ import annotations

import argparse
from pathlib import Path

from shared_pose_ros.bundle import (
    SUFFIX,
    TTA_ROTATIONS,
    BundleMetadata,
    copy_with_meshes,
    copy_with_refiner,
    load_bundle,
)
from shared_pose_ros.bundle_export import add_cad, export_folder, newest_stage, read_refiner
from shared_pose_ros.cli.common import add_cad_arguments, tell_left_out
from shared_pose_ros.meshes.object_set import ObjectSet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "examples:\n  shared_pose export runs/parts --out models/parts.pose.pt\n"
        "  shared_pose export old.pose.pt --objects models/parts --out new.pose.pt"
    )
    parser.add_argument(
        "source", type=Path, help="the folder of shared_pose train --out; or a bundle, to give it the CAD of --objects"
    )
    parser.add_argument("--out", type=Path, required=True, help="the bundle to write, NAME.pose.pt")
    parser.add_argument(
        "--tta-rotations", type=int, choices=TTA_ROTATIONS,
        help="rotation test-time augmentation of each crop: 4 (default), more accurate; 1, as the paper, faster",
    )  # fmt: skip
    add_cad_arguments(
        parser, required=False, purpose="CAD for pictures and positions, where the training has not kept it: "
    )
    parser.add_argument(
        "--no-meshes", action="store_true", help="leave out the coarse CAD for pictures and positions, if it is secret"
    )
    parser.add_argument(
        "--refiner", type=Path, metavar="FILE",
        help="give the bundle a refiner: models/refiner.npz, which serves parts that it never saw, the folder of "
        "shared_pose train-refiner, or another bundle",
    )  # fmt: skip
    parser.add_argument("--half", action="store_true", help="store the weights in fp16: half the file")


def run(options: argparse.Namespace) -> int:
    """Export, verify and describe."""
    if options.objects and options.no_meshes:
        raise ValueError("--objects adds meshes and --no-meshes leaves them out; give one of them")
    objects = ObjectSet.load(options.objects, unit=options.unit) if options.objects else None
    if objects:
        tell_left_out(objects)
    refiner = read_refiner(options.refiner) if options.refiner else b""
    if options.source.name.endswith(SUFFIX):
        if not (objects or options.no_meshes or refiner) or options.tta_rotations or options.half:
            raise ValueError(
                f"{options.source} is a bundle: give --objects with the CAD to add, --refiner, or --no-meshes, and "
                "neither --tta-rotations nor --half"
            )
        metadata = _copied(options, objects, refiner)
    else:
        storage = "fp16" if options.half else "fp32"
        meshes, folder = not options.no_meshes, newest_stage(options.source)
        if folder != options.source:
            print(f"{options.source} has no checkpoint yet: taking its stage {folder.name}; train --resume goes on")
        metadata = export_folder(folder, options.out, options.tta_rotations or 4, objects, storage, meshes, refiner)
    written = load_bundle(options.out)
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {len(metadata.objects)} objects, {metadata.samples} samples, {size:.1f} MB")
    print("refiner: yes" if written.refiner else "refiner: none; --refiner models/refiner.npz adds one")
    print(f"weights SHA-256 {metadata.weights_sha256}")
    kept = () if options.no_meshes else written.meshes
    bare = [item.class_id for item, mesh in zip(metadata.objects, kept) if mesh is None]
    if bare:
        print(f"no CAD for the pictures of {', '.join(bare)}; add it with shared_pose export BUNDLE --objects CAD")
    return 0


def _copied(options: argparse.Namespace, objects: ObjectSet | None, refiner: bytes) -> BundleMetadata:
    """The bundle again, with what was asked for."""
    source: Path = options.source
    if objects:
        metadata, source = add_cad(source, objects, options.out), options.out
    elif options.no_meshes:
        metadata, source = copy_with_meshes(source, options.out, ()), options.out
    return copy_with_refiner(source, options.out, refiner) if refiner else metadata
