"""An object set's cluttered scenes as a BOP dataset, to evaluate one's own parts on.

Convention: as ``scenes`` and ``bop``; a clutter scene is a scene, from 1, and its views are the images, from 0.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from shared_pose_ros.evaluation.bop import BopError, SceneImage, write_bop_scene, write_bop_targets
from shared_pose_ros.evaluation.bop_models import write_bop_models
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.scenes.clutter import SceneFrame, SceneSettings, generate_frames

# Mean diameter of the parts that the default heap and camera distance suit, metres.
_USUAL_DIAMETER = 0.11
# The heap must stay on the height map and the camera below the lamps.
_SCALE_LIMITS = 0.25, 2.0
_LARGEST_IN_TRAY = 1.2
_DEPTH_UNIT = 1e-4


def settings_for(objects: ObjectSet, defaults: SceneSettings, size: tuple[int, int]) -> SceneSettings:
    """Scene settings for these objects and this image size.

    Heap and camera distance grow with the parts' mean diameter, within limits; the field of view stays.

    Args:
        objects: the CAD.
        defaults: settings that suit parts of 0.11 m.
        size: (height, width), pixels.

    Raises:
        ValueError: an image below 64 pixels.
    """
    if min(size) < 64:
        raise ValueError(f"an image of {size[0]}x{size[1]} pixels shows no parts; give at least 64x64")
    scale = float(np.clip(np.mean([m.diameter for m in objects]) / _USUAL_DIAMETER, *_SCALE_LIMITS))
    zoom = min(new / old for new, old in zip(size, defaults.size))
    fx, fy, cx, cy = defaults.camera
    middle = [(c + 0.5) * new / old - 0.5 for c, new, old in zip((cx, cy), size[::-1], defaults.size[::-1])]
    return dataclasses.replace(
        defaults,
        radius=defaults.radius * scale,
        distance=(defaults.distance[0] * scale, defaults.distance[1] * scale),
        tray=defaults.tray if scale <= _LARGEST_IN_TRAY else 0.0,
        size=size,
        camera=(fx * zoom, fy * zoom, middle[0], middle[1]),
    )


def render_bop(
    root: str | Path,
    objects: ObjectSet,
    settings: SceneSettings,
    split: str = "test",
    progress: Callable[[int, int], None] | None = None,
) -> Mapping[str, int]:
    """Render scenes and write images, depth, masks, ground truth, targets, camera.json and ``ROOT/models``.

    Args:
        root: the dataset's folder, made where it is missing; its models must be these objects.
        objects: the CAD.
        settings: what scenes.
        split: name of the split.
        progress: called with (images done, images).

    Returns:
        BOP number of each class id.

    Raises:
        BopError: the split exists, or the models are others.
        ValueError: no view shows even one part of a scene; the message says what to change.
    """
    root = Path(root)
    if (root / split).exists():
        raise BopError(f"{root / split} exists already; remove it or choose another --out or --split")
    numbers = write_bop_models(root / "models", objects)
    done = 0

    def image_of(frame: SceneFrame) -> SceneImage:
        nonlocal done
        done += 1
        if progress:
            progress(done, settings.scenes * settings.views)
        return _scene_image(frame, numbers)

    for number, frames in itertools.groupby(generate_frames(objects, settings), key=lambda frame: frame.scene_id):
        write_bop_scene(root, split, number + 1, [image_of(frame) for frame in frames])
    if split == "test":  # the targets file belongs to it
        write_bop_targets(root, split)
    _write_camera(root / "camera.json", settings)
    return numbers


def _scene_image(frame: SceneFrame, numbers: Mapping[str, int]) -> SceneImage:
    return SceneImage(
        image=frame.image,
        camera=frame.camera,
        object_ids=[numbers[instance.class_id] for instance in frame.instances],
        rotations=np.stack([instance.rotation for instance in frame.instances]),
        translations=np.stack([instance.translation for instance in frame.instances]),
        masks=frame.silhouettes,
        visible_masks=frame.masks,
        depth=frame.depth,
        depth_unit=_DEPTH_UNIT,
    )


def _write_camera(path: Path, settings: SceneSettings) -> None:
    fx, fy, cx, cy = settings.camera
    height, width = settings.size
    scale = _DEPTH_UNIT / 1e-3
    camera = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": width, "height": height, "depth_scale": scale}
    path.write_text(json.dumps(camera, indent=1), encoding="utf-8")
