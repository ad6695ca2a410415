"""From a bundle and a dataset to figures: estimates image by image, scores instance by instance, always beside chance.

Convention: metres, degrees, scores in 0…1. An instance's score is the mean of its correct/incorrect decisions over all
tolerances and thresholds of the protocol, so the mean over instances is BOP's average recall. Objects are averaged
without weights.
"""

from __future__ import annotations

import dataclasses
import math
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.bop import BopDataset, BopFrame, Instance
from shared_pose_ros.evaluation.pose_scorer import PoseScorer, View
from shared_pose_ros.evaluation.protocols import Protocol
from shared_pose_ros.geometry.boxes import box_iou
from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.pipeline.frame import Detections, Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import PosePipeline

EVALUATED = NodeParameters(max_batch=256, symmetric_representative="any")
"""All hypotheses as the network gives them: a score takes symmetries into account itself."""
SENSOR_DEPTH = "from the sensor"
RENDERED_DEPTH = "rendered from the ground-truth poses"


@dataclass(frozen=True)
class InstanceResult:
    """One scored instance: what was estimated, how wrong it is, what chance and the best hypothesis reach.

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
        mssd: metres.
        mspd: pixels.
        rotation_deg: symmetry-aware rotation error.
        oracle_score: best score among the hypotheses.
        oracle_rotation_deg: least rotation error among them.
        chance_score: mean score of random rotations.
        chance_rotation_deg: median rotation error of random rotations.
        off_axis_deg: angle between the optical axis and the ray to the object's centre.
        box_iou: overlap of the box that was given and the true visible box, intersection over union; 0 for a miss.
        detected: False where the protocol's detector missed the instance. A miss is as wrong as can be: score 0 (of
            chance and of the best hypothesis too), VSD 1, MSSD of a diameter, MSPD of the image's width, 180°.
        image_seconds: time that the estimator took for all crops of the image, −1 where not measured.
        truth_rotation: annotated R_m2c, 9 numbers row by row; empty if not kept.
        chance_e_vsd: VSD of each random rotation at the ``middle_tolerance``; empty if not kept.
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
    mssd: float
    mspd: float
    rotation_deg: float
    oracle_score: float
    oracle_rotation_deg: float
    chance_score: float
    chance_rotation_deg: float
    off_axis_deg: float
    box_iou: float
    detected: bool = True
    image_seconds: float = -1.0
    truth_rotation: tuple[float, ...] = ()
    chance_e_vsd: tuple[float, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """All instances scored under one protocol, one setting of the viewing-ray correction.

    Attributes:
        system: what was evaluated.
        protocol: its name.
        score_name: what the score is called.
        protocol_line: the conditions, to be printed with every figure.
        corrected: viewing-ray correction on or off.
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
    """

    rotations: np.ndarray
    translations: np.ndarray
    confidence: float
    box_iou: float = 1.0
    image_seconds: float = -1.0


@dataclass(frozen=True)
class Chance:
    """How the chance row is drawn: ``draws`` rotations uniform on SO(3) an instance, reproducible by ``seed``.

    What an instance scored is kept in ``known``, so that evaluating many systems with one ``Chance`` renders it once.
    """

    draws: int = 20
    seed: int = 0
    known: dict[tuple[object, ...], tuple[float, float, tuple[float, ...]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def rotations(self, scene_id: int, image_id: int, gt_id: int) -> np.ndarray:
        """The draws of one instance ``(draws, 3, 3)``, the same whatever else is evaluated."""
        key = zlib.crc32(f"{self.seed}/{scene_id}/{image_id}/{gt_id}".encode())
        return random_rotations(self.draws, torch.Generator().manual_seed(key), dtype=torch.float64).numpy()

    def __str__(self) -> str:
        return f"{self.draws} uniform random rotations an instance, seed {self.seed}"


def score_instance(
    scorer: PoseScorer,
    view: View,
    truth: Instance,
    place: tuple[int, int],
    settings: Sequence[Candidates],
    protocol: Protocol,
    chance: Chance,
) -> list[InstanceResult]:
    """Score one instance's candidates under several settings (corrected or not) and chance, in one batch of renders.

    Args:
        scorer: the CAD.
        view: the image.
        truth: the annotation.
        place: (scene_id, image_id).
        settings: hypotheses for each setting.
        protocol: decides the translation and the score.
        chance: decides the random rotations.

    Returns:
        One result a setting.
    """
    # With the true translation chance does not depend on the system.
    given = protocol.translation == "ground_truth"
    key = (scorer, protocol.name, view.camera.tobytes(), *place, truth.gt_id, truth.class_id)
    known = chance.known.get(key) if given else None
    random = chance.rotations(*place, truth.gt_id) if known is None else np.zeros((0, 3, 3))
    rotations = [*(s.rotations for s in settings), random]
    # Chance under an estimated translation keeps the CAD's centre where the first setting saw it.
    model = scorer.objects[scorer.objects.index(truth.class_id)]
    anchor = translations_about(model.centre, settings[0], random)
    translations = [*(s.translations for s in settings), anchor]
    if given:
        # Given is where the part is, not where its designer put the CAD's origin: a wrong turn about an origin at a
        # corner would also move the part, and an equivalent turn about a point off the symmetry's axis is no
        # equivalent pose. The same thing where the origin is the centre, as in T-LESS.
        exact = Candidates(truth.rotation[None], truth.translation[None], 1.0)
        point = model.symmetries.fixed_point(model.centre)
        translations = [translations_about(point, exact, r) for r in rotations]
    counts = np.cumsum([0] + [len(r) for r in rotations])
    errors = scorer.errors(
        truth,
        view,
        np.concatenate(rotations),
        np.concatenate(translations),
        protocol,
        point_metrics=counts[:-2].tolist(),
    )
    by_chance = slice(counts[-2], counts[-1])
    if known is None:
        middle = tuple(errors.vsd[by_chance, middle_tolerance(errors.vsd.shape[1])].tolist())
        known = float(errors.score[by_chance].mean()), float(np.median(errors.rotation_deg[by_chance])), middle
        if given:
            chance.known[key] = known
    results = []
    for i, setting in enumerate(settings):
        first, own = counts[i], slice(counts[i], counts[i + 1])
        results.append(
            InstanceResult(
                scene_id=place[0],
                im_id=place[1],
                gt_id=truth.gt_id,
                class_id=scorer.objects[scorer.objects.index(truth.class_id)].class_id,
                visib=truth.visibility,
                rotation=tuple(float(x) for x in setting.rotations[0].ravel()),
                translation=tuple(float(x) for x in translations[i][0]),
                confidence=setting.confidence,
                score=float(errors.score[first]),
                e_vsd=tuple(float(x) for x in errors.vsd[first]),
                mssd=float(errors.mssd[first]),
                mspd=float(errors.mspd[first]),
                rotation_deg=float(errors.rotation_deg[first]),
                oracle_score=float(errors.score[own].max()),
                oracle_rotation_deg=float(errors.rotation_deg[own].min()),
                chance_score=known[0],
                chance_rotation_deg=known[1],
                off_axis_deg=_off_axis(scorer, truth),
                box_iou=setting.box_iou,
                chance_e_vsd=known[2],
                truth_rotation=tuple(float(x) for x in truth.rotation.ravel()),
                image_seconds=setting.image_seconds,
            )
        )
    return results


def middle_tolerance(count: int) -> int:
    """Index of the tolerance at which VSD is shown over θ, of ``count``: 25 % of the diameter of BOP'19's ten."""
    return (count - 1) // 2


def missed_instance(
    scorer: PoseScorer, view: View, truth: Instance, place: tuple[int, int], protocol: Protocol
) -> InstanceResult:
    """The result of an instance that the detector did not find, as wrong as ``InstanceResult`` says."""
    model = scorer.objects[scorer.objects.index(truth.class_id)]
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
        mssd=model.diameter,
        mspd=float(view.size[1]),
        rotation_deg=180.0,
        oracle_score=0.0,
        oracle_rotation_deg=180.0,
        chance_score=0.0,
        chance_rotation_deg=180.0,
        off_axis_deg=_off_axis(scorer, truth),
        box_iou=0.0,
        detected=False,
    )


def _off_axis(scorer: PoseScorer, truth: Instance) -> float:
    """Angle between the optical axis and the ray to the object's centre, degrees."""
    x, y, z = truth.rotation @ scorer.objects[scorer.objects.index(truth.class_id)].centre + truth.translation
    return math.degrees(math.atan2(math.hypot(x, y), z))


def translations_about(point: np.ndarray, pose: Candidates, rotations: np.ndarray) -> np.ndarray:
    """Translations ``(n, 3)`` that keep a point ``(3,)`` of the CAD where ``pose`` has it; rotations ``(n, 3, 3)``."""
    return pose.translations[0] + (pose.rotations[0] - rotations) @ point


def evaluate_bundle(
    estimator: PoseEstimator,
    dataset: BopDataset,
    scorer: PoseScorer,
    protocol: Protocol,
    corrected: Sequence[bool] = (True,),
    chance: Chance | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Evaluation, ...]:
    """Evaluate a bundle on a dataset; one batch of crops an image.

    Args:
        estimator: the loaded bundle.
        dataset: images and ground truth.
        scorer: the CAD, at the resolution to be rendered.
        protocol: what is given and what is scored.
        corrected: settings of the viewing-ray correction to evaluate.
        chance: the random rotations; 20 an instance by default.
        progress: called with (images done, images).

    Returns:
        One evaluation a setting of ``corrected``.

    Raises:
        ValueError: nothing can be evaluated; the message says why.
    """
    if not corrected:
        raise ValueError("corrected is empty; give (True,), (False,) or (True, False)")
    chance = chance or Chance()
    pipeline = PosePipeline(estimator, EVALUATED.max_batch)
    results: list[list[InstanceResult]] = [[] for _ in corrected]
    skipped: Counter[str] = Counter()
    depth_sources: Counter[str] = Counter()
    for done, frame in enumerate(dataset.frames, start=1):
        chosen = _usable(frame, dataset, estimator, scorer, protocol, skipped)
        if chosen:
            image = frame.image()
            view, source = frame_view(frame, image.shape[:2], scorer)
            depth_sources[source] += 1
            found = [item for item in chosen if item[2] is not None]
            candidates = [_estimate(pipeline, scorer, image, frame, found, on) for on in corrected]
            place = (frame.scene_id, frame.image_id)
            for truth, _, _ in chosen:
                own = [by_id[truth.gt_id] for by_id in candidates if truth.gt_id in by_id]
                if len(own) == len(corrected):
                    scored = score_instance(scorer, view, truth, place, own, protocol, chance)
                else:
                    scored = [missed_instance(scorer, view, truth, place, protocol)] * len(corrected)
                for kept, result in zip(results, scored):
                    kept.append(result)
        if progress:
            progress(done, len(dataset.frames))
    if not results[0]:
        raise ValueError(
            f"nothing to evaluate in {dataset.root}/{dataset.split}: instances left out: {dict(skipped)}; "
            "the bundle's class ids, the object set and the dataset's object numbers must agree"
        )
    data = f"{dataset.root.resolve().name}/{dataset.split}, {sum(depth_sources.values())} images"
    depth = " / ".join(f"{source} ({n} images)" for source, n in depth_sources.items())
    return tuple(
        Evaluation(
            system=estimator.metadata.name,
            protocol=protocol.name,
            score_name=protocol.score,
            protocol_line=protocol.line(data, on, depth, scorer.cad, str(chance)),
            corrected=on,
            instances=tuple(kept),
            skipped=dict(skipped),
        )
        for on, kept in zip(corrected, results)
    )


def known_index(estimator: PoseEstimator, scorer: PoseScorer, class_id: str) -> int | None:
    """object_index that the bundle gives an object of the data, by any of the object's names; None if it has none."""
    index = scorer.objects.index(class_id)
    labels = (class_id,)
    if index is not None:
        # The name first: a number that was chosen for a dataset may be another object's alias in the bundle.
        model = scorer.objects[index]
        labels = (model.class_id, *model.aliases)
    return next((known for label in labels if (known := estimator.object_index(label)) is not None), None)


def frame_view(frame: BopFrame, size: tuple[int, int], scorer: PoseScorer) -> tuple[View, str]:
    """The view that a frame is scored in, and where its depth comes from: the sensor, or else a render of the truth."""
    depth = frame.depth()
    if depth is not None:
        return View(frame.camera, size, depth), SENSOR_DEPTH
    return View(frame.camera, size, scorer.depth(frame.instances, frame.camera, size)), RENDERED_DEPTH


def _usable(
    frame: BopFrame,
    dataset: BopDataset,
    estimator: PoseEstimator,
    scorer: PoseScorer,
    protocol: Protocol,
    skipped: Counter[str],
) -> list[tuple[Instance, np.ndarray, np.ndarray | None]]:
    """Instances that can be scored, with visible box and given box (None for a miss); others are counted by reason."""
    selected = protocol.select(frame, dataset.targets)
    skipped["outside_protocol"] += len(frame.instances) - len(selected)
    chosen = []
    for truth in selected:
        if known_index(estimator, scorer, truth.class_id) is None:
            skipped["unknown_to_bundle"] += 1
        elif scorer.objects.index(truth.class_id) is None:
            skipped["without_cad"] += 1
        elif (box := frame.visible_box(truth.gt_id)) is None:
            skipped["without_box"] += 1
        else:
            noise, place = protocol.boxes, (frame.scene_id, frame.image_id, truth.gt_id)
            chosen.append((truth, box, box if noise is None else noise.detect(box, *place)))
    return chosen


def _estimate(
    pipeline: PosePipeline,
    scorer: PoseScorer,
    image: np.ndarray,
    frame: BopFrame,
    found: Sequence[tuple[Instance, np.ndarray, np.ndarray]],
    corrected: bool,
) -> dict[int, Candidates]:
    """Hypotheses of the detected instances by gt_id; translations need the camera even where the correction is off."""
    if not found:
        return {}
    detections = Detections(
        boxes=np.stack([given for _, _, given in found]).astype(np.float32),
        object_index=np.array([known_index(pipeline.estimator, scorer, t.class_id) for t, _, _ in found], np.int64),
        class_ids=[truth.class_id for truth, _, _ in found],
        ids=[str(truth.gt_id) for truth, _, _ in found],
    )
    shown = Frame(0, "", image, detections, frame.camera)
    start = time.perf_counter()
    located = pipeline.run(shown, EVALUATED).published
    seconds = time.perf_counter() - start
    rotated = located
    if not corrected:
        rotated = pipeline.run(dataclasses.replace(shown, camera_matrix=None), EVALUATED).published
    places = {name: (located.ids.index(name), rotated.ids.index(name)) for name in rotated.ids if name in located.ids}
    candidates = {}
    for truth, visible, given in found:
        # What the network made no finite pose of is scored as a miss.
        if str(truth.gt_id) not in places:
            continue
        at, own = places[str(truth.gt_id)]
        seen = Candidates(located.rotations[at], located.positions[at, :1], float(located.confidences[at, 0]))
        centre = scorer.objects[scorer.objects.index(truth.class_id)].centre
        rotations, confidence = rotated.rotations[own], float(rotated.confidences[own, 0])
        translations = translations_about(centre, seen, rotations)
        candidates[truth.gt_id] = Candidates(rotations, translations, confidence, box_iou(given, visible), seconds)
    return candidates
