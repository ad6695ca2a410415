"""``shared_pose export``: a training folder becomes one bundle file; or a bundle gets the CAD that pictures show."""

from __future__ import annotations

import argparse
from pathlib import Path

from shared_pose_ros.bundle import SUFFIX, TTA_ROTATIONS, copy_with_meshes, load_bundle
from shared_pose_ros.bundle_export import add_cad, export_folder
from shared_pose_ros.cli.common import add_cad_arguments
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
    parser.add_argument("--half", action="store_true", help="store the weights in fp16: half the file")


def run(options: argparse.Namespace) -> int:
    """Export, verify and describe."""
    if options.objects and options.no_meshes:
        raise ValueError("--objects adds meshes and --no-meshes leaves them out; give one of them")
    objects = ObjectSet.load(options.objects, unit=options.unit) if options.objects else None
    if options.source.name.endswith(SUFFIX):
        if not (objects or options.no_meshes) or options.tta_rotations or options.half:
            raise ValueError(
                f"{options.source} is a bundle: give --objects with the CAD to add, or --no-meshes, and neither "
                "--tta-rotations nor --half"
            )
        source, out = options.source, options.out
        metadata = add_cad(source, objects, out) if objects else copy_with_meshes(source, out, ())
    else:
        storage = "fp16" if options.half else "fp32"
        meshes = not options.no_meshes
        metadata = export_folder(options.source, options.out, options.tta_rotations or 4, objects, storage, meshes)
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {len(metadata.objects)} objects, {metadata.samples} samples, {size:.1f} MB")
    print(f"weights SHA-256 {metadata.weights_sha256}")
    kept = () if options.no_meshes else load_bundle(options.out).meshes
    bare = [item.class_id for item, mesh in zip(metadata.objects, kept) if mesh is None]
    if bare:
        print(f"no CAD for the pictures of {', '.join(bare)}; add it with shared_pose export BUNDLE --objects CAD")
    return 0
