"""Object orientations from one shared network, trained from CAD files alone, for ROS 2.

``import shared_pose_ros as sp`` gives the ten names that a Python user needs. Each is imported when it is first asked
for, so that the import itself is fast and a cell needs no training libraries:

- ``PoseEstimator`` runs a bundle: image and boxes in, poses out.
- ``PoseEstimate`` is what it returns: arrays of rotations, confidences, positions and covariances.
- ``BundleError`` says why a bundle cannot be used.
- ``draw_estimates`` draws poses over the image.
- ``ObjectSet`` holds CAD with class ids and symmetries. It needs the extra ``train``, as do all that follow.
- ``Trainer`` trains one network on an object set.
- ``TrainingConfig`` has its settings.
- ``load_bop`` reads a dataset in BOP layout.
- ``PoseScorer`` scores poses against the truth, with the objects' CAD.
- ``evaluate_bundle`` scores every instance of a dataset under a protocol.

Convention: metres, R_m2c in the OpenCV optical frame, boxes ``(cx, cy, w, h)`` in pixels, images RGB uint8.

Example:
    >>> import numpy as np
    >>> import shared_pose_ros as sp
    >>> from shared_pose_ros.resources import share_folder
    >>> estimator = sp.PoseEstimator.load(share_folder() / "models" / "demo_parts.pose.pt", device="cpu")
    >>> image = np.full((480, 640, 3), 127, dtype=np.uint8)
    >>> boxes = np.array([[312.0, 220.0, 90.0, 64.0]])
    >>> camera = np.array([[600.0, 0.0, 320.0], [0.0, 600.0, 240.0], [0.0, 0.0, 1.0]])
    >>> lever = estimator.object_index("lever")
    >>> estimate = estimator.estimate(image, boxes, np.array([lever]), camera)
    >>> estimate.rotations.shape, estimate.confidences.shape, estimate.translations.shape
    ((1, 6, 3, 3), (1, 6), (1, 3))
    >>> sp.draw_estimates(image, boxes, ["lever"], estimate, [lever], estimator.meshes, camera).shape
    (480, 640, 3)
"""

from __future__ import annotations

from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from shared_pose_ros.bundle import BundleError
    from shared_pose_ros.drawing import draw_estimates
    from shared_pose_ros.estimator import PoseEstimate, PoseEstimator
    from shared_pose_ros.evaluation.bop import load_bop
    from shared_pose_ros.evaluation.bundle_evaluation import evaluate_bundle
    from shared_pose_ros.evaluation.pose_scorer import PoseScorer
    from shared_pose_ros.meshes.object_set import ObjectSet
    from shared_pose_ros.training.config import TrainingConfig
    from shared_pose_ros.training.trainer import Trainer

__all__ = [
    "BundleError",
    "ObjectSet",
    "PoseEstimate",
    "PoseEstimator",
    "PoseScorer",
    "Trainer",
    "TrainingConfig",
    "__version__",
    "draw_estimates",
    "evaluate_bundle",
    "load_bop",
]

_HOMES = {
    "BundleError": "bundle",
    "ObjectSet": "meshes.object_set",
    "PoseEstimate": "estimator",
    "PoseEstimator": "estimator",
    "PoseScorer": "evaluation.pose_scorer",
    "Trainer": "training.trainer",
    "TrainingConfig": "training.config",
    "draw_estimates": "drawing",
    "evaluate_bundle": "evaluation.bundle_evaluation",
    "load_bop": "evaluation.bop",
}


def __getattr__(name: str) -> object:
    """Import one of the public names from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """Version from package.xml beside a source tree, else from the installed package's metadata."""
    manifest = Path(__file__).resolve().parent.parent / "package.xml"
    if manifest.is_file():
        root = ElementTree.parse(manifest).getroot()
        if root.findtext("name") == __name__:
            return root.findtext("version", default="").strip()
    return metadata.version(__name__)


__version__ = _version()
