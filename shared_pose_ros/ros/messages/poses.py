"""Estimates as a Detection3DArray: all hypotheses with position, orientation and their covariance.

Messages are made of the classes that the caller names, so that those of `rosbags` serve as well as those of rclpy: a
replayed bag goes through the same writer as the node's topics.

Convention: rotations R_m2c; metres in the image's optical frame; quaternions xyzw, w >= 0. Covariances are row-major
6x6 of (x, y, z, rotation about x, y, z), the axes fixed in that frame; -1 on a diagonal means unknown.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import torch

from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.geometry.equivalent_poses import SymmetryTable, nearest_symmetry
from shared_pose_ros.geometry.orientation_covariance import MEDIAN_ANGLE, orientation_covariance
from shared_pose_ros.geometry.rotations import quaternion_from_rotation, rotation_from_quaternion
from shared_pose_ros.ros.messages.blanks import blank_makers, fill_pose
from shared_pose_ros.ros.messages.detections import Objects

if TYPE_CHECKING:
    from std_msgs.msg import Header
    from vision_msgs.msg import Detection3DArray

UNMEASURED_ERROR = 15.0
"""Degrees: median error taken for a bundle that was exported without validation figures; the demo's has 11.6."""
UNKNOWN = -1.0
REFERENCES: Mapping[str, np.ndarray] = {"facing": np.diag([1.0, -1.0, -1.0]), "camera": np.eye(3)}
"""R_m2c that representatives of symmetric objects are near to, by the parameter reference_orientation."""
POSES_TYPE = "vision_msgs/msg/Detection3DArray"
_POSES_PARTS = (
    POSES_TYPE,
    "vision_msgs/msg/Detection3D",
    "vision_msgs/msg/BoundingBox3D",
    "vision_msgs/msg/ObjectHypothesisWithPose",
    "vision_msgs/msg/ObjectHypothesis",
    "geometry_msgs/msg/PoseWithCovariance",
    "geometry_msgs/msg/Pose",
    "geometry_msgs/msg/Point",
    "geometry_msgs/msg/Quaternion",
    "geometry_msgs/msg/Vector3",
)


@functools.cache
def ros_types() -> Mapping[str, Any]:
    """The ROS installation's classes of all that a poses message is made of, by full name."""
    found = {}
    for full in _POSES_PARTS:
        package, _, name = full.split("/")
        found[full] = getattr(importlib.import_module(f"{package}.msg"), name)
    return found


def hypothesis_deviation(metrics: Mapping[str, Any]) -> float:
    """Standard deviation (radians) of one component of the rotation vector by which a hypothesis misses its own pose.

    From the median error of the best hypothesis on synthetic validation crops, `oracle_median` (degrees) of the
    bundle's metrics: which hypothesis is right is the spread's part, how well it hits this one's. A rotation vector of
    three normal components of deviation σ has a median length of 1.538 σ
    (`geometry.orientation_covariance.MEDIAN_ANGLE`). Without the figure, `UNMEASURED_ERROR`. Real images differ from
    synthetic ones: it is a lower bound.
    """
    median = metrics.get("validation", {}).get("oracle_median")
    if not (isinstance(median, (int, float)) and math.isfinite(median) and median > 0.0):
        median = UNMEASURED_ERROR
    return math.radians(median) / MEDIAN_ANGLE


class PosesWriter:
    """Writes estimates of one bundle as messages. Made once, at configure: it keeps the bundle's facts as arrays."""

    def __init__(self, metadata: Any, types: Optional[Mapping[str, Any]] = None) -> None:
        """`metadata`: the bundle's. `types`: message classes by full name, `ros_types()` by default."""
        self._types = types or ros_types()
        self._blank_result, self._blank_bbox = blank_makers(self._types)
        self._extents = [[float(extent) for extent in item.extents] for item in metadata.objects]
        self._centres = np.array([item.centre for item in metadata.objects], dtype=np.float64)
        self._symmetries = SymmetryTable.from_dicts([item.symmetries for item in metadata.objects])
        self._deviation = hypothesis_deviation(metadata.metrics)

    def write(
        self,
        header: Header,
        objects: Objects,
        estimate: Any,
        settings: SimpleNamespace,
        last: Optional[np.ndarray] = None,
    ) -> Detection3DArray:
        """The answer: one Detection3D per object, all headers the image's, id and class_id echoed.

        `results` are the hypotheses, most confident first, with score = confidence; a result's pose is that of the CAD
        origin. `bbox` is the CAD bounding box in the pose of the first. Hypotheses share the position of the bounding
        box's centre, so the CAD origin of hypothesis i is t_0 + (R_0 - R_i) c. With symmetric_representative
        "reference" each is then replaced by the pose among its equivalent ones that is turned nearest to the reference
        (`geometry.equivalent_poses.nearest_symmetry`), with "last" by the one nearest to what was published last.
        Without a translation positions are zero and their variances -1 (unknown); with one, the covariance is the
        estimate's (`geometry.positions`). The covariance of the orientation comes from all hypotheses, published or
        not (`geometry.orientation_covariance.orientation_covariance`), and needs no camera.

        Args:
            header: the image's.
            objects: B usable detections.
            estimate: a PoseEstimate of the same B objects.
            settings: the node's parameters hypotheses, symmetric_representative and reference_orientation.
            last: the rotations published last ``(B, 3, 3)``; where they are NaN, or None, the reference stands in.
        """
        if not objects.ids:
            return self._types[POSES_TYPE](header=header, detections=[])
        count = settings.hypotheses or estimate.rotations.shape[1]
        rotations = np.asarray(estimate.rotations, dtype=np.float64)
        centres = self._centres[objects.object_index]
        origins, boxes = _positions(rotations, centres, estimate.translations)
        covariances = self._covariances(objects, rotations, estimate)[:, :count]
        if settings.symmetric_representative != "any":
            reference = np.tile(REFERENCES[settings.reference_orientation], (len(rotations), 1, 1))
            if settings.symmetric_representative == "last" and last is not None:
                reference = np.where(np.isnan(last), reference, last)
            rotations, offsets = self._representatives(objects, rotations, reference)
            if estimate.translations is not None:
                origins = origins + offsets
                boxes = origins[:, 0] + np.einsum("bij,bj->bi", rotations[:, 0], centres)
        quaternions = quaternion_from_rotation(torch.from_numpy(rotations[:, :count])).numpy()
        # Numbers as Python's own, all at once: one at a time they cost more than the messages.
        places, turns = origins[:, :count].tolist(), quaternions.tolist()
        scores = np.asarray(estimate.confidences)[:, :count].tolist()
        detections = []
        for number, index in enumerate(objects.object_index):
            rows = zip(places[number], turns[number], covariances[number], scores[number])
            results = [self._result(objects.class_ids[number], *row) for row in rows]
            bbox = self._blank_bbox()
            fill_pose(bbox.center, boxes[number].tolist(), turns[number][0])
            bbox.size.x, bbox.size.y, bbox.size.z = self._extents[index]
            detections.append(
                self._types["vision_msgs/msg/Detection3D"](
                    header=header, results=results, bbox=bbox, id=objects.ids[number]
                )
            )
        return self._types[POSES_TYPE](header=header, detections=detections)

    def _covariances(self, objects: Objects, rotations: np.ndarray, estimate: Any) -> np.ndarray:
        """Of each hypothesis, (B, n, 36): position and orientation, taken as independent."""
        found = np.zeros((*rotations.shape[:2], 6, 6))
        known = estimate.translations is not None
        found[..., :3, :3] = estimate.position_covariances[:, None] if known else UNKNOWN * np.eye(3)
        found[..., 3:, 3:] = orientation_covariance(
            torch.from_numpy(rotations),
            torch.from_numpy(np.asarray(estimate.confidences)),
            torch.full((len(rotations),), self._deviation, dtype=torch.float64),
            self._symmetries.take(torch.from_numpy(objects.object_index)),
        ).numpy()
        return found.reshape(*rotations.shape[:2], 36)

    def _representatives(
        self, objects: Objects, rotations: np.ndarray, reference: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Equivalent rotations (B, n, 3, 3) nearest to references (B, 3, 3), and how far origins move (B, n, 3)."""
        table = self._symmetries.take(torch.from_numpy(objects.object_index))
        motions = nearest_symmetry(torch.from_numpy(reference.swapaxes(1, 2)[:, None] @ rotations), table).numpy()
        return rotations @ motions[..., :3, :3], (rotations @ motions[..., :3, 3:])[..., 0]

    def _result(
        self, class_id: str, position: list[float], quaternion: list[float], covariance: np.ndarray, score: float
    ) -> Any:
        result = self._blank_result()
        result.hypothesis.class_id, result.hypothesis.score = class_id, score
        fill_pose(result.pose.pose, position, quaternion)
        result.pose.covariance = covariance
        return result


def published_rotations(message: Detection3DArray) -> np.ndarray:
    """The rotation of each detection's first hypothesis, ``(B, 3, 3)`` float64."""
    turns = [entry.results[0].pose.pose.orientation for entry in message.detections]
    quaternions = torch.tensor([[q.x, q.y, q.z, q.w] for q in turns], dtype=torch.float64).reshape(-1, 4)
    return rotation_from_quaternion(quaternions).numpy()


def published_estimate(message: Detection3DArray) -> PoseEstimate:
    """The first hypothesis of each detection as an estimate with n = 1, unknown positions NaN: what pictures draw."""
    first = [entry.results[0] for entry in message.detections]
    confidences = np.array([[result.hypothesis.score] for result in first], dtype=np.float32).reshape(-1, 1)
    places = [result.pose.pose.position for result in first]
    positions = np.array([[p.x, p.y, p.z] for p in places], dtype=np.float32).reshape(-1, 3)
    positions[[not position_known(result.pose) for result in first]] = np.nan
    return PoseEstimate(published_rotations(message)[:, None].astype(np.float32), confidences, positions, False)


def position_known(pose: Any) -> bool:
    """Whether a PoseWithCovariance states a position."""
    return pose.covariance[0] != UNKNOWN


def object_names(message: Detection3DArray) -> list[str]:
    """A name for each detection, unique in the message: `<class_id>_<id>`, of letters, digits and underscores.

    A detection without an id is numbered within its class (from 0, in the order of the array); a name that is taken
    already gets a number behind it. So a tracked object keeps its name, and one without id may not.
    """
    names: list[str] = []
    counts: Counter[str] = Counter()
    for detection in message.detections:
        class_id = detection.results[0].hypothesis.class_id
        stem = re.sub(r"[^A-Za-z0-9_]", "_", f"{class_id}_{detection.id or counts[class_id]}")
        counts[class_id] += 1
        tries = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
        names.append(next(name for name in tries if name not in names))
    return names


def _positions(
    rotations: np.ndarray, centres: np.ndarray, translations: Optional[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """CAD origins (B, n, 3) and bounding-box centres (B, 3) in metres, zero without translations."""
    if translations is None:
        return np.zeros(rotations.shape[:3]), np.zeros((len(rotations), 3))
    offsets = np.einsum("bnij,bj->bni", rotations, centres)
    boxes = np.asarray(translations, dtype=np.float64) + offsets[:, 0]
    return boxes[:, None] - offsets, boxes
