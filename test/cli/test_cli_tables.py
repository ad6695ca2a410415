"""``shared_pose tables``: from a campaign's bundles and a dataset to the two tables."""

import dataclasses
import json

import pytest
import torch
import yaml
from bundle_facts import make_metadata
from evaluation_scene import objects, write_dataset
from shapes import write_object_set

from shared_pose_ros.bundle import export_bundle
from shared_pose_ros.cli.main import main
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.report.system_tables import read_config
from shared_pose_ros.resources import share_folder

CONFIG = {
    "title": "Two boxes",
    "systems": [
        {"name": "one", "bundles": "one-*.pose.pt", "published": "shared +FT"},
        {"name": "other", "bundles": "other-*.pose.pt"},
    ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two bundles of one system and one of another, and a dataset of one image."""
    root = tmp_path_factory.mktemp("tables")
    write_dataset(root / "data", PoseScorer(objects()), images=1)
    write_object_set(root / "data" / "models", objects())
    metadata = make_metadata(objects=2, hypotheses=2)
    named = tuple(dataclasses.replace(item, class_id=str(i + 1), aliases=()) for i, item in enumerate(metadata.objects))
    for seed, name in enumerate(("one-0", "one-1", "other-0")):
        torch.manual_seed(seed)
        network = PoseNetwork(2, 2, "compact", 32)
        export_bundle(network, dataclasses.replace(metadata, objects=named, samples=7), root / f"{name}.pose.pt")
    return root


def tables(place, config, *more):
    path = place / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    words = ["tables", "--config", path, "--runs", place, "--bop", place / "data", "--out", place / "out"]
    return main([str(word) for word in (*words, "--device", "cpu", *more)])


@pytest.mark.slow
def test_every_system_is_in_both_tables(place, capsys):
    assert tables(place, CONFIG, "--seconds", 0) == 0
    printed = capsys.readouterr().out
    written = (place / "out" / "tables.md").read_text()
    assert "| object (instances) | one | other | oracle of other | random-rotation baseline |" in printed
    assert "one 2, other 1" in written and "63.1" in written and "7 in sequence, ms" in written
    values = json.loads((place / "out" / "tables.json").read_text())
    assert [len(system["evaluations"]) for system in values["systems"]] == [2, 1]
    # Random rotations are drawn once for all: the same everywhere.
    summaries = [e["summary"] for system in values["systems"] for e in system["evaluations"]]
    assert len({summary["chance_score"] for summary in summaries}) == 1
    assert len({summary["rotation_error_deg_median"] for summary in summaries}) == 3


@pytest.mark.slow
def test_the_cost_can_be_left_out(place, capsys):
    assert tables(place, CONFIG, "--no-cost") == 0
    assert "crop, ms" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"systems": []}, "names no systems"),
        ({"system": 3}, "unknown key system"),
        ({"systems": [{"name": "a"}]}, "needs a name and bundles"),
        ({"systems": [{"name": "a", "bundles": "a", "published": "x"}]}, "the paper has no 'x'; it has 30 codebooks"),
        ({"systems": [{"name": "a", "bundles": "none-*"}]}, "has no none-*; run the campaign to its end"),
        ({"oracle": "x"}, "oracle of 'x': no such system"),
    ],
)
@pytest.mark.slow
def test_mistakes_are_named(place, change, complaint, capsys):
    assert tables(place, {**CONFIG, **change}, "--no-cost") == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((share_folder() / "config" / "tables").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_tables_name_the_runs_of_their_campaign(path):
    campaign = yaml.safe_load((path.parents[1] / "campaigns" / path.name).read_text())
    names = {entry["bundles"].removesuffix("-*.pose.pt") for entry in read_config(path)["systems"]}
    assert names <= set(campaign["runs"])
