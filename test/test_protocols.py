"""Named protocols: tolerances, which instances they score, what their line says."""

from pathlib import Path

import numpy as np
import pytest

from shared_pose_ros.evaluation.bop import BopFrame, Instance
from shared_pose_ros.evaluation.protocols import PROTOCOLS, get_protocol


def frame(*visible):
    instances = tuple(
        Instance(class_id, i, np.eye(3), np.zeros(3), share, None) for i, (class_id, share) in enumerate(visible)
    )
    return BopFrame(3, 8, np.eye(3), instances, Path(), 1e-3)


def chosen(name, targets=None):
    seen = frame(("a", 0.5), ("a", 0.9), ("b", 0.1), ("b", 0.0999), ("c", 1.0))
    return [instance.gt_id for instance in get_protocol(name).select(seen, targets)]


def test_paper_takes_every_instance_from_ten_per_cent():
    assert chosen("paper") == [0, 1, 2, 4]
    assert chosen("paper", {(3, 8, "a"): 1}) == [0, 1, 2, 4]


def test_bop19_takes_the_most_visible_of_the_listed_targets():
    assert chosen("bop19", {(3, 8, "a"): 1, (3, 8, "b"): 2, (3, 9, "c"): 1}) == [1, 2]
    assert chosen("bop19") == [0, 1, 2, 4]


def test_bop18_takes_one_instance_of_an_object():
    assert chosen("bop18") == [1, 2, 4]
    assert chosen("bop18", {(3, 8, "a"): 2}) == [1]


def test_tolerances_are_metres():
    expected = [0.2 * 0.05 * i for i in range(1, 11)]
    np.testing.assert_allclose(get_protocol("paper").tolerances(0.2).numpy(), expected)
    assert get_protocol("bop18").tolerances(0.2).tolist() == [0.02]
    assert get_protocol("paper").thetas == pytest.approx([0.05 * i for i in range(1, 11)])


def test_the_line_tells_protocols_and_settings_apart():
    def line(name, corrected=True, depth="from the sensor"):
        return get_protocol(name).line("set/test, 3 images", corrected, depth, "as loaded", "20 draws")

    lines = [line(name, corrected) for name in PROTOCOLS for corrected in (True, False)]
    assert len(set(lines)) == len(lines)
    paper = line("paper")
    centre = "translation of the CAD's centre from ground truth"
    for part in ("set/test, 3 images", centre, "correction on", "τ 5…50 % of diameter (10"):
        assert part in paper
    for part in ("δ 15 mm", "θ 0.05…0.5", "visibility ≥ 10 %", "test depth from the sensor", "chance: 20 draws"):
        assert part in paper
    assert "τ 20 mm, θ 0.3" in line("bop18") and "BOP'18" in line("bop18")
    assert "correction off" in line("paper", corrected=False)


def test_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match="'bop20' is unknown; choose one of paper, bop19, bop18"):
        get_protocol("bop20")
