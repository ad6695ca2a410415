"""Refinement by rendering: what is drawn, how hypotheses are turned and sorted, and what is said when it cannot be."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np
import pytest
import torch
from depth_scene import part
from torch import Tensor

from shared_pose_ros.bundle import Refiner, RefinerFacts
from shared_pose_ros.geometry.rotations import random_rotations, rotation_angle, rotation_from_vector
from shared_pose_ros.network.refiner import REFINER_SIZE, PoseRefiner
from shared_pose_ros.refinement.rendered import RefinementError, RenderRefiner
from shared_pose_ros.rendering.hypotheses import HypothesisRenderer
from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.rendering.warp_rasterizer import WarpRasterizer

CPU = torch.device("cpu")
IMAGE = torch.zeros(120, 160, 3, dtype=torch.uint8)
BOXES = torch.tensor([[60.0, 50.0, 30.0, 20.0], [100.0, 70.0, 20.0, 40.0]])
INDEX = torch.tensor([0, 1])


def hypotheses() -> Tensor:
    return random_rotations(6, torch.Generator().manual_seed(4)).reshape(2, 3, 3, 3)


def meshes() -> list[Any]:
    return [part("box").mesh, part("lever").mesh]


class Told(PoseRefiner):
    """Turns every hypothesis by the same increment and expects errors as told, hypothesis by hypothesis."""

    def __init__(self, increment: Tensor, errors: list[Tensor]) -> None:
        super().__init__()
        self.increment, self.errors, self.compared = increment, errors, []

    def compare(self, seen: list[Tensor], renders: Tensor, crop_of: Tensor) -> tuple[Tensor, Tensor]:
        self.compared.append((renders, crop_of))
        return self.increment.expand(len(renders), 3, 3), self.errors[len(self.compared) - 1].log()


def refiner(network: PoseRefiner, scale: float = 1.0) -> RenderRefiner:
    facts = RefinerFacts(samples=0, objects="", commit="", error_scale=scale)
    return RenderRefiner(Refiner(network.eval(), facts), meshes(), np.zeros((2, 3), np.float32), CPU)


def seen_by(one: RenderRefiner) -> list[tuple[Tensor, Tensor]]:
    """What its network compared."""
    network = one._network
    assert isinstance(network, Told)
    return network.compared


def test_scoring_alone_sorts_and_turns_nothing() -> None:
    errors = torch.tensor([[0.3, 9.0], [0.1, 9.0], [0.2, 9.0], [0.5, 9.0], [0.6, 9.0], [0.4, 9.0]])
    network = Told(torch.eye(3), [errors])
    one = refiner(network, 2.0)
    found = one.refine(IMAGE, BOXES, INDEX, hypotheses(), None, steps=0)
    assert torch.equal(found.rotations, hypotheses()[[[0], [1]], [[1, 2, 0], [2, 0, 1]]])
    assert torch.allclose(found.expected_errors, 2 * torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
    share = found.expected_errors**-2
    assert torch.allclose(found.confidences, share / share.sum(dim=1, keepdim=True))
    assert seen_by(one)[0][1].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_second_step_turns_the_better_half_and_the_last_errors_sort() -> None:
    turn = rotation_from_vector(torch.tensor([0.1, 0.0, 0.0]))
    first = torch.tensor([[9.0, 0.1], [9.0, 0.2], [9.0, 0.3], [9.0, 0.3], [9.0, 0.2], [9.0, 0.1]])
    second = torch.tensor([[9.0, 0.25], [9.0, 0.4], [9.0, 0.05], [9.0, 0.02]])
    one = refiner(Told(turn, [first, second]))
    found = one.refine(IMAGE, BOXES, INDEX, hypotheses(), None, steps=2)
    turned = turn @ hypotheses()
    rows, kept = torch.tensor([[0], [1]]), torch.tensor([[0, 1], [2, 1]])
    turned[rows, kept] = turn @ turned[rows, kept]
    assert torch.allclose(found.rotations, turned[rows, torch.tensor([[0, 2, 1], [1, 2, 0]])], atol=1e-6)
    assert torch.allclose(found.expected_errors, torch.tensor([[0.25, 0.3, 0.4], [0.02, 0.05, 0.3]]))
    assert seen_by(one)[1][1].tolist() == [0, 0, 1, 1]


def test_objects_of_a_batch_get_what_each_gets_alone() -> None:
    torch.manual_seed(0)
    one = refiner(PoseRefiner())
    distances = torch.tensor([0.6, 0.9])
    with torch.inference_mode():
        both = one.refine(IMAGE, BOXES, INDEX, hypotheses(), distances, steps=2)
        for row in range(2):
            alone = one.refine(
                IMAGE, BOXES[row : row + 1], INDEX[row : row + 1], hypotheses()[row : row + 1],
                distances[row : row + 1], steps=2,
            )  # fmt: skip
            assert torch.allclose(alone.rotations[0], both.rotations[row], atol=1e-5)
            assert torch.allclose(alone.expected_errors[0], both.expected_errors[row], atol=1e-5)


def test_an_untrained_refiner_turns_little() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        found = refiner(PoseRefiner()).refine(IMAGE, BOXES, INDEX, hypotheses(), None, steps=1)
    # In whichever order: each came from the hypothesis nearest to it.
    angles = rotation_angle(found.rotations[:, :, None], hypotheses()[:, None]).amin(dim=2)
    assert float(angles.max()) < math.radians(5)


def test_a_render_shows_the_object_in_the_middle_of_its_window() -> None:
    shape = (part("box").mesh.vertices, part("box").mesh.faces.astype(np.int32))
    renders = HypothesisRenderer([shape], make_rasterizer(), crop_pad=1.25).render(
        torch.zeros(1, dtype=torch.int64), torch.eye(3)[None], torch.tensor([0.5]), REFINER_SIZE
    )
    covered = renders[0, 1:].norm(dim=0) > 0.5
    rows, columns = covered.any(dim=1).nonzero()[:, 0], covered.any(dim=0).nonzero()[:, 0]
    # The longer side fills 1/1.25 of the window, centred.
    assert abs((columns[-1] - columns[0] + 1).item() - REFINER_SIZE / 1.25) <= 1
    assert abs((columns[-1] + columns[0]).item() - (REFINER_SIZE - 1)) <= 1
    assert abs((rows[-1] + rows[0]).item() - (REFINER_SIZE - 1)) <= 1
    # A face seen straight on has its normal towards the camera, and the light's greatest value is 1.
    assert torch.allclose(renders[0, 1:, 32, 32], torch.tensor([0.0, 0.0, -1.0]), atol=1e-5)
    assert float(renders[0, 0].max()) == pytest.approx(1.0)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = RefinerFacts(samples=0, objects="", commit="")
    with pytest.raises(RefinementError, match="no meshes.*--objects CAD"):
        RenderRefiner(Refiner(PoseRefiner().eval(), facts), [None, None], np.zeros((2, 3), np.float32), CPU)
    real = builtins.__import__

    def without_warp(name: str, *rest: Any) -> Any:
        if name.startswith("shared_pose_ros.rendering"):
            raise ImportError("no warp")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_warp)
    with pytest.raises(RefinementError, match="warp-lang, which is not installed"):
        refiner(PoseRefiner())


class OtherRasterizer:
    """A rasteriser like any other: its faces are shaded afterwards."""

    def __init__(self) -> None:
        self.rasterize = WarpRasterizer().rasterize


@pytest.mark.parametrize("size", [32, 50, 64, 96])
def test_the_kernel_draws_what_rasteriser_and_shading_draw_one_after_the_other(size: int) -> None:
    shapes = [(mesh.vertices, mesh.faces.astype(np.int32)) for mesh in meshes()]
    vertices, faces = shapes[1]
    shapes.append((vertices, faces[: len(faces) // 2]))  # open: its back faces are seen
    generator = torch.Generator().manual_seed(size)
    given = (torch.arange(9) % 3, random_rotations(9, generator), 0.3 + torch.rand(9, generator=generator))
    at_once = HypothesisRenderer(shapes, WarpRasterizer(), crop_pad=1.25).render(*given, size)
    by_parts = HypothesisRenderer(shapes, OtherRasterizer(), crop_pad=1.25).render(*given, size)
    assert at_once.is_contiguous(memory_format=torch.channels_last)
    assert (by_parts[:, 0] > 0).float().mean() > 0.1 and by_parts[:, 0].amax(dim=(1, 2)).eq(1).all()
    torch.testing.assert_close(at_once, by_parts, atol=2e-4, rtol=0)
