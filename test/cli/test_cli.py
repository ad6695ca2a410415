"""The commands, run in this process as a user would type them; a user's mistake is one line and exit status 2."""

import dataclasses
import json
import sys

import cv2
import numpy as np
import pytest
import torch
from bundle_facts import make_metadata
from checkout import ROOT
from evaluation_scene import objects as scene_objects
from evaluation_scene import write_dataset
from shapes import tiny_objects, write_object_set

from shared_pose_ros import __version__
from shared_pose_ros.bundle import export_bundle, load_bundle
from shared_pose_ros.cli.common import parse_camera, parse_duration, read_image
from shared_pose_ros.cli.main import COMMANDS, main
from shared_pose_ros.evaluation.bop import write_bop_targets
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.geometry.display_mesh import pack_meshes
from shared_pose_ros.geometry.rotations import rotation_from_quaternion
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.training.checkpoint import load_checkpoint

PARTS = ROOT / "models" / "parts"
SMALL = [
    *("crop_size=32", "batch_size=8", "hypotheses=2", "validation_samples=8", "threads=1"),
    *("loss.size=16", "loss.depth_start=0", "synthesis.supersample=1"),
]


def command(*arguments):
    """Run `shared_pose ARGUMENTS`."""
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def object_folder(tmp_path_factory):
    return write_object_set(tmp_path_factory.mktemp("objects") / "set", tiny_objects()).parent


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("frames") / "frame.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8))
    return path


def train(out, object_folder, photographs, *more):
    settings = [part for item in SMALL for part in ("--set", item)]
    return command(
        *("train", "--objects", object_folder, "--backgrounds", photographs, "--out", out, "--device", "cpu"),
        *("--preset", "compact"), *settings, *more,
    )  # fmt: skip


def estimate(bundle, photograph, tmp_path, *more, detection="part_1:60,50,40,30"):
    return command(
        *("estimate", "--bundle", bundle, "--image", photograph, "--detection", detection),
        *("--json", tmp_path / "poses.json", "--device", "cpu"), *more,
    )  # fmt: skip


def test_help_and_version(capsys):
    assert command("--version") == 0
    assert capsys.readouterr().out.strip() == __version__
    assert command() == 2
    listing = capsys.readouterr().out
    assert all(name in listing for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as status:
        command(name, "--help")
    assert status.value.code == 0
    assert f"shared_pose {name}" in capsys.readouterr().out.split("example", 1)[1]


def test_objects_lists_and_draws(tmp_path, capsys):
    assert command("objects", "--objects", PARTS, "--subset", "lever,socket", "--picture", tmp_path / "parts.png") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("lever") and lines[2].startswith("socket") and lines[3] == ""
    assert lines[5].split()[:2] == ["lever", "yes"] and lines[-1] == f"picture: {tmp_path / 'parts.png'}"
    picture = cv2.imread(str(tmp_path / "parts.png"))
    assert picture.shape == (320, 960, 3)
    # Every view of every object shows something lighter than the background.
    tiles = picture.reshape(2, 160, 6, 160, 3).max(axis=(1, 3, 4))
    assert (tiles > 60).all()


@pytest.mark.slow
def test_from_cad_to_poses(object_folder, photographs, photograph, tmp_path, capsys):
    run, bundle = tmp_path / "run", tmp_path / "mine.pose.pt"
    assert train(run, object_folder, photographs, "--samples", 16, "--tuning", "full", "--seed", 3) == 0
    assert "16 of 16 samples" in capsys.readouterr().out
    assert train(run, object_folder, photographs, "--samples", 32, "--seed", 3, "--resume") == 0
    state = load_checkpoint(run / "checkpoint.pt")
    assert state["step"] == 4 and state["config"]["seed"] == 3 and state["preset"] == "compact"
    assert command("export", run, "--out", bundle) == 0
    metadata = load_bundle(bundle).metadata
    assert metadata.samples == 32 and [item.class_id for item in metadata.objects] == ["angle", "spike"]
    assert metadata.weights_sha256 in capsys.readouterr().out
    more = ("--camera", "200,200,79.5,59.5", "--overlay", tmp_path / "poses.png", "--models", object_folder)
    assert estimate(bundle, photograph, tmp_path, *more, detection="spike:60,50,40,30") == 0
    assert cv2.imread(str(tmp_path / "poses.png")).shape == (120, 160, 3)
    poses = json.loads((tmp_path / "poses.json").read_text())["poses"]
    assert [pose["class_id"] for pose in poses] == ["spike"] and len(poses[0]["hypotheses"]) == 2


@pytest.mark.slow
def test_an_extended_bundle_knows_old_and_new_objects(object_folder, photographs, photograph, tmp_path, capsys):
    old, new = tmp_path / "old.pose.pt", tmp_path / "new.pose.pt"
    assert train(tmp_path / "a", object_folder, photographs, "--samples", 16, "--subset", "spike") == 0
    assert command("export", tmp_path / "a", "--out", old) == 0
    more = ("--samples", 24, "--extend", old, "--set", "hypotheses=5")  # the bundle's own number counts
    assert train(tmp_path / "b", object_folder, photographs, "--subset", "angle", *more) == 0
    assert command("export", tmp_path / "b", "--out", new) == 0
    before, after = load_bundle(old), load_bundle(new)
    assert [entry.class_id for entry in after.metadata.objects] == ["spike", "angle"]
    assert after.metadata.samples == 16 + 24
    assert pack_meshes(after.meshes[:1]) == pack_meshes(before.meshes) and after.meshes[1] is not None
    image, boxes = torch.from_numpy(read_image(photograph)), torch.tensor([[60.0, 50.0, 40.0, 30.0]])
    poses = [bundle.module(image, boxes, torch.tensor([0])) for bundle in (before, after)]
    torch.testing.assert_close(poses[0], poses[1])
    capsys.readouterr()
    mistake(capsys, train(tmp_path / "c", object_folder, photographs, "--extend", old), "knows spike already")
    mistake(capsys, command("export", new, "--out", tmp_path / "x.pose.pt"), "is a bundle: give --objects")
    assert command("export", old, "--objects", object_folder, "--out", tmp_path / "x.pose.pt") == 0
    assert before.metadata.weights_sha256 in capsys.readouterr().out


@pytest.mark.slow
def test_several_presets_are_stages_of_one_training(object_folder, photographs, tmp_path, capsys):
    presets = ("--preset", "compact,compact_fine")
    # A budget that is spent at once stops in the first stage; the rest waits for --resume.
    assert train(tmp_path, object_folder, photographs, *presets, "--samples", 40, "--time-budget", "0.001s") == 0
    assert (tmp_path / "1-compact" / "checkpoint.pt").exists() and not (tmp_path / "checkpoint.pt").exists()
    assert "go on with --resume" in capsys.readouterr().out
    assert train(tmp_path, object_folder, photographs, *presets, "--samples", 40, "--resume") == 0
    first, last = (load_checkpoint(folder / "checkpoint.pt") for folder in (tmp_path / "1-compact", tmp_path))
    assert first["preset"] == "compact" and last["preset"] == "compact_fine"
    assert first["config"]["samples"] + last["config"]["samples"] == 40
    assert last["earlier_samples"] == first["step"] * 8 and last["step"] * 8 >= last["config"]["samples"]
    before = (tmp_path / "1-compact" / "checkpoint.pt").read_bytes()
    assert train(tmp_path, object_folder, photographs, *presets, "--samples", 40, "--resume") == 0
    assert (tmp_path / "1-compact" / "checkpoint.pt").read_bytes() == before


@pytest.mark.slow
def test_separate_networks_are_trainings_of_one_object_each(object_folder, photographs, tmp_path, capsys):
    presets = ("--preset", "compact,compact_fine", "--samples", 16)
    assert train(tmp_path, object_folder, photographs, *presets, "--separate") == 0
    assert "angle:" in capsys.readouterr().out
    for name in ("angle", "spike"):
        state = load_checkpoint(tmp_path / name / "checkpoint.pt")
        assert [entry["class_id"] for entry in state["objects"]] == [name] and state["preset"] == "compact_fine"
        assert (tmp_path / name / "1-compact" / "checkpoint.pt").exists()


@pytest.mark.slow
def test_a_training_starts_from_a_bundle(object_folder, photographs, tmp_path):
    bundle = tmp_path / "one.pose.pt"
    assert train(tmp_path / "a", object_folder, photographs, "--samples", 8) == 0
    assert command("export", tmp_path / "a", "--out", bundle) == 0
    assert train(tmp_path / "b", object_folder, photographs, "--samples", 8, "--start-from", bundle) == 0
    assert load_checkpoint(tmp_path / "b" / "checkpoint.pt")["earlier_samples"] == 8


@pytest.mark.slow
def test_a_time_budget_leaves_a_run_that_can_go_on(object_folder, photographs, tmp_path, capsys):
    assert train(tmp_path, object_folder, photographs, "--time-budget", "0.2s") == 0
    assert "go on with --resume" in capsys.readouterr().out
    assert 0 < load_checkpoint(tmp_path / "checkpoint.pt")["step"] * 8 < 450_000


def train_encoder(out, object_folder, photographs, *more):
    return command(
        *("train-encoder", "--objects", object_folder, "--backgrounds", photographs, "--out", out, "--device", "cpu"),
        *("--set", "crop_size=32", "--set", "images_per_object=2", "--set", "threads=1"), *more,
    )  # fmt: skip


@pytest.mark.slow
def test_from_a_pre_trained_encoder_to_a_bundle(object_folder, photographs, tmp_path, capsys):
    encoder, run, bundle = tmp_path / "encoder", tmp_path / "run", tmp_path / "frozen.pose.pt"
    assert train_encoder(encoder, object_folder, photographs, "--steps", 2) == 0
    out = capsys.readouterr().out
    assert "2 of 2 steps; loss on synthetic validation 0." in out and "--tuning frozen|last_layer|full …\n" in out
    assert cv2.imread(str(encoder / "reconstructions.png")).shape == (384, 128, 3)
    # The narrow preset's own code, at another crop size.
    more = ("--preset", "compact_frozen", "--samples", 16, "--set", "crop_size=48")
    assert train(run, object_folder, photographs, "--encoder", encoder, *more) == 0
    pretrained = load_checkpoint(encoder / "encoder.pt")["encoder"]
    state = load_checkpoint(run / "checkpoint.pt")
    for name, tensor in pretrained.items():
        if name != "linear.weight":
            assert torch.equal(state["network"][f"encoder.{name}"], tensor), name
    assert train(run, object_folder, photographs, *more, "--resume") == 0
    assert command("export", run, "--out", bundle) == 0
    metadata = load_bundle(bundle).metadata
    assert (metadata.tuning, metadata.normalize_code, metadata.preset) == ("frozen", True, "compact_frozen")
    assert metadata.crop_size == 48


def test_mistakes_around_the_encoder(object_folder, photographs, tmp_path, capsys):
    def run(*more):
        return train(tmp_path / "run", object_folder, photographs, "--samples", 8, *more)

    for choice in (
        ("--tuning", "frozen"),
        ("--tuning", "last_layer"),
        ("--preset", "paper"),
        ("--set", "tuning=frozen"),
    ):
        mistake(capsys, run(*choice), "untrained ones see nothing", "train-encoder", "--start-from", "--tuning full")
    mistake(capsys, run("--encoder", tmp_path), "no encoder at", "train-encoder")
    encoder = tmp_path / "encoder"
    mistake(capsys, train_encoder(encoder, object_folder, photographs, "--preset", "compact"), "setting hypotheses")
    mistake(capsys, train_encoder(encoder, object_folder, photographs, "--steps", 0), "steps is 0")
    mistake(capsys, train_encoder(encoder, object_folder, photographs, "--set", "loss.size=3"), "setting loss.size")
    mistake(capsys, train_encoder(encoder, object_folder, photographs, "--set", "width=huge"), "'huge' is unknown")
    mistake(capsys, train_encoder(encoder, object_folder, photographs, "--resume"), "no checkpoint at")
    assert not encoder.exists() and not (tmp_path / "run").exists()
    assert train_encoder(encoder, object_folder, photographs, "--steps", 1) == 0
    capsys.readouterr()
    mistake(capsys, train_encoder(encoder, object_folder, photographs), "exists; add --resume")
    mistake(capsys, run("--encoder", encoder, "--set", "width=paper"), "of width compact", "--set width=compact")
    mistake(capsys, run("--start-from", encoder), "no checkpoint at")
    mistake(capsys, run("--encoder", encoder / "encoder_training.pt"), "holds no pre-trained encoder")
    mistake(capsys, command("export", encoder, "--out", tmp_path / "x.pose.pt"), "no checkpoint at")


def test_estimate_writes_poses_by_confidence(tiny_bundle, photograph, tmp_path, capsys):
    camera = tmp_path / "K.json"
    camera.write_text(json.dumps({"cam_K": [200, 0, 79.5, 0, 200, 59.5, 0, 0, 1]}))
    overlay = tmp_path / "poses.png"
    more = ("--camera", camera, "--detection", "2:30,30,20,20", "--overlay", overlay)
    assert estimate(tiny_bundle, photograph, tmp_path, *more) == 0
    result = json.loads((tmp_path / "poses.json").read_text())
    assert result["ray_corrected"] is True and result["bundle"] == "tiny" and "X_cam" in result["convention"]
    assert [pose["class_id"] for pose in result["poses"]] == ["part_1", "2"]
    assert result["poses"][0]["box"] == [60, 50, 40, 30]
    for pose in result["poses"]:
        assert len(pose["translation"]) == 3 and pose["translation"][2] > 0
        confidences = [hypothesis["confidence"] for hypothesis in pose["hypotheses"]]
        assert confidences == sorted(confidences, reverse=True) and sum(confidences) == pytest.approx(1, abs=1e-5)
        for hypothesis in pose["hypotheses"]:
            rotation = rotation_from_quaternion(torch.tensor(hypothesis["quaternion"])).numpy()
            np.testing.assert_allclose(rotation, hypothesis["rotation"], atol=1e-5)
    assert capsys.readouterr().out.startswith("part_1: quaternion")
    assert not np.array_equal(cv2.imread(str(overlay)), cv2.imread(str(photograph)))


def test_without_a_camera_there_is_no_translation(tiny_bundle, photograph, tmp_path):
    assert estimate(tiny_bundle, photograph, tmp_path) == 0
    result = json.loads((tmp_path / "poses.json").read_text())
    assert result["ray_corrected"] is False and result["poses"][0]["translation"] is None


@pytest.mark.slow
def test_evaluate_scores_a_bop_scene(tmp_path, capsys):
    parts = scene_objects()
    root = tmp_path / "two_boxes"
    write_dataset(root, PoseScorer(parts), images=1)
    write_bop_targets(root)
    write_object_set(root / "models", parts)
    metadata = make_metadata(objects=2, hypotheses=2)
    described = [dataclasses.replace(item, class_id=str(i + 1), aliases=()) for i, item in enumerate(metadata.objects)]
    torch.manual_seed(0)
    network = PoseNetwork(2, 2, "compact", 32)
    export_bundle(network, dataclasses.replace(metadata, objects=tuple(described)), tmp_path / "b.pose.pt")
    status = command(
        *("evaluate", "--bundle", tmp_path / "b.pose.pt", "--bop", root, "--json", tmp_path / "figures.json"),
        *("--report", tmp_path / "report", "--device", "cpu"),
    )
    out = capsys.readouterr().out
    assert status == 0 and "baseline" in out and "correction on" in out and "correction off" in out
    assert json.loads((tmp_path / "figures.json").read_text())
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Worst cases" in page and "Ambiguous views" in page and f"report: {tmp_path / 'report'}" in out
    # CAD that does not hold the bundle's objects.
    again = ("evaluate", "--bundle", tmp_path / "b.pose.pt", "--bop", root, "--json", tmp_path / "x.json")
    write_object_set(tmp_path / "other", tiny_objects())
    mistake(capsys, command(*again, "--models", tmp_path / "other"), "holds angle, spike", "show 1, 2")
    (root / "models").rename(root / "elsewhere")
    mistake(capsys, command(*again), "no models_cad or models folder", "--models")


def mistake(capsys, status, *words):
    """Assert exit status 2 and a single line on stderr that holds the words."""
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert status == 2 and len(lines) == 1, captured.err
    assert lines[0].startswith("shared_pose ") and "Traceback" not in captured.err
    for word in words:
        assert str(word) in lines[0], lines[0]


@pytest.mark.slow
def test_mistakes_in_estimate(tiny_bundle, photograph, object_folder, tmp_path, capsys):
    def run(*more, detection="part_1:60,50,40,30", bundle=tiny_bundle, image=photograph):
        return estimate(bundle, image, tmp_path, *more, detection=detection)

    mistake(capsys, run(bundle=tmp_path / "no.pose.pt"), "no bundle at", tmp_path)
    mistake(capsys, run(bundle=photograph), "damaged or not a bundle")
    mistake(capsys, run(image=tmp_path / "no.png"), "no.png is missing or no image")
    mistake(capsys, run(image=tiny_bundle), "no image that OpenCV reads")
    mistake(capsys, run(detection="lever:60,50,40,30"), "'lever' is unknown", "part_0, part_1, part_2")
    for text in ("part_1", "part_1:1,2,3", "part_1:a,b,c,d", ":1,2,3,4", "60,50,40,30"):
        mistake(capsys, run(detection=text), "is not CLASS:cx,cy,w,h")
    for text in ("part_1:60,50,0,30", "part_1:60,50,40,-3", "part_1:nan,50,40,30", "part_1:60,50,inf,30"):
        mistake(capsys, run(detection=text), "finite, with positive width")
    mistake(capsys, run(detection="part_1:600,50,40,30"), "outside the image of 160×120")
    mistake(capsys, run("--camera", "1,2,3"), "neither a .json file nor fx,fy,cx,cy")
    mistake(capsys, run("--camera", "0,200,80,60"), "fx=0.0", "positive")
    mistake(capsys, run("--camera", tmp_path / "no.json"), "cannot be read")
    mistake(capsys, run("--device", "gpu"), "device 'gpu'")
    mistake(capsys, run("--overlay", tmp_path / "none" / "x.png"), "cannot be written")
    mistake(capsys, run("--overlay", tmp_path / "x.png", "--models", object_folder), "need --camera")
    known = ("--camera", "200,200,80,60", "--overlay", tmp_path / "x.png")
    mistake(capsys, run(*known, "--models", object_folder), "has no object 'part_1'")
    mistake(capsys, run("--json", tmp_path / "none" / "p.json"), "none")


def test_mistakes_in_training(object_folder, photographs, tmp_path, capsys):
    def run(*more, objects=object_folder):
        return train(tmp_path / "run", objects, photographs, "--samples", 8, *more)

    mistake(capsys, run(objects=tmp_path / "none"), "no such file or folder")
    mistake(capsys, run("--preset", "huge"), "no preset 'huge'", "compact, ", "paper", "robust")
    mistake(capsys, run("--set", "loss.dmax=3"), "unknown training setting loss.dmax")
    mistake(capsys, run("--set", "seed"), "not KEY=VALUE")
    mistake(capsys, run("--set", "seed=[1"), "no YAML value")
    mistake(capsys, run("--set", "seed=abc"), "seed is 'abc'")
    mistake(capsys, run("--samples", 0), "samples is 0")
    mistake(capsys, run("--subset", "angle,lever"), "no object 'lever'", "angle, spike")
    mistake(capsys, run("--backgrounds", tmp_path), "no readable picture")
    mistake(capsys, run("--device", "cuda:99"), "cuda:99")
    mistake(capsys, run("--resume"), "no checkpoint at")
    broken = tmp_path / "broken.yaml"
    broken.write_text("width: [compact\n  loss: }")
    mistake(capsys, run("--preset", broken), "no YAML")
    assert not (tmp_path / "run").exists()
    assert run() == 0
    capsys.readouterr()
    mistake(capsys, run(), "exists; add --resume")
    mistake(capsys, command("export", tmp_path, "--out", tmp_path / "x.pose.pt"), "no checkpoint at")
    mistake(capsys, command("export", tmp_path / "run", "--out", tmp_path / "x.pt"), "must end in .pose.pt")
    mistake(capsys, command("objects", "--objects", broken), "broken.yaml")


def test_training_on_pytorch3d_where_it_is_absent_is_one_sentence(
    object_folder, photographs, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pytorch3d", None)
    monkeypatch.delitem(sys.modules, "shared_pose_ros.rendering.pytorch3d_rasterizer", raising=False)
    status = train(tmp_path / "run", object_folder, photographs, "--rasterizer", "pytorch3d")
    mistake(capsys, status, "rasterizer 'pytorch3d' needs the package pytorch3d", "make setup-pytorch3d")


def test_mistakes_in_evaluate(tiny_bundle, tmp_path, capsys):
    def run(*more):
        return command("evaluate", "--bundle", tiny_bundle, "--json", tmp_path / "x.json", *more)

    mistake(capsys, run("--bop", tmp_path / "none"), "not a folder")
    (tmp_path / "test").mkdir()
    mistake(capsys, run("--bop", tmp_path), "no scene folders")


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["train"],
        ["train-encoder", "--objects", "x"],
        ["estimate", "--bundle"],
        ["train", "--objects", "x", "--out", "y", "--time-budget", "soon"],
        ["train", "--objects", "x", "--out", "y", "--encoder", "e", "--start-from", "f"],
    ],
)
def test_wrong_usage_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as status:
        command(*arguments)
    error = capsys.readouterr().err
    assert status.value.code == 2 and "error:" in error and "Traceback" not in error


def test_a_missing_extra_names_the_remedy(monkeypatch, capsys):
    def without(name):
        raise ImportError("No module named 'warp'")

    monkeypatch.setattr("shared_pose_ros.cli.main.importlib.import_module", without)
    with pytest.raises(SystemExit) as status:
        command("objects", "--objects", "x")
    assert status.value.code == 2
    assert "No module named 'warp'; install the package with its extras" in capsys.readouterr().err


def test_the_debug_switch_shows_where_an_error_came_from(tmp_path, monkeypatch):
    monkeypatch.setenv("SHARED_POSE_DEBUG", "1")
    with pytest.raises(RuntimeError, match="no checkpoint"):
        command("export", tmp_path, "--out", tmp_path / "x.pose.pt")


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), (" 2m ", 120)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-5m", "5d", "1:30", "0.0h"])
def test_what_is_no_duration(text):
    with pytest.raises(Exception, match="no duration"):
        parse_duration(text)


def test_cameras_are_read_from_text_and_files(tmp_path):
    expected = [[200.0, 0.0, 80.0], [0.0, 210.0, 60.0], [0.0, 0.0, 1.0]]
    assert parse_camera("200,210,80,60").tolist() == expected
    path = tmp_path / "K.json"
    for values in (
        {"cam_K": [200, 0, 80, 0, 210, 60, 0, 0, 1]},
        {"K": expected},
        {"k": expected},
        {"fx": 200, "fy": 210, "cx": 80, "cy": 60},
    ):
        path.write_text(json.dumps(values))
        assert parse_camera(str(path)).tolist() == expected
    words = '{"K": [1, 0, 0, 0, 1, 0, 0, 0, "x"]}'
    for text in ("[1, 2]", "7", "{}", "{", '{"fx": 3}', '{"K": [1, 2]}', '{"K": "abc"}', words):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"camera file .*K\.json"):
            parse_camera(str(path))
