"""Training crops from CAD, made in batches on the device.

A crop is rendered directly in its own window: the object's box follows from its projected vertices, the window from the
box with a detector's noise, and the camera matrix from the window. Where an occluder hides a part of the object, the
crop follows the visible rest, as a detector's box does. Convention: as the crop shows it, the object stands on the
optical axis; the rotation returned is R_m2c; lengths are normalised mesh units (half the largest extent is 100).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.meshes.object_set import NORMALISED_SIZE, ObjectSet
from shared_pose_ros.network.crop import normalize_crops
from shared_pose_ros.rendering.hypotheses import outline_points
from shared_pose_ros.rendering.rasterizer import PackedMeshes, Rasterizer, pack_meshes
from shared_pose_ros.rendering.shading import Lighting, shade
from shared_pose_ros.training.augmentation import Draw, augment
from shared_pose_ros.training.auxiliary_decoder import surface_target
from shared_pose_ros.training.backgrounds import load_backgrounds, sample_backgrounds
from shared_pose_ros.training.config import AugmentationConfig, SynthesisConfig, at_difficulty

_SHADOW_GRID = 16
NEIGHBOURS = 2  # at most this many parts behind an object
# Light of an autoencoder's targets: from the camera's upper left, so that no two sides of a part look alike.
TARGET_LAMP, TARGET_LAMP_STRENGTH, TARGET_AMBIENT = (-1.0, -1.0, 0.0), 0.8, 0.2  # position in camera distances


@dataclass(frozen=True)
class TrainingBatch:
    """B training samples.

    Attributes:
        crops: ``(B, 3, S, S)`` normalised, the network's input.
        object_index: ``(B,)`` int64.
        rotations: ``(B, 3, 3)`` R_m2c.
        surface: ``(B, 7, S/4, S/4)``, the object alone on a coarse grid: mean normal (camera frame), mean model point
            (half the largest extent is 1) and coverage, the target of the auxiliary reconstruction.
    """

    crops: Tensor
    object_index: Tensor
    rotations: Tensor
    surface: Tensor


@dataclass(frozen=True)
class AutoencoderBatch:
    """m samples of each of k objects, object by object, for an augmented autoencoder.

    Attributes:
        crops: ``(k·m, 3, S, S)`` normalised, the network's input.
        targets: ``(k·m, 3, S, S)`` normalised: the same rotations under one fixed light, centred, alone on black.
        object_index: ``(k·m,)`` int64.
        rotations: ``(k·m, 3, 3)`` R_m2c.
    """

    crops: Tensor
    targets: Tensor
    object_index: Tensor
    rotations: Tensor


class Synthesizer:
    """Makes training batches of an object set.

    Args:
        objects: the set, in the network's order.
        synthesis: settings of the images.
        augmentation: settings of the changes to the finished crops.
        crop_size: S.
        rasterizer: the backend.
        device: where batches are made.
        backgrounds: folder of photographs, or None for procedural pictures.
        seed: of the procedural pictures.
    """

    def __init__(
        self,
        objects: ObjectSet,
        synthesis: SynthesisConfig,
        augmentation: AugmentationConfig,
        crop_size: int,
        rasterizer: Rasterizer,
        device: torch.device,
        backgrounds: Path | None = None,
        seed: int = 0,
    ) -> None:
        self.synthesis, self.augmentation, self.crop_size = synthesis, augmentation, crop_size
        self.rasterizer, self.device = rasterizer, device
        meshes = [model.normalized(synthesis.face_budget or None) for model in objects]
        self.meshes: PackedMeshes = pack_meshes(meshes, device)
        self.outlines = outline_points([vertices for vertices, _ in meshes]).to(device)
        self.metres = torch.tensor([model.scale / NORMALISED_SIZE for model in objects], device=device)
        self.backgrounds = load_backgrounds(backgrounds, seed).to(device)
        kind = "procedural pictures" if backgrounds is None else f"photographs of {Path(backgrounds).name}"
        self.background_name = f"{len(self.backgrounds)} {kind}"

    @torch.no_grad()
    def batch(self, count: int, generator: torch.Generator, difficulty: float = 1.0) -> TrainingBatch:
        """``count`` samples: objects and rotations uniform, everything drawn from ``generator`` (on the device).

        ``difficulty`` scales the disturbances, see ``config.at_difficulty``.
        """
        settings = at_difficulty(self.synthesis, difficulty)
        augmentation = at_difficulty(self.augmentation, difficulty)
        draw = Draw(count, generator)
        object_index = torch.randint(0, len(self.metres), (count,), generator=generator, device=self.device)
        rotations = random_rotations(count, generator, self.device)
        crops, surface = self._crops(object_index, rotations, draw, settings, augmentation)
        return TrainingBatch(crops, object_index, rotations, surface_target(surface))

    @torch.no_grad()
    def autoencoder_batch(self, images: int, generator: torch.Generator) -> AutoencoderBatch:
        """``images`` samples of each object, rotations uniform, everything drawn from ``generator`` (on the device)."""
        object_index = torch.arange(len(self.metres), device=self.device).repeat_interleave(images)
        draw = Draw(len(object_index), generator)
        rotations = random_rotations(draw.count, generator, self.device)
        crops, _ = self._crops(object_index, rotations, draw, self.synthesis, self.augmentation)
        return AutoencoderBatch(crops, self.plain_crops(object_index, rotations), object_index, rotations)

    @torch.no_grad()
    def plain_crops(self, object_index: Tensor, rotations: Tensor) -> Tensor:
        """Normalised crops ``(B, 3, S, S)`` under one fixed light, centred, alone on black; nothing is drawn at random.

        Args:
            object_index: ``(B,)`` int64.
            rotations: R_m2c ``(B, 3, 3)``.
        """
        middle = sum(self.synthesis.distance) / 2
        plain = dataclasses.replace(
            self.synthesis, distance=(middle, middle), crop_shift=0.0, crop_scale=0.0, brightness=(1.0, 1.0), tint=0.0
        )
        draw = Draw(len(object_index), torch.Generator(self.device).manual_seed(0))
        colour, _, _ = self._render(object_index, rotations, draw, plain, _target_lighting)
        return normalize_crops(colour)

    def _crops(
        self,
        object_index: Tensor,
        rotations: Tensor,
        draw: Draw,
        settings: SynthesisConfig,
        augmentation: AugmentationConfig,
    ) -> tuple[Tensor, Tensor]:
        """Normalised crops ``(B, 3, S, S)`` of these objects at these rotations, and the surface ``(B, 7, S, S)``."""
        colour, alpha, surface = self._render(object_index, rotations, draw, settings)
        canvas, covered = self._compose(colour, alpha, draw, settings)
        canvas, surface = _follow_visible(canvas, surface, alpha, covered)
        return normalize_crops(augment(canvas, augmentation, draw.generator)), surface

    def _compose(self, colour: Tensor, alpha: Tensor, draw: Draw, settings: SynthesisConfig) -> tuple[Tensor, Tensor]:
        """Objects over neighbours over background, with shadows and occluders on top.

        Returns:
            ``(B, 3, S, S)`` in [0, 1], not augmented, and what the occluders cover, ``(B, 1, S, S)``.
        """
        canvas = sample_backgrounds(self.backgrounds, draw.count, self.crop_size, draw.generator)
        for _ in range(NEIGHBOURS):
            behind, hidden = self._other_parts(colour, alpha, draw, settings.neighbours)
            canvas = torch.addcmul(behind, canvas, 1 - hidden)
        if settings.shadows > 0:
            canvas = canvas * self._shadow(alpha, draw, settings.shadows)
            colour = colour * self._shadow(alpha, draw, settings.shadows)
        canvas = torch.addcmul(colour, canvas, 1 - alpha)
        front, covered = self._other_parts(colour, alpha, draw, settings.occluders)
        # An object that is hardly visible teaches nothing.
        share = (covered * alpha).sum(dim=(1, 2, 3)) / alpha.sum(dim=(1, 2, 3)).clamp(min=1e-6)
        keep = (share < settings.occlusion_limit)[:, None, None, None]
        covered = covered * keep
        return torch.addcmul(front * keep, canvas, 1 - covered), covered

    def _shadow(self, alpha: Tensor, draw: Draw, probability: float) -> Tensor:
        """Factor ``(B, 1, S, S)`` of the soft shadows that other parts cast, 1 where there is none."""
        coarse = F.avg_pool2d(alpha, self.crop_size // _SHADOW_GRID)
        _, moved = self._other_parts(coarse.expand(-1, 3, -1, -1), coarse, draw, probability)
        depth = draw.uniform(0.2, 0.7, 1, 1, 1)
        return F.interpolate(1 - depth * moved, scale_factor=float(self.crop_size // _SHADOW_GRID), mode="bilinear")

    def _render(
        self,
        object_index: Tensor,
        rotations: Tensor,
        draw: Draw,
        settings: SynthesisConfig,
        light: Callable[[Tensor, Draw, SynthesisConfig], Lighting] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Premultiplied colour ``(B, 3, S, S)``, coverage ``(B, 1, S, S)`` and the surface ``(B, 7, S, S)``."""
        distance = draw.uniform(*settings.distance) / self.metres[object_index]
        # Nearer than three half-extents the perspective is that of no camera over a bin.
        distance = distance.clamp(min=3 * NORMALISED_SIZE)
        translation = F.pad(distance[:, None], (2, 0))
        fine = self.crop_size * settings.supersample
        camera = self._window(object_index, rotations, translation, draw, settings, fine)
        face_id = self.rasterizer.rasterize(self.meshes, object_index, rotations, translation, camera, (fine, fine))
        lighting = (light or self._lighting)(distance, draw, settings)
        shaded = shade(face_id, self.meshes, rotations, translation, camera, lighting, settings.supersample)
        alpha = shaded.coverage[:, None]
        points = shaded.positions / NORMALISED_SIZE
        surface = torch.cat([torch.cat([shaded.normals, points], dim=3).permute(0, 3, 1, 2), alpha], dim=1)
        brightness = draw.uniform(*settings.brightness, 1)
        tint = 1 + settings.tint * draw.uniform(-1, 1, 3) * draw.uniform(0, 1, 1)
        colour = shaded.intensity[:, None] * (brightness * tint)[:, :, None, None]
        return torch.minimum(colour, alpha), alpha, surface

    def _window(
        self,
        object_index: Tensor,
        rotations: Tensor,
        translation: Tensor,
        draw: Draw,
        settings: SynthesisConfig,
        size: int,
    ) -> Tensor:
        """K ``(B, 3, 3)`` of the crop's window: side crop_pad·max(w, h) about the box, off by a detector's noise."""
        points = torch.matmul(self.outlines[object_index], rotations.transpose(1, 2)) + translation[:, None]
        projected = points[..., :2] / points[..., 2:]
        low, high = projected.amin(dim=1), projected.amax(dim=1)
        side = settings.crop_pad * (high - low).amax(dim=1)
        noise = draw.uniform(-1, 1, 3)
        centre = (low + high) / 2 + side[:, None] * settings.crop_shift * noise[:, :2]
        focal = size / (side * (1 + settings.crop_scale * noise[:, 2]))
        camera = torch.zeros(draw.count, 3, 3, device=self.device)
        camera[:, 0, 0] = camera[:, 1, 1] = focal
        camera[:, :2, 2] = (size - 1) / 2 - focal[:, None] * centre
        camera[:, 2, 2] = 1
        return camera

    def _lighting(self, distance: Tensor, draw: Draw, config: SynthesisConfig) -> Lighting:
        """Point lights anywhere around the camera, or, with hemisphere light, on the side of the sky.

        Without a prior on where light comes from, shading cannot tell a part that leans towards the camera from one
        that leans away (the crater illusion), and at a few dozen pixels little else can.
        """
        above = draw.chance(config.from_above).float()
        elevation, roll = draw.uniform(0.2, 1.5), draw.uniform(-0.4, 0.4)
        flat = torch.cos(elevation)
        up = torch.stack([flat * torch.sin(roll), -flat * torch.cos(roll), -torch.sin(elevation)], dim=1)
        noise = torch.randn(draw.count, config.lights, 3, generator=draw.generator, device=self.device)
        lamps = F.normalize(noise + 1.5 * up[:, None], dim=2) * draw.uniform(0.7, 2.0, config.lights, 1)
        lamps[..., 2] += 1
        anywhere = draw.uniform(-1, 1, config.lights, 3)
        positions = torch.where(above[:, None, None] > 0, lamps, anywhere) * distance[:, None, None]
        strengths = draw.uniform(*config.lamp, config.lights)
        strengths[:, 1:] *= draw.uniform(0, 1, config.lights - 1) * (draw.uniform(0, 1, config.lights - 1) < 0.5)
        return Lighting(
            positions=positions,
            strengths=strengths,
            ambient=draw.uniform(*config.ambient),
            specular=draw.uniform(*config.specular),
            shininess=torch.exp(draw.uniform(1.0, 4.0)),
            crevice=draw.uniform(*config.crevice),
            sky=up * (above * draw.uniform(*config.sky))[:, None],
            metallic=draw.uniform(*config.metallic),
        )

    def _other_parts(self, colour: Tensor, alpha: Tensor, draw: Draw, probability: float) -> tuple[Tensor, Tensor]:
        """The batch's own renders, dealt to other samples, rotated, moved to the crop's rim and scaled."""
        order = torch.randperm(draw.count, generator=draw.generator, device=self.device)
        angle, zoom = draw.uniform(-np.pi, np.pi), draw.uniform(0.6, 1.3)
        direction, reach = draw.uniform(-np.pi, np.pi), draw.uniform(0.6, 1.3)
        cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        x, y = torch.cos(direction) * reach, torch.sin(direction) * reach
        affine = torch.stack(
            [cosine, -sine, -(cosine * x - sine * y), sine, cosine, -(sine * x + cosine * y)], dim=1
        ).reshape(-1, 2, 3)
        layers = torch.cat([colour, alpha], dim=1)[order]
        grid = F.affine_grid(affine, list(layers.shape), align_corners=False)
        moved = F.grid_sample(layers, grid, align_corners=False) * draw.chance(probability)[:, None, None, None]
        return moved[:, :3], moved[:, 3:]


def _target_lighting(distance: Tensor, draw: Draw, settings: SynthesisConfig) -> Lighting:
    """One matt light, the same for every object and every step."""
    lamp = torch.tensor(TARGET_LAMP, device=distance.device)
    return Lighting.one_lamp(distance[:, None] * lamp, TARGET_LAMP_STRENGTH, TARGET_AMBIENT)


def _follow_visible(canvas: Tensor, surface: Tensor, alpha: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
    """Move the windows of occluded objects to what is still visible, keeping their pad and a detector's noise.

    Args:
        canvas: ``(B, 3, S, S)``.
        surface: ``(B, C, S, S)``, zero outside the window.
        alpha: ``(B, 1, S, S)`` coverage of the object.
        covered: ``(B, 1, S, S)`` coverage of the occluder.

    Returns:
        Canvas and surface, resampled where the visible box is smaller than the object's.
    """
    whole, rest = _mask_box(alpha > 0.5), _mask_box(alpha * (1 - covered) > 0.5)
    side, new_side = ((box[:, 2:] - box[:, :2]).amax(dim=1) for box in (whole, rest))
    moved = ((whole != rest).any(dim=1) & (new_side > 0)).nonzero().squeeze(1)
    if moved.numel() == 0:
        return canvas, surface
    scale = (new_side / side.clamp(min=1e-6))[moved]
    centre, new_centre = (box[moved].reshape(-1, 2, 2).mean(dim=1) for box in (whole, rest))
    affine = torch.zeros(moved.numel(), 2, 3, device=canvas.device)
    affine[:, 0, 0] = affine[:, 1, 1] = scale
    affine[:, :, 2] = new_centre - scale[:, None] * centre
    grid = F.affine_grid(affine, list(canvas[moved].shape), align_corners=False)
    # Beyond the window nothing was drawn; its mirror image is clutter of the right kind.
    shown = F.grid_sample(canvas[moved], grid, padding_mode="reflection", align_corners=False)
    layers = F.grid_sample(surface[moved], grid, align_corners=False)
    return canvas.index_copy(0, moved, shown), surface.index_copy(0, moved, layers)


def _mask_box(mask: Tensor) -> Tensor:
    """(x0, y0, x1, y1) ``(B, 4)`` of masks ``(B, 1, S, S)``, in [−1, 1] across the window; zero for an empty mask."""
    size = mask.shape[-1]
    ends = []
    for filled in (mask.any(dim=2)[:, 0], mask.any(dim=3)[:, 0]):
        filled = filled.to(torch.int8)
        first, last = filled.argmax(dim=1), size - filled.flip(1).argmax(dim=1)
        ends.append(torch.stack([first, last], dim=1) * filled.any(dim=1, keepdim=True))
    edges = torch.stack(ends, dim=2).flatten(1)
    return torch.where(edges.any(dim=1, keepdim=True), edges * (2.0 / size) - 1.0, 0.0)
