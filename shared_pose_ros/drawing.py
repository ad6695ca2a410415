"""Estimated poses drawn over an image, from what the bundle alone knows: outline or axes, box, class, confidence.

Convention: images ``(H, W, 3)`` uint8 RGB; K in pixels, pixel centres at integers; metres, X_cam = R X_model + t. Axes
are x red, y green, z blue; every other colour is the object's.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.geometry.display_mesh import DisplayMesh

AXIS_COLOURS = ((255, 40, 40), (40, 220, 40), (60, 90, 255))
_FAR = 1e4  # OpenCV draws with 16-bit coordinates
_NEAR = 1e-3
"""A mesh with a vertex nearer to the camera's plane than this (m) is not drawn: its projection is meaningless."""
_SHIFT = 4
"""Fractional bits of the coordinates given to OpenCV."""
# An edge is drawn where neighbouring pixels' surfaces differ by more than this.
_CREASE = math.cos(math.radians(30.0))
_LEAST_LUMINANCE = 0.45
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_DARK = (20, 20, 20)

Colour = tuple[int, int, int]


def object_colour(object_index: int) -> Colour:
    """RGB of an object: bright, always the same, and far in hue from those with near indices (golden ratio)."""
    hue = (0.09 + 0.618034 * object_index) % 1.0
    colour = np.array(colorsys.hsv_to_rgb(hue, (0.85, 0.55)[object_index // 7 % 2], 1.0))
    luminance = float(colour @ (0.299, 0.587, 0.114))
    # Blue and violet are dark: as much white is added as makes them readable on dark ground.
    white = max(0.0, (_LEAST_LUMINANCE - luminance) / (1.0 - luminance))
    red, green, blue = (255 * (colour + white * (1.0 - colour))).round().astype(int).tolist()
    return red, green, blue


def draw_estimates(
    image: NDArray[np.uint8],
    boxes: NDArray[np.floating],
    class_ids: Sequence[str],
    estimate: PoseEstimate,
    object_index: Sequence[int] | NDArray[np.integer],
    meshes: Sequence[DisplayMesh | None] = (),
    camera: NDArray[np.floating] | None = None,
    note: str = "",
) -> NDArray[np.uint8]:
    """A copy of the image with the best hypothesis of each object, its class and confidence.

    Where camera, position and mesh are known, the mesh's outline; elsewhere the detection's box, and axes from its
    centre, as long as half the box and seen from far away (no perspective).

    Args:
        image: left as it is.
        boxes: ``(B, 4)`` (cx, cy, w, h).
        class_ids: B names.
        estimate: of the B objects; a translation that is not finite is unknown.
        object_index: ``(B,)``.
        meshes: of the bundle's objects, by object_index.
        camera: K ``(3, 3)``.
        note: written into the upper left corner.
    """
    picture = np.ascontiguousarray(image).copy()
    labels = _Labels(picture, note)
    for number in _far_to_near(estimate):
        colour, rotation = object_colour(int(object_index[number])), estimate.rotations[number, 0]
        mesh = meshes[object_index[number]] if len(meshes) else None
        seen = None
        if mesh is not None and camera is not None and estimate.translations is not None:
            seen = visible_faces(mesh, rotation, estimate.translations[number], camera, image.shape[:2])
        box = boxes[number]
        if seen is None or mesh is None:
            cv2.rectangle(picture, *_corners(box), colour, labels.line)
            _draw_axes(picture, box, rotation, labels.line + 1)
        else:
            corner, face = seen
            draw_outline(picture, face >= 0, _normals(mesh)[face], colour, labels.line, corner, rim=1)
        labels.add(_corners(box), f"{class_ids[number]} {estimate.confidences[number, 0]:.2f}", colour)
    labels.write()
    return picture


def visible_faces(
    mesh: DisplayMesh,
    rotation: NDArray[np.floating],
    translation: NDArray[np.floating],
    camera: NDArray[np.floating],
    size: tuple[int, int],
) -> tuple[tuple[int, int], NDArray[np.int32]] | None:
    """Which face of a mesh each pixel shows: the faces filled from far to near (painter's algorithm).

    Good for pictures: faces that cut through each other, and long ones beside short ones, may come in the wrong order.

    Args:
        mesh: V vertices, F faces.
        rotation: R ``(3, 3)``.
        translation: t ``(3,)`` metres.
        camera: K ``(3, 3)``.
        size: (height, width) of the image.

    Returns:
        A part of the image that holds the whole mesh: its upper left pixel (x, y), and ``(h, w)`` int32 of faces, −1
        where there is none. None for a position that is unknown (not finite), a mesh that reaches behind the camera,
        or one outside the image.
    """
    points = mesh.vertices @ np.asarray(rotation, dtype=np.float64).T + np.asarray(translation, dtype=np.float64)
    if not np.isfinite(points).all() or points[:, 2].min() < _NEAR:
        return None
    pixels = ((points / points[:, 2:]) @ np.asarray(camera, dtype=np.float64).T)[:, :2]
    limit = (size[1] - 1, size[0] - 1)
    low, high = np.floor(pixels.min(axis=0)) - 1, np.ceil(pixels.max(axis=0)) + 1
    if (high < 0).any() or (low > limit).any():
        return None
    low, high = np.clip(low, 0, limit).astype(int), np.clip(high, 0, limit).astype(int)
    # OpenCV fills int32 but not int64; face + 1, for 0 is what it starts with.
    shown = np.zeros((high - low + 1)[::-1], dtype=np.int32)
    corners = (np.clip(pixels - low, -_FAR, _FAR) * 2**_SHIFT).round().astype(np.int32)[mesh.faces]
    for face in np.argsort(-points[mesh.faces, 2].mean(axis=1)).tolist():
        cv2.fillConvexPoly(shown, corners[face], face + 1, cv2.LINE_8, _SHIFT)
    return (int(low[0]), int(low[1])), shown - 1


def draw_outline(
    picture: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    normals: NDArray[np.floating],
    colour: Colour,
    line: int,
    corner: tuple[int, int] = (0, 0),
    rim: int = 0,
) -> None:
    """Draw an object's silhouette into ``picture``, and thinner the edges where its surface turns.

    The edges tell poses of equal silhouette apart.

    Args:
        picture: drawn on.
        mask: ``(h, w)``, where the object is, in a part of the picture.
        normals: ``(h, w, 3)`` of the surface in each pixel, of any sign; counted inside the mask only.
        colour: RGB.
        line: width in pixels.
        corner: (x, y) of that part's upper left pixel in the picture.
        rim: width of a dark rim on each side, with which the line shows on any ground.
    """
    rows, columns = mask.shape
    creases = np.zeros(mask.shape, dtype=bool)
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        # Both sides of a face are drawn, so the normal's sign means nothing.
        rotated = np.abs(np.einsum("ijk,ijk->ij", normals[here], normals[there])) < _CREASE
        creases[here] |= rotated & mask[here] & mask[there]
    picture[corner[1] : corner[1] + rows, corner[0] : corner[0] + columns][creases] = colour
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    if rim:
        cv2.drawContours(picture, contours, -1, _DARK, line + 2 * rim, offset=corner)
    cv2.drawContours(picture, contours, -1, colour, line, offset=corner)


@dataclass
class _Labels:
    """Texts on dark ground, above their boxes where there is room and not over each other; sized by the image."""

    picture: NDArray[np.uint8]
    note: str
    placed: list[tuple[int, int, int, int]] = field(default_factory=list)
    texts: list[tuple[tuple[int, int], str, Colour]] = field(default_factory=list)

    def __post_init__(self) -> None:
        larger = math.sqrt(max(min(self.picture.shape[:2]), 1) / 480)
        self.scale, self.line = 0.42 * min(max(larger, 0.8), 2.0), max(1, round(1.2 * larger))
        if self.note:
            self._place([(2, 2)], self.note, (255, 255, 255))

    def add(self, corners: tuple[tuple[int, int], tuple[int, int]], text: str, colour: Colour) -> None:
        """Find the place of a label at a box given by its upper left and lower right corner."""
        (left, top), (right, bottom) = corners
        _, height = self._size(text)
        tries = [
            (left, top - height - 2),
            (left, bottom + 2),
            (right + 2, top),
            (left, top + 2),
            (left, bottom - height),
        ]
        self._place(tries, text, colour)

    def write(self) -> None:
        """Write all of them, over everything drawn so far."""
        for (x, y), text, colour in self.texts:
            width, height = self._size(text)
            cv2.rectangle(self.picture, (x, y), (x + width, y + height), _DARK, cv2.FILLED)
            base = (x + 2, y + height - 4)
            cv2.putText(self.picture, text, base, _FONT, self.scale, colour, 1, cv2.LINE_AA)

    def _size(self, text: str) -> tuple[int, int]:
        (width, height), _ = cv2.getTextSize(text, _FONT, self.scale, 1)
        return width + 4, height + 7

    def _place(self, tries: Sequence[tuple[int, int]], text: str, colour: Colour) -> None:
        rows, columns = self.picture.shape[:2]
        width, height = self._size(text)
        inside = [(max(0, min(x, columns - width)), max(0, min(y, rows - height))) for x, y in tries]
        free = [(x, y) for x, y in inside if not any(_touch((x, y, width, height), other) for other in self.placed)]
        x, y = (free or inside)[0]
        self.placed.append((x, y, width, height))
        self.texts.append(((x, y), text, colour))


def _touch(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return all(one[axis] < other[axis] + other[axis + 2] and other[axis] < one[axis] + one[axis + 2] for axis in (0, 1))


def _far_to_near(estimate: PoseEstimate) -> list[int]:
    """Order of drawing: near objects last, so that they lie on top; unknown positions first."""
    if estimate.translations is None:
        return list(range(len(estimate.rotations)))
    return np.argsort(-np.nan_to_num(estimate.translations[:, 2], nan=np.inf), kind="stable").tolist()


def _normals(mesh: DisplayMesh) -> NDArray[np.float32]:
    """Unit normals of the faces ``(F, 3)`` float32, CAD frame."""
    corners = mesh.vertices[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), np.float32(1e-30))


def _draw_axes(
    picture: NDArray[np.uint8], box: NDArray[np.floating], rotation: NDArray[np.floating], line: int
) -> None:
    centre, side = box[:2], float(box[2:].max())
    # Far axes first, so that the near ones lie on top.
    for axis in np.argsort(-rotation[2]):
        tip = centre + rotation[:2, axis] * side / 2
        cv2.line(picture, _pixel(centre), _pixel(tip), AXIS_COLOURS[axis], line, cv2.LINE_AA)


def _corners(box: NDArray[np.floating]) -> tuple[tuple[int, int], tuple[int, int]]:
    return _pixel(box[:2] - box[2:] / 2), _pixel(box[:2] + box[2:] / 2)


def _pixel(point: NDArray[np.floating]) -> tuple[int, int]:
    x, y = np.clip(point, -_FAR, _FAR).round().astype(int).tolist()
    return x, y
