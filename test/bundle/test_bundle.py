"""The bundle: what goes in comes out, and what was tampered with is refused with a reason."""

import dataclasses
import io
import json
import zipfile

import pytest
import torch
from bundle_facts import make_meshes, make_metadata

from shared_pose_ros.bundle import (
    BundleError,
    copy_with_meshes,
    export_bundle,
    load_bundle,
    weights_sha256,
)
from shared_pose_ros.geometry.display_mesh import pack_meshes
from shared_pose_ros.network.crop import crop_objects, normalize_crops
from shared_pose_ros.network.inference_module import PixelsToHypotheses
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.network.test_time_augmentation import merge_hypotheses, rotate_back


def scene(seed=0, objects=3):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (60, 80, 3), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([[20.0, 30.0, 25.0, 20.0], [60.0, 20.0, 90.0, 30.0], [79.0, 59.0, 8.0, 4.0], [40, 30, 10, 10]])
    return image, boxes, torch.tensor([0, 1, 2, 0]) % objects


def repack(source, target, metadata=None, example=None, change=None):
    """Copy a bundle with other metadata, another example, or a changed module."""
    extra = {"metadata.json": "", "example.pt": ""}
    module = torch.jit.load(str(source), _extra_files=extra)
    if change is not None:
        change(module)
    if metadata is not None:
        extra["metadata.json"] = metadata
    if example is not None:
        extra["example.pt"] = example
    torch.jit.save(module, str(target), _extra_files={key: value for key, value in extra.items() if value != "drop"})
    return target


def metadata_of(path):
    extra = {"metadata.json": ""}
    torch.jit.load(str(path), _extra_files=extra)
    return json.loads(extra["metadata.json"])


def test_metadata_make_the_round_trip(tiny_network, tmp_path):
    given = dataclasses.replace(make_metadata(), metrics={"ar": [0.5, {"protocol": "paper"}]}, commit="abc", seed=3)
    written = export_bundle(tiny_network, given, tmp_path / "one.pose.pt")
    found = load_bundle(tmp_path / "one.pose.pt").metadata
    assert found == written
    assert found.weights_sha256 == weights_sha256(PixelsToHypotheses(tiny_network, 1.2, 32))
    assert found.schema_version == 1
    assert found.torch_version == torch.__version__
    blank = {"torch_version": "", "weights_sha256": ""}
    assert dataclasses.replace(found, **blank) == given
    assert isinstance(found.objects[0].extents, tuple) and isinstance(found.objects[0].aliases, tuple)


def test_the_graph_in_the_file_is_the_eager_network(tiny_network, tiny_bundle):
    module = torch.jit.load(str(tiny_bundle))
    eager = PixelsToHypotheses(tiny_network, 1.2, 32).eval()
    with torch.no_grad():
        rotations, confidences = module(*scene())
        expected = eager(*scene())
    assert rotations.shape == (4, 4, 3, 3) and confidences.shape == (4, 4)
    torch.testing.assert_close(rotations, expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(confidences, expected[1], atol=1e-6, rtol=0)


def test_hypotheses_are_sorted_and_keep_their_confidences(tiny_network):
    image, boxes, index = scene()
    with torch.no_grad():
        rotations, confidences = PixelsToHypotheses(tiny_network, 1.2, 32).eval()(image, boxes, index)
        unsorted, logits = tiny_network(normalize_crops(crop_objects(image, boxes, 1.2, 32)), index)
    torch.testing.assert_close(confidences.sum(dim=1), torch.ones(4))
    assert (confidences[:, :-1] >= confidences[:, 1:]).all()
    weights = torch.softmax(logits, dim=1)
    for row in range(4):
        for place in range(4):
            origin = (weights[row] - confidences[row, place]).abs().argmin()
            torch.testing.assert_close(rotations[row, place], unsorted[row, origin])


def test_no_boxes_and_other_image_sizes(tiny_bundle):
    module = load_bundle(tiny_bundle).module
    with torch.no_grad():
        for shape in ((1, 1, 3), (7, 300, 3), (480, 640, 3)):
            image = torch.zeros(shape, dtype=torch.uint8)
            rotations, confidences = module(image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
            assert rotations.shape == (0, 4, 3, 3) and confidences.shape == (0, 4)
            rotations, _ = module(image, torch.tensor([[2.0, 2.0, 4.0, 4.0]]), torch.tensor([1]))
            assert torch.isfinite(rotations).all()


def test_exporting_what_does_not_fit_is_refused(tiny_network, tmp_path):
    path = tmp_path / "x.pose.pt"
    with pytest.raises(BundleError, match=r"'x\.pt' must end in \.pose\.pt"):
        export_bundle(tiny_network, make_metadata(), tmp_path / "x.pt")
    with pytest.raises(BundleError, match="names 2 objects, the network has 3"):
        export_bundle(tiny_network, make_metadata(objects=2), path)
    with pytest.raises(BundleError, match="names 9 hypotheses, the network has 4"):
        export_bundle(tiny_network, make_metadata(hypotheses=9), path)
    assert list(tmp_path.iterdir()) == []


class Fickle(PoseNetwork):
    """A network that answers otherwise once it is scripted."""

    def hypotheses(self, code, object_index):
        """As PoseNetwork, but for the confidences."""
        vectors, logits = self.head(code, object_index)
        if torch.jit.is_scripting():
            logits = logits + torch.arange(4.0)
        return vectors[:, :, None, :3].expand(-1, -1, 3, -1), logits


def test_quarter_rotations_are_part_of_the_graph(tiny_network, tmp_path):
    metadata = dataclasses.replace(make_metadata(), tta_rotations=4)
    export_bundle(tiny_network, metadata, tmp_path / "t.pose.pt")
    bundle = load_bundle(tmp_path / "t.pose.pt")
    assert bundle.metadata.tta_rotations == 4
    assert metadata_of(tmp_path / "t.pose.pt")["turns"] == 4  # the name in every file of this schema
    image = torch.randint(0, 256, (50, 60, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes, index = torch.tensor([[20.0, 30.0, 25.0, 20.0], [40.0, 20.0, 50.0, 30.0]]), torch.tensor([1, 0])
    with torch.no_grad():
        rotations, confidences = bundle.module(image, boxes, index)
        crops = normalize_crops(crop_objects(image, boxes, metadata.crop_pad, 32))
        said = [tiny_network(torch.rot90(crops, turn, [2, 3]), index) for turn in range(4)]
        back = rotate_back(torch.cat([pair[0] for pair in said]))
        expected = merge_hypotheses(back, torch.cat([pair[1].softmax(dim=1) for pair in said], dim=1), 4)
        torch.testing.assert_close((rotations, confidences), expected, atol=1e-4, rtol=0)
        nothing = bundle.module(image, boxes[:0], index[:0])
    assert nothing[0].shape == (0, 4, 3, 3) and nothing[1].shape == (0, 4)
    with pytest.raises(BundleError, match="tta_rotations is 3; it must be one of 1, 4"):
        export_bundle(tiny_network, dataclasses.replace(metadata, tta_rotations=3), tmp_path / "x.pose.pt")


def test_a_scripted_network_that_differs_is_not_written(tmp_path):
    with pytest.raises(BundleError, match="scripted network differs from the eager one.*largest difference"):
        export_bundle(Fickle(3, 4, "compact", 32).eval(), make_metadata(), tmp_path / "x.pose.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_the_old_one(tiny_network, tmp_path, monkeypatch):
    path = tmp_path / "x.pose.pt"
    path.write_bytes(b"the old one")

    def full(module, name, _extra_files):
        open(name, "wb").close()
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(torch.jit, "save", full)
    with pytest.raises(BundleError, match="could not be written.*No space left.*free space"):
        export_bundle(tiny_network, make_metadata(), path)
    assert path.read_bytes() == b"the old one" and len(list(tmp_path.iterdir())) == 1
    blocked = tmp_path / "x.pose.pt" / "below" / "y.pose.pt"
    with pytest.raises(BundleError, match="could not be written"):
        export_bundle(tiny_network, make_metadata(), blocked)


def test_missing_foreign_and_cut_files_are_named(tiny_bundle, tmp_path):
    path = tmp_path / "x.pose.pt"
    with pytest.raises(BundleError, match=f"no bundle at {path}"):
        load_bundle(path)
    with pytest.raises(BundleError, match="no bundle at"):
        load_bundle(tmp_path)
    data = tiny_bundle.read_bytes()
    torch_file = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, torch_file)
    for content in (b"", b"hello", data[: len(data) // 2], data[:-10], torch_file.getvalue()):
        path.write_bytes(content)
        with pytest.raises(BundleError, match="damaged or not a bundle") as caught:
            load_bundle(path)
        assert "\n" not in str(caught.value)


def test_a_flipped_byte_anywhere_in_the_weights_is_noticed(tiny_bundle, tmp_path):
    data = bytearray(tiny_bundle.read_bytes())
    with zipfile.ZipFile(tiny_bundle) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    data[largest.header_offset + 500 + largest.file_size // 2] ^= 0x40
    (tmp_path / "x.pose.pt").write_bytes(data)
    with pytest.raises(BundleError, match="damaged|SHA-256"):
        load_bundle(tmp_path / "x.pose.pt")


def test_changed_weights_are_noticed(tiny_bundle, tmp_path):
    def nudge(module):
        with torch.no_grad():
            next(module.parameters()).view(-1)[0] += 1e-4

    with pytest.raises(BundleError, match="SHA-256.*copy"):
        load_bundle(repack(tiny_bundle, tmp_path / "x.pose.pt", change=nudge))


@pytest.mark.slow
def test_an_example_that_comes_out_differently_is_noticed(tiny_bundle, tmp_path):
    extra = {"example.pt": ""}
    torch.jit.load(str(tiny_bundle), _extra_files=extra)
    stored = torch.load(io.BytesIO(extra["example.pt"]), weights_only=True)

    def example(values):
        stream = io.BytesIO()
        torch.save(values, stream)
        return stream.getvalue()

    path = tmp_path / "x.pose.pt"
    turned = {**stored, "rotations": stored["rotations"].flip(-1)}
    for broken, message in (
        (example(turned), "other poses on this machine.*largest difference"),
        (example({**stored, "confidences": stored["confidences"] * float("nan")}), "other poses on this machine"),
        (example({key: value[:2] for key, value in stored.items()}), "other poses on this machine.*shapes"),
        (example({"rotations": stored["rotations"]}), "example in .* is damaged"),
        (b"no pickle", "example in .* is damaged"),
        ("drop", "no example"),
    ):
        with pytest.raises(BundleError, match=message):
            load_bundle(repack(tiny_bundle, path, example=broken))


@pytest.mark.slow
def test_metadata_that_do_not_fit_are_named(tiny_bundle, tmp_path):
    path, known = tmp_path / "x.pose.pt", metadata_of(tiny_bundle)
    four = {**known, "objects": [*known["objects"], known["objects"][0]]}
    unnamed = {key: value for key, value in known.items() if key != "hypotheses"}
    for metadata, message in (
        ("drop", "without metadata.json"),
        ("{not json", "metadata of .* are damaged"),
        ("[1, 2]", "metadata of .* are damaged"),
        (json.dumps({**known, "schema_version": 2}), "schema version 2, this package reads 1"),
        (json.dumps({**known, "colour": "red"}), "do not fit schema 1.*colour"),
        (json.dumps(unnamed), "do not fit schema 1.*hypotheses"),
        (json.dumps({**known, "objects": [{"class_id": "a"}]}), "do not fit schema 1"),
        (json.dumps({**known, "objects": 5}), "do not fit schema 1"),
        (json.dumps({**known, "weights_sha256": "0" * 64}), "SHA-256.*not 000000000"),
        (json.dumps(four), "cannot compute its own example|shapes"),
    ):
        with pytest.raises(BundleError, match=message):
            load_bundle(repack(tiny_bundle, path, metadata=metadata))


def test_the_digest_sees_names_values_and_buffers():
    torch.manual_seed(0)
    network = PoseNetwork(1, 2, "compact", 16)
    first = weights_sha256(network)
    assert first == weights_sha256(network) and len(first) == 64
    network.head.layer1[1].running_mean[0] += 1e-3
    assert weights_sha256(network) != first


@pytest.mark.slow
def test_meshes_make_the_round_trip_and_can_be_added_later(tiny_network, tmp_path):
    plain, meshes = tmp_path / "plain.pose.pt", make_meshes()
    metadata = export_bundle(tiny_network, make_metadata(), plain)
    old = load_bundle(plain)
    assert old.meshes == (None, None, None)
    export_bundle(tiny_network, make_metadata(), tmp_path / "with.pose.pt", meshes)
    copy_with_meshes(plain, tmp_path / "added.pose.pt", meshes)
    for name in ("with", "added"):
        found = load_bundle(tmp_path / f"{name}.pose.pt")
        assert [mesh is None for mesh in found.meshes] == [False, False, True]
        assert pack_meshes(found.meshes) == pack_meshes(meshes)
        assert found.metadata == metadata
        with torch.no_grad():
            for one, other in zip(found.module(*scene()), old.module(*scene())):
                assert torch.equal(one, other)
    copy_with_meshes(tmp_path / "added.pose.pt", tmp_path / "added.pose.pt", (None, None, None))
    assert load_bundle(tmp_path / "added.pose.pt").meshes == (None, None, None)
    with pytest.raises(BundleError, match="2 meshes for 3 objects"):
        copy_with_meshes(plain, tmp_path / "x.pose.pt", meshes[:2])
    assert not (tmp_path / "x.pose.pt").exists()


def test_damaged_meshes_are_named(tiny_bundle, tmp_path):
    extra = {"metadata.json": "", "example.pt": ""}
    module = torch.jit.load(str(tiny_bundle), _extra_files=extra)
    fourth = pack_meshes([None, None, None, make_meshes()[0]])
    for data, message in ((b"\xff\x00", "no readable .npz"), (fourth, "'vertices_3' belongs to none of the 3 objects")):
        torch.jit.save(module, str(tmp_path / "x.pose.pt"), _extra_files={**extra, "meshes.npz": data})
        with pytest.raises(BundleError, match=f"display meshes of .* are damaged.*{message}"):
            load_bundle(tmp_path / "x.pose.pt")
