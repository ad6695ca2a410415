"""Scores a BOP results file, whoever wrote it: errors of every estimate–instance pair, and average recalls.

Errors and recalls follow bop_toolkit (pose_error.py, eval_calc_errors.py, eval_calc_scores.py). Convention: as in BOP's
files, millimetres and pixels in ``PairErrors``; metres elsewhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared_pose_ros.evaluation.bop import BopDataset, BopFrame, Instance
from shared_pose_ros.evaluation.bop_results import Estimate
from shared_pose_ros.evaluation.bundle_evaluation import frame_view
from shared_pose_ros.evaluation.instance_scoring import Candidates, RandomRotationBaseline, translations_about
from shared_pose_ros.evaluation.matching import ObjectImage, average_recalls
from shared_pose_ros.evaluation.pose_metrics import METRICS
from shared_pose_ros.evaluation.pose_scorer import PoseErrors, PoseScorer, View
from shared_pose_ros.evaluation.protocols import Protocol


@dataclass(frozen=True)
class PairErrors:
    """One estimate compared with one instance of the same object in the same image.

    Attributes:
        scene_id: scene number.
        im_id: image number.
        obj_id: BOP number of the object.
        gt_id: number of the instance among the image's annotations.
        est_id: number of the estimate among those of this object in this image, in the order of the file.
        row: number of the estimate in the whole file.
        score: the estimate's.
        visib_fract: visible fraction of the instance.
        vsd: for each tolerance of the protocol.
        metrics: by the name in ``METRICS``; None where not finite, as MSPD of a point in the camera's plane.
    """

    scene_id: int
    im_id: int
    obj_id: int
    gt_id: int
    est_id: int
    row: int
    score: float
    visib_fract: float
    vsd: tuple[float, ...]
    metrics: Mapping[str, float | None]


@dataclass(frozen=True)
class Recalls:
    """Average recalls in 0…1 by metric (AR_VSD, AR_MSSD, AR_MSPD, AR; only AR_VSD under a protocol that has no more).

    Attributes:
        total: over all targets together, the benchmark's figure.
        objects: by object number.
        mean: unweighted mean over objects.
        targets: number of instances to find, by object number.
    """

    total: Mapping[str, float]
    objects: Mapping[int, Mapping[str, float]]
    mean: Mapping[str, float]
    targets: Mapping[int, int]


@dataclass(frozen=True)
class Scoring:
    """What ``score_results`` finds.

    Attributes:
        protocol_line: the evaluation conditions, to be printed with every figure.
        pairs: errors of all pairs.
        recalls: of the estimates.
        chance: of uniform random rotations in their place, the mean over draws.
        left_out: number of estimates and instances that could not be scored, by reason.
    """

    protocol_line: str
    pairs: tuple[PairErrors, ...]
    recalls: Recalls
    chance: Recalls
    left_out: Mapping[str, int]


def score_results(
    estimates: Sequence[Estimate],
    dataset: BopDataset,
    scorer: PoseScorer,
    protocol: Protocol,
    baseline: RandomRotationBaseline | None = None,
    asked: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Scoring:
    """Score estimates against a dataset.

    Args:
        estimates: of a results file.
        dataset: ground truth; its object numbers are class ids or aliases of the scorer's objects.
        scorer: the CAD; at full resolution for figures that agree with bop_toolkit.
        protocol: tolerances, thresholds, visibility and which instances are to be found.
        baseline: how many random rotations stand in for each estimate; 3 by default.
        asked: metrics that pairs get on request alone.
        progress: called with (images done, images).

    Raises:
        ValueError: no estimate belongs to any instance of the data; the message says why.
    """
    baseline = baseline or RandomRotationBaseline(draws=3)
    run = _Run(scorer, protocol, baseline, asked)
    by_image: dict[tuple[int, int], dict[int, list[_Row]]] = {}
    for row in enumerate(estimates):
        place = (row[1].scene_id, row[1].image_id)
        by_image.setdefault(place, {}).setdefault(row[1].object_id, []).append(row)
    left_out: Counter[str] = Counter()
    for done, frame in enumerate(dataset.frames, start=1):
        own = by_image.pop((frame.scene_id, frame.image_id), {})
        run.score_frame(frame, own, dataset.targets if protocol.targets else None, left_out)
        if progress:
            progress(done, len(dataset.frames))
    left_out["estimates_in_unknown_images"] = sum(len(own) for rest in by_image.values() for own in rest.values())
    if not run.pairs:
        raise ValueError(
            f"no estimate has an instance of its object in {dataset.root}/{dataset.split}; left out: {dict(left_out)}; "
            "scene, image and object numbers of the file must be those of the data, and the CAD must be given"
        )
    data = f"{dataset.root.resolve().name}/{dataset.split}, {sum(run.depth_sources.values())} images"
    depth = " / ".join(f"{source} ({count} images)" for source, count in run.depth_sources.items())
    drawn = f"{baseline}, in place of each estimate's, mean of the recalls"
    line = protocol.results_conditions(data, depth, scorer.cad, drawn)
    recalls, *random = (_recalls(groups, protocol) for groups in run.groups)
    return Scoring(line, tuple(run.pairs), recalls, _mean(random), dict(left_out))


_Row = tuple[int, Estimate]  # number in the file, estimate


class _Run:
    """What accumulates over images: pairs, and groups for matching, of the estimates and then of each random draw."""

    def __init__(
        self, scorer: PoseScorer, protocol: Protocol, baseline: RandomRotationBaseline, asked: Collection[str]
    ) -> None:
        self.scorer, self.protocol, self.baseline, self.asked = scorer, protocol, baseline, asked
        self.pairs: list[PairErrors] = []
        self.groups: list[dict[str, list[ObjectImage]]] = [
            {name: [] for name in protocol.thresholds()} for _ in range(1 + baseline.draws)
        ]
        self.depth_sources: Counter[str] = Counter()

    def score_frame(
        self,
        frame: BopFrame,
        estimates: Mapping[int, list[_Row]],
        targets: Mapping[tuple[int, int, str], int] | None,
        left_out: Counter[str],
    ) -> None:
        """Compare all estimates of an image with all instances of their objects."""
        by_object: dict[int, list[Instance]] = {}
        for truth in frame.instances:
            by_object.setdefault(int(truth.class_id), []).append(truth)
        for number, own in estimates.items():
            left_out["estimates_of_objects_not_in_the_image"] += len(own) * (number not in by_object)
        view: View | None = None
        for number, truths in by_object.items():
            own = estimates.get(number, [])
            valid, count = self._targets(frame, truths, targets)
            if self.scorer.objects.index(str(number)) is None:
                left_out["estimates_without_cad"] += len(own)
                left_out["targets_without_cad"] += int(valid.sum())
            elif own or valid.any():
                if view is None:
                    view = self._view(frame)
                self._score_object(frame, view, truths, own, valid, count)

    def _view(self, frame: BopFrame) -> View:
        depth = frame.depth()
        view, source = frame_view(frame, frame.image().shape[:2] if depth is None else depth.shape, self.scorer)
        self.depth_sources[source] += 1
        return view

    def _targets(
        self, frame: BopFrame, truths: Sequence[Instance], targets: Mapping[tuple[int, int, str], int] | None
    ) -> tuple[np.ndarray, int]:
        """Which instances may be found, and how many estimates count (as eval_calc_scores.py of bop_toolkit)."""
        visible = np.array([truth.visibility for truth in truths])
        enough = visible >= self.protocol.visibility_min
        listed = None if targets is None else targets.get((frame.scene_id, frame.image_id, truths[0].class_id), 0)
        if self.protocol.one_instance:
            return (enough if listed is None or listed else np.zeros_like(enough)), 1
        if listed is None:
            return enough, int(enough.sum())
        valid = np.zeros(len(truths), dtype=bool)
        valid[np.argsort(-visible, kind="stable")[:listed]] = True
        return valid, listed

    def _score_object(
        self,
        frame: BopFrame,
        view: View,
        truths: Sequence[Instance],
        own: Sequence[_Row],
        valid: np.ndarray,
        count: int,
    ) -> None:
        rotations, translations = self._poses(frame, truths[0].class_id, own)
        shape = len(self.groups), len(own), len(truths)
        tolerances = {name: len(self.protocol.taus) if name == "vsd" else 1 for name in self.protocol.thresholds()}
        scaled = {name: np.empty((*shape, count)) for name, count in tolerances.items()}
        for g, truth in enumerate(truths if own else ()):
            places = range(len(own))
            errors = self.scorer.errors(truth, view, rotations, translations, self.protocol, places, self.asked)
            for name, kept in scaled.items():
                kept[:, :, g] = errors.scaled[name].reshape(*shape[:2], -1)
            self._add_pairs(frame, truth, own, errors)
        targets = min(int(valid.sum()), 1) if self.protocol.one_instance else int(valid.sum())
        scores = np.array([item.score for _, item in own])
        for name, kept in scaled.items():
            for groups, error in zip(self.groups, kept):
                groups[name].append(ObjectImage(int(truths[0].class_id), targets, count, valid, scores, error))

    def _poses(self, frame: BopFrame, class_id: str, own: Sequence[_Row]) -> tuple[np.ndarray, np.ndarray]:
        """The E estimates and then the random draws about their centres: ``(sets·E, 3, 3)`` and ``(sets·E, 3)``."""
        sets, centre = len(self.groups), self.scorer.objects.model(class_id).centre
        rotations, translations = np.empty((sets, len(own), 3, 3)), np.empty((sets, len(own), 3))
        for i, (_, item) in enumerate(own):
            pose = Candidates(item.rotation[None], item.translation[None], item.score)
            rotations[0, i] = item.rotation
            rotations[1:, i] = self.baseline.rotations(frame.scene_id, frame.image_id, 1000 * int(class_id) + i)
            translations[:, i] = translations_about(centre, pose, rotations[:, i])
        return rotations.reshape(-1, 3, 3), translations.reshape(-1, 3)

    def _add_pairs(self, frame: BopFrame, truth: Instance, own: Sequence[_Row], errors: PoseErrors) -> None:
        for i, (row, item) in enumerate(own):
            values = {name: METRICS[name].shown(float(found[i])) for name, found in errors.metrics.items()}
            self.pairs.append(
                PairErrors(
                    scene_id=frame.scene_id,
                    im_id=frame.image_id,
                    obj_id=int(truth.class_id),
                    gt_id=truth.gt_id,
                    est_id=i,
                    row=row,
                    score=item.score,
                    visib_fract=truth.visibility,
                    vsd=tuple(float(x) for x in errors.vsd[i]),
                    metrics={name: value if math.isfinite(value) else None for name, value in values.items()},
                )
            )


def _recalls(groups: Mapping[str, Sequence[ObjectImage]], protocol: Protocol) -> Recalls:
    found = {
        f"AR_{name.upper()}": average_recalls(groups[name], np.array(thresholds))
        for name, thresholds in protocol.thresholds().items()
    }
    targets: dict[int, int] = {}
    for group in groups["vsd"]:
        targets[group.object_id] = targets.get(group.object_id, 0) + group.targets
    numbers = [number for number in sorted(targets) if targets[number]]
    total = _with_mean({metric: value for metric, (value, _) in found.items()})
    objects = {n: _with_mean({metric: by[n] for metric, (_, by) in found.items()}) for n in numbers}
    mean = {key: float(np.mean([objects[n][key] for n in numbers])) if numbers else 0.0 for key in total}
    return Recalls(total, objects, mean, {n: targets[n] for n in numbers})


def _with_mean(values: Mapping[str, float]) -> dict[str, float]:
    return {**values, "AR": float(np.mean(list(values.values())))} if len(values) > 1 else dict(values)


def _mean(draws: Sequence[Recalls]) -> Recalls:
    def mean(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}

    first = draws[0]
    objects = {number: mean([draw.objects[number] for draw in draws]) for number in first.objects}
    return Recalls(mean([d.total for d in draws]), objects, mean([d.mean for d in draws]), first.targets)
