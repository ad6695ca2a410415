"""``shared_pose export``: a training folder becomes one bundle file."""

from __future__ import annotations

import argparse
from pathlib import Path

from shared_pose_ros.training.exporting import export_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "example:\n  shared_pose export runs/parts --out models/parts.pose.pt"
    parser.add_argument("folder", type=Path, help="the folder of shared_pose train --out")
    parser.add_argument("--out", type=Path, required=True, help="the bundle to write, NAME.pose.pt")


def run(options: argparse.Namespace) -> int:
    """Export, verify and describe."""
    metadata = export_checkpoint(options.folder, options.out)
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {len(metadata.objects)} objects, {metadata.samples} samples, {size:.1f} MB")
    print(f"weights SHA-256 {metadata.weights_sha256}")
    return 0
