"""From a training folder to a bundle."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from shapes import tiny_objects
from training_run import TINY, make_trainer

from shared_pose_ros.bundle import BundleError, load_bundle
from shared_pose_ros.bundle_export import add_cad, export_folder, newest_stage
from shared_pose_ros.cli.main import main
from shared_pose_ros.geometry.display_mesh import pack_meshes
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.meshes.symmetries import Symmetries
from shared_pose_ros.network.inference_module import PixelsToHypotheses
from shared_pose_ros.training.checkpoint import CHECKPOINT_NAME, CheckpointError, load_checkpoint, save_checkpoint
from shared_pose_ros.training.provenance import describe_object, source_commit


def test_the_bundle_is_the_trained_network_with_its_facts(tiny_run, photographs, tmp_path):
    written = export_folder(tiny_run, tmp_path / "parts.pose.pt")
    bundle = load_bundle(tmp_path / "parts.pose.pt")
    metadata = bundle.metadata
    assert metadata == written
    for mesh, model in zip(bundle.meshes, tiny_objects()):
        np.testing.assert_array_equal(mesh.vertices[mesh.faces], model.mesh.vertices[model.mesh.faces])
    assert (metadata.name, metadata.samples, metadata.seed, metadata.preset) == ("parts", 48, 0, "tiny")
    assert (metadata.crop_size, metadata.hypotheses, metadata.encoder_width) == (32, 2, "compact")
    assert metadata.crop_pad == TINY.synthesis.crop_pad and metadata.tuning == "full"
    assert metadata.metrics["validation"]["median"] >= 0
    for described, model in zip(metadata.objects, tiny_objects()):
        assert (described.class_id, described.aliases) == (model.class_id, model.aliases)
        np.testing.assert_allclose(described.extents, model.extents)
        np.testing.assert_allclose(described.centre, model.centre, atol=1e-9)
        assert described.diameter == pytest.approx(model.diameter) and described.scale == pytest.approx(model.scale)
    trained = make_trainer(tiny_run, photographs, resume=True).network.eval()
    image = torch.randint(0, 256, (50, 60, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes, index = torch.tensor([[20.0, 30.0, 25.0, 20.0], [40.0, 20.0, 50.0, 30.0]]), torch.tensor([1, 0])
    with torch.no_grad():
        expected = PixelsToHypotheses(trained, metadata.crop_pad, 32, tta_rotations=4)(image, boxes, index)
        found = bundle.module(image, boxes, index)
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=0)


def test_descriptions_are_plain_values_that_keep_the_symmetries():
    half_turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    first = tiny_objects()[0]
    described = describe_object(type(first)(**{**_fields(first), "symmetries": Symmetries(half_turn[None])}))
    assert set(map(type, described["extents"])) == {float}
    np.testing.assert_allclose(Symmetries.from_dict(described["symmetries"]).discrete, half_turn[None])


def _fields(model):
    names = ("class_id", "aliases", "name", "mesh", "diameter", "extents", "centre", "scale", "symmetries", "path")
    return {name: getattr(model, name) for name in names}


def test_folders_without_a_usable_checkpoint_are_refused(tiny_run, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        export_folder(tmp_path, tmp_path / "x.pose.pt")
    shutil.copy(tiny_run / CHECKPOINT_NAME, tmp_path)
    state = load_checkpoint(tmp_path / CHECKPOINT_NAME)
    save_checkpoint(tmp_path / CHECKPOINT_NAME, {**state, "config": {**state["config"], "hypotheses": 5}})
    with pytest.raises(CheckpointError, match="does not fit its own configuration"):
        export_folder(tmp_path, tmp_path / "x.pose.pt")
    assert not (tmp_path / "x.pose.pt").exists()


@pytest.mark.slow
def test_a_training_that_ended_in_an_early_stage_is_exported_from_there(tiny_run, tmp_path, capsys):
    run = tmp_path / "run"
    for name in ("1-compact", "2-robust", "10-fine"):
        (run / name).mkdir(parents=True)
    for name in ("1-compact", "2-robust"):
        shutil.copy(tiny_run / CHECKPOINT_NAME, run / name)
    assert newest_stage(run) == run / "2-robust"
    assert main(["export", str(run), "--out", str(tmp_path / "early.pose.pt")]) == 0
    assert "has no checkpoint yet: taking its stage 2-robust" in capsys.readouterr().out
    shutil.copy(tiny_run / CHECKPOINT_NAME, run / "10-fine")
    assert newest_stage(run) == run / "10-fine"
    shutil.copy(tiny_run / CHECKPOINT_NAME, run)
    assert newest_stage(run) == run
    assert newest_stage(tmp_path) == tmp_path


def test_cad_is_added_to_a_bundle_without_touching_it(tiny_run, tmp_path):
    shutil.copy(tiny_run / CHECKPOINT_NAME, tmp_path)
    state = load_checkpoint(tmp_path / CHECKPOINT_NAME)
    del state["display_meshes"]  # as an older training left it
    save_checkpoint(tmp_path / CHECKPOINT_NAME, state)
    old, new = tmp_path / "old.pose.pt", tmp_path / "new.pose.pt"
    written = export_folder(tmp_path, old)
    assert load_bundle(old).meshes == (None, None)
    only_spike = ObjectSet((tiny_objects()[1],))
    assert add_cad(old, only_spike, new) == written
    assert [mesh is None for mesh in load_bundle(new).meshes] == [True, False]
    add_cad(new, ObjectSet((tiny_objects()[0],)), new)
    assert [mesh is None for mesh in load_bundle(new).meshes] == [False, False]
    export_folder(tmp_path, tmp_path / "given.pose.pt", objects=tiny_objects())
    assert pack_meshes(load_bundle(tmp_path / "given.pose.pt").meshes) == pack_meshes(load_bundle(new).meshes)


@pytest.mark.slow
def test_cad_that_is_secret_is_left_out(tiny_run, tmp_path, capsys):
    """Of a training and of a bundle; the answers stay."""
    full, bare, emptied = (tmp_path / f"{name}.pose.pt" for name in ("full", "bare", "emptied"))
    assert main(["export", str(tiny_run), "--out", str(full)]) == 0
    assert any(load_bundle(full).meshes)
    for source, out in ((tiny_run, bare), (full, emptied)):
        assert main(["export", str(source), "--no-meshes", "--out", str(out)]) == 0
        assert not any(load_bundle(out).meshes)
        assert load_bundle(out).metadata.weights_sha256 == load_bundle(full).metadata.weights_sha256
    assert "no CAD for the pictures" not in capsys.readouterr().out
    assert main(["export", str(full), "--no-meshes", "--objects", str(tiny_run), "--out", str(bare)]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_cad_of_other_objects_or_sizes_is_refused(tiny_run, tmp_path):
    bundle = tmp_path / "a.pose.pt"
    export_folder(tiny_run, bundle)
    spike = tiny_objects()[1]
    larger = dataclasses.replace(spike, extents=spike.extents * 25.4)
    with pytest.raises(ValueError, match=r"CAD of spike is .* mm, trained were .* mm"):
        add_cad(bundle, ObjectSet((larger,)), tmp_path / "b.pose.pt")
    other = dataclasses.replace(spike, class_id="cup", aliases=())
    with pytest.raises(ValueError, match="CAD is of cup, the bundle of other objects"):
        add_cad(bundle, ObjectSet((other,)), tmp_path / "b.pose.pt")
    assert not (tmp_path / "b.pose.pt").exists()


def test_the_bundles_name_must_say_what_it_is(tiny_run, tmp_path):
    with pytest.raises(BundleError, match=r"'parts\.pt' must end in \.pose\.pt"):
        export_folder(tiny_run, tmp_path / "parts.pt")


def test_the_commit_is_a_hash_or_says_that_it_is_unknown():
    commit = source_commit()
    assert commit == "unknown" or (len(commit) == 40 and set(commit) <= set("0123456789abcdef"))
