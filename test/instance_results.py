"""Scored instances, made up for the tests of tables and reports."""

from shared_pose_ros.evaluation.instance_scoring import InstanceResult


def instance(class_id, score, degrees, metrics=(), **values):
    """An InstanceResult of an object, with its score and rotation error; `values` replace other fields."""
    rotation = {"rotation_deg": degrees, "oracle_rotation_deg": degrees / 2, "chance_rotation_deg": 100.0}
    defaults = {
        "scene_id": 1,
        "im_id": 2,
        "gt_id": 0,
        "class_id": class_id,
        "visib": 1.0,
        "rotation": (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0),
        "translation": (0.0, 0.0, 1.0),
        "confidence": 0.5,
        "score": score,
        "e_vsd": (0.1, 0.2),
        "metrics": {"mssd": 0.01, "mspd": 3.0, **rotation, **dict(metrics)},
        "oracle_score": score + 0.1,
        "chance_score": 0.2,
        "off_axis_deg": 5.0,
        "box_iou": 1.0,
    }
    return InstanceResult(**{**defaults, **values})
