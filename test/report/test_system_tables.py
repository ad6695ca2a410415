"""Tables of several systems: means and spreads by hand, one protocol only, published figures marked."""

import csv
import dataclasses
import json

import pytest
from instance_results import instance

from shared_pose_ros.evaluation.inference_cost import Size, Timing
from shared_pose_ros.evaluation.instance_scoring import Evaluation
from shared_pose_ros.report.system_tables import System, accuracy_table, cost_table, write_tables

LINE = "protocol paper; data d/test, 2 images; VSD δ 15 mm"


def evaluation(*scores, line=LINE, name="b"):
    """Object 1 has the first score, object 2 the rest."""
    results = [instance("1" if i == 0 else "2", score, 100 * (1 - score), gt_id=i) for i, score in enumerate(scores)]
    return Evaluation(name, "paper", "AR_VSD", line, True, tuple(results), {})


def systems():
    size = Size(parameters=1_200_000, head_parameters=200_000, file_bytes=4_000_000, peak_bytes=70_000_000)
    timing = Timing(in_sequence=21.0, batches={1: 3.0, 7: 9.5})
    return [
        System("shared", (evaluation(0.9, 0.4, 0.6), evaluation(0.7, 0.2, 0.4)), 48_000, size, timing, "shared +FT"),
        System("codebook", (evaluation(0.5, 0.1, 0.3),), 0, size, timing),
    ]


def test_cells_are_means_over_seeds_with_their_deviation():
    table = accuracy_table(systems(), oracle_of="shared")
    assert table.heads == ("object (instances)", "shared", "codebook", "oracle of shared", "random-rotation baseline")
    # 0.9 and 0.7: mean 0.8, sample deviation 0.1·√2; object 2: 0.5 and 0.3.
    assert table.rows[0] == ("1 (1)", "80.0 ± 14.1", "50.0", "90.0 ± 14.1", "20.0")
    assert table.rows[1] == ("2 (2)", "40.0 ± 14.1", "20.0", "50.0 ± 14.1", "20.0")
    # The mean over objects is unweighted: (0.9 + 0.5)/2 and (0.7 + 0.3)/2.
    assert table.rows[2][:3] == ("**mean**", "**60.0 ± 14.1**", "**35.0**")
    assert table.rows[3][:3] == ("rotation error, median °", "50.0 ± 14.1", "70.0")
    assert table.rows[4][:3] == ("under 15° %", "16.7 ± 23.6", "0.0")
    assert table.rows[5] == ("*published, other images*", "63.1", "", "", "")
    assert table.notes[0] == f"Evaluation conditions: {LINE}." and "shared 2, codebook 1" in table.notes[1]
    assert "not comparable" in table.notes[2]


def test_one_seed_is_said_to_mean_little():
    single = [dataclasses.replace(system, evaluations=system.evaluations[:1]) for system in systems()]
    assert "±" not in accuracy_table(single).markdown()
    assert "One seed per system" in accuracy_table(single).notes[1]


def test_different_protocols_never_share_a_table():
    first, second = systems()
    other = dataclasses.replace(second, evaluations=(evaluation(0.5, 0.1, 0.3, line=LINE.replace("15", "20")),))
    for table in (lambda: accuracy_table([first, other]), lambda: cost_table([first, other], "m")):
        with pytest.raises(ValueError, match="different protocols cannot stand in one table"):
            table()


def test_systems_that_saw_different_instances_never_share_a_table():
    first, second = systems()
    other = dataclasses.replace(second, evaluations=(evaluation(0.5, 0.1),))
    with pytest.raises(ValueError, match="on 2 instances, b on 3, 2 of them the same"):
        accuracy_table([first, other])


def test_the_oracles_system_must_exist():
    with pytest.raises(ValueError, match="no such system; choose one of shared, codebook"):
        accuracy_table(systems(), oracle_of="x")
    with pytest.raises(ValueError, match="no systems"):
        accuracy_table([])


def test_costs_are_listed_with_what_the_paper_prints():
    table = cost_table(systems(), "a processor, 2 of 2 threads")
    assert table.heads[1:5] == ("AR_VSD %", "1 crop, ms", "7 crops, ms", "7 in sequence, ms")
    assert table.rows[0][2:] == ("3.0", "9.5", "21.0", "1.20", "0.20", "4.0", "70", "48,000")
    assert table.rows[1][-1] == "0"
    assert table.rows[2] == ("*shared +FT, published*", "63.1", "6.4", "", "", "", "", "", "16.6", "20,000,000")
    assert len({len(row) for row in (table.heads, *table.rows)}) == 1
    assert "a processor, 2 of 2 threads" in table.notes[1]
    with pytest.raises(ValueError, match="no system has been timed"):
        cost_table([dataclasses.replace(system, timing=None) for system in systems()], "m")


def test_files_hold_the_tables_and_what_is_behind_them(tmp_path):
    made = systems()
    tables = [accuracy_table(made), cost_table(made, "m")]
    write_tables(made, tables, "m", "Two parts", tmp_path)
    text = (tmp_path / "tables.md").read_text()
    assert text.startswith("## Two parts") and "| **mean** | **60.0 ± 14.1** |" in text and LINE in text
    lines = [line for line in (tmp_path / "accuracy.csv").read_text().splitlines() if not line.startswith("#")]
    assert list(csv.reader(lines))[1] == list(tables[0].rows[0])
    values = json.loads((tmp_path / "tables.json").read_text())
    shared = values["systems"][0]
    assert values["title"] == "Two parts" and shared["size"]["peak_bytes"] == 70_000_000
    assert [e["summary"]["score"] for e in shared["evaluations"]] == [pytest.approx(0.7), pytest.approx(0.5)]
    assert all(e["protocol_line"] == LINE for e in shared["evaluations"])
