"""The generated pages and plots: they show the committed figures, and other figures make other pages."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import page_accuracy
import page_diagrams
import page_headlines
import page_plots
import page_tables
import pytest
import tless
from checkout import ROOT

from shared_pose_ros.report.system_tables import PUBLISHED

REMEDY = "run make pages"
SCORES = ("sets", 0, "evaluations", 0)
SEED = ("systems", 0, "evaluations", 0)


def result(name):
    """A committed result."""
    return json.loads((ROOT / "benchmark" / "results" / name).read_text(encoding="utf-8"))


@pytest.fixture
def tree(tmp_path):
    """A copy of what the pages are made of."""
    for folder in ("docs", "benchmark/results"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def change(tree, name, path, value):
    """Put a value into a copied result."""
    file = tree / "benchmark" / "results" / name
    values = json.loads(file.read_text(encoding="utf-8"))
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text(json.dumps(values), encoding="utf-8")


def test_the_pages_show_the_committed_figures():
    for path, text in page_tables.pages(ROOT).items():
        assert text == (ROOT / path).read_text(encoding="utf-8"), f"{path}: {REMEDY}"


def test_the_readme_states_the_committed_figures():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    scores = [page_headlines.percent(page_accuracy.corrected(one)["summary"]["score"])
              for one in result(page_accuracy.THIRTY)["sets"]]  # fmt: skip
    node, networks = result("node_cpu.json"), result("inference_cpu.json")["networks"]
    [compact] = [network for network in networks if (network["encoder"], network["turns"]) == ("compact", 4)]
    times = {count: row["median"] for count, row in compact["systems"]["this package int8"]["ms"].items()}
    for sentence in (
        f"**{scores[0]} %** (random rotations: 18.1 %) on rendered frames, {scores[1]} % on a real one",
        f"{times['1']:.0f} ms for one object, {times['8']:.1f} ms for eight (four TTA rotations each)",
        f"{node['detections']['network']['8']['p50_ms']:.0f} ms for eight at 1280×1024",
        f"active {node['startup']['start_to_active_median_s']:.1f} s after its start",
    ):
        assert sentence in text
    models = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    assert all(f"mean AR_VSD **{score} %**" in models for score in scores)


@pytest.mark.parametrize(
    ("name", "path", "value", "pages", "shown"),
    [
        ("soak.json", ["problems"], ["node died"], "benchmarks/index benchmarks/node", "| node died |"),
        ("tless30.json", [*SCORES, "summary", "score"], 0.123, "benchmarks/index benchmarks/tless", "| 12.3"),
        ("tless30.json", [*SCORES, "objects", 4, "oracle_score"], 0.9876, "benchmarks/tless", "| 98.8 |"),
        ("tables_tless-ablation.json", ["systems", 0, "name"], "start", "experiments/tless-ablation", "| start |"),
        ("depth.json", ["sets", "parts", "rows", 3, "inside_50"], 0.123, "benchmarks/positions", "| 12 % |"),
        ("smoothing.json", ["results", 4, "still", "flips"], 0.9876, "benchmarks/temporal-filtering", "| 98.8 |"),
        ("smoothing.json", ["results", 7, "moving", "flips"], 0.9876, "benchmarks/temporal-filtering", "| 98.8 |"),
        ("tables_three-parts.json", [*SEED, "objects", 0, "score"], 0.999, "experiments/three-parts", "| 99.9 |"),
    ],
)
def test_other_figures_make_other_pages(tree, name, path, value, pages, shown):
    change(tree, name, path, value)
    changed = {
        page.relative_to("docs").with_suffix("").as_posix(): text
        for page, text in page_tables.pages(tree).items()
        if text != (tree / page).read_text(encoding="utf-8")
    }
    assert sorted(changed) == pages.split() and all(shown in text for text in changed.values())


def test_a_table_may_stand_on_any_page_and_its_links_lead_from_there(tree):
    text = "# Moved\n\n<!-- table: headlines -->\n<!-- end -->\n"
    (tree / "docs" / "deeper" / "still").mkdir(parents=True)
    (tree / "docs" / "deeper" / "still" / "page.md").write_text(text, encoding="utf-8")
    made = page_tables.pages(tree)[Path("docs/deeper/still/page.md")]
    assert "[T-LESS](../../benchmarks/tless.md)" in made and "[soak](../../benchmarks/node.md#soak)" in made


def test_a_page_that_asks_for_an_unknown_table_is_named(tree):
    with (tree / "docs" / "benchmarks" / "tless.md").open("a", encoding="utf-8") as page:
        page.write("<!-- table: latenzy -->\n<!-- end -->\n")
    with pytest.raises(ValueError, match=r"tless\.md: no table latenzy; there are .*headlines"):
        page_tables.pages(tree)


def test_tables_of_seeds_give_mean_and_deviation():
    seeds = [{"summary": row(score), "objects": [row(score)], "protocol_line": "x"} for score in (0.25, 0.75)]
    made = {"systems": [{"name": "one", "samples": 1000, "evaluations": seeds}], "machine": "M"}
    lines = page_accuracy.systems_table(made, objects=True).splitlines()
    assert lines[2] == "| one | 50.0 ± 35.4 | 50.0 ± 35.4 | 7.0 ± 0.0 | 30.0 ± 0.0 | 60.0 ± 0.0 |"
    assert lines[3] == "| random rotations | 10.0 | 10.0 | 90.0 |  |  |" and lines[-1] == "X. Machine: M."
    made["systems"].append({**made["systems"][0], "samples": 2000})
    assert "| one | 1,000 | 50.0 ± 35.4 |" in page_accuracy.systems_table(made)


def row(score):
    """Figures of an object or of all."""
    return {
        "class_id": "5", "instances": 3, "score": score, "rotation_error_deg_median": 7.0, "recall_deg": [0, 0, 0.3],
        "oracle_score": 0.6, "chance_score": 0.1, "chance_rotation_error_deg_median": 90.0,
    }  # fmt: skip


def test_the_plots_are_of_the_committed_figures():
    for path, data in page_plots.plots(ROOT).items():
        root = ElementTree.parse(ROOT / path).getroot()
        text = "\n".join(root.itertext())
        assert root.tag.endswith("}svg") and page_plots.digest(data) in text, f"{path}: {REMEDY}"
        names = [row["name"] for row in data["rows"]] if "rows" in data else list(data["panels"][1]["times"])
        assert len(names) > 4 and all(name in text for name in names)


def test_the_diagrams_are_the_drawn_ones_and_name_files_that_exist():
    for path, text in page_diagrams.diagrams().items():
        assert text == (ROOT / path).read_text(encoding="utf-8"), f"{path}: {REMEDY}"
        ElementTree.fromstring(text)
    for boxes, arrows, _ in (page_diagrams.callback_to_publish(), page_diagrams.cad_to_bundle()):
        named = [line for box in boxes.values() for line in box.lines if line.endswith((".py", "/"))]
        assert len(named) > 3 and all(list((ROOT / "shared_pose_ros").glob(f"**/{name}")) for name in named), named
        assert {end.split(".")[0] for arrow in arrows for end in arrow[:2]} == set(boxes)


def test_every_system_of_the_latency_has_a_style():
    for network in result("inference_cpu.json")["networks"]:
        assert set(network["systems"]) <= set(page_plots.STYLES)


def test_the_bundle_stands_beside_systems_of_its_protocol_only():
    systems, thirty = result(page_accuracy.SYSTEMS), result(page_accuracy.THIRTY)
    found = page_accuracy.corrected(thirty["sets"][0])
    for system in systems["systems"]:
        system["evaluations"][0]["protocol_line"] = found["protocol_line"]
    bars = page_plots.accuracy_bars(systems, thirty)
    shown = {row["name"]: row for row in bars["rows"]}
    wanted = [row["class_id"] for row in systems["systems"][0]["evaluations"][0]["objects"]]
    scores = [row["score"] for row in found["objects"] if row["class_id"] in wanted]
    assert shown["the bundle in models/"]["score"] == pytest.approx(100 * sum(scores) / len(wanted))
    assert shown["shared +FT"]["published"] == pytest.approx(100 * PUBLISHED["shared +FT"].score)
    assert [row["score"] for row in bars["rows"]] == sorted(row["score"] for row in bars["rows"])
    for key, value in (("instances", 999), ("class_id", "none")):
        other = json.loads(json.dumps(systems))
        other["systems"][0]["evaluations"][0]["objects"][0][key] = value
        bars = page_plots.accuracy_bars(other, thirty)
        assert len(bars["rows"]) == len(systems["systems"]) and "left out" in bars["notes"][0]


def test_without_matplotlib_the_tables_are_written_and_the_remedy_is_said(tree, monkeypatch, capsys):
    change(tree, "soak.json", ["problems"], ["node died"])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert page_tables.main(tree) == 1 and "requirements/benchmark.txt" in capsys.readouterr().err
    assert "node died" in (tree / "docs" / "benchmarks" / "node.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_score_on_tless_keeps_no_instances_and_no_paths(tmp_path, tiny_bundle, monkeypatch):
    for part in ("models_cad", "frames/test"):
        (tmp_path / part).mkdir(parents=True)
    kept = {"protocol_line": "x", "corrected": True, "skipped": {}, "summary": row(0.5), "objects": [row(0.5)]}

    def evaluate(arguments):
        scores = {"evaluations": [{**kept, "instances": [1, 2]}]}
        Path(arguments[arguments.index("--json") + 1]).write_text(json.dumps(scores), encoding="utf-8")
        assert arguments[arguments.index("--bop") + 1] == str(tmp_path / "frames")
        return 0

    monkeypatch.setattr(tless, "shared_pose", evaluate)
    made = tless.run(Path(tiny_bundle), tmp_path, ["frames/test"])
    assert made["sets"][0]["evaluations"] == [kept] and len(made["weights_sha256"]) == 64
    assert "--bop DIR/frames --models DIR/models_cad --split test" in made["sets"][0]["command"]
    monkeypatch.setattr(tless, "shared_pose", lambda arguments: 2)
    with pytest.raises(ValueError, match="ended with 2"):
        tless.evaluate(Path(tiny_bundle), tmp_path, "frames/test")
    with pytest.raises(ValueError, match="no folder other"):
        tless.run(Path(tiny_bundle), tmp_path, ["other"])


@pytest.mark.parametrize(
    ("command", "said"),
    [("benchmark-tless TLESS=", "bop.felk.cvut.cz"), ("benchmark-three-parts BACKGROUNDS=/nowhere", "photographs")],
)
def test_make_says_which_data_are_missing_before_it_sets_anything_up(command, said):
    done = subprocess.run(["make", *command.split()], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and said in done.stderr and "setup_environment" not in done.stdout
