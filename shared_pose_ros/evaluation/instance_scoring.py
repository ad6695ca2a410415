"""From poses of an instance to its result: scores and errors of the estimate, always beside random rotations.

Convention: metres, degrees, scores in 0…1. An instance's score is the mean of its correct/incorrect decisions over all
tolerances and thresholds of the protocol, so the mean over instances is BOP's average recall. Objects are averaged
without weights.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from shared_pose_ros.evaluation.bop import Instance
from shared_pose_ros.evaluation.pose_metrics import METRICS, table_metrics
from shared_pose_ros.evaluation.pose_scorer import PoseErrors, PoseScorer, View
from shared_pose_ros.evaluation.protocols import Protocol
from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.meshes.object_set import ObjectModel


@dataclass(frozen=True)
class InstanceResult:
    """One scored instance: what was estimated, how wrong it is, what random rotations and the best hypothesis reach.

    Attributes:
        scene_id: scene number.
        im_id: image number.
        gt_id: annotation number.
        class_id: object.
        visib: visible fraction.
        rotation: estimated R_m2c, 9 numbers row by row.
        translation: the translation it was scored with, metres.
        confidence: of the first hypothesis.
        score: the protocol's score of the first hypothesis.
        e_vsd: VSD for each tolerance.
        metrics: of the first hypothesis by the name in ``METRICS``; of those that tables show also ``oracle_NAME``, the
            best of the hypotheses, and ``chance_NAME``, the median of random rotations.
        oracle_score: best score among the hypotheses.
        chance_score: mean score of random rotations.
        off_axis_deg: angle between the optical axis and the ray to the object's centre.
        box_iou: overlap of the box that was given and the true visible box, intersection over union; 0 for a miss.
        detected: False where the protocol's detector missed the instance. A miss is as wrong as can be: score 0 (of
            random rotations and of the best hypothesis too), VSD 1, the ``worst`` of every metric.
        image_seconds: time that the estimator took for all crops of the image, −1 where not measured.
        truth_rotation: annotated R_m2c, 9 numbers row by row; empty if not kept.
        chance_e_vsd: VSD of each random rotation at the ``middle_tolerance``; empty if not kept.
        expected_deg: rotation error that the refiner expected of the first hypothesis, degrees; None if it did not.
    """

    scene_id: int
    im_id: int
    gt_id: int
    class_id: str
    visib: float
    rotation: tuple[float, ...]
    translation: tuple[float, ...]
    confidence: float
    score: float
    e_vsd: tuple[float, ...]
    metrics: Mapping[str, float]
    oracle_score: float
    chance_score: float
    off_axis_deg: float
    box_iou: float
    detected: bool = True
    image_seconds: float = -1.0
    truth_rotation: tuple[float, ...] = ()
    chance_e_vsd: tuple[float, ...] = ()
    expected_deg: float | None = None

    @property
    def rotation_deg(self) -> float:
        """Symmetry-aware rotation error of the first hypothesis, degrees."""
        return self.metrics["rotation_deg"]

    @property
    def oracle_rotation_deg(self) -> float:
        """Least rotation error among the hypotheses, degrees."""
        return self.metrics["oracle_rotation_deg"]


@dataclass(frozen=True)
class Evaluation:
    """All instances scored under one protocol, one setting of the allocentric-to-egocentric correction.

    Attributes:
        system: what was evaluated.
        protocol: its name.
        score_name: what the score is called.
        protocol_line: the evaluation conditions, to be printed with every figure.
        corrected: allocentric-to-egocentric correction, along the viewing ray, on or off.
        instances: the results.
        skipped: number of instances left out, by reason.
    """

    system: str
    protocol: str
    score_name: str
    protocol_line: str
    corrected: bool
    instances: tuple[InstanceResult, ...]
    skipped: Mapping[str, int]


@dataclass(frozen=True)
class Candidates:
    """Poses to score for one instance, best first.

    Attributes:
        rotations: ``(n, 3, 3)``.
        translations: ``(n, 3)`` metres, of the CAD origin; ignored where the protocol takes the true one.
        confidence: of the first.
        box_iou: overlap of the box that they were estimated from and the true visible box; 1 for the true box.
        image_seconds: as in ``InstanceResult``.
        expected_error: of the first's rotation, radians; None where the refiner expects none.
    """

    rotations: np.ndarray
    translations: np.ndarray
    confidence: float
    box_iou: float = 1.0
    image_seconds: float = -1.0
    expected_error: float | None = None


@dataclass(frozen=True)
class RandomFigures:
    """What random rotations of an instance reach: mean score, ``chance_e_vsd``, and ``chance_NAME`` of the metrics."""

    score: float
    e_vsd: tuple[float, ...]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RandomRotationBaseline:
    """The baseline of every table: ``draws`` rotations per instance, uniform on SO(3), reproducible by ``seed``.

    What an instance scored is kept in ``known``, so that evaluating many systems with one baseline renders it once.
    """

    draws: int = 20
    seed: int = 0
    known: dict[tuple[object, ...], RandomFigures] = field(default_factory=dict, compare=False, repr=False)

    def rotations(self, scene_id: int, image_id: int, gt_id: int) -> NDArray[np.float64]:
        """The draws of one instance ``(draws, 3, 3)``, the same whatever else is evaluated."""
        key = zlib.crc32(f"{self.seed}/{scene_id}/{image_id}/{gt_id}".encode())
        return random_rotations(self.draws, torch.Generator().manual_seed(key), dtype=torch.float64).numpy()

    def __str__(self) -> str:
        return f"{self.draws} uniform random rotations per instance, seed {self.seed}"


def score_instance(
    scorer: PoseScorer,
    view: View,
    truth: Instance,
    place: tuple[int, int],
    settings: Sequence[Candidates],
    protocol: Protocol,
    baseline: RandomRotationBaseline,
) -> list[InstanceResult]:
    """Score one instance's candidates under several settings (corrected or not), in one batch with random rotations.

    Args:
        scorer: the CAD.
        view: the image.
        truth: the annotation.
        place: (scene_id, image_id).
        settings: hypotheses for each setting.
        protocol: decides the translation and the score.
        baseline: decides the random rotations.

    Returns:
        One result per setting.
    """
    # With the true translation the baseline does not depend on the system.
    given = protocol.translation == "ground_truth"
    key = (scorer, protocol.name, view.camera.tobytes(), *place, truth.gt_id, truth.class_id)
    known = baseline.known.get(key) if given else None
    random = baseline.rotations(*place, truth.gt_id) if known is None else np.zeros((0, 3, 3))
    rotations = [*(s.rotations for s in settings), random]
    # Random rotations under an estimated translation keep the CAD's centre where the first setting saw it.
    model = scorer.objects.model(truth.class_id)
    anchor = translations_about(model.centre, settings[0], random)
    translations = [*(s.translations for s in settings), anchor]
    if given:
        # Given is where the part is, not where its designer put the CAD's origin: a wrong rotation about an origin at a
        # corner would also move the part, and an equivalent rotation about a point off the symmetry's axis is no
        # equivalent pose. The same thing where the origin is the centre, as in T-LESS.
        exact = Candidates(truth.rotation[None], truth.translation[None], 1.0)
        point = model.symmetries.fixed_point(model.centre)
        translations = [translations_about(point, exact, r) for r in rotations]
    counts = np.cumsum([0] + [len(r) for r in rotations])
    errors = scorer.errors(
        truth, view, np.concatenate(rotations), np.concatenate(translations), protocol, counts[:-2].tolist()
    )
    if known is None:
        known = _random_figures(errors, slice(counts[-2], counts[-1]))
        if given:
            baseline.known[key] = known
    return [
        InstanceResult(
            scene_id=place[0],
            im_id=place[1],
            gt_id=truth.gt_id,
            class_id=model.class_id,
            visib=truth.visibility,
            rotation=tuple(float(x) for x in setting.rotations[0].ravel()),
            translation=tuple(float(x) for x in translations[i][0]),
            confidence=setting.confidence,
            score=float(errors.score[counts[i]]),
            e_vsd=tuple(float(x) for x in errors.vsd[counts[i]]),
            metrics={**_own_figures(errors, slice(counts[i], counts[i + 1])), **known.metrics},
            oracle_score=float(errors.score[counts[i] : counts[i + 1]].max()),
            chance_score=known.score,
            off_axis_deg=_off_axis(model, truth),
            box_iou=setting.box_iou,
            chance_e_vsd=known.e_vsd,
            truth_rotation=tuple(float(x) for x in truth.rotation.ravel()),
            image_seconds=setting.image_seconds,
            expected_deg=None if setting.expected_error is None else math.degrees(setting.expected_error),
        )
        for i, setting in enumerate(settings)
    ]


def _own_figures(errors: PoseErrors, own: slice) -> dict[str, float]:
    """Metrics of the first of a setting's hypotheses, and of its best."""
    first = {name: float(values[own.start]) for name, values in errors.metrics.items()}
    return first | {f"oracle_{m.name}": m.best(errors.metrics[m.name][own]) for m in table_metrics()}


def _random_figures(errors: PoseErrors, drawn: slice) -> RandomFigures:
    middle = errors.vsd[drawn, middle_tolerance(errors.vsd.shape[1])]
    medians = {f"chance_{m.name}": float(np.median(errors.metrics[m.name][drawn])) for m in table_metrics()}
    return RandomFigures(float(errors.score[drawn].mean()), tuple(middle.tolist()), medians)


def middle_tolerance(count: int) -> int:
    """Index of the tolerance at which VSD is shown over θ, of ``count``: 25 % of the diameter of BOP'19's ten."""
    return (count - 1) // 2


def missed_instance(
    scorer: PoseScorer, view: View, truth: Instance, place: tuple[int, int], protocol: Protocol
) -> InstanceResult:
    """The result of an instance that the detector did not find, as wrong as ``InstanceResult`` says."""
    model = scorer.objects.model(truth.class_id)
    worst = {m.name: m.worst(model, float(view.size[1])) for m in METRICS.values() if not m.on_request}
    compared = {f"{kind}_{m.name}": worst[m.name] for m in table_metrics() for kind in ("oracle", "chance")}
    return InstanceResult(
        scene_id=place[0],
        im_id=place[1],
        gt_id=truth.gt_id,
        class_id=model.class_id,
        visib=truth.visibility,
        rotation=tuple(np.eye(3).ravel().tolist()),
        translation=(0.0, 0.0, 0.0),
        confidence=0.0,
        score=0.0,
        e_vsd=(1.0,) * len(protocol.taus),
        metrics=worst | compared,
        oracle_score=0.0,
        chance_score=0.0,
        off_axis_deg=_off_axis(model, truth),
        box_iou=0.0,
        detected=False,
    )


def _off_axis(model: ObjectModel, truth: Instance) -> float:
    """Angle between the optical axis and the ray to the object's centre, degrees."""
    x, y, z = truth.rotation @ model.centre + truth.translation
    return math.degrees(math.atan2(math.hypot(x, y), z))


def translations_about(
    point: NDArray[np.float64], pose: Candidates, rotations: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Translations ``(n, 3)`` that keep a point ``(3,)`` of the CAD where ``pose`` has it; rotations ``(n, 3, 3)``."""
    return np.asarray(pose.translations[0] + (pose.rotations[0] - rotations) @ point)
