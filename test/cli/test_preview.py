"""``shared_pose preview`` as a user types it."""

import cv2
import numpy as np
import pytest
from shapes import tiny_objects, write_object_set

from shared_pose_ros.cli.main import main
from shared_pose_ros.training.sample_images import STRIP, TILE


@pytest.fixture(scope="module")
def object_folder(tmp_path_factory):
    return write_object_set(tmp_path_factory.mktemp("objects") / "set", tiny_objects()).parent


def preview(object_folder, picture, *more):
    small = ("--set", "crop_size=32", "--rows", "2", "--columns", "3")
    arguments = ["preview", "--objects", object_folder, "--picture", picture, *small, *more]
    return main([str(argument) for argument in arguments])


@pytest.mark.slow
def test_a_grid_of_crops(object_folder, photographs, tmp_path, capsys):
    pictures = {}
    for name, more in {
        "first": ("--seed", "1"),
        "same": ("--seed", "1"),
        "seed": ("--seed", "2"),
        "robust": ("--seed", "1", "--preset", "robust", "--set", "batch_size=8"),
        "photographs": ("--seed", "1", "--backgrounds", photographs),
    }.items():
        assert preview(object_folder, tmp_path / f"{name}.png", *more) == 0
        pictures[name] = cv2.imread(str(tmp_path / f"{name}.png"))
        assert pictures[name].shape == (2 * (TILE + STRIP), 3 * TILE, 3)
    assert "6 crops of 32 pixels" in capsys.readouterr().out
    assert np.array_equal(pictures["first"], pictures["same"])
    for name in ("seed", "robust", "photographs"):
        assert not np.array_equal(pictures["first"], pictures[name])
    # Every tile has a crop with the full range of the normalisation.
    tiles = pictures["first"].reshape(2, TILE + STRIP, 3, TILE, 3)[:, :TILE]
    assert (tiles.max(axis=(1, 3, 4)) == 255).all() and (tiles.min(axis=(1, 3, 4)) == 0).all()


@pytest.mark.slow
def test_a_jpeg(object_folder, tmp_path):
    assert preview(object_folder, tmp_path / "batch.jpg") == 0
    assert (tmp_path / "batch.jpg").read_bytes()[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("picture", "more", "word"),
    [
        ("batch.bmp", (), "give a .png or .jpg"),
        ("none/batch.png", (), "in an existing folder"),
        ("batch.png", ("--rows", "0"), "at least 1 row"),
        ("batch.png", ("--set", "synthesis.ocluders=1"), "unknown training setting synthesis.ocluders"),
        ("batch.png", ("--preset", "huge"), "no preset 'huge'"),
    ],
)
@pytest.mark.slow
def test_mistakes(object_folder, tmp_path, capsys, picture, more, word):
    assert preview(object_folder, tmp_path / picture, *more) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in error if line.startswith("shared_pose preview:")]) == 1 and word in " ".join(error)
