"""Results files scored: pairs in closed form and against the metrics, matching of instances, and the command."""

import dataclasses
import json

import numpy as np
import pytest
from evaluation_scene import CAMERA, SIZE, box_mesh, compared, model, objects, turn

from shared_pose_ros.cli.main import main
from shared_pose_ros.evaluation.bop import SceneImage, load_bop, write_bop_scene
from shared_pose_ros.evaluation.bop_models import write_bop_models
from shared_pose_ros.evaluation.bop_results import Estimate, write_results
from shared_pose_ros.evaluation.instance_scoring import RandomRotationBaseline
from shared_pose_ros.evaluation.metrics import mspd, mssd
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.evaluation.protocols import get_protocol
from shared_pose_ros.evaluation.results_scoring import score_results
from shared_pose_ros.meshes.object_set import ObjectSet

BASELINE = RandomRotationBaseline(draws=2)


def truths(dataset, score=0.5, **changes):
    """An exact estimate of every instance."""
    return [
        dataclasses.replace(
            Estimate(f.scene_id, f.image_id, int(i.class_id), score, i.rotation, i.translation), **changes
        )
        for f in dataset.frames
        for i in f.instances
    ]


@pytest.mark.parametrize("name", ["paper", "bop18", "bop19"])
def test_the_truth_has_no_error_and_full_recall(name, dataset, scorer):
    scoring = score_results(truths(dataset), dataset, scorer, get_protocol(name), BASELINE, asked=("add", "adi"))
    assert set(scoring.recalls.total.values()) == set(scoring.recalls.mean.values()) == {1.0}
    assert scoring.recalls.targets == {1: 2, 2: 2} and not any(scoring.left_out.values())
    assert all(0 <= value < 1 for value in scoring.chance.total.values())
    assert (
        f"protocol {name}; data two_boxes/test, 2 images; object id and pose from a results file"
        in scoring.protocol_line
    )
    assert len(scoring.pairs) == 4
    for pair in scoring.pairs:
        assert max(pair.vsd) < 0.02 and set(pair.metrics) == {"mssd", "mspd", "rotation_deg", "add", "adi"}
        assert max(pair.metrics.values()) < 1e-5


def test_errors_are_millimetres_and_symmetries_count(dataset, scorer):
    shift, half = np.array([0.003, 0, 0.004]), turn([0, 0, 1], 180)
    moved = [dataclasses.replace(e, rotation=e.rotation @ half) for e in truths(dataset)]
    moved += [dataclasses.replace(e, translation=e.translation + shift) for e in truths(dataset)]
    pairs = score_results(moved, dataset, scorer, get_protocol("bop19"), BASELINE, asked=("add", "adi")).pairs
    assert len(pairs) == 8
    for pair in pairs:
        assert moved[pair.row].object_id == pair.obj_id and moved[pair.row].image_id == pair.im_id
        assert pair.est_id == pair.row // 4
        found = pair.metrics
        if pair.est_id == 1:
            assert found["mssd"] == pytest.approx(5.0) and found["add"] == pytest.approx(5.0)
            assert found["rotation_deg"] < 1e-5
        elif pair.obj_id == 1:  # the half turn is its symmetry
            assert max(found["mssd"], found["mspd"], found["adi"]) < 1e-6 and found["rotation_deg"] < 1e-5
            assert found["add"] > 20.0
        else:
            assert found["mssd"] > 20.0 and found["rotation_deg"] == pytest.approx(180.0)


@pytest.mark.parametrize(
    "translation", [(-0.02, 0.01, -0.3), (3.0, 0.0, 0.3), (0.0, 0.0, 0.01), (1e-4, -2e-5, 1e9)],
    ids=["behind", "outside", "at the camera", "far away"],
)  # fmt: skip
def test_impossible_estimates_are_wrong_but_scored(dataset, scorer, translation):
    wild = [dataclasses.replace(e, translation=np.array(translation)) for e in truths(dataset)]
    scoring = score_results(wild, dataset, scorer, get_protocol("bop19"), BASELINE)
    assert len(scoring.pairs) == 4 and scoring.recalls.total["AR_MSSD"] == 0.0
    for pair, estimate in zip(scoring.pairs, wild):
        truth = next(
            i for f in dataset.frames if f.image_id == pair.im_id for i in f.instances if i.gt_id == pair.gt_id
        )
        assert min(pair.vsd) > 0.9
        model = scorer.objects.model(truth.class_id)
        shape = model.mesh.vertices, model.symmetries.transforms()
        seen = compared(estimate.rotation[None], [translation], truth.rotation, truth.translation, *shape)
        assert pair.metrics["mssd"] == pytest.approx(1e3 * mssd(seen).item())
        assert pair.metrics["mspd"] == pytest.approx(mspd(seen).item())


def scene_of_three(root, scorer):
    """One image: object 1 three times, one of them hidden to 5 %, and another of which nothing shows."""
    rotations = np.stack([turn([1, 1, 0], 40 * k) for k in range(3)])
    translations = np.array([[-0.06, 0, 0.4], [0.05, 0, 0.4], [0.0, 0.03, 0.4]])
    masks = np.zeros((3, *SIZE), dtype=bool)
    masks[:, 10:30, 10:110] = True
    visible = masks.copy()
    visible[1, :, 60:] = False
    visible[2, :, 15:] = False
    image = SceneImage(np.zeros((*SIZE, 3), np.uint8), CAMERA, [1, 1, 1], rotations, translations, masks, visible)
    write_bop_scene(root, "test", 1, [image])
    return load_bop(root)


def test_several_instances_are_matched_by_score_and_only_as_many_as_asked_for(tmp_path, scorer):
    dataset = scene_of_three(tmp_path, scorer)
    exact = truths(dataset)
    protocol = get_protocol("paper")  # the third shows less than 10 %
    order = [dataclasses.replace(exact[1], score=0.9), dataclasses.replace(exact[0], score=0.8)]
    scoring = score_results(order, dataset, scorer, protocol, BASELINE)
    assert scoring.recalls.total["AR_VSD"] == 1.0 and scoring.recalls.targets == {1: 2}
    assert [(p.gt_id, p.est_id) for p in scoring.pairs] == [(g, e) for g in range(3) for e in range(2)]
    assert "rendered from the ground-truth poses" in scoring.protocol_line
    # A confident wrong estimate takes the place of the second right one.
    wrong = dataclasses.replace(exact[0], score=1.0, translation=np.array([0, 0, 2.0]))
    assert score_results([*order, wrong], dataset, scorer, protocol, BASELINE).recalls.total["AR_VSD"] == 0.5
    # The same instance twice counts once.
    twice = [order[0], dataclasses.replace(order[0], score=0.7)]
    assert score_results(twice, dataset, scorer, protocol, BASELINE).recalls.total["AR_VSD"] == 0.5
    # The hidden one is no target, and an estimate of it is no hit.
    assert score_results([exact[2]], dataset, scorer, protocol, BASELINE).recalls.total["AR_VSD"] == 0.0


def test_listed_targets_decide(tmp_path, scorer):
    def recall(name, count, estimates):
        (tmp_path / "test_targets_bop19.json").write_text(
            json.dumps([{"scene_id": 1, "im_id": 0, "obj_id": 1, "inst_count": count}])
        )
        found = score_results(estimates, load_bop(tmp_path), scorer, get_protocol(name), BASELINE).recalls
        return found.total["AR_VSD"], found.targets

    exact = truths(scene_of_three(tmp_path, scorer))
    assert recall("bop19", 1, [exact[0]]) == (1.0, {1: 1})  # the most visible one
    assert recall("bop19", 1, [exact[1]]) == (0.0, {1: 1})
    assert recall("bop19", 3, exact) == (1.0, {1: 3})
    assert recall("bop18", 2, [exact[1]]) == (1.0, {1: 1})  # any visible one
    assert recall("bop18", 2, [exact[2]]) == (0.0, {1: 1})


def test_what_cannot_be_scored_is_counted(dataset, scorer):
    more = [
        *truths(dataset),
        dataclasses.replace(truths(dataset)[0], image_id=77),
        dataclasses.replace(truths(dataset)[0], object_id=9),
    ]
    scoring = score_results(more, dataset, scorer, get_protocol("bop19"), BASELINE)
    assert scoring.left_out["estimates_in_unknown_images"] == 1
    assert scoring.left_out["estimates_of_objects_not_in_the_image"] == 1
    assert scoring.recalls.total["AR"] == 1.0
    partly = PoseScorer(ObjectSet(objects().objects[:1]))
    scoring = score_results(truths(dataset), dataset, partly, get_protocol("bop19"), BASELINE)
    assert scoring.left_out["estimates_without_cad"] == scoring.left_out["targets_without_cad"] == 2
    with pytest.raises(ValueError, match="no estimate has an instance.*unknown_images.: 4"):
        score_results(truths(dataset, scene_id=5), dataset, scorer, get_protocol("bop19"), BASELINE)


def test_the_command_writes_what_it_prints(dataset, tmp_path, capsys):
    path = write_results(tmp_path / "exact_twoboxes-test.csv", truths(dataset, seconds=0.25))
    out = tmp_path / "new" / "errors.json"
    assert main(["score", str(path), "--bop", str(dataset.root), "--errors", str(out), "--add"]) == 0
    printed = capsys.readouterr().out
    assert (
        "| all targets | 4 | 100.0 | 100.0 | 100.0 | 100.0 |" in printed
        and "| random-rotation baseline, all targets | 4 |" in printed
    )
    assert "time per image: 0.250 s" in printed
    found = json.loads(out.read_text())
    assert found["protocol_line"] in printed and found["results"] == path.name
    assert found["average_recalls"]["total"]["AR"] == 1.0 and found["chance"]["total"]["AR_VSD"] < 1.0
    np.testing.assert_allclose(found["vsd_taus"], np.arange(0.05, 0.51, 0.05))
    keys = {"scene_id", "im_id", "obj_id", "gt_id", "est_id", "vsd", "mssd", "mspd", "rotation_deg", "add", "adi"}
    assert len(found["errors"]) == 4 and keys <= set(found["errors"][0]) and len(found["errors"][0]["vsd"]) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--random-rotations", "0"), "gives no baseline"),
        (("--delta", "-3"), "give for example 15"),
        (("--split", "val"), "val is not a folder"),
        (("--models", "nowhere"), "nowhere: no such file"),
    ],
)
def test_mistakes_are_named(dataset, tmp_path, capsys, arguments, message):
    path = write_results(tmp_path / "exact.csv", truths(dataset))
    assert main(["score", str(path), "--bop", str(dataset.root), "--errors", str(tmp_path / "e.json"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_points_without_a_face_count_as_in_the_benchmark(dataset, tmp_path):
    # A loose vertex 100 mm away: the mesh is cleaned of it, MSSD is measured over it.
    folder = tmp_path / "models"
    write_bop_models(
        folder, ObjectSet((model("1", box_mesh(0.06, 0.04, 0.02)), model("2", box_mesh(0.05, 0.03, 0.03))))
    )
    ply = folder / "obj_000001.ply"
    data = ply.read_bytes().replace(b"element vertex 8", b"element vertex 9")
    start = data.index(b"end_header\n") + len(b"end_header\n") + 8 * 12
    ply.write_bytes(data[:start] + np.array([100, 0, 0], "<f4").tobytes() + data[start:])
    turned = [dataclasses.replace(e, rotation=e.rotation @ turn([0, 0, 1], 180)) for e in truths(dataset)]
    path, out = write_results(tmp_path / "turned.csv", turned), tmp_path / "errors.json"
    assert main(["score", str(path), "--bop", str(dataset.root), "--models", str(folder), "--errors", str(out)]) == 0
    errors = [pair["mssd"] for pair in json.loads(out.read_text())["errors"] if pair["obj_id"] == 1]
    assert errors == pytest.approx([200.0, 200.0])
