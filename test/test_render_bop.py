"""The command, and that a bundle whose class ids are names is evaluated on what it writes."""

import json
import re

import pytest
from shapes import tiny_objects, write_object_set

from shared_pose_ros.cli.main import main


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("render")
    cad = write_object_set(folder / "cad", tiny_objects())
    arguments = ["--heaps", "1", "--views", "1", "--parts", "2", "--size", "120x160", "--seed", "3"]
    assert main(["render-bop", "--objects", str(cad), "--out", str(folder / "data"), *arguments]) == 0
    return folder / "data"


def test_a_bundle_of_names_is_evaluated(root, tiny_run, tmp_path, capsys):
    # The bundle's objects are called angle and spike; the dataset has numbers only.
    bundle, out = tmp_path / "named.pose.pt", tmp_path / "scores.json"
    assert main(["export", str(tiny_run), "--out", str(bundle)]) == 0
    assert main(["evaluate", "--bundle", str(bundle), "--bop", str(root), "--json", str(out), "--device", "cpu"]) == 0
    assert re.search(r"^\| angle \| 1 \|", capsys.readouterr().out, re.MULTILINE)
    found = json.loads(out.read_text())["evaluations"][0]
    assert sorted(item["class_id"] for item in found["instances"]) == ["angle", "spike"]
    assert "data/test, 1 images" in found["protocol_line"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "640"), "give HEIGHTxWIDTH"),
        (("--parts", "4-2"), "no number of parts"),
        (("--heaps", "0"), "gives no images"),
        (("--size", "10x10"), "give at least 64x64"),
        (("--seed", "-1"), "negative"),
    ],
)
def test_mistakes_are_named(root, tmp_path, capsys, arguments, message):
    cad = str(root.parent / "cad")
    command = ["render-bop", "--objects", cad, "--out", str(tmp_path / "x"), *arguments]
    if message.startswith(("give HEIGHT", "no number")):  # argparse's own
        with pytest.raises(SystemExit) as status:
            main(command)
        assert status.value.code == 2
    else:
        assert main(command) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
