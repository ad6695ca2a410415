"""Which truth belongs to which pose of a bag: by id, by class and box, by order and by table."""

import numpy as np
import pytest
from evaluation_scene import CAMERA, SIZE, turn, write_dataset
from scipy.spatial.transform import Rotation

from shared_pose_ros.bags import bag_io
from shared_pose_ros.evaluation.bop import load_bop
from shared_pose_ros.evaluation.instance_scoring import RandomRotationBaseline
from shared_pose_ros.evaluation.protocols import get_protocol
from shared_pose_ros.pipeline.frame import PublishedPoses
from shared_pose_ros.replay.bag_frames import Conditions, score_frames
from shared_pose_ros.replay.truth import (
    FrameResponse,
    frames_by_order,
    frames_from_table,
    match_bop,
    match_topic,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, scorer):
    root = tmp_path_factory.mktemp("bop")
    write_dataset(root, scorer, images=3)
    return load_bop(root, "test")


def response(stamp, ids, class_ids, boxes, rotations=None, camera=CAMERA, frame_id="cam"):
    """Poses of detections, each with one hypothesis at its number's place (x, y and z)."""
    count = len(ids)
    rotations = np.tile(np.eye(3), (count, 1, 1)) if rotations is None else np.array(rotations)
    places = np.repeat(np.arange(count, dtype=float)[:, None], 3, axis=1)
    poses = PublishedPoses(
        stamp=stamp, frame_id=frame_id, ids=ids, class_ids=class_ids,
        quaternions=Rotation.from_matrix(rotations).as_quat()[:, None], positions=places[:, None],
        confidences=np.ones((count, 1)), covariances=np.zeros((count, 1, 6, 6)), centres=places, extents=places,
    )  # fmt: skip
    image = np.zeros((*SIZE, 3), np.uint8)
    return FrameResponse(poses, np.array(boxes, dtype=np.float32).reshape(-1, 4), SIZE, camera, lambda: image)


def truth_message(stamp, parts, frame_id="cam"):
    known = [
        bag_io.Detection(class_id, name, visible, rotation=turn([1, 0, 0], 30), translation=np.array([0, 0, 0.4]))
        for name, class_id, visible in parts
    ]
    return bag_io.detections_3d_message(known, stamp, frame_id)


BOX = [80.0, 60.0, 20.0, 20.0]


def test_a_topic_s_truth_is_matched_by_id_and_class(scorer):
    truths = [
        truth_message(1, [("a", "1", 0.7), ("b", "2", 1.0), ("c", "1", 1.0)]),
        truth_message(5, [("a", "1", 1.0)]),
    ]
    responses = [
        response(1, ["a", "b", "ghost"], ["1", "two", "1"], [BOX] * 3),  # "two" is an alias of 2
        response(1, ["a"], ["1"], [BOX]),  # a second detector: the part is taken
        response(2, ["a"], ["1"], [BOX]),  # no truth at this stamp
        response(5, ["a"], ["2"], [BOX]),  # another class
        response(1, ["a", "b"], ["1", "2"], [BOX] * 2, frame_id="other camera"),
    ]
    matched = match_topic(responses, truths, scorer.objects)
    assert [list(frame.boxes) for frame in matched.frames] == [["a", "b"], []]
    assert matched.frames[0].truth["a"].visibility == 0.7 and set(matched.frames[0].truth) == {"a", "b", "c"}
    np.testing.assert_allclose(matched.frames[0].truth["b"].rotation, turn([1, 0, 0], 30), atol=1e-12)
    assert matched.skipped == {"without_truth": 1 + 1 + 1 + 1 + 2}
    assert (matched.poses[1]["b"].translations == 1.0).all()


def test_without_a_camera_nothing_can_be_rendered(scorer):
    matched = match_topic(
        [response(1, ["a"], ["1"], [BOX], camera=None)], [truth_message(1, [("a", "1", 1)])], scorer.objects
    )
    assert matched.frames == [] and matched.skipped == {"without_camera_info": 1}


def visible_boxes(frame):
    return [frame.visible_box(instance.gt_id) for instance in frame.instances]


def test_boxes_are_matched_with_the_instance_they_cover_best(dataset, scorer):
    frame = dataset.frames[0]
    first, second = visible_boxes(frame)
    near, far = first + np.array([2.0, 0, 0, 0]), first + np.array([500.0, 0, 0, 0])
    boxes = [near, first, far, second, second]
    responses = [response(7, list("abcde"), ["1", "1", "1", "1", "2"], boxes)]
    matched = match_bop(responses, {7: frame}, scorer.objects)
    (found,) = matched.frames
    chosen = {name: pose.translations[0, 0] for name, pose in matched.poses[7].items()}
    assert chosen == {"0": 1.0, "1": 4.0}
    np.testing.assert_allclose(found.boxes["0"], first, atol=1e-4)
    assert matched.skipped == {"without_truth": 3} and found.place == (1, 0)
    assert matched.poses[7]["0"].box_iou == pytest.approx(1.0, abs=1e-4)
    moved = match_bop([response(7, ["a"], ["1"], [near])], {7: frame}, scorer.objects)
    assert moved.poses[7]["0"].box_iou == pytest.approx((first[2] - 2) / (first[2] + 2), abs=1e-4)
    nobody = match_bop([response(8, ["a"], ["1"], [first])], {7: frame}, scorer.objects)
    assert nobody.frames == [] and nobody.skipped == {"without_truth": 1}


def test_true_poses_of_a_bop_folder_score_one_on_its_own_depth(dataset, scorer):
    responses = []
    for number, frame in enumerate(dataset.frames):
        rotations = [instance.rotation for instance in frame.instances]
        ids = [str(instance.gt_id) for instance in frame.instances]
        responses.append(response(10 + number, ids, ["1", "two"], visible_boxes(frame), rotations, camera=None))
    places = frames_by_order(dataset, [12, 10, 11, 10])
    assert match_bop(responses, places, scorer.objects).skipped == {"without_camera_info": 6}
    matched = match_bop(responses, places, scorer.objects, with_camera=False)
    conditions = Conditions(False, "ids and boxes of the bag", matched.skipped)
    evaluation = score_frames(
        matched.frames,
        matched.poses,
        scorer,
        get_protocol("paper"),
        "truth",
        "bag x",
        RandomRotationBaseline(2),
        conditions=conditions,
    )
    assert [(r.im_id, r.gt_id, r.score) for r in evaluation.instances] == [
        (i, g, 1.0) for i in range(3) for g in range(2)
    ]
    assert "from the sensor" in evaluation.protocol_line and "correction off" in evaluation.protocol_line
    assert "ids and boxes of the bag" in evaluation.protocol_line
    assert "box from ground truth" not in evaluation.protocol_line


def test_order_maps_only_where_the_numbers_agree(dataset):
    places = frames_by_order(dataset, [30, 10, 20])
    assert {stamp: frame.image_id for stamp, frame in places.items()} == {10: 0, 20: 1, 30: 2}
    with pytest.raises(ValueError, match="the bag has 2 images, .*/test has 3: .*--bop-frames"):
        frames_by_order(dataset, [10, 20])
    assert len(frames_by_order(dataset, [10, 20], cut=True)) == 2
    with pytest.raises(ValueError, match="the bag has 4 images"):
        frames_by_order(dataset, [10, 20, 30, 40], cut=True)


def test_a_table_maps_by_stamp(dataset, tmp_path):
    table = tmp_path / "frames.csv"
    table.write_text("stamp_ns,scene_id,im_id\n99,1,2\n77,1,0\n")
    assert {stamp: frame.image_id for stamp, frame in frames_from_table(dataset, table).items()} == {99: 2, 77: 0}
    for wrong in (
        "stamp_ns,scene_id,im_id\n1,1,9\n",
        "stamp_ns,scene,im_id\n1,1,0\n",
        "stamp_ns,scene_id,im_id\nx,1,0\n",
    ):
        table.write_text(wrong)
        with pytest.raises(ValueError, match="frames.csv: row .* does not name an image of .*/test"):
            frames_from_table(dataset, table)
