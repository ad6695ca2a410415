"""The log of a training: what is in it, and that a crash and a resume leave every step in it once."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_run import TINY, make_trainer

from shared_pose_ros.training.trainer import learning_rate
from shared_pose_ros.training.training_log import LOG_NAME, read_log

SCALARS = {
    *(f"loss/{name}" for name in ("total", "depth", "diversity", "mixture", "auxiliary", "confidence")),
    *(f"validation/{name}" for name in ("median_deg", "oracle_median_deg", "recall_15", "usage")),
    *("learning_rate", "speed/samples_per_second", "speed/seconds_left"),
}


class KilledError(Exception):
    """Raised by a report, as a kill would end a training."""


def board(folder):
    """TensorBoard's view of a training."""
    accumulator = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def steps(accumulator, tag):
    return [event.step for event in accumulator.Scalars(tag)]


def test_every_validation_is_recorded(tiny_run):
    records = read_log(tiny_run / LOG_NAME)
    assert [record["samples"] for record in records] == [16, 32, 48]
    assert all(set(record) >= SCALARS and len(record["by_object"]) == 2 for record in records)
    assert all(record["loss/confidence"] > 0 and record["speed/samples_per_second"] > 0 for record in records)
    assert records[-1]["speed/seconds_left"] == 0 < records[0]["speed/seconds_left"]
    assert [record["learning_rate"] for record in records] == [learning_rate(TINY, step) for step in (2, 4, 6)]
    accumulator = board(tiny_run)
    tags = accumulator.Tags()
    assert SCALARS | {"median_deg/angle", "median_deg/spike"} == set(tags["scalars"])
    for tag in SCALARS:
        assert [event.value for event in accumulator.Scalars(tag)] == pytest.approx([r[tag] for r in records], rel=1e-5)


def test_pictures_of_the_same_few_samples_every_time(tiny_run):
    accumulator = board(tiny_run)
    tags = accumulator.Tags()["images"]
    # Eight validation samples, so eight rows: the first of each object first.
    assert len(tags) == 8 and {"hypotheses/00_angle", "hypotheses/01_spike"} <= set(tags)
    for tag in tags:
        images = accumulator.Images(tag)
        assert [image.step for image in images] == [16, 32, 48]
        assert {(image.width, image.height) for image in images} == {(4 * 96, 96 + 16)}


@pytest.mark.slow
def test_a_crash_and_a_resume_leave_every_step_once(tmp_path, photographs):
    trainer = make_trainer(tmp_path, photographs)

    def kill(progress):
        if progress.samples == 16:
            trainer.save()
        if progress.samples == 40:
            raise KilledError

    with pytest.raises(KilledError):
        trainer.train(report=kill)
    assert [record["samples"] for record in read_log(tmp_path / LOG_NAME)] == [16, 32]
    with open(tmp_path / LOG_NAME, "a") as stream:
        stream.write('{"samples": 40, "loss/to')  # the line that the kill cut short
    resumed = make_trainer(tmp_path, photographs, resume=True)
    assert resumed.samples == 16
    resumed.train()
    lines = [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()]
    assert [line["samples"] for line in lines] == [16, 32, 48]
    accumulator = board(tmp_path)
    for tag in ("loss/total", "validation/median_deg", "median_deg/angle"):
        assert steps(accumulator, tag) == [16, 32, 48]
    assert [image.step for image in accumulator.Images("hypotheses/00_angle")] == [16, 32, 48]
    assert [event.value for event in accumulator.Scalars("loss/total")] == pytest.approx(
        [line["loss/total"] for line in lines], rel=1e-5
    )
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_an_end_between_validations_is_recorded_and_resumed_from(tmp_path, photographs):
    first = make_trainer(tmp_path, photographs, samples=24)
    first.train()
    assert [record["samples"] for record in read_log(tmp_path / LOG_NAME)] == [16, 24]
    again = make_trainer(tmp_path, photographs, samples=24, resume=True)
    again.train()  # nothing left to do, nothing to record
    assert [record["samples"] for record in read_log(tmp_path / LOG_NAME)] == [16, 24]
    assert steps(board(tmp_path), "loss/total") == [16, 24]


def test_a_training_without_a_checkpoint_begins_its_log_anew(tmp_path, photographs):
    (tmp_path / LOG_NAME).write_text('{"samples": 16, "old": 1}\n')
    make_trainer(tmp_path, photographs, samples=16).train()
    (record,) = read_log(tmp_path / LOG_NAME)
    assert record["samples"] == 16 and "old" not in record


@pytest.mark.slow
def test_watching_changes_nothing_about_the_training(tmp_path, photographs):
    weights = []
    for name, every in (("often", 8), ("once", 48)):
        trainer = make_trainer(tmp_path / name, photographs, validation_every=every)
        trainer.train()
        weights.append(trainer.network.state_dict()["head.output.weight"])
    assert weights[0].equal(weights[1])


def test_read_log_takes_the_last_of_a_step_and_leaves_out_what_it_cannot_read(tmp_path):
    path = tmp_path / LOG_NAME
    assert read_log(path) == []
    path.write_text('{"samples": 20}\n{"samples": 10, "a": 1}\n[]\nno\n{"b": 2}\n{"samples": 10, "a": 2}\n')
    assert read_log(path) == [{"samples": 10, "a": 2}, {"samples": 20}]
