"""Markers: the bytes that go out, read again as rclpy reads them."""

from __future__ import annotations

import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from shapes import box, tetrahedron
from visualization_msgs.msg import Marker, MarkerArray

from shared_pose_ros.drawing import object_colour
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.pipeline.frame import PublishedPoses
from shared_pose_ros.ros.visualization.markers import DELETED_AGAIN, KINDS, MarkerWriter

CLASSES = ("block", "spike", "bare")
MESHES = (
    *(DisplayMesh(v.astype(np.float32), f.astype(np.uint16)) for v, f in (box(0.06, 0.04, 0.02), tetrahedron(0.02))),
    None,
)


def detection(class_id: str, identity: str, z: float = 0.5, score: float = 0.75) -> tuple[str, str, float, float]:
    """Class, id, depth (0: unknown) and confidence of an object."""
    return class_id, identity, z, score


def poses(*detections: tuple[str, str, float, float], frame_id: str = "camera") -> PublishedPoses:
    count = len(detections)
    depths = np.array([[0.0, 0.0, z or np.nan] for _, _, z, _ in detections]).reshape(-1, 3)
    return PublishedPoses(
        stamp=12 * 10**9,
        frame_id=frame_id,
        ids=[identity for _, identity, _, _ in detections],
        class_ids=[class_id for class_id, _, _, _ in detections],
        quaternions=np.tile([0.6, 0.0, 0.0, 0.8], (count, 1, 1)),
        positions=depths[:, None],
        confidences=np.array([[score] for _, _, _, score in detections]),
        covariances=np.zeros((count, 1, 6, 6)),
        centres=depths + [0.0, 0.0, 0.01],
        extents=np.tile([0.06, 0.04, 0.02], (count, 1)),
    )


def writer() -> MarkerWriter:
    return MarkerWriter(lambda name: CLASSES.index(name) if name in CLASSES else None, MESHES)


def read(data: bytes) -> list[Marker]:
    return deserialize_message(data, MarkerArray).markers


@pytest.mark.parametrize("frame_id", ["", "c", "cam", "camera", "camera_opt"])
def test_meshes_are_put_into_the_message_whatever_stands_before_them(frame_id: str) -> None:
    # Strings of different lengths, so that the points are aligned in every way.
    array = poses(*(detection(CLASSES[n % 3], "x" * n) for n in range(6)), frame_id=frame_id)
    markers = read(writer().write(array))
    assert markers[0].action == Marker.DELETEALL and len(markers) == 1 + 3 * 6
    solids = [marker for marker in markers[1:] if marker.ns == "mesh"]
    for number, marker in enumerate(solids):
        mesh = MESHES[number % 3]
        assert marker.type == (Marker.CUBE if mesh is None else Marker.TRIANGLE_LIST)
        points = np.array([[point.x, point.y, point.z] for point in marker.points]).reshape(-1, 3)
        expected = np.zeros((0, 3)) if mesh is None else mesh.vertices[mesh.faces].reshape(-1, 3)
        np.testing.assert_array_equal(points, expected.astype(np.float64))
    assert [marker.text for marker in markers if marker.ns == "text"] == [f"{CLASSES[n % 3]} 0.75" for n in range(6)]


def test_a_marker_stands_where_the_pose_is_in_the_colour_of_its_class() -> None:
    _, mesh, axes, text = read(writer().write(poses(detection("spike", "7", score=0.5))))
    assert [marker.ns for marker in (mesh, axes, text)] == list(KINDS)
    for marker in (mesh, axes):
        assert marker.pose.position.z == 0.5 and (marker.pose.orientation.x, marker.pose.orientation.w) == (0.6, 0.8)
    assert (mesh.scale.x, mesh.scale.y, mesh.scale.z) == (1.0, 1.0, 1.0)
    colour = (mesh.color.r, mesh.color.g, mesh.color.b)
    np.testing.assert_allclose(colour, np.array(object_colour(1)) / 255, atol=1e-6)
    assert {marker.header.frame_id for marker in (mesh, axes, text)} == {"camera"}
    assert len(axes.points) == len(axes.colors) == 6 and axes.points[1].x == pytest.approx(0.045)
    assert text.pose.position.y < 0 and text.scale.z == pytest.approx(0.012)


def test_the_more_confident_the_more_opaque() -> None:
    alphas = [read(writer().write(poses(detection("block", "", score=score))))[1].color.a for score in (0.1, 0.5, 1)]
    assert 0.3 < alphas[0] < alphas[1] < alphas[2] <= 0.9


def test_without_a_mesh_it_is_the_bounding_box() -> None:
    marker = read(writer().write(poses(detection("bare", ""))))[1]
    assert marker.type == Marker.CUBE and marker.pose.position.z == pytest.approx(0.51)
    assert (marker.scale.x, marker.scale.y, marker.scale.z) == (0.06, 0.04, 0.02)


def test_ids_stay_with_the_object_and_what_went_away_is_deleted() -> None:
    made = writer()
    first = read(made.write(poses(detection("block", "a"), detection("spike", "b"))))
    second = read(made.write(poses(detection("spike", "b"))))
    assert first[0].action == Marker.DELETEALL
    ids = {marker.text: marker.id for marker in first if marker.ns == "text"}
    assert len(set(ids.values())) == 2 and all(0 <= value < 2**31 for value in ids.values())
    kept = [marker for marker in second if marker.action == Marker.ADD]
    gone = [marker for marker in second if marker.action == Marker.DELETE]
    assert {marker.id for marker in kept} == {ids["spike 0.75"]} and len(kept) == 3
    assert [(marker.ns, marker.id) for marker in gone] == [(kind, ids["block 0.75"]) for kind in KINDS]
    # Said again for a while, then forgotten.
    actions = [[m.action for m in read(made.write(poses(detection("spike", "b"))))] for _ in range(DELETED_AGAIN)]
    assert Marker.DELETE in actions[-2] and Marker.DELETE not in actions[-1]
    assert all(Marker.DELETEALL not in found for found in actions)
    assert all(marker.lifetime.sec > 0 for marker in kept)


def test_objects_without_a_position_are_left_out() -> None:
    made = writer()
    assert [marker.action for marker in read(made.write(poses(detection("block", "a", z=0.0))))] == [Marker.DELETEALL]
    assert read(made.write(poses())) == []
