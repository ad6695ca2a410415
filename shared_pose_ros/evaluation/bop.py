"""Datasets in BOP layout, in and out (format: https://github.com/thodan/bop_toolkit, docs/bop_datasets_format.md).

    ROOT/test_targets_bop19.json (optional)
    ROOT/SPLIT/SCENE/{scene_camera,scene_gt,scene_gt_info}.json
    ROOT/SPLIT/SCENE/{rgb|gray}/IMAGE.{png|jpg|tif}   depth/IMAGE.{png|tif}   {mask,mask_visib}/IMAGE_GT.png

Convention: files hold millimetres, this module's values are metres; R is R_m2c; boxes are (cx, cy, w, h) with pixel
centres at integers; class_id is the BOP object number as text. BOP writes a box as (x, y, w, h) with w = x_max − x_min,
one less than the columns covered; some writers store the count itself. Where a visible mask exists the box is the
mask's, so that the difference cannot matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shared_pose_ros.geometry.boxes import box_from_corner_xywh, box_from_mask

_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_METRES_PER_MM = 1e-3


class BopError(ValueError):
    """A dataset folder that cannot be read; the message names the file and the remedy."""


@dataclass(frozen=True)
class Instance:
    """One object in one image, as annotated.

    Attributes:
        class_id: the object's id as the detector publishes it (BOP: the object number as text).
        gt_id: index among the image's annotations.
        rotation: R_m2c ``(3, 3)`` float64.
        translation: ``(3,)`` float64, metres, of the CAD origin.
        visibility: visible fraction of the silhouette, 0…1.
        box: visible box ``(4,)`` (cx, cy, w, h) in pixels as annotated, None where nothing is visible or unknown.
    """

    class_id: str
    gt_id: int
    rotation: np.ndarray
    translation: np.ndarray
    visibility: float
    box: np.ndarray | None


@dataclass(frozen=True)
class BopFrame:
    """One image with its camera and annotations; pixels are read when asked for.

    Attributes:
        scene_id: number of the scene.
        image_id: number of the image in the scene.
        camera: K ``(3, 3)`` float64, pixels.
        instances: the annotated objects.
        folder: the scene's folder.
        depth_unit: metres a unit of the stored depth image.
    """

    scene_id: int
    image_id: int
    camera: np.ndarray
    instances: tuple[Instance, ...]
    folder: Path
    depth_unit: float

    def image(self) -> np.ndarray:
        """The image ``(H, W, 3)`` uint8 RGB; gray is repeated, 16 bit loses its low byte. BopError if there is none."""
        path = _find_image(self.folder, ("rgb", "gray"), self.image_id)
        if path is None:
            raise BopError(f"{self.folder}: no rgb or gray image {self.image_id:06d}; download this split's images")
        pixels = _read_pixels(path)
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        if pixels.dtype != np.uint8:
            raise BopError(f"{path}: pixels are {pixels.dtype}; 8- and 16-bit images are read")
        if pixels.ndim == 2:
            return np.repeat(pixels[:, :, None], 3, axis=2)
        return np.ascontiguousarray(pixels[:, :, 2::-1])

    def depth(self) -> np.ndarray | None:
        """The sensor's depth ``(H, W)`` float32, metres, 0 where it saw nothing; None where the dataset has none."""
        path = _find_image(self.folder, ("depth",), self.image_id)
        if path is None:
            return None
        return (_read_pixels(path).astype(np.float64) * self.depth_unit).astype(np.float32)

    def has_depth(self) -> bool:
        """Whether the dataset has a depth image of this frame."""
        return _find_image(self.folder, ("depth",), self.image_id) is not None

    def visible_mask(self, gt_id: int) -> np.ndarray | None:
        """Visible pixels ``(H, W)`` bool of one annotation, None if the dataset has no masks."""
        path = self.folder / "mask_visib" / f"{self.image_id:06d}_{gt_id:06d}.png"
        return _read_pixels(path) > 0 if path.is_file() else None

    def visible_box(self, gt_id: int) -> np.ndarray | None:
        """Visible box ``(4,)`` (cx, cy, w, h) of the mask, else as annotated; None if nothing shows."""
        mask = self.visible_mask(gt_id)
        if mask is None:
            return self.instances[gt_id].box
        return box_from_mask(mask) if mask.any() else None


@dataclass(frozen=True)
class BopDataset:
    """A split of a dataset.

    Attributes:
        root: the dataset's folder.
        split: name of the split's folder.
        frames: all annotated images, by scene and image number.
        targets: number of instances to find, by (scene, image, class_id); None without a targets file.
    """

    root: Path
    split: str
    frames: tuple[BopFrame, ...]
    targets: Mapping[tuple[int, int, str], int] | None


def load_bop(root: str | Path, split: str = "test") -> BopDataset:
    """Read a split's annotations (not its pixels).

    Raises:
        BopError: a folder or file is missing, unreadable or inconsistent; the message says which.
    """
    root = Path(root)
    folder = root / split
    if not folder.is_dir():
        found = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        raise BopError(f"{folder} is not a folder; give a BOP dataset's root and one of its splits (here: {found})")
    scenes = sorted(p for p in folder.iterdir() if p.is_dir() and p.name.isdigit())
    if not scenes:
        raise BopError(f"{folder} has no scene folders such as 000001; is this a BOP split?")
    frames = tuple(frame for scene in scenes for frame in _read_scene(scene))
    is_test = split.split("_")[0] == "test"  # T-LESS calls it test_primesense
    return BopDataset(root, split, frames, _read_targets(root / "test_targets_bop19.json") if is_test else None)


def _read_scene(folder: Path) -> Iterator[BopFrame]:
    cameras = _read_json(folder / "scene_camera.json")
    truths = _read_json(folder / "scene_gt.json")
    infos = _read_json(folder / "scene_gt_info.json")
    for key in sorted(truths, key=int):
        try:
            camera, truth, info = cameras[key], truths[key], infos[key]
            if len(truth) != len(info):
                raise BopError(f"{folder}: image {key} has {len(truth)} poses but scene_gt_info.json lists {len(info)}")
            matrix = np.array(camera["cam_K"], dtype=np.float64).reshape(3, 3)
            instances = tuple(_read_instance(i, *pair) for i, pair in enumerate(zip(truth, info)))
            unit = float(camera.get("depth_scale", 1.0)) * _METRES_PER_MM
        except (KeyError, TypeError) as error:
            raise BopError(f"{folder}: image {key} lacks {error} in one of the scene_*.json files") from error
        yield BopFrame(int(folder.name), int(key), matrix, instances, folder, unit)


def _read_instance(gt_id: int, truth: Mapping[str, Any], info: Mapping[str, Any]) -> Instance:
    x, y, w, h = info.get("bbox_visib", (-1, -1, -1, -1))
    return Instance(
        class_id=str(truth["obj_id"]),
        gt_id=gt_id,
        rotation=np.array(truth["cam_R_m2c"], dtype=np.float64).reshape(3, 3),
        translation=np.array(truth["cam_t_m2c"], dtype=np.float64) * _METRES_PER_MM,
        visibility=float(info["visib_fract"]),
        box=box_from_corner_xywh(np.array([x, y, w + 1, h + 1])) if w >= 0 and h >= 0 else None,
    )


def _read_targets(path: Path) -> dict[tuple[int, int, str], int] | None:
    if not path.is_file():
        return None
    return {(t["scene_id"], t["im_id"], str(t["obj_id"])): int(t["inst_count"]) for t in _read_json(path)}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BopError(f"{path} is missing; evaluation needs a split with public ground truth") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BopError(f"{path} cannot be read as JSON ({error}); download it again") from error


def _find_image(folder: Path, kinds: Sequence[str], image_id: int) -> Path | None:
    candidates = (folder / kind / f"{image_id:06d}{ending}" for kind in kinds for ending in _IMAGE_ENDINGS)
    return next((path for path in candidates if path.is_file()), None)


def _read_pixels(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise BopError(f"{path} cannot be decoded as an image; download it again")
    return pixels


@dataclass(frozen=True)
class SceneImage:
    """What ``write_bop_scene`` stores for one image.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        camera: K ``(3, 3)``, pixels.
        object_ids: BOP numbers of the k objects.
        rotations: R_m2c ``(k, 3, 3)``.
        translations: ``(k, 3)`` metres, of the CAD origins.
        masks: silhouettes as if nothing were in front ``(k, H, W)`` bool.
        visible_masks: visible pixels ``(k, H, W)`` bool.
        depth: ``(H, W)`` metres, or None.
        depth_unit: metres a unit of the stored 16-bit depth.
    """

    image: np.ndarray
    camera: np.ndarray
    object_ids: Sequence[int]
    rotations: np.ndarray
    translations: np.ndarray
    masks: np.ndarray
    visible_masks: np.ndarray
    depth: np.ndarray | None = None
    depth_unit: float = 1e-4


def write_bop_scene(root: str | Path, split: str, scene_id: int, images: Sequence[SceneImage]) -> Path:
    """Write one scene in BOP layout; images are numbered from 0.

    Silhouettes are counted inside the image only. Call ``write_bop_targets`` when the split is complete.

    Returns:
        The scene's folder.

    Raises:
        BopError: the scene exists already, or a depth does not fit into 16 bit.
    """
    folder = Path(root) / split / f"{scene_id:06d}"
    if folder.exists():
        raise BopError(f"{folder} exists already; remove it or choose another scene number")
    for kind in ("rgb", "mask", "mask_visib", "depth"):
        (folder / kind).mkdir(parents=True)
    tables: dict[str, dict[str, Any]] = {"scene_camera": {}, "scene_gt": {}, "scene_gt_info": {}}
    for image_id, image in enumerate(images):
        _write_pixels(folder, image_id, image)
        key = str(image_id)
        tables["scene_camera"][key] = {
            "cam_K": np.asarray(image.camera, dtype=np.float64).ravel().tolist(),
            "depth_scale": image.depth_unit / _METRES_PER_MM,
        }
        tables["scene_gt"][key] = [
            {
                "obj_id": int(object_id),
                "cam_R_m2c": np.asarray(rotation, dtype=np.float64).ravel().tolist(),
                "cam_t_m2c": (np.asarray(translation, dtype=np.float64) / _METRES_PER_MM).tolist(),
            }
            for object_id, rotation, translation in zip(image.object_ids, image.rotations, image.translations)
        ]
        tables["scene_gt_info"][key] = [
            _mask_info(mask, visible) for mask, visible in zip(image.masks, image.visible_masks)
        ]
    for name, table in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    return folder


def write_bop_targets(root: str | Path, split: str = "test", visibility_min: float = 0.1) -> Path:
    """Write ``test_targets_bop19.json``: every object of the split that shows at least ``visibility_min`` of itself."""
    counts: dict[tuple[int, int, str], int] = {}
    for frame in load_bop(root, split).frames:
        for instance in frame.instances:
            if instance.visibility >= visibility_min:
                key = (frame.scene_id, frame.image_id, instance.class_id)
                counts[key] = counts.get(key, 0) + 1
    targets = [
        {"im_id": image, "inst_count": count, "obj_id": int(class_id), "scene_id": scene}
        for (scene, image, class_id), count in counts.items()
    ]
    path = Path(root) / "test_targets_bop19.json"
    path.write_text(json.dumps(targets, indent=1), encoding="utf-8")
    return path


def _write_pixels(folder: Path, image_id: int, image: SceneImage) -> None:
    name = f"{image_id:06d}"
    cv2.imwrite(str(folder / "rgb" / f"{name}.png"), image.image[:, :, ::-1])
    for gt_id in range(len(image.object_ids)):
        for kind, masks in (("mask", image.masks), ("mask_visib", image.visible_masks)):
            cv2.imwrite(str(folder / kind / f"{name}_{gt_id:06d}.png"), masks[gt_id].astype(np.uint8) * 255)
    if image.depth is not None:
        units = np.rint(np.asarray(image.depth, dtype=np.float64) / image.depth_unit)
        if units.max() > np.iinfo(np.uint16).max:
            limit = np.iinfo(np.uint16).max * image.depth_unit
            raise BopError(
                f"depth {np.max(image.depth):.3f} m exceeds {limit:.3f} m in 16 bit; give a larger depth_unit"
            )
        cv2.imwrite(str(folder / "depth" / f"{name}.png"), units.astype(np.uint16))


def _mask_info(mask: np.ndarray, visible: np.ndarray) -> dict[str, Any]:
    whole, shown = int(np.count_nonzero(mask)), int(np.count_nonzero(visible))
    return {
        "bbox_obj": _bop_box(mask),
        "bbox_visib": _bop_box(visible),
        "px_count_all": whole,
        "px_count_visib": shown,
        "visib_fract": shown / whole if whole else 0.0,
    }


def _bop_box(mask: np.ndarray) -> list[int]:
    if not mask.any():
        return [-1, -1, -1, -1]
    cx, cy, w, h = box_from_mask(mask)
    return [int(cx - (w - 1) / 2), int(cy - (h - 1) / 2), int(w - 1), int(h - 1)]
