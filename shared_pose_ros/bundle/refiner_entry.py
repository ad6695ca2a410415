"""The refiner as a part of a bundle, or as a file of its own: weights in 8 bits, facts, an example to verify it with.

An .npz: ``facts`` (JSON), for each weight matrix or kernel NAME int8 values and ``NAME:scale``, one factor for each
output channel, every other tensor as it is, and ``example``, what the stored weights compute for a fixed input.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared_pose_ros.network.refiner import REFINER_SIZE, RENDER_CHANNELS, PoseRefiner

REFINER_ENTRY = "refiner.npz"
"""Its name in a bundle."""
_SCALE, _FACTS, _EXAMPLE = ":scale", "facts", "example"
_TOLERANCE = 1e-3
"""Greatest difference of the example's numbers, which are of the order of 1, on another machine."""


@dataclass(frozen=True)
class RefinerFacts:
    """What is known of a refiner.

    Attributes:
        samples: images that it was trained on; each shows several hypotheses.
        objects: how many objects, and which sets.
        commit: of the package that trained it.
        crop_pad: side of crops and renders over the larger side of the box.
        error_scale: factor of its expected errors that makes them true on images that it was not trained on.
    """

    samples: int
    objects: str
    commit: str
    crop_pad: float = 1.2
    error_scale: float = 1.0


@dataclass(frozen=True)
class Refiner:
    """A refiner, verified and in evaluation mode, with its facts."""

    network: PoseRefiner
    facts: RefinerFacts


def pack_refiner(network: PoseRefiner, facts: RefinerFacts) -> bytes:
    """The entry's bytes; the same weights give the same bytes."""
    arrays: dict[str, NDArray[np.generic]] = {_FACTS: np.frombuffer(json.dumps(asdict(facts)).encode(), np.uint8)}
    for name, tensor in network.state_dict().items():
        if tensor.ndim < 2:
            arrays[name] = tensor.detach().cpu().numpy()
            continue
        flat = tensor.detach().cpu().float().flatten(1)
        scale = (flat.abs().amax(dim=1) / 127.0).clamp(min=1e-12)
        values = (flat / scale[:, None]).round().to(torch.int8)
        arrays[name], arrays[name + _SCALE] = values.reshape(tensor.shape).numpy(), scale.numpy()
    arrays[_EXAMPLE] = _example(_restored(arrays))
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # taken for its allow_pickle
    return stream.getvalue()


def unpack_refiner(data: bytes) -> Refiner:
    """What ``pack_refiner`` packed, verified.

    Raises:
        ValueError: no such file, weights of another network, or an example that comes out differently.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = RefinerFacts(**json.loads(arrays[_FACTS].tobytes()))
        expected = arrays[_EXAMPLE]
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"no readable refiner ({type(error).__name__}: {error})") from error
    try:
        network = _restored(arrays)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"its weights are of another network ({str(error).splitlines()[0]})") from error
    found = _example(network)
    difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
    if not difference <= _TOLERANCE:  # a NaN is not
        raise ValueError(f"its example differs by {difference:.2g} from what it was when written")
    return Refiner(network, facts)


def _restored(arrays: dict[str, NDArray[np.generic]]) -> PoseRefiner:
    weights: dict[str, Tensor] = {}
    for name, values in arrays.items():
        if name in (_FACTS, _EXAMPLE) or name.endswith(_SCALE):
            continue
        tensor = torch.from_numpy(np.array(values))
        if name + _SCALE in arrays:
            scale = torch.from_numpy(np.array(arrays[name + _SCALE]))
            tensor = tensor.float() * scale.reshape(-1, *[1] * (tensor.ndim - 1))
        weights[name] = tensor
    network = PoseRefiner()
    network.load_state_dict(weights)
    return network.eval()


def _example(network: PoseRefiner) -> NDArray[np.float32]:
    """What it computes for a fixed input, ``(2, 11)``."""
    random = np.random.default_rng(0)
    shape = (2, 3 + RENDER_CHANNELS, REFINER_SIZE, REFINER_SIZE)
    images = torch.from_numpy(random.random(shape, dtype=np.float32))
    with torch.inference_mode():
        increments, errors = network(images[:, :3], images[:, 3:], torch.arange(2))
    return torch.cat([increments.flatten(1), errors], dim=1).numpy()
