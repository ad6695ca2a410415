"""The refiner in a bundle: weights in eight bits, verified when they are read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from shared_pose_ros.bundle import (
    BundleError,
    RefinerFacts,
    copy_with_refiner,
    load_bundle,
    pack_refiner,
    unpack_refiner,
)
from shared_pose_ros.bundle.refiner_entry import REFINER_ENTRY
from shared_pose_ros.bundle_export import read_refiner
from shared_pose_ros.network.refiner import PoseRefiner

FACTS = RefinerFacts(samples=1000, objects="two boxes", commit="abc", error_scale=1.25)


@pytest.fixture(scope="module")
def network() -> PoseRefiner:
    torch.manual_seed(3)
    return PoseRefiner().eval()


@pytest.fixture(scope="module")
def packed(network: PoseRefiner) -> bytes:
    return pack_refiner(network, FACTS)


def test_weights_come_back_to_a_127th_of_their_channels_greatest(network: PoseRefiner, packed: bytes) -> None:
    found = unpack_refiner(packed)
    assert found.facts == FACTS
    assert not found.network.training
    for name, weight in network.state_dict().items():
        restored = found.network.state_dict()[name]
        if weight.ndim < 2:
            assert torch.equal(weight, restored), name
        else:
            limit = weight.flatten(1).abs().amax(dim=1) / 127 * 0.501
            assert bool(((weight - restored).flatten(1).abs().amax(dim=1) <= limit).all()), name


def test_the_same_weights_give_the_same_small_file(network: PoseRefiner, packed: bytes) -> None:
    assert pack_refiner(network, FACTS) == packed
    assert len(packed) < 4_000_000


def _changed(packed: bytes, **arrays: np.ndarray) -> bytes:
    with np.load(io.BytesIO(packed)) as archive:
        kept = {name: archive[name] for name in archive.files}
    stream = io.BytesIO()
    np.savez(stream, **(kept | arrays))
    return stream.getvalue()


def test_another_networks_or_damaged_weights_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="no readable refiner"):
        unpack_refiner(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match="another network"):
        unpack_refiner(_changed(packed, **{"output.bias": np.zeros(9, np.float32)}))
    with pytest.raises(ValueError, match="example differs"):
        unpack_refiner(_changed(packed, **{"output.bias": np.full(8, 0.5, np.float32)}))
    with pytest.raises(ValueError, match="no readable refiner"):
        unpack_refiner(_changed(packed, facts=np.frombuffer(b'{"pickled": 1}', np.uint8)))


def test_a_bundle_takes_a_refiner_and_keeps_all_else(tiny_bundle: Path, packed: bytes, tmp_path: Path) -> None:
    out = tmp_path / "refined.pose.pt"
    copy_with_refiner(tiny_bundle, out, packed)
    before, after = load_bundle(tiny_bundle), load_bundle(out)
    assert before.refiner is None
    assert after.refiner is not None and after.refiner.facts == FACTS
    assert after.metadata == before.metadata
    assert [m is None for m in after.meshes] == [m is None for m in before.meshes]
    assert read_refiner(out) == pack_refiner(after.refiner.network, FACTS)
    without = tmp_path / "plain.pose.pt"
    copy_with_refiner(out, without, b"")
    assert load_bundle(without).refiner is None


def test_a_bundle_with_a_damaged_refiner_says_so(tiny_bundle: Path, packed: bytes, tmp_path: Path) -> None:
    out = tmp_path / "refined.pose.pt"
    copy_with_refiner(tiny_bundle, out, _changed(packed, **{"output.bias": np.full(8, 0.5, np.float32)}))
    with pytest.raises(BundleError, match="refiner in .* is damaged"):
        load_bundle(out)
    assert REFINER_ENTRY.endswith(".npz")


def test_no_refiner_where_one_is_asked_for(tiny_bundle: Path, tmp_path: Path) -> None:
    for path in (tiny_bundle, tmp_path / "missing.npz", tmp_path):
        with pytest.raises(ValueError, match=r"no refiner in .*models/refiner\.npz"):
            read_refiner(path)
