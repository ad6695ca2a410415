"""Campaigns: what they run, in which order, and that they go on where they stopped."""

import json

import pytest
import yaml
from shapes import tiny_objects, write_object_set

from shared_pose_ros.bundle import load_bundle
from shared_pose_ros.cli.main import main
from shared_pose_ros.resources import share_folder
from shared_pose_ros.training.campaign_jobs import RECORD_NAME, read_campaign

RECIPE = {
    "seeds": [0, 1],
    "settings": {
        **{"crop_size": 32, "batch_size": 8, "hypotheses": 2, "validation_samples": 8},
        **{"loss.size": 16, "loss.warm_up_end": 0.8},
    },
    "tta_rotations": 1,
    "runs": {
        "encoder": {"command": "train-encoder", "steps": 2, "seeds": [0], "settings": {"crop_size": 32}},
        "codebook": {"command": "build-codebook", "encoder": "encoder", "viewpoints": 12, "in-plane": 4, "seeds": [0]},
        "frozen": {"preset": "compact_frozen", "encoder": "encoder", "samples": 16},
        "separate": {"preset": "compact_frozen", "encoder": "encoder", "separate": True, "samples": 8, "seeds": [1]},
    },
}


def write(path, recipe):
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return str(path)


@pytest.mark.parametrize("path", sorted((share_folder() / "config" / "campaigns").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_campaign_is_a_list_of_commands_that_parse(path, tmp_path, capsys):
    jobs = read_campaign(path.stem, tmp_path, {"objects": "cad"})
    assert jobs and len({job.name for job in jobs}) == len(jobs)
    assert main(["campaign", path.stem, "--out", str(tmp_path), "--objects", "cad", "--dry-run"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"{jobs[0].name}: shared_pose {jobs[0].arguments[0]} ") and " --objects cad" in first


def test_seeds_come_one_after_the_other_and_runs_find_each_other(tmp_path):
    jobs = read_campaign(write(tmp_path / "c.yaml", RECIPE), tmp_path, {"objects": "cad"})
    assert [job.name for job in jobs] == ["encoder-0", "codebook-0", "frozen-0", "frozen-1", "separate-1"]
    assert [job.tta_rotations for job in jobs] == [None, None, 1, 1, 1]
    frozen = jobs[3].arguments
    assert frozen[frozen.index("--encoder") + 1] == str(tmp_path / "encoder-0")
    assert frozen[frozen.index("--seed") + 1] == "1" and "--set" in frozen and "loss.size=16" in frozen
    assert jobs[0].arguments.count("--set") == 1
    assert "--separate" in jobs[4].arguments and "True" not in jobs[4].arguments
    assert [job.name for job in read_campaign(str(tmp_path / "c.yaml"), tmp_path, {}, ["frozen"])] == [
        "frozen-0",
        "frozen-1",
    ]


def test_a_list_is_an_option_that_is_repeated(tmp_path):
    recipe = {"runs": {"refiner": {"command": "train-refiner", "objects": ["a", "b"], "random-parts": 3}}}
    (job,) = read_campaign(write(tmp_path / "c.yaml", recipe), tmp_path, {})
    words = " ".join(job.arguments)
    assert words == "train-refiner --objects a --objects b --random-parts 3 --seed 0"
    assert job.tta_rotations is None


def test_a_sitting_of_a_refiner_ends_without_touching_its_rates(tmp_path, monkeypatch):
    words = []
    monkeypatch.setattr("shared_pose_ros.cli.campaign.main", lambda arguments: words.append(arguments) or 0)
    recipe = {"objects": "cad", "runs": {name: {"command": name} for name in ("train-refiner", "train-encoder")}}
    path = write(tmp_path / "c.yaml", recipe)
    assert main(["campaign", path, "--out", str(tmp_path), "--time-budget", "1h"]) == 0
    assert "--stop-after" in words[0] and "--time-budget" not in words[0]
    assert "--time-budget" in words[1] and "--stop-after" not in words[1]


@pytest.mark.slow
def test_a_campaign_goes_on_where_it_stopped(tmp_path, photographs, capsys):
    recipe, objects, out = tmp_path / "c.yaml", write_object_set(tmp_path / "cad", tiny_objects()), tmp_path / "runs"
    write(recipe, RECIPE)
    words = ["campaign", str(recipe), "--out", str(out), "--objects", str(objects), "--backgrounds", str(photographs)]
    words += ["--device", "cpu"]
    assert main([*words, "--only", "encoder", "--time-budget", "0.01s"]) == 1
    assert "the same command goes on" in capsys.readouterr().out
    assert main(words) == 0
    record = json.loads((out / RECORD_NAME).read_text())
    assert all(entry["done"] and entry["seconds"] > 0 for entry in record.values()) and len(record) == 5
    samples = {name: load_bundle(out / f"{name}.pose.pt").metadata.samples for name in ("frozen-1", "separate-1")}
    assert samples == {"frozen-1": 16, "separate-1": 16}
    separate = load_bundle(out / "separate-1.pose.pt").metadata
    assert [item.class_id for item in separate.objects] == ["angle", "spike"]
    assert load_bundle(out / "codebook-0.pose.pt").metadata.preset == "codebook"
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out.count(": done, ") == 5
    # What an earlier version began goes on under the present names of its settings.
    record["frozen-0"]["arguments"] = [w.replace("warm_up_end", "mixture_end") for w in record["frozen-0"]["arguments"]]
    assert any("mixture_end" in word for word in record["frozen-0"]["arguments"])
    (out / RECORD_NAME).write_text(json.dumps(record))
    assert main(words) == 0 and "frozen-0: done, " in capsys.readouterr().out
    # Another recipe under the same name would mix two experiments.
    changed = json.loads(json.dumps(RECIPE))
    changed["runs"]["frozen"]["samples"] = 24
    write(recipe, changed)
    assert main(words) == 2
    assert "was begun as" in capsys.readouterr().err


def test_an_older_key_is_read_with_a_warning(tmp_path):
    older = {("turns" if key == "tta_rotations" else key): value for key, value in RECIPE.items()}
    with pytest.warns(FutureWarning, match="turns is now tta_rotations"):
        jobs = read_campaign(write(tmp_path / "c.yaml", older), tmp_path, {})
    assert [job.tta_rotations for job in jobs] == [None, None, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("runs: [", "is no YAML"),
        ("seeds: [0]", "has no runs"),
        ("runs: {a: {}}\nseed: 3", "unknown key seed"),
        ("runs: {a: }", "run a has no options"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path, text, complaint, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert main(["campaign", str(path), "--out", str(tmp_path)]) == 2
    assert complaint in capsys.readouterr().err


def test_unknown_names_list_the_known(tmp_path, capsys):
    assert main(["campaign", "nothing", "--out", str(tmp_path)]) == 2
    assert "choose one of demo-parts, refiner, three-parts" in capsys.readouterr().err
    path = write(tmp_path / "c.yaml", RECIPE)
    assert main(["campaign", path, "--out", str(tmp_path), "--only", "x"]) == 2
    assert "has no run x; its runs: encoder, codebook, frozen, separate" in capsys.readouterr().err
