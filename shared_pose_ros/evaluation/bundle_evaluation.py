"""From a bundle and a dataset to figures: estimates image by image, scores instance by instance."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from shared_pose_ros.bundle_export import cad_of
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.bop import BopDataset, BopFrame, Instance
from shared_pose_ros.evaluation.depth_noise import DepthNoise
from shared_pose_ros.evaluation.instance_scoring import (
    Candidates,
    Evaluation,
    InstanceResult,
    RandomRotationBaseline,
    missed_instance,
    score_instance,
    translations_about,
)
from shared_pose_ros.evaluation.pose_scorer import PoseScorer, View
from shared_pose_ros.evaluation.protocols import Protocol
from shared_pose_ros.geometry.boxes import box_iou
from shared_pose_ros.meshes.display import display_mesh, fine_mesh
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.pipeline.frame import Detections, Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import Estimator, PosePipeline

EVALUATED = NodeParameters(max_batch=256, symmetric_representative="any")
"""All hypotheses as the network gives them: a score takes symmetries into account itself."""
SENSOR_DEPTH = "from the sensor"
RENDERED_DEPTH = "rendered from the ground-truth poses"


def evaluate_bundle(
    estimator: PoseEstimator,
    dataset: BopDataset,
    scorer: PoseScorer,
    protocol: Protocol,
    corrected: Sequence[bool] = (True,),
    baseline: RandomRotationBaseline | None = None,
    progress: Callable[[int, int], None] | None = None,
    depth: DepthNoise | None = None,
    parameters: NodeParameters = EVALUATED,
) -> tuple[Evaluation, ...]:
    """Evaluate a bundle on a dataset; one batch of crops per image.

    Args:
        estimator: the loaded bundle.
        dataset: images and ground truth.
        scorer: the CAD, at the resolution to be rendered.
        protocol: what is given and what is scored.
        corrected: settings of the allocentric-to-egocentric correction to evaluate.
        baseline: the random rotations; 20 per instance by default.
        progress: called with (images done, images).
        parameters: of the pipeline.
        depth: what the poses are aligned to: the images' depth, as such a camera measures it; None for none.

    Returns:
        One evaluation per setting of ``corrected``.

    Raises:
        ValueError: nothing can be evaluated; the message says why.
    """
    pipeline = _prepared(estimator, corrected, depth, parameters)
    baseline = baseline or RandomRotationBaseline()
    results: list[list[InstanceResult]] = [[] for _ in corrected]
    skipped: Counter[str] = Counter()
    depth_sources: Counter[str] = Counter()
    for done, frame in enumerate(dataset.frames, start=1):
        chosen = _usable(frame, dataset, estimator, scorer, protocol, skipped)
        if chosen:
            image = frame.image()
            view, source = frame_view(frame, image.shape[:2], scorer)
            depth_sources[source] += 1
            found = [(truth, visible, given) for truth, visible, given in chosen if given is not None]
            place = (frame.scene_id, frame.image_id)
            measured = None if depth is None else depth.measured(view.depth, *place)
            candidates = [
                _estimate(pipeline, scorer, image, frame, found, on, measured, parameters) for on in corrected
            ]
            for truth, _, _ in chosen:
                own = [by_id[truth.gt_id] for by_id in candidates if truth.gt_id in by_id]
                if len(own) == len(corrected):
                    scored = score_instance(scorer, view, truth, place, own, protocol, baseline)
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
    sources = " / ".join(f"{source} ({n} images)" for source, n in depth_sources.items())
    if steps := pipeline.refinement.steps(parameters):
        sources += f"; refinement steps {steps}"
    if depth is not None:
        sources += f"; poses aligned to it, {depth}"
    return tuple(
        Evaluation(
            system=estimator.metadata.name,
            protocol=protocol.name,
            score_name=protocol.score,
            protocol_line=protocol.conditions(data, on, sources, scorer.cad, str(baseline)),
            corrected=on,
            instances=tuple(kept),
            skipped=dict(skipped),
        )
        for on, kept in zip(corrected, results)
    )


def _prepared(
    estimator: Estimator, corrected: Sequence[bool], depth: DepthNoise | None, parameters: NodeParameters
) -> PosePipeline:
    """The pipeline, ready, so that the first image's time is like the others'; ValueError if nothing can be done."""
    if not corrected:
        raise ValueError("corrected is empty; give (True,), (False,) or (True, False)")
    if depth is not None and False in corrected:
        raise ValueError("poses aligned to depth have no uncorrected variant; give corrected (True,), or no depth")
    pipeline = PosePipeline(estimator, parameters.max_batch)
    pipeline.refinement.prepare(dataclasses.replace(parameters, use_depth=depth is not None))
    return pipeline


def known_index(estimator: Estimator, scorer: PoseScorer, class_id: str) -> int | None:
    """object_index that the bundle gives an object of the data, by any of the object's names; None if it has none."""
    index = scorer.objects.index(class_id)
    labels: tuple[str, ...] = (class_id,)
    if index is not None:
        # The name first: a number that was chosen for a dataset may be another object's alias in the bundle.
        model = scorer.objects[index]
        labels = (model.class_id, *model.aliases)
    return next((known for label in labels if (known := estimator.object_index(label)) is not None), None)


def add_meshes(estimator: PoseEstimator, objects: ObjectSet) -> None:
    """Give the estimator the CAD of objects that the bundle has no mesh of, as `export --objects` would."""
    meshes, fine = list(estimator.meshes), list(estimator.fine_meshes)
    for place, item in enumerate(estimator.metadata.objects):
        model = cad_of(item, objects)
        if model is None:
            continue
        if meshes[place] is None:
            meshes[place] = display_mesh(model.mesh)
        if fine[place] is None or fine[place] is estimator.meshes[place]:
            fine[place] = fine_mesh(model.mesh)
    estimator.use_meshes(tuple(meshes), tuple(fine))


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
    depth: np.ndarray | None,
    parameters: NodeParameters,
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
    shown = Frame(0, "", image, detections, frame.camera, depth)
    start = time.perf_counter()
    located = pipeline.run(shown, parameters).poses
    seconds = time.perf_counter() - start
    rotated = located
    if not corrected:
        rotated = pipeline.run(dataclasses.replace(shown, camera_matrix=None), parameters).poses
    places = {name: (located.ids.index(name), rotated.ids.index(name)) for name in rotated.ids if name in located.ids}
    candidates = {}
    for truth, visible, given in found:
        # What the network made no finite pose of is scored as a miss.
        if str(truth.gt_id) not in places:
            continue
        at, own = places[str(truth.gt_id)]
        seen = Candidates(located.rotations[at], located.positions[at, :1], float(located.confidences[at, 0]))
        centre = scorer.objects.model(truth.class_id).centre
        rotations, confidence = rotated.rotations[own], float(rotated.confidences[own, 0])
        translations = translations_about(centre, seen, rotations)
        candidates[truth.gt_id] = Candidates(
            rotations, translations, confidence, box_iou(given, visible), seconds, rotated.expected_error(own)
        )
    return candidates
