"""The stage of docs/extending.md, as the page has it, between the estimate and the temporal filter."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
from checkout import ROOT

from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.pipeline.frame import Detections, Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import PosePipeline

FACTS = SimpleNamespace(extents=(0.1,) * 3, centre=(0.0,) * 3, diameter=0.17, symmetries={})


class TwoHypotheses:
    """An estimator of identities with confidences 0.6 and 0.4."""

    metadata = SimpleNamespace(objects=[FACTS], metrics={})
    meshes = fine_meshes = (None,)
    refiner, device = None, None

    def estimate(self, image, boxes, object_index, camera_matrix=None, depth=None) -> PoseEstimate:
        rotations = np.tile(np.eye(3, dtype=np.float32), (len(boxes), 2, 1, 1))
        return PoseEstimate(rotations, np.tile(np.float32([0.6, 0.4]), (len(boxes), 1)), None, False)


def test_the_stage_of_the_page_changes_what_is_published() -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(\"\"\"A stage that trusts.*?)```", page, re.DOTALL)
    names: dict = {}
    exec(code, names)
    pipeline, detections = (
        PosePipeline(TwoHypotheses(), 4),
        Detections(np.ones((1, 4), np.float32), np.array([0]), ["a"], [""]),
    )
    frame = Frame(0, "camera", np.zeros((2, 2, 3), np.uint8), detections)
    plain = pipeline.run(frame, NodeParameters()).poses
    first, *rest = pipeline.stages
    pipeline.stages = (first, names["best_hypothesis_only"], *rest)
    changed = pipeline.run(frame, NodeParameters()).poses
    np.testing.assert_allclose(plain.confidences, [[0.6, 0.4]])
    np.testing.assert_allclose(changed.confidences, [[1.0, 0.0]])
