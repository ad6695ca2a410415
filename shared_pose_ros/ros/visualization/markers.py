"""Markers for RViz: each object's mesh, axes and a text, in the colour of its class. Metres, the image's frame.

A mesh is a TRIANGLE_LIST, which needs no file on RViz's machine: 36 kB of points for 500 faces. rclpy makes
and serialises points one by one with the interpreter's lock held, which stops the poses (8 objects: 17 ms of one core),
so markers are serialised with a placeholder of three points, and the real ones are put into the bytes (1.4 ms).
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from numpy.typing import NDArray
from rclpy.serialization import serialize_message
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from shared_pose_ros.drawing import AXIS_COLOURS, object_colour
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.pipeline.frame import PublishedPoses
from shared_pose_ros.ros.messages.poses import message_header

MARKER_SECONDS = 10
"""Markers go by themselves after this time without a new message: only when the node is gone, else they are deleted."""
DELETED_AGAIN = 5
"""Messages in which a marker that went away is deleted: one can be lost on the way."""
KINDS = ("mesh", "axes", "text")
_MARK = 6.123e-301
_PLACEHOLDER_POINTS = 3


class MarkerWriter:
    """Writes marker arrays of one bundle; remembers what it showed, to delete what went away."""

    def __init__(self, object_index: Callable[[str], int | None], meshes: Sequence[DisplayMesh | None]) -> None:
        """`object_index`: of a class_id, as the estimator's; `meshes`: by object_index, None for a box."""
        self._object_index, self._meshes = object_index, meshes
        # By object_index; empty for a box.
        self._points = [b"" if mesh is None else _point_bytes(mesh) for mesh in meshes]
        self._shown: deque[set[int]] = deque(maxlen=DELETED_AGAIN)

    def write(self, poses: PublishedPoses) -> bytes:
        """The serialised MarkerArray of an array of poses; objects without a known position are left out.

        Three markers per object, in the namespaces `KINDS`, with one id that follows from class and detection id: a
        tracked object keeps it. The mesh (without one: the bounding box) is the more opaque the more confident the
        first hypothesis is. The first array begins with DELETEALL, later ones delete the ids that went away.
        """
        header = message_header(poses.stamp, poses.frame_id)
        markers = [] if self._shown else [Marker(header=header, action=Marker.DELETEALL)]
        shown: set[int] = set()
        places = []
        for number, name in enumerate(poses.names):
            if not poses.located[number]:
                continue
            identity = _identity(name, shown)
            shown.add(identity)
            index = self._object_index(poses.class_ids[number]) or 0
            if self._points[index]:
                places.append(index)
            for marker in (self._solid(poses, number, index), _axes(poses, number), _text(poses, number)):
                marker.header, marker.id, marker.action = header, identity, Marker.ADD
                marker.lifetime = Duration(sec=MARKER_SECONDS)
                markers.append(marker)
        gone = set().union(*self._shown) - shown
        markers += [
            Marker(header=header, ns=kind, id=identity, action=Marker.DELETE)
            for identity in sorted(gone)
            for kind in KINDS
        ]
        self._shown.append(shown)
        return self._with_points(serialize_message(MarkerArray(markers=markers)), places)

    def _solid(self, poses: PublishedPoses, number: int, index: int) -> Marker:
        colour = _colour(object_colour(index), 0.3 + 0.6 * min(max(float(poses.confidences[number, 0]), 0.0), 1.0))
        if not self._points[index]:
            size = Vector3(**dict(zip("xyz", poses.extents[number].tolist())))
            pose = _pose(poses.centres[number], poses.quaternions[number, 0])
            return Marker(ns="mesh", type=Marker.CUBE, pose=pose, scale=size, color=colour)
        marker = Marker(ns="mesh", type=Marker.TRIANGLE_LIST, pose=_first_pose(poses, number), color=colour)
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


def _pose(position: NDArray[np.float64], quaternion: NDArray[np.float64]) -> Pose:
    x, y, z, w = quaternion.tolist()
    return Pose(position=Point(**dict(zip("xyz", position.tolist()))), orientation=Quaternion(x=x, y=y, z=z, w=w))


def _first_pose(poses: PublishedPoses, number: int) -> Pose:
    return _pose(poses.positions[number, 0], poses.quaternions[number, 0])


def _axes(poses: PublishedPoses, number: int) -> Marker:
    """The CAD frame's axes, as long as the part: x red, y green, z blue."""
    length = _longest(poses, number)
    marker = Marker(ns="axes", type=Marker.LINE_LIST, pose=_first_pose(poses, number))
    marker.scale = Vector3(x=length / 25)
    for axis, colour in enumerate(AXIS_COLOURS):
        tip = [0.0, 0.0, 0.0]
        tip[axis] = 0.75 * length
        marker.points += [Point(), Point(x=tip[0], y=tip[1], z=tip[2])]
        marker.colors += [_colour(colour, 1.0)] * 2
    return marker


def _text(poses: PublishedPoses, number: int) -> Marker:
    """Class and confidence, above the part as the camera sees it (−y)."""
    length = _longest(poses, number)
    text = f"{poses.class_ids[number]} {poses.confidences[number, 0]:.2f}"
    marker = Marker(ns="text", type=Marker.TEXT_VIEW_FACING, text=text)
    x, y, z = poses.centres[number].tolist()
    marker.pose.position = Point(x=x, y=y - 0.7 * length, z=z)
    marker.scale, marker.color = Vector3(z=length / 5), _colour((255, 255, 255), 1.0)
    return marker


def _colour(rgb: tuple[int, int, int], alpha: float) -> ColorRGBA:
    return ColorRGBA(r=rgb[0] / 255, g=rgb[1] / 255, b=rgb[2] / 255, a=alpha)


def _longest(poses: PublishedPoses, number: int) -> float:
    return max(float(poses.extents[number].max()), 1e-6)
