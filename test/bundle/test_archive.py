"""The archive's reader: every kind of tensor comes out as TorchScript gives it, and a pickle cannot run anything."""

import io
import pickle
import struct
import zipfile

import pytest
import torch
from torch import nn

from shared_pose_ros.bundle import BundleError, load_bundle
from shared_pose_ros.bundle.archive import ArchiveError, read_archive


class Tensors(nn.Module):
    """Views, shared memory, empty tensors, many types; attributes that are no tensors."""

    def __init__(self):
        super().__init__()
        base = torch.arange(24.0).reshape(4, 6)
        self.weight = nn.Parameter(torch.randn(3, 2))
        for name, tensor in {
            "turned": base.T,
            "part": base[1:3, ::2],
            "empty": torch.zeros(0, 5),
            "scalar": torch.tensor(7),
            "halves": torch.randn(5).half(),
            "brain": torch.randn(5).bfloat16(),
            "doubles": torch.randn(2).double(),
            "yes": torch.tensor([True, False, True]),
            "bytes": torch.arange(5, dtype=torch.uint8),
            "shorts": torch.arange(-3, 3, dtype=torch.int16),
        }.items():
            self.register_buffer(name, tensor)
        self.inner = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.sizes, self.ratios, self.flags, self.label = [1, 2], [0.5, 1.5], [True, False], "name"
        self.table = {"a": 1, "b": 2}

    def forward(self, x):
        return self.inner(x) * len(self.sizes) * self.ratios[0] * len(self.label) * self.table["a"] * len(self.flags)


@pytest.fixture
def file(tmp_path):
    torch.jit.save(torch.jit.script(Tensors()), str(tmp_path / "x.pt"), _extra_files={"note.txt": "hello"})
    return tmp_path / "x.pt"


def replaced(source, target, **entries):
    """Copy an archive with other contents of entries, named without their folder; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = entries.get(entry.filename.split("/", 1)[1], old.read(entry))
            if data is not None:
                new.writestr(entry.filename, data)
    return target


def test_tensors_are_those_of_the_graph(file):
    archive = read_archive(file)
    expected = torch.jit.load(str(file)).state_dict()
    assert archive.problem == "" and archive.extra == {"note.txt": b"hello"}
    assert archive.weights.keys() == expected.keys()
    for name, tensor in archive.weights.items():
        assert tensor.dtype == expected[name].dtype and tensor.stride() == expected[name].stride(), name
        assert torch.equal(tensor, expected[name]), name
    # The two views share the memory of one storage, and it begins where torch would have it.
    assert archive.weights["turned"].data_ptr() == archive.weights["part"].data_ptr() - 6 * 4
    assert all(archive.weights[name].data_ptr() % 64 == 0 for name in ("weight", "turned", "inner.0.weight"))


class Runs:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_pickle_that_names_anything_else_is_not_run(file, tmp_path):
    victim = tmp_path / "victim"
    for call in (Runs(victim.write_text, "x"), Runs(eval, "1"), Runs(torch.load, "x"), Runs(getattr, 1, "real")):
        data = pickle.dumps(call, protocol=2)
        archive = read_archive(replaced(file, tmp_path / "bad.pt", **{"data.pkl": data}))
        assert archive.weights == {} and archive.problem.startswith("its weights are no plain tensors (they need ")
        assert not victim.exists()


def test_what_a_pickle_sets_on_a_class_stays_in_its_own_file(file, tmp_path):
    # BUILD with (None, {"extra": 1}) sets attributes of the class object itself.
    data = b"\x80\x02c__torch__\nA\nN}X\x05\x00\x00\x00extraK\x01s\x86b."
    read_archive(replaced(file, tmp_path / "bad.pt", **{"data.pkl": data}))
    from shared_pose_ros.bundle.archive import _Module

    assert not hasattr(_Module, "extra")
    assert read_archive(file).problem == ""


def test_tensors_outside_of_their_storage_are_refused(file, tmp_path):
    with zipfile.ZipFile(file) as entries:
        root = entries.namelist()[0].split("/")[0]
        tree = entries.read(f"{root}/data.pkl")
    # "turned" is 24 floats as (6, 4), MARK BININT1 6 BININT1 4 TUPLE: a hundred rows do not fit.
    assert tree.count(b"(K\x06K\x04t") == 1
    longer = tree.replace(b"(K\x06K\x04t", b"(KdK\x04t")
    archive = read_archive(replaced(file, tmp_path / "bad.pt", **{"data.pkl": longer}))
    assert archive.weights == {} and "out of bounds" in archive.problem
    for key, problem in (("data/0", "storage 0 has 3 bytes for 6 numbers"), ("byteorder", "they are big-endian")):
        archive = read_archive(replaced(file, tmp_path / "bad.pt", **{key: b"big"}))
        assert problem in archive.problem
    assert read_archive(replaced(file, tmp_path / "old.pt", byteorder=None)).problem == ""


def test_files_that_are_no_archive_are_named(tmp_path):
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, stream)
    for content, message in ((b"hello", "not a zip file"), (stream.getvalue(), "it is no TorchScript archive")):
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(ArchiveError, match=message):
            read_archive(tmp_path / "x.pt")


def test_a_wrong_checksum_is_damage(file):
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as entries:
        entry = next(entry for entry in entries.infolist() if entry.filename.endswith("data/0"))
    name, added = struct.unpack("<HH", data[entry.header_offset + 26 : entry.header_offset + 30])
    data[entry.header_offset + 30 + name + added] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArchiveError, match="Bad CRC-32 for file 'x/data/0'"):
        read_archive(file)


def test_a_bundle_whose_weights_cannot_be_read_here_runs_as_its_graph(tiny_bundle, tmp_path):
    with zipfile.ZipFile(tiny_bundle) as entries:
        root = entries.namelist()[0].split("/")[0]
        tree = entries.read(f"{root}/data.pkl")
    bad = replaced(tiny_bundle, tmp_path / "x.pose.pt", **{"data.pkl": tree.replace(b"FloatStorage", b"PloatStorage")})
    with pytest.raises(BundleError, match=r"they need torch\.PloatStorage\), and the TorchScript graph cannot be load"):
        load_bundle(bad)
