"""The parameter table: validation, and that the files written from it are up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from checkout import ROOT

from shared_pose_ros.pipeline.parameters import PARAMETERS, NodeParameters
from shared_pose_ros.ros import parameter_pages
from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.pairing import PairingLimits
from shared_pose_ros.ros.rclpy_parameters import problem_with_change


def test_defaults_are_valid() -> None:
    assert [problem for row in PARAMETERS.values() if (problem := row.problem_with(row.default)) is not None] == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("device", "tpu", "'tpu' is unknown; choose one of auto, cpu, cuda"),
        ("max_batch", 0, "0 is outside 1 to 256"),
        ("max_batch", 2.0, "is a float; give a int"),
        ("max_batch", True, "is a bool; give a int"),
        ("score_threshold", 1.5, "1.5 is outside 0 to 1"),
        ("score_threshold", float("nan"), "nan is outside"),
        ("score_threshold", 1, "is a int; give a float"),
        ("bundle", 3, "is a int; give a str"),
    ],
)
def test_wrong_values_are_refused_with_value_and_limit(name: str, value: object, words: str) -> None:
    problem = problem_with_change([(name, value)], configured=False)
    assert problem.startswith(f"{name}: ") and words in problem


def test_limits_themselves_are_allowed() -> None:
    assert problem_with_change([("score_threshold", 0.0), ("score_threshold", 1.0), ("max_batch", 256)], False) is None


def test_read_only_parameters_are_fixed_while_configured() -> None:
    assert problem_with_change([("bundle", "other.pose.pt")], configured=False) is None
    assert "clean up first" in problem_with_change([("bundle", "other.pose.pt")], configured=True)
    assert problem_with_change([("score_threshold", 0.5)], configured=True) is None


def test_parameters_of_rclpy_are_not_judged() -> None:
    assert problem_with_change([("use_sim_time", True)], configured=True) is None


def test_pairing_defaults_agree_with_the_pairing_module() -> None:
    limits = PairingLimits()
    assert PARAMETERS["image_buffer_seconds"].default == limits.max_age_seconds
    assert PARAMETERS["image_buffer_count"].default == limits.max_count
    assert PARAMETERS["image_buffer_mib"].default * 2**20 == limits.max_bytes
    assert PARAMETERS["pairing_slop_seconds"].default == limits.slop_seconds
    assert PARAMETERS["time_jump_seconds"].default == limits.time_jump_seconds


def test_committed_yaml_is_the_generated_one() -> None:
    text = (ROOT / "config" / "shared_pose.yaml").read_text(encoding="utf-8")
    assert text == parameter_pages.yaml_text(), "run: python -m shared_pose_ros.ros.parameter_pages"
    values = yaml.safe_load(text)["/**"]["ros__parameters"]
    assert values == {row.name: row.default for row in PARAMETERS.values()}
    assert {name: type(value) for name, value in values.items()} == {row.name: row.type for row in PARAMETERS.values()}


def test_committed_page_holds_the_generated_tables() -> None:
    pages = parameter_pages.filled(ROOT, parameter_pages.GENERATED)
    for path, text in pages.items():
        committed = (ROOT / path).read_text(encoding="utf-8")
        assert text == committed, f"{path}; run: python -m shared_pose_ros.ros.parameter_pages"
    assert all(f"| `{name}` |" in "".join(pages.values()) for name in [*PARAMETERS, *COUNTERS])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "README.md").write_text("before\n<!-- table: one -->\nold\n<!-- end -->\nafter", encoding="utf-8")
    page = "<!-- table: two -->\n<!-- end -->\n<!-- table: other -->\nkept\n<!-- end -->\n"
    page += "<!-- table: one -->\nx\n<!-- end -->\n"
    (tmp_path / "docs" / "deep" / "page.md").write_text(page, encoding="utf-8")
    return tmp_path


def test_tables_are_written_wherever_they_are_marked(tree: Path) -> None:
    pages = parameter_pages.filled(tree, {"one": lambda: "1", "two": lambda: "2"})
    assert pages[Path("README.md")] == "before\n<!-- table: one -->\n1\n<!-- end -->\nafter"
    assert pages[Path("docs/deep/page.md")] == (
        "<!-- table: two -->\n2\n<!-- end -->\n<!-- table: other -->\nkept\n<!-- end -->\n"
        "<!-- table: one -->\n1\n<!-- end -->\n"
    )


def test_a_mark_without_an_end_an_unknown_one_and_a_table_without_a_place_are_errors(tree: Path) -> None:
    one, two = {"one": lambda: "1"}, {"two": lambda: "2"}
    with pytest.raises(ValueError, match=r"page\.md: no table other; there are one, two"):
        parameter_pages.filled(tree, {**one, **two}, complete=True)
    with pytest.raises(ValueError, match="no page shows three"):
        parameter_pages.filled(tree, {**one, "three": lambda: "3"})
    (tree / "README.md").write_text("<!-- table: one -->\n1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"README\.md: each .* needs an"):
        parameter_pages.filled(tree, one)


def test_values_are_read_from_text():
    values = NodeParameters.from_text({"max_batch": "3", "score_threshold": "0.25", "image_is_rectified": "True"})
    assert (values.max_batch, values.score_threshold, values.image_is_rectified) == (3, 0.25, True)
    assert values.image_buffer_seconds == 1.5 and set(vars(values)) == set(PARAMETERS)
    assert PairingLimits.of(values) == PairingLimits()


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("speed", "1", "no parameter 'speed'; choose one of bundle, device"),
        ("max_batch", "two", "max_batch: 'two' is a str; give a int"),
        ("max_batch", "0", "max_batch: 0 is outside 1 to 256"),
        ("autostart", "yes", "autostart: 'yes' is a str; give a bool"),
        ("device", "tpu", "device: 'tpu' is unknown"),
    ],
)
def test_text_that_is_no_value_is_named(name, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        NodeParameters.from_text({name: text})
