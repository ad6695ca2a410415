"""Markers for RViz: each object's mesh, axes and a text, in the colour of its class. Metres, the image's frame.

A mesh is a TRIANGLE_LIST, which needs no file on RViz's machine: 36 kB of points an object of 500 faces. rclpy makes
and serialises points one by one with the interpreter's lock held, which stops the poses (8 objects: 17 ms of one core),
so markers are serialised with a placeholder of three points, and the real ones are put into the bytes (1.4 ms).
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Vector3
from rclpy.serialization import serialize_message
from std_msgs.msg import ColorRGBA
from vision_msgs.msg import Detection3D, Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from shared_pose_ros.drawing import AXIS_COLOURS, object_colour
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.ros.messages.poses import object_names, position_known

MARKER_SECONDS = 10
"""Markers go by themselves after this time without a new message: only when the node is gone, else they are deleted."""
DELETED_AGAIN = 5
"""Messages in which a marker that went away is deleted: one can be lost on the way."""
KINDS = ("mesh", "axes", "text")
_MARK = 6.123e-301
_PLACEHOLDER_POINTS = 3


class MarkerWriter:
    """Writes marker arrays of one bundle; remembers what it showed, to delete what went away."""

    def __init__(self, object_index: Callable[[str], Optional[int]], meshes: Sequence[DisplayMesh | None]) -> None:
        """`object_index`: of a class_id, as the estimator's; `meshes`: by object_index, None for a box."""
        self._object_index, self._meshes = object_index, meshes
        self._points = [None if mesh is None else _point_bytes(mesh) for mesh in meshes]
        self._shown: deque[set[int]] = deque(maxlen=DELETED_AGAIN)

    def write(self, poses: Detection3DArray) -> bytes:
        """The serialised MarkerArray of an array of poses; objects without a known position are left out.

        Three markers an object, in the namespaces `KINDS`, with one id that follows from class and detection id: a
        tracked object keeps it. The mesh (without one: the bounding box) is the more opaque the more confident the
        first hypothesis is. The first array begins with DELETEALL, later ones delete the ids that went away.
        """
        markers, shown, places = self._leading(poses), set(), []
        for detection, name in zip(poses.detections, object_names(poses)):
            if not position_known(detection.results[0].pose):
                continue
            identity = _identity(name, shown)
            shown.add(identity)
            index = self._object_index(detection.results[0].hypothesis.class_id) or 0
            if self._points[index] is not None:
                places.append(index)
            for marker in (self._solid(detection, index), _axes(detection), _text(detection)):
                marker.header, marker.id, marker.action = poses.header, identity, Marker.ADD
                marker.lifetime = Duration(sec=MARKER_SECONDS)
                markers.append(marker)
        gone = set().union(*self._shown) - shown
        markers += [
            Marker(header=poses.header, ns=kind, id=identity, action=Marker.DELETE)
            for identity in sorted(gone)
            for kind in KINDS
        ]
        self._shown.append(shown)
        return self._with_points(serialize_message(MarkerArray(markers=markers)), places)

    def _leading(self, poses: Detection3DArray) -> list[Marker]:
        return [] if self._shown else [Marker(header=poses.header, action=Marker.DELETEALL)]

    def _solid(self, detection: Detection3D, index: int) -> Marker:
        hypothesis = detection.results[0].hypothesis
        colour = _colour(object_colour(index), 0.3 + 0.6 * min(max(hypothesis.score, 0.0), 1.0))
        if self._points[index] is None:
            box = detection.bbox
            return Marker(ns="mesh", type=Marker.CUBE, pose=box.center, scale=box.size, color=colour)
        marker = Marker(ns="mesh", type=Marker.TRIANGLE_LIST, pose=detection.results[0].pose.pose, color=colour)
        marker.scale = Vector3(x=1.0, y=1.0, z=1.0)
        marker.points = [Point(x=_MARK, y=float(index), z=_MARK)] * _PLACEHOLDER_POINTS
        return marker

    def _with_points(self, data: bytes, places: Sequence[int]) -> bytes:
        """The message with every placeholder, of object_index `places` in their order, replaced by the mesh's corners.

        A point takes three doubles and is aligned to eight bytes, so that all that follows stays aligned as it was.
        """
        parts, cursor = [], 0
        for index in places:
            found = data.index(struct.pack("=3d", _MARK, index, _MARK) * _PLACEHOLDER_POINTS, cursor)
            # The sequence's length stands before its points, or before four bytes of alignment.
            length = next(at for at in (found - 4, found - 8) if data[at : at + 4] == _LENGTH)
            points = self._points[index]
            parts += [data[cursor:length], struct.pack("=I", len(points) // 24), data[length + 4 : found], points]
            cursor = found + 24 * _PLACEHOLDER_POINTS
        return b"".join([*parts, data[cursor:]])


_LENGTH = struct.pack("=I", _PLACEHOLDER_POINTS)


def _point_bytes(mesh: DisplayMesh) -> bytes:
    return mesh.vertices[mesh.faces].astype(np.float64).tobytes()


def _identity(name: str, taken: set[int]) -> int:
    """A marker id that depends on the name alone (but for the rare collision)."""
    identity = zlib.crc32(name.encode()) & 0x7FFFFFFF
    while identity in taken:
        identity = (identity + 1) & 0x7FFFFFFF
    return identity


def _axes(detection: Detection3D) -> Marker:
    """The CAD frame's axes, as long as the part: x red, y green, z blue."""
    length = _longest(detection)
    marker = Marker(ns="axes", type=Marker.LINE_LIST, pose=detection.results[0].pose.pose)
    marker.scale = Vector3(x=length / 25)
    for axis, colour in enumerate(AXIS_COLOURS):
        tip = [0.0, 0.0, 0.0]
        tip[axis] = 0.75 * length
        marker.points += [Point(), Point(x=tip[0], y=tip[1], z=tip[2])]
        marker.colors += [_colour(colour, 1.0)] * 2
    return marker


def _text(detection: Detection3D) -> Marker:
    """Class and confidence, above the part as the camera sees it (−y)."""
    hypothesis, length = detection.results[0].hypothesis, _longest(detection)
    marker = Marker(ns="text", type=Marker.TEXT_VIEW_FACING, text=f"{hypothesis.class_id} {hypothesis.score:.2f}")
    centre = detection.bbox.center.position
    marker.pose.position = Point(x=centre.x, y=centre.y - 0.7 * length, z=centre.z)
    marker.scale, marker.color = Vector3(z=length / 5), _colour((255, 255, 255), 1.0)
    return marker


def _colour(rgb: tuple[int, int, int], alpha: float) -> ColorRGBA:
    return ColorRGBA(r=rgb[0] / 255, g=rgb[1] / 255, b=rgb[2] / 255, a=alpha)


def _longest(detection: Detection3D) -> float:
    size: Any = detection.bbox.size
    return max(size.x, size.y, size.z, 1e-6)
