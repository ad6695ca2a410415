"""``shared_pose estimate``: poses of the objects in one image file."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from shared_pose_ros.cli.common import add_inference_arguments, parse_camera, read_depth, read_image
from shared_pose_ros.drawing import draw_estimates
from shared_pose_ros.estimator import PoseEstimate, PoseEstimator
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.geometry.rotations import quaternion_from_rotation
from shared_pose_ros.pipeline.frame import Detections, Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import PosePipeline
from shared_pose_ros.pipeline.refinement import MEAN_ANGLE
from shared_pose_ros.pipeline.statistics import Statistics

CONVENTION = "X_cam = R·X_model + t; OpenCV optical frame; metres; quaternion x, y, z, w; best hypothesis first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "example:\n  shared_pose estimate --bundle models/demo_parts.pose.pt --image frame.png \\\n"
        "    --camera 600,600,320,240 --detection lever:312,220,90,64 --detection socket:150,300,70,80 \\\n"
        "    --json poses.json --overlay poses.png"
    )
    parser.add_argument("--bundle", required=True, help="NAME.pose.pt")
    parser.add_argument("--image", required=True, help="PNG or JPEG file")
    parser.add_argument(
        "--camera", help="K.json or fx,fy,cx,cy in pixels; without it no viewing-ray correction and no translation"
    )
    parser.add_argument(
        "--detection", action="append", required=True, metavar="CLASS:cx,cy,w,h", help="box in pixels; may be repeated"
    )
    parser.add_argument(
        "--depth",
        metavar="FILE",
        help="depth image registered to the image, to which the poses are aligned: 16-bit PNG in mm, or .npy in metres",
    )
    parser.add_argument(
        "--refine", type=int, default=-1, metavar="STEPS",
        help="refine the hypotheses by rendering them; 0 does not (default: as the node)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, required=True, help="where the poses go")
    parser.add_argument("--overlay", type=Path, help="picture of the poses over the image")
    parser.add_argument(
        "--models", type=Path, help="object set: CAD for the overlay's outlines, where the bundle has none"
    )
    add_inference_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Estimate, write the JSON, draw."""
    estimator = PoseEstimator.load(options.bundle, options.device, options.precision)
    image = read_image(options.image)
    camera = parse_camera(options.camera) if options.camera else None
    detections = [parse_detection(text) for text in options.detection]
    if options.models and camera is None:
        raise ValueError("CAD outlines need --camera; give it, or leave --models out")
    if options.depth and camera is None:
        raise ValueError("--depth needs --camera; give it, or leave --depth out")
    depth = read_depth(options.depth) if options.depth else None
    for class_id, box in detections:
        _check_inside(class_id, box, image)
    refine = NodeParameters.of({"refine": options.refine}).refine
    frame, notes = _estimated(estimator, image, detections, camera, depth, refine)
    estimate, class_ids, index = frame.estimated, frame.detections.class_ids, frame.detections.object_index
    boxes = np.array([detections[int(row)][1] for row in frame.detections.ids]).reshape(-1, 4)
    poses = [describe_pose(class_id, boxes[row], estimate, row) for row, class_id in enumerate(class_ids)]
    result = {
        "bundle": estimator.metadata.name,
        "weights_sha256": estimator.metadata.weights_sha256,
        "image": str(options.image),
        "convention": CONVENTION,
        "ray_corrected": estimate.ray_corrected,
        "poses": poses,
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    for pose in poses:
        best = pose["hypotheses"][0]
        quaternion = np.round(best["quaternion"], 4).tolist()
        error = pose["expected_error_deg"]
        expected = "" if error is None else f", expected error {error:.1f}° (refined by {pose['refined_by']})"
        print(f"{pose['class_id']}: quaternion {quaternion} confidence {best['confidence']:.2f}{expected}")
    for note in notes:
        print(f"note: {note}")
    if options.overlay:
        meshes = estimator.meshes if options.models is None else _models(options.models, estimator, class_ids)
        picture = draw_estimates(image, boxes, class_ids, estimate, index.tolist(), meshes, camera)
        if not cv2.imwrite(str(options.overlay), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise ValueError(f"{options.overlay} cannot be written; give a .png or .jpg in an existing folder")
    return 0


def _estimated(
    estimator: PoseEstimator,
    image: NDArray[np.uint8],
    detections: Sequence[tuple[str, list[float]]],
    camera: NDArray[np.float64] | None,
    depth: NDArray[np.float32] | None,
    refine: int,
) -> tuple[Frame, list[str]]:
    """The frame after the node's stages of estimation and refinement, ids being rows; and what they counted."""
    class_ids = [class_id for class_id, _ in detections]
    index = np.array([_object_index(estimator, class_id) for class_id in class_ids], dtype=np.int64)
    boxes = np.array([box for _, box in detections], dtype=np.float32)
    given = Detections(boxes, index, class_ids, [str(row) for row in range(len(index))])
    parameters, statistics = NodeParameters(max_batch=len(index), refine=refine), Statistics()
    pipeline = PosePipeline(estimator, parameters.max_batch, statistics)
    frame = Frame(0, "", image, given, camera, depth)
    for stage in (pipeline.estimation, pipeline.refinement):
        frame = stage(frame, parameters)
    counters, reasons = statistics.snapshot()
    lost = [f"{name}: {reason}" for name, reason in frame.detections.rejected]
    return frame, [*lost, *(f"{name} ({counters[name]}): {reason}" for name, reason in reasons.items())]


def parse_detection(text: str) -> tuple[str, list[float]]:
    """("lever", [cx, cy, w, h]) of "lever:cx,cy,w,h"; raises ValueError saying what is wrong."""
    class_id, separator, numbers = text.rpartition(":")
    try:
        box = [float(item) for item in numbers.split(",")]
    except ValueError:
        box = []
    if not separator or not class_id or len(box) != 4:
        raise ValueError(f"detection {text!r} is not CLASS:cx,cy,w,h with four numbers in pixels")
    if not all(math.isfinite(value) for value in box) or box[2] <= 0 or box[3] <= 0:
        raise ValueError(f"detection {text!r}: the box must be finite, with positive width and height")
    return class_id, box


def describe_pose(class_id: str, box: np.ndarray, estimate: PoseEstimate, row: int) -> dict[str, Any]:
    """Plain values of one object's hypotheses; translation and expected error are null where they are unknown.

    The expected error is that of the first hypothesis, degrees; refined_by is "rendering", "depth" or "".
    """
    refined_by = estimate.refined_by[row] if estimate.refined_by else ""
    deviation = np.nan if estimate.deviations is None else estimate.deviations[row]
    rotations = estimate.rotations[row]
    quaternions = quaternion_from_rotation(torch.from_numpy(rotations))
    translation = None if estimate.translations is None else estimate.translations[row].tolist()
    return {
        "class_id": class_id,
        "box": box.tolist(),
        "translation": translation,
        "refined_by": refined_by,
        "expected_error_deg": math.degrees(MEAN_ANGLE * deviation) if np.isfinite(deviation) else None,
        "hypotheses": [
            {"confidence": float(confidence), "rotation": rotation.tolist(), "quaternion": quaternion.tolist()}
            for confidence, rotation, quaternion in zip(estimate.confidences[row], rotations, quaternions)
        ],
    }


def _object_index(estimator: PoseEstimator, class_id: str) -> int:
    index = estimator.object_index(class_id)
    if index is None:
        known = ", ".join(item.class_id for item in estimator.metadata.objects)
        raise ValueError(f"class {class_id!r} is unknown to {estimator.metadata.name}; it knows {known}")
    return index


def _check_inside(class_id: str, box: list[float], image: np.ndarray) -> None:
    height, width = image.shape[:2]
    cx, cy, w, h = box
    if cx + w / 2 < 0 or cy + h / 2 < 0 or cx - w / 2 > width - 1 or cy - h / 2 > height - 1:
        raise ValueError(f"the box of {class_id} {box} lies outside the image of {width}×{height} pixels")


def _models(path: Path, estimator: PoseEstimator, class_ids: Sequence[str]) -> list[DisplayMesh | None]:
    """Display meshes of the CAD for the objects detected, by the network's index."""
    # Imported here: a cell without the training extras still has `estimate`.
    from shared_pose_ros.meshes.display import display_mesh
    from shared_pose_ros.meshes.object_set import ObjectSet

    objects = ObjectSet.load(path)
    meshes: list[DisplayMesh | None] = [None] * len(estimator.metadata.objects)
    for class_id in dict.fromkeys(class_ids):
        index = objects.index(class_id)
        if index is None:
            raise ValueError(f"{path} has no object {class_id!r}; it has {', '.join(objects.class_ids)}")
        place = estimator.object_index(class_id)
        if place is not None:
            meshes[place] = display_mesh(objects[index].mesh)
    return meshes
