"""Options under their old names: taken with a warning, and not in the help."""

import pytest

from shared_pose_ros.cli.main import RENAMED_OPTIONS, main

SCORE = ["score", "none.csv", "--bop", "none", "--errors", "none.json"]
EVALUATE = ["evaluate", "--bundle", "none.pose.pt", "--bop", "none", "--json", "none.json"]
RENDER = ["render-bop", "--objects", "none", "--out", "none"]
EXPORT = ["export", "none.pose.pt", "--out", "other.pose.pt"]


@pytest.mark.parametrize(
    ("command", "old", "value", "present", "said"),
    [
        (SCORE, "--chance", "0", "--random-rotations", "--random-rotations 0 gives no baseline"),
        (EVALUATE, "--box-jitter", "0.1", "--detection-noise", "--detection-noise '0.1' is not CENTRE,SIZE"),
        (EVALUATE, "--box-miss", "1.5", "--detection-miss", "the probability of a miss is 1.5"),
        (EVALUATE, "--box-seed", "3", "--detection-seed", "--detection-seed changes nothing"),
        (RENDER, "--heaps", "0", "--scenes", "--scenes 0 gives no images"),
        (EXPORT, "--turns", "1", "--tta-rotations", "neither --tta-rotations nor --half"),
    ],
)
def test_an_old_name_sets_the_option_and_warns(command, old, value, present, said, capsys):
    assert main([*command, old, value]) == 2
    error = capsys.readouterr().err
    assert f"warning: {old} is now called {present}; use that" in error and said in error
    assert main([*command, present, value]) == 2
    error = capsys.readouterr().err
    assert "warning" not in error and said in error


def test_an_old_name_takes_the_same_values(capsys):
    for option in ("--turns", "--turns=3", "--tta-rotations"):
        with pytest.raises(SystemExit):
            main([*EXPORT, option, *(["3"] if "=" not in option else [])])
        assert "invalid choice: 3" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "export", "render-bop", "score"])
def test_the_help_has_the_present_names_alone(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    words = set(capsys.readouterr().out.split())
    assert not words.intersection(RENAMED_OPTIONS) and words.intersection(RENAMED_OPTIONS.values())
