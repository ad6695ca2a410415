"""Background pictures: procedural, from a folder, and windows of them."""

import cv2
import numpy as np
import pytest
import torch

from shared_pose_ros.training.backgrounds import SIDE, load_backgrounds, procedural_background, sample_backgrounds


def test_procedural_pictures_follow_the_seed_and_differ():
    bank = load_backgrounds(None, seed=3, count=4)
    assert bank.shape == (4, SIDE, SIDE, 3) and bank.dtype == torch.uint8
    assert torch.equal(bank, load_backgrounds(None, seed=3, count=4))
    assert not torch.equal(bank, load_backgrounds(None, seed=4, count=4))
    assert not torch.equal(bank[0], bank[1])


def test_procedural_pictures_have_structure():
    picture = procedural_background(np.random.default_rng(0))
    assert picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8
    assert picture.reshape(-1, 3).std(axis=0).max() > 3


def test_photographs_are_cut_square_in_rgb_and_other_files_left_out(tmp_path):
    (tmp_path / "deep").mkdir()
    wide = np.zeros((100, 300, 3), dtype=np.uint8)
    wide[:, 100:200] = (10, 20, 250)  # BGR: the middle square is red
    cv2.imwrite(str(tmp_path / "deep" / "wide.PNG"), wide)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.jpg").write_bytes(b"no picture either")
    bank = load_backgrounds(tmp_path, seed=0)
    assert bank.shape == (1, SIDE, SIDE, 3)
    assert bank[0, SIDE // 2, SIDE // 2].tolist() == [250, 20, 10]
    assert (bank[0].float() - torch.tensor([250.0, 20.0, 10.0])).abs().max() <= 1


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"no readable picture in {tmp_path}"):
        load_backgrounds(tmp_path, seed=0)


def test_windows_are_parts_of_the_pictures():
    ramp = torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)
    ramp[0, :, :, 0] = torch.arange(SIDE, dtype=torch.uint8)[:, None]  # red grows downwards
    ramp[0, :, :, 1] = torch.arange(SIDE, dtype=torch.uint8)[None, :]  # green to the right
    ramp[1, :, :, 2] = 255
    windows = sample_backgrounds(ramp, 60, 16, torch.Generator().manual_seed(0))
    assert windows.shape == (60, 3, 16, 16) and windows.dtype == torch.float32
    blue = windows[:, 2].flatten(1)
    assert (blue.amin(dim=1) == blue.amax(dim=1)).all() and 0.2 < blue.mean() < 0.8
    first = windows[blue[:, 0] == 0] * 255
    down = (first[:, 0, -1, :] - first[:, 0, 0, :]).mean(dim=1)
    right = (first[:, 1, :, -1] - first[:, 1, :, 0]).mean(dim=1)
    # A quarter to all of the picture, never upside down, mirrored now and then.
    assert (down > 0.25 * SIDE * 15 / 16 - 2).all() and (down < SIDE).all()
    assert (right.abs() - down).abs().max() <= 2
    assert 0.2 < (right < 0).float().mean() < 0.8
    again = sample_backgrounds(ramp, 60, 16, torch.Generator().manual_seed(0))
    assert torch.equal(windows, again)
