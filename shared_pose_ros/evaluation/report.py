"""Pictures of poses, and one self-contained HTML file that shows an evaluation.

Convention: images ``(H, W, 3)`` uint8 RGB; K in pixels, metres, X_cam = R X_model + t. Outlines come from the
rasterised face ids: the silhouette, and thinner the edges where the surface turns, which tell apart poses
of equal silhouette.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from shared_pose_ros.evaluation.bop import BopDataset
from shared_pose_ros.evaluation.evaluate import Evaluation
from shared_pose_ros.evaluation.scoring import PoseScorer
from shared_pose_ros.evaluation.tables import ObjectRow, object_rows, summary_row
from shared_pose_ros.html_page import Picture, figure, paragraph, table, write_page
from shared_pose_ros.rendering.rasterizer import PackedMeshes, Rasterizer

TRUTH_COLOUR = (40, 220, 60)
ESTIMATE_COLOUR = (255, 120, 0)
# An edge is drawn where neighbouring pixels' surfaces differ by more than this.
_CREASE = math.cos(math.radians(30.0))


@dataclass(frozen=True)
class DrawnPose:
    """A pose to draw.

    Attributes:
        object_index: position in the pack of meshes.
        rotation: R_m2c ``(3, 3)``.
        translation: ``(3,)`` metres.
        colour: RGB 0…255.
        label: written beside the object; empty for none.
    """

    object_index: int
    rotation: np.ndarray
    translation: np.ndarray
    colour: tuple[int, int, int] = ESTIMATE_COLOUR
    label: str = ""


def draw_poses(
    image: np.ndarray,
    camera: np.ndarray,
    poses: Sequence[DrawnPose],
    meshes: PackedMeshes,
    rasterizer: Rasterizer,
) -> np.ndarray:
    """Draw the outlines of CAD models over an image.

    Args:
        image: ``(H, W, 3)`` uint8 RGB, left as it is.
        camera: K ``(3, 3)``.
        poses: what to draw; later ones lie on top.
        meshes: the CAD, metres (``PoseScorer.meshes``).
        rasterizer: the backend (``PoseScorer.rasterizer``).

    Returns:
        A new image of the same shape.
    """
    drawn = np.ascontiguousarray(image).copy()
    size = image.shape[0], image.shape[1]
    device = meshes.vertices.device
    k = torch.as_tensor(np.asarray(camera, dtype=np.float32)).to(device)
    for pose in poses:
        r = torch.as_tensor(np.asarray(pose.rotation, dtype=np.float32)).to(device)
        t = torch.as_tensor(np.asarray(pose.translation, dtype=np.float32)).to(device)
        index = torch.tensor([pose.object_index], device=device)
        face = rasterizer.rasterize(meshes, index, r[None], t[None], k, size)[0]
        normals = (meshes.normals[face.clamp(min=0)] @ r.T).cpu().numpy()
        _draw_outline(drawn, (face >= 0).cpu().numpy(), normals, pose)
    return drawn


def _draw_outline(drawn: np.ndarray, mask: np.ndarray, normals: np.ndarray, pose: DrawnPose) -> None:
    creases = np.zeros(mask.shape, dtype=bool)
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        # Both sides of a face are drawn, so the normal's sign means nothing.
        turned = np.abs((normals[here] * normals[there]).sum(axis=-1)) < _CREASE
        creases[here] |= turned & mask[here] & mask[there]
    drawn[creases] = pose.colour
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, contours, -1, pose.colour, 2)
    if pose.label and mask.any():
        rows, columns = mask.nonzero()
        place = int(columns.min()), max(int(rows.min()) - 6, 14)
        cv2.putText(drawn, pose.label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(drawn, pose.label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, pose.colour, 1, cv2.LINE_AA)


def gallery(evaluation: Evaluation, dataset: BopDataset, scorer: PoseScorer, limit: int = 12) -> list[Picture]:
    """Frames of a dataset with the truth (green) and the first hypotheses (orange), spread over the dataset."""
    by_frame: dict[tuple[int, int], list] = {}
    for result in evaluation.instances:
        by_frame.setdefault((result.scene_id, result.im_id), []).append(result)
    frames = [frame for frame in dataset.frames if (frame.scene_id, frame.image_id) in by_frame]
    picks = np.unique(np.linspace(0, len(frames) - 1, min(limit, len(frames))).round().astype(int)) if frames else []
    pictures = []
    for frame in (frames[i] for i in picks):
        results = by_frame[frame.scene_id, frame.image_id]
        poses = []
        for result in results:
            truth = frame.instances[result.gt_id]
            index = scorer.objects.index(truth.class_id)
            estimate = np.array(result.rotation).reshape(3, 3), np.array(result.translation)
            label = f"{result.class_id}: {result.rotation_deg:.0f} deg"
            poses.append(DrawnPose(index, truth.rotation, truth.translation, TRUTH_COLOUR))
            poses.append(DrawnPose(index, *estimate, ESTIMATE_COLOUR, label))
        image = draw_poses(frame.image(), frame.camera, poses, scorer.meshes, scorer.rasterizer)
        mean = np.mean([result.score for result in results])
        caption = f"scene {frame.scene_id}, image {frame.image_id}: mean {evaluation.score_name} {100 * mean:.0f} %"
        pictures.append(Picture(image, caption))
    return pictures


def write_report(
    path: str | Path,
    title: str,
    evaluations: Sequence[Evaluation],
    pictures: Iterable[Picture] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write one HTML file that needs nothing else: tables with chance and protocol line, notes, pictures.

    Args:
        path: the file; its folder is made.
        title: heading.
        evaluations: each becomes a table under its protocol line.
        pictures: the gallery, embedded as PNG.
        notes: further paragraphs, such as latencies and counters.

    Returns:
        The file.
    """
    body = []
    for evaluation in evaluations:
        body.append(paragraph(f"System: {evaluation.system}. Protocol: {evaluation.protocol_line}.", "protocol"))
        body.append(_html_table(evaluation))
    body += [paragraph(note) for note in notes]
    shown = [figure(picture) for picture in pictures]
    if shown:
        legend = "Outlines of the CAD: ground truth green, estimate orange, thin lines where the surface turns."
        body += ["<h2>Poses over the images</h2>", paragraph(legend), *shown]
    return write_page(path, title, body)


def _html_table(evaluation: Evaluation) -> str:
    name = evaluation.score_name
    heads = ["object", "instances", f"{name} %", f"chance {name} %", f"oracle {name} %", "rotation error °"]
    heads += ["chance °", "oracle °", "< 5° %", "< 10° %", "< 15° %"]
    return table(heads, [_cells(row) for row in object_rows(evaluation)], _cells(summary_row(evaluation)))


def _cells(row: ObjectRow) -> list[str]:
    scores = [100 * row.score, 100 * row.chance_score, 100 * row.oracle_score, row.rotation_error_deg_median]
    scores += [row.chance_rotation_error_deg_median, row.oracle_rotation_error_deg_median]
    scores += [100 * share for share in row.recall_deg]
    return [row.class_id, str(row.instances), *(f"{value:.1f}" for value in scores)]
