"""Outlines over images and the self-contained HTML report."""

import base64
import html
import re

import cv2
import numpy as np
import pytest
from evaluation_scene import CAMERA, SIZE, StandInEstimator, depth_of, objects, turn, write_dataset

from shared_pose_ros.evaluation.bop import load_bop
from shared_pose_ros.evaluation.evaluate import Chance, evaluate_bundle
from shared_pose_ros.evaluation.protocols import get_protocol
from shared_pose_ros.evaluation.report import (
    ESTIMATE_COLOUR,
    TRUTH_COLOUR,
    DrawnPose,
    draw_poses,
    gallery,
    write_report,
)
from shared_pose_ros.evaluation.scoring import PoseScorer
from shared_pose_ros.html_page import Picture


@pytest.fixture(scope="module")
def scorer():
    return PoseScorer(objects())


def drawn_pixels(image, colour):
    return (image == np.array(colour)).all(axis=-1)


def test_outline_follows_the_silhouette_and_the_creases(scorer):
    rotation, translation = turn([1, 1, 0.3], 50), np.array([0.0, 0.0, 0.3])
    grey = np.full((*SIZE, 3), 90, dtype=np.uint8)
    drawn = draw_poses(
        grey, CAMERA, [DrawnPose(0, rotation, translation, TRUTH_COLOUR)], scorer.meshes, scorer.rasterizer
    )
    assert (grey == 90).all() and drawn.shape == grey.shape
    line = drawn_pixels(drawn, TRUTH_COLOUR)
    assert ((drawn == 90).all(axis=-1) | line).all()
    mask = (depth_of(scorer, 0, rotation, translation) > 0).astype(np.uint8)
    border = mask - cv2.erode(mask, np.ones((3, 3), np.uint8))
    assert line[border > 0].all()
    near = cv2.dilate(border, np.ones((7, 7), np.uint8)) > 0
    assert not line[(mask == 0) & ~near].any()
    inner = line & (mask > 0) & ~near
    assert 10 < inner.sum() < 0.2 * mask.sum()  # three faces of the box show, so three edges meet inside


def test_a_pose_outside_the_image_draws_nothing(scorer):
    grey = np.full((*SIZE, 3), 90, dtype=np.uint8)
    outside = DrawnPose(0, np.eye(3), np.array([3.0, 0.0, 0.3]), label="x")
    drawn = draw_poses(grey, CAMERA, [outside], scorer.meshes, scorer.rasterizer)
    np.testing.assert_array_equal(drawn, grey)


def test_labels_are_written_beside_the_object(scorer):
    grey = np.full((*SIZE, 3), 90, dtype=np.uint8)
    pose = DrawnPose(0, np.eye(3), np.array([0.0, 0.0, 0.3]))
    labelled = DrawnPose(0, np.eye(3), np.array([0.0, 0.0, 0.3]), label="part 7")
    without, with_label = (draw_poses(grey, CAMERA, [p], scorer.meshes, scorer.rasterizer) for p in (pose, labelled))
    rows = np.nonzero((without != with_label).any(axis=(1, 2)))[0]
    assert rows.size and rows.max() < 50


def test_report_is_one_file_with_tables_chance_protocol_and_pictures(tmp_path, scorer):
    write_dataset(tmp_path / "data", scorer)
    dataset = load_bop(tmp_path / "data")
    estimator = StandInEstimator(dataset, error=turn([1, 0, 0], 90))
    evaluations = evaluate_bundle(estimator, dataset, scorer, get_protocol("paper"), (True, False), Chance(3))
    pictures = gallery(evaluations[0], dataset, scorer, limit=1)
    assert len(pictures) == 1
    assert drawn_pixels(pictures[0].image, TRUTH_COLOUR).any()
    assert drawn_pixels(pictures[0].image, ESTIMATE_COLOUR).any()
    assert len(gallery(evaluations[0], dataset, scorer)) == 2
    path = write_report(tmp_path / "out" / "report.html", "A <title>", evaluations, pictures, ["latency 3 ms"])
    page = path.read_text(encoding="utf-8")
    assert "A &lt;title&gt;" in page and "<title>A &lt;" in page
    assert page.count("<table>") == 2 and "chance AR_VSD %" in page and "latency 3 ms" in page
    assert all(evaluation.protocol_line in html.unescape(page) for evaluation in evaluations)
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "<script" not in page
    (data,) = re.findall(r"data:image/png;base64,([^\"]+)", page)
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded[:, :, ::-1], pictures[0].image)


def test_a_report_without_pictures_has_no_gallery(tmp_path):
    page = write_report(tmp_path / "r.html", "empty", []).read_text()
    assert "Poses over the images" not in page
    shown = write_report(tmp_path / "r.html", "t", [], [Picture(np.zeros((4, 4, 3), np.uint8), "a & b")]).read_text()
    assert "a &amp; b" in shown
