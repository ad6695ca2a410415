"""``estimate --depth`` and ``evaluate --depth``: a depth image decides the poses, and mistakes are one line."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from bundle_facts import make_meshes
from depth_scene import CAMERA, CENTRE, FLOOR, SIZE, Part, exact_depth
from evaluation_scene import turn

from shared_pose_ros.cli.common import read_depth
from shared_pose_ros.cli.main import main

K = ",".join(str(float(CAMERA[row, column])) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("frames") / "frame.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    return path


def estimate(bundle, picture, out, *more, detection="part_0:168,113,60,50"):
    return main(
        [str(item) for item in ("estimate", "--bundle", bundle, "--image", picture, "--json", out, "--device", "cpu",
        "--detection", detection, *more)]
    )  # fmt: skip


def best(path) -> tuple[dict, np.ndarray, np.ndarray]:
    (pose,) = json.loads(path.read_text())["poses"]
    return pose, np.array(pose["hypotheses"][0]["rotation"]), np.array(pose["translation"])


@pytest.mark.parametrize("kind", ["metres", "millimetres", "half the size"])
def test_estimate_aligns_to_a_depth_image(tiny_bundle, picture, tmp_path, capsys, kind):
    out = tmp_path / "poses.json"
    assert estimate(tiny_bundle, picture, out, "--camera", K) == 0
    plain, rotation, _ = best(out)
    assert plain["refined_by"] == "" and "note" not in capsys.readouterr().out
    # The part where the box has it, 12° off what the network says.
    true = torch.from_numpy((rotation @ turn([1, 2, 3], 12)).astype(np.float32))
    part = Part(make_meshes()[0])
    depth = exact_depth([(part, true, CENTRE)]).numpy()
    path = tmp_path / "depth.npy"
    if kind == "millimetres":
        path = tmp_path / "depth.png"
        cv2.imwrite(str(path), np.round(1000 * depth).astype(np.uint16))
    else:
        np.save(path, depth if kind == "metres" else depth[::2, ::2])
    rows, columns = np.nonzero(depth < FLOOR)
    (left, right), (top, bottom) = ((axis.min(), axis.max()) for axis in (columns, rows))
    box = f"part_0:{(left + right) / 2},{(top + bottom) / 2},{right - left},{bottom - top}"
    assert estimate(tiny_bundle, picture, out, "--camera", K, "--depth", path, detection=box) == 0
    pose, found, translation = best(out)
    assert pose["refined_by"] == "depth"
    assert np.linalg.norm(translation - CENTRE.numpy()) < 0.002
    # A box of three half turns.
    relative = abs(np.einsum("ij,ij->j", found, true.numpy()))
    assert np.degrees(np.arccos(np.clip(relative, 0, 1))).max() < 2.0


def test_estimate_says_what_was_not_aligned(tiny_bundle, picture, tmp_path, capsys):
    np.save(tmp_path / "wall.npy", np.full(SIZE, 3.0, np.float32))
    more = ("--camera", K, "--depth", tmp_path / "wall.npy", "--detection", "part_2:60,60,40,40")
    assert estimate(tiny_bundle, picture, tmp_path / "deep.json", *more) == 0
    told = capsys.readouterr().out
    assert "note: alignment_rejected (1): id '0'" in told and "note: no_mesh (1): class 'part_2'" in told
    assert estimate(tiny_bundle, picture, tmp_path / "plain.json", *more[:2], *more[4:]) == 0
    deep, plain = (json.loads((tmp_path / f"{name}.json").read_text())["poses"] for name in ("deep", "plain"))
    assert deep == plain and not any(pose["refined_by"] for pose in deep)


def mistake(capsys, status, *words):
    lines = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and len(lines) == 1 and "Traceback" not in lines[0], lines
    for word in words:
        assert word in lines[0], lines[0]


def test_mistakes_in_estimate(tiny_bundle, picture, tmp_path, capsys):
    np.save(tmp_path / "other.npy", np.full((100, 100), 0.7, np.float32))
    out = tmp_path / "poses.json"
    mistake(capsys, estimate(tiny_bundle, picture, out, "--depth", tmp_path / "other.npy"), "--depth needs --camera")
    more = ("--camera", K, "--depth")
    mistake(capsys, estimate(tiny_bundle, picture, out, *more, tmp_path / "other.npy"), "depth of 100x100", "320x240")
    mistake(capsys, estimate(tiny_bundle, picture, out, *more, tmp_path / "no.npy"), "no.npy cannot be read")
    assert not out.exists()


WRONG = {
    "of three channels": ("png", np.full((4, 4, 3), 700, np.uint16), r"uint16 of shape \(4, 4, 3\); give a 16-bit PNG"),
    "of 8 bits": ("png", np.full((4, 4), 70, np.uint8), r"uint8 of shape \(4, 4\); give a 16-bit PNG"),
    "PNG in hundredths": ("png", np.full((4, 4), 60000, np.uint16), "median depth is 60 m, outside 0.02 to 20 m"),
    "PNG in metres": ("png", np.full((4, 4), 1, np.uint16), "median depth is 0.001 m"),
    "of integers": ("npy", np.full((4, 4), 700), r"int64 of shape \(4, 4\); give metres as floats"),
    "of millimetres": ("npy", np.full((4, 4), 700.0), "median depth is 700 m, outside 0.02 to 20 m; give metres"),
    "of one row": ("npy", np.full(4, 0.7), r"float64 of shape \(4,\); give metres as floats of shape \(h, w\)"),
    "of objects": ("npy", np.array([{}]), "cannot be read"),
    "of zeros": ("npy", np.zeros((4, 4)), "no pixel has a depth"),
    "of NaN": ("npy", np.full((4, 4), np.nan), "no pixel has a depth"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_depth_files_of_another_shape_type_or_unit_are_refused(tmp_path, case):
    kind, values, words = WRONG[case]
    path = tmp_path / f"depth.{kind}"
    if kind == "png":
        cv2.imwrite(str(path), values)
    else:
        np.save(path, values)
    with pytest.raises(ValueError, match=words) as error:
        read_depth(path)
    assert str(path) in str(error.value)


def test_depth_files_are_read_in_metres(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.array([[0, 700], [1250, 65535]], np.uint16))
    np.testing.assert_allclose(read_depth(tmp_path / "a.png"), np.float32([[0, 0.7], [1.25, 65.535]]))
    stored = np.array([[0.7, np.nan], [-1.0, 0.9]])
    np.save(tmp_path / "b.npy", stored)
    found = read_depth(tmp_path / "b.npy")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, stored.astype(np.float32))
    with pytest.raises(ValueError, match="missing or no image"):
        read_depth(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--depth-noise", "1"], "changes nothing without --depth on"),
        (["--depth", "on", "--depth-noise", "-1"], "--depth-noise is -1.0; give 0"),
        (["--depth", "on", "--depth-noise", "nan"], "--depth-noise is nan; give 0"),
        (["--depth", "on", "--corrected", "both"], "give --corrected on, not both"),
    ],
)
def test_mistakes_in_evaluate(tiny_bundle, tmp_path, capsys, more, words):
    arguments = ["evaluate", "--bundle", str(tiny_bundle), "--bop", str(tmp_path), "--json", str(tmp_path / "x.json")]
    mistake(capsys, main([*arguments, *more]), words)
