"""From a network's hypotheses and a depth image to a few aligned ones: many starts, a coarse pass, a fine one.

Convention: metres; rotations are R_m2c in the camera's frame (with the viewing-ray correction); centres are those of
the CAD's boxes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_pose_ros.refinement.depth_alignment import GATES, Alignment, DepthView, Starts, align
from shared_pose_ros.refinement.visible_points import VisiblePoints

COARSE_STEPS, FINE_STEPS = 5, 5
COARSE_SHARE = 2
"""Every so many-th point takes part in the coarse pass."""
FINE = 4
"""Hypotheses of each object that the fine pass goes on with."""
COARSE_GATES = (GATES[0], 0.1)
SAME_POSE = 0.26
"""Radians: aligned hypotheses that are nearer than this to a better one are the same."""
TEMPERATURE = 0.08
"""Of the softmax that turns scores into confidences."""
NO_SCORE = -2.0
"""Of what is no hypothesis: below all scores."""
LEAST_SCORE = 0.25
"""Below this the depth image does not show the object where any hypothesis has it: the network's answer stays."""
HALF_TURNS = torch.diag_embed(torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]))
"""About the axes of the CAD's box, and none: the other way round is the network's commonest error on parts that look
alike from both ends."""
SECOND_TRY = 0.7
"""An object whose best score is below this is tried again from more starts: its network hypotheses may all be wrong, or
the middle of its box shows something in front of it."""
SECOND_HYPOTHESES = 3
"""Of the network, which the second try turns and shifts."""
SHIFTS = (-0.25, 0.0, 0.25)
"""Along the viewing ray, fractions of the diameter, that the second try starts at."""


def _cube_rotations() -> Tensor:
    """The 24 rotations that map a cube onto itself, ``(24, 3, 3)``."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = torch.zeros(3, 3)
            matrix[range(3), order] = torch.tensor(signs)
            if torch.linalg.det(matrix) > 0:
                found.append(matrix)
    return torch.stack(found)


CUBE_ROTATIONS = _cube_rotations()


@dataclass(frozen=True)
class DepthRefinement:
    """B objects with n aligned hypotheses, best first.

    Attributes:
        rotations: ``(B, n, 3, 3)`` R_m2c.
        centres: ``(B, n, 3)`` metres.
        scores: ``(B, n)`` in −1…1, see ``Alignment.scores``; ``NO_SCORE`` where there are fewer distinct hypotheses,
            which repeats the best.
        confidences: ``(B, n)``, rows sum to 1.
    """

    rotations: Tensor
    centres: Tensor
    scores: Tensor
    confidences: Tensor

    @property
    def accepted(self) -> Tensor:
        """``(B,)`` bool: the depth image shows the object where the best hypothesis has it."""
        return self.scores[:, 0] >= LEAST_SCORE


def refine_with_depth(
    view: DepthView,
    object_index: Tensor,
    rotations: Tensor,
    centres: Tensor,
    diameters: Tensor,
    points: VisiblePoints,
) -> DepthRefinement:
    """Align every hypothesis and its half turns, keep the best that differ, align these finely; where that fails, more.

    Args:
        view: the depth image.
        object_index: ``(B,)``.
        rotations: ``(B, n, 3, 3)`` float32, n hypotheses of each object, most confident first.
        centres: ``(B, 3)`` float32 metres, where they all start.
        diameters: ``(B,)`` metres.
        points: of all objects' meshes.
    """
    batch, count = rotations.shape[:2]
    if not batch:
        return DepthRefinement(rotations, centres[:, None].expand(-1, count, -1), *torch.zeros(2, 0, count))
    tried = (rotations[:, None] @ HALF_TURNS[None, :, None]).flatten(1, 2)
    many = centres[:, None].expand(-1, tried.shape[1], -1)
    found = _coarse_to_fine(view, object_index, tried, many, diameters, points, count)
    again = (found.scores[:, 0] < SECOND_TRY).nonzero()[:, 0]
    if not len(again):
        return found
    chosen, diameter = rotations[again, :SECOND_HYPOTHESES], diameters[again]
    turned = (chosen[:, None] @ CUBE_ROTATIONS[None, :, None]).flatten(1, 2)
    ray = F.normalize(centres[again], dim=1) * diameter[:, None]
    shifted = centres[again][:, None] + torch.tensor(SHIFTS)[None, :, None] * ray[:, None]
    second = _coarse_to_fine(
        view,
        object_index[again],
        turned.repeat(1, len(SHIFTS), 1, 1),
        shifted.repeat_interleave(turned.shape[1], dim=1),
        diameter,
        points,
        count,
    )
    better = second.scores[:, 0] > found.scores[again, 0]
    place = again[better]
    for name in ("rotations", "centres", "scores", "confidences"):
        getattr(found, name)[place] = getattr(second, name)[better]
    return found


def _coarse_to_fine(
    view: DepthView,
    object_index: Tensor,
    tried: Tensor,
    centres: Tensor,
    diameters: Tensor,
    points: VisiblePoints,
    count: int,
) -> DepthRefinement:
    """The ``count`` best of starts ``tried (B, m, 3, 3)`` at ``centres (B, m, 3)``, the first ``FINE`` to the end."""
    batch, many = tried.shape[:2]
    starts = Starts(
        object_index.repeat_interleave(many),
        tried.flatten(0, 1),
        centres.flatten(0, 1),
        diameters.repeat_interleave(many),
    )
    coarse = align(view, starts, points.every(COARSE_SHARE), COARSE_STEPS, COARSE_GATES)
    chosen, distinct = _best_distinct(coarse, batch, count)
    fine = min(FINE, count)
    places = chosen[:, :fine].flatten()
    starts = Starts(starts.index[places], coarse.rotations[places], coarse.centres[places], starts.diameters[places])
    final = align(view, starts, points, FINE_STEPS, (COARSE_GATES[1], GATES[1]))
    missing = torch.full((), NO_SCORE)
    first = torch.where(distinct[:, :fine], final.scores.reshape(batch, fine), missing)
    # Coarse scores come from fewer points: those hypotheses stay behind the finely aligned.
    rest = torch.where(distinct[:, fine:], coarse.scores[chosen[:, fine:]], missing)
    rest = torch.minimum(rest, first.amin(dim=1, keepdim=True))
    order = torch.cat([first.argsort(dim=1, descending=True), torch.arange(fine, count).expand(batch, -1)], dim=1)
    rows = torch.arange(batch)[:, None]
    scores = torch.cat([first, rest], dim=1)[rows, order]
    found, at = coarse.rotations[chosen], coarse.centres[chosen]
    found[:, :fine], at[:, :fine] = final.rotations.reshape(batch, fine, 3, 3), final.centres.reshape(batch, fine, 3)
    return DepthRefinement(found[rows, order], at[rows, order], scores, torch.softmax(scores / TEMPERATURE, dim=1))


def _best_distinct(aligned: Alignment, batch: int, count: int) -> tuple[Tensor, Tensor]:
    """Rows of the ``count`` best hypotheses of each object that are no other's neighbour, ``(B, count)``, best first.

    And whether there was one, ``(B, count)``: where there are fewer, the best is repeated.
    """
    rotations = aligned.rotations.reshape(batch, -1, 3, 3)
    scores = aligned.scores.reshape(batch, -1).clone()
    chosen: list[Tensor] = []
    distinct: list[Tensor] = []
    for _ in range(count):
        best = scores.argmax(dim=1)
        left = scores.gather(1, best[:, None])[:, 0] > NO_SCORE
        best = torch.where(left, best, chosen[0]) if chosen else best
        chosen.append(best)
        distinct.append(left)
        # Not by acos: of cosines near 1 only the order matters.
        own = rotations.gather(1, best[:, None, None, None].expand(-1, 1, 3, 3))
        cosine = ((rotations * own).sum(dim=(2, 3)) - 1.0) / 2.0
        scores = scores.masked_fill(cosine > math.cos(SAME_POSE), NO_SCORE)
    places = torch.stack(chosen, dim=1) + torch.arange(batch)[:, None] * rotations.shape[1]
    return places, torch.stack(distinct, dim=1)
