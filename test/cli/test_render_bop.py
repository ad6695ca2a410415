"""The command, and what can be done with its dataset: a bundle of names is evaluated, its poses are scored."""

import json
import re
import shutil

import pytest
from shapes import tiny_objects, write_object_set

from shared_pose_ros.cli.main import main
from shared_pose_ros.evaluation.bop import load_bop
from shared_pose_ros.evaluation.bop_models import dataset_objects

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("render")
    cad = write_object_set(folder / "cad", tiny_objects())
    arguments = ["--scenes", "1", "--views", "1", "--parts", "2", "--size", "120x160", "--seed", "3"]
    assert main(["render-bop", "--objects", str(cad), "--out", str(folder / "data"), *arguments]) == 0
    return folder / "data"


@pytest.fixture(scope="module")
def bundle(tiny_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "named.pose.pt"
    assert main(["export", str(tiny_run), "--out", str(path)]) == 0
    return path


def evaluate(root, bundle, out, *more):
    """Evaluations of the JSON file that the command writes."""
    arguments = ["--bundle", str(bundle), "--bop", str(root), "--json", str(out), "--device", "cpu"]
    assert main(["evaluate", *arguments, *map(str, more)]) == 0
    return json.loads(out.read_text())["evaluations"]


def test_a_bundle_of_names_is_evaluated(root, bundle, tmp_path, capsys):
    # The bundle's objects are called angle and spike; the dataset has numbers only.
    found = evaluate(root, bundle, tmp_path / "scores.json")
    assert re.search(r"^\| angle \| 1 \|", capsys.readouterr().out, re.MULTILINE)
    assert [item["corrected"] for item in found] == [True, False]
    assert sorted(item["class_id"] for item in found[0]["instances"]) == ["angle", "spike"]
    assert "data/test, 1 images" in found[0]["protocol_line"] and found[0]["summary"]["chance_score"] < 1


def test_the_results_file_scores_as_the_evaluation_says(root, bundle, tmp_path):
    more = ("--results", tmp_path / "poses", "--corrected", "on")
    for translation in ("ground_truth", "estimated"):
        (found,) = evaluate(root, bundle, tmp_path / "scores.json", "--translation", translation, *more)
        assert ("estimated from the box" in found["protocol_line"]) == (translation == "estimated")
        (path,) = (tmp_path / "poses").iterdir()
        assert path.name.endswith("_data-test.csv") and path.name.count("_") == 1
        errors = tmp_path / "errors.json"
        arguments = ["--bop", str(root), "--protocol", "paper", "--random-rotations", "1", "--errors", str(errors)]
        assert main(["score", str(path), *arguments]) == 0
        scored = json.loads(errors.read_text())
        assert scored["average_recalls"]["mean"]["AR_VSD"] == pytest.approx(found["summary"]["score"])
        assert scored["seconds_per_image"] == found["instances"][0]["image_seconds"] > 0
        by_truth = {item["gt_id"]: item for item in found["instances"]}
        for pair in scored["errors"]:
            assert pair["mssd"] == pytest.approx(1e3 * by_truth[pair["gt_id"]]["mssd"], rel=1e-4)


def test_a_detectors_noise_is_set_by_options(root, bundle, tmp_path):
    noise = ("--detection-noise", "0.1,0.2", "--detection-miss", 0.999, "--detection-seed", 2, "--corrected", "off")
    for protocol in ("detector", "paper"):
        (found,) = evaluate(root, bundle, tmp_path / "scores.json", "--protocol", protocol, *noise)
        assert "centre σ 10 % of its sides, size σ 20 %, 99.9 % missed and scored 0, seed 2" in found["protocol_line"]
        assert not any(item["detected"] for item in found["instances"]) and found["summary"]["score"] == 0.0
    (found,) = evaluate(root, bundle, tmp_path / "scores.json", "--detection-noise", "0.1,0", "--corrected", "off")
    assert "size σ 0 %, 0 % missed" in found["protocol_line"]
    assert all(0.5 < item["box_iou"] < 1.0 for item in found["instances"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--detection-noise", "0.1"), "not CENTRE,SIZE"),
        (("--detection-noise", "0.1,-1"), "of the size is -1"),
        (("--detection-seed", "3"), "changes nothing without"),
        (("--detection-miss", "1.5"), "less than 1"),
    ],
)
def test_mistakes_in_the_noise_are_named(root, bundle, tmp_path, capsys, arguments, message):
    command = ["evaluate", "--bundle", str(bundle), "--bop", str(root), "--json", str(tmp_path / "x.json"), *arguments]
    assert main(command) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "640"), "give HEIGHTxWIDTH"),
        (("--parts", "4-2"), "no number of parts"),
        (("--scenes", "0"), "--scenes 0 gives no images"),
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


def test_cad_that_the_bundle_does_not_know_is_kept_where_depth_is_rendered(root, tmp_path):
    class Knows:
        @staticmethod
        def object_index(class_id):
            return 0 if class_id == "spike" else None

    assert dataset_objects(load_bop(root), root / "models", [Knows]).class_ids == ("spike",)
    assert dataset_objects(load_bop(root)).class_ids == ("angle", "spike")
    shutil.copytree(root, tmp_path / "data")
    (tmp_path / "data" / "test" / "000001" / "depth" / "000000.png").unlink()
    assert dataset_objects(load_bop(tmp_path / "data"), None, [Knows]).class_ids == ("angle", "spike")
    (tmp_path / "data" / "models").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="has no models_cad or models folder; name the CAD with --models"):
        dataset_objects(load_bop(tmp_path / "data"))
