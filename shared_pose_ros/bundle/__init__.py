"""The bundle: one file, ``name.pose.pt``, that holds a trained network from pixels to sorted hypotheses, and its facts.

A TorchScript archive with extra entries: ``metadata.json`` (see ``BundleMetadata``), ``example.pt`` (what the
exporting machine computed for a fixed input) and, where the CAD was at hand, ``meshes.npz`` (for pictures and
positions, see ``geometry.display_mesh``) and ``fine_meshes.npz`` (for refinement); ``refiner.npz`` (see
``refiner_entry``) may be there. Loading reads the weights from the archive without TorchScript, rebuilds the network
in this package's classes, and checks schema, weights, example, meshes and refiner, so that a damaged or foreign file
is refused with a reason instead of giving wrong poses. The graph in the file is run only for a network that has no
classes here.
"""

from __future__ import annotations

from shared_pose_ros.bundle.exporting import TTA_ROTATIONS, copy_with_meshes, copy_with_refiner, export_bundle
from shared_pose_ros.bundle.loading import SUFFIX, Bundle, load_bundle, weights_sha256
from shared_pose_ros.bundle.metadata import BundleError, BundleMetadata, BundleObject
from shared_pose_ros.bundle.refiner_entry import Refiner, RefinerFacts, pack_refiner, unpack_refiner

__all__ = [
    "SUFFIX",
    "TTA_ROTATIONS",
    "Bundle",
    "BundleError",
    "BundleMetadata",
    "BundleObject",
    "Refiner",
    "RefinerFacts",
    "copy_with_meshes",
    "copy_with_refiner",
    "export_bundle",
    "load_bundle",
    "pack_refiner",
    "unpack_refiner",
    "weights_sha256",
]
