"""``shared_pose build-codebook``: an encoder and CAD become a bundle that answers by nearest neighbour."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from shared_pose_ros.baselines.codebook import IN_PLANE, VIEWPOINTS, build_codebook, view_rotations
from shared_pose_ros.bundle import SUFFIX, BundleMetadata, BundleObject, export_bundle
from shared_pose_ros.cli.common import add_object_arguments, load_objects
from shared_pose_ros.estimator import choose_device
from shared_pose_ros.meshes.display import display_mesh
from shared_pose_ros.training.config import EncoderConfig, config_from_dict
from shared_pose_ros.training.provenance import describe_object, source_commit
from shared_pose_ros.training.transfer import encoder_of_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "examples:\n"
        "  shared_pose build-codebook --objects models/parts --encoder runs/encoder --out parts.pose.pt\n"
        "  shared_pose build-codebook --objects cad/ --unit mm --encoder runs/encoder --half --out cad.pose.pt"
    )
    add_object_arguments(parser)
    parser.add_argument("--encoder", type=Path, required=True, help="folder of shared_pose train-encoder")
    parser.add_argument("--out", type=Path, required=True, help="the bundle to write, NAME.pose.pt")
    parser.add_argument(
        "--viewpoints", type=int, default=VIEWPOINTS, help=f"camera positions: 162, 642, 2562 (default: {VIEWPOINTS})"
    )
    parser.add_argument(
        "--in-plane", type=int, default=IN_PLANE, help=f"turns about the optical axis (default: {IN_PLANE})"
    )
    parser.add_argument("--hypotheses", type=int, default=10, help="nearest views that it answers (default: 10)")
    parser.add_argument("--half", action="store_true", help="codes in half precision: half the size")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")


def run(options: argparse.Namespace) -> int:
    """Build, verify, write."""
    source = encoder_of_checkpoint(options.encoder)
    config = config_from_dict(source.config, EncoderConfig)
    objects = load_objects(options)
    rotations = view_rotations(options.viewpoints, options.in_plane)
    with tqdm(total=len(objects) * len(rotations), unit="view", unit_scale=True) as bar:
        network = build_codebook(
            objects, source, config, choose_device(options.device), rotations, options.hypotheses, options.half,
            bar.update,
        )  # fmt: skip
    metadata = BundleMetadata(
        name=options.out.name.removesuffix(SUFFIX),
        objects=tuple(BundleObject.from_dict(describe_object(model)) for model in objects),
        hypotheses=options.hypotheses,
        crop_pad=config.synthesis.crop_pad,
        crop_size=source.crop_size,
        encoder_width=source.width,
        tuning="frozen",
        normalize_code=True,
        preset="codebook",
        samples=0,
        seed=config.seed,
        commit=source_commit(),
    )
    export_bundle(network, metadata, options.out, [display_mesh(model.mesh) for model in objects])
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {len(objects)} objects, {len(rotations)} views each, {size:.1f} MB")
    return 0
