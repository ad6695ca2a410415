"""Every training setting, once: presets (config/training/*.yaml), CLI and docs derive from these dataclasses."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

TUNINGS = ("frozen", "last_layer", "full")
OPTIMIZERS = ("adam", "muon")
SCHEDULES = ("cosine", "one_cycle")
PRECISIONS = ("auto", "fp32", "bf16")
_WEIGHT = "_weight"  # a loss term's weight is called as the term, with this at its end
_Value = TypeVar("_Value")


def setting(default: _Value, **declared: Any) -> _Value:
    """A setting with more than a default.

    Args:
        default: the value.
        declared: ``schedule`` for the weight of a loss term, see ``LossConfig``; ``was`` for an older name, which is
            still read; ``scaled``, see there.
    """
    return field(default=default, metadata=declared)


def scaled(default: _Value) -> _Value:
    """A disturbance of the images, which grows with the difficulty of the training, see ``at_difficulty``."""
    return setting(default, scaled=True)


@dataclass(frozen=True)
class SynthesisConfig:
    """How training crops are made. Ranges are (low, high), uniform; probabilities are in [0, 1]."""

    supersample: int = 2  # renders at this multiple of the crop size, then averages: edges as a camera sees them
    face_budget: int = 2500  # faces per object in the training images; 0 keeps all
    distance: tuple[float, float] = (0.5, 1.2)  # camera to object, metres
    crop_pad: float = 1.2  # side of the crop over the larger side of the box
    crop_shift: float = 0.05  # detector noise: shift of the crop's centre, fraction of its side, each axis ±
    crop_scale: float = 0.08  # detector noise: relative change of the crop's side, ±
    lights: int = 2  # at most this many point lights
    from_above: float = 0.9  # share of images lit from above, by sky and lamps; 0 is the paper
    sky: tuple[float, float] = (0.05, 0.4)  # strength of the hemisphere light in those images
    lamp: tuple[float, float] = (0.5, 1.0)  # strength of the first lamp; the others are weaker
    ambient: tuple[float, float] = (0.05, 0.3)
    brightness: tuple[float, float] = (0.6, 1.0)  # of the surface
    specular: tuple[float, float] = (0.0, 0.4)
    metallic: tuple[float, float] = scaled((0.0, 0.5))  # share of a mirror that shows the sky
    crevice: tuple[float, float] = scaled((0.0, 0.6))  # darkening of concave places, a cheap ambient occlusion
    shadows: float = scaled(0.4)  # probability of a soft shadow on the object, and of one behind it
    tint: float = scaled(0.25)  # spread of the surface colour around white and grey
    neighbours: float = scaled(0.6)  # probability of another part behind the object, twice
    occluders: float = scaled(0.4)  # probability of a part in front of it; the crop follows what stays visible
    occlusion_limit: float = 0.5  # an occluder that hides more than this is dropped


@dataclass(frozen=True)
class AugmentationConfig:
    """Changes to the finished crop, each with its probability; preset ``paper`` has the paper's."""

    zoom: float = scaled(0.0)  # enlargement about the centre
    zoom_range: tuple[float, float] = (1.0, 1.2)
    coarse_pair: float = scaled(
        0.0
    )  # two of: black blocks, grey cut-out, white cut-out, coarse salt and pepper, coarse salt
    blur: float = scaled(0.5)
    blur_sigma: float = 1.2
    noise: float = scaled(0.5)
    noise_sigma: float = 0.03
    add: float = scaled(0.5)
    add_range: float = 0.1
    multiply: float = scaled(0.5)
    multiply_again: float = scaled(0.0)  # a second multiplication, never by channel
    multiply_range: tuple[float, float] = (0.6, 1.4)
    contrast: float = scaled(0.5)
    contrast_range: tuple[float, float] = (0.5, 1.8)
    # Probability that an addition, a multiplication, a change of contrast differs by channel.
    channelwise: tuple[float, float, float] = (0.3, 0.3, 0.3)
    invert: float = scaled(0.0)
    invert_channel: float = 0.2  # of the channels of an inverted crop
    cutout: float = scaled(0.3)
    cutout_size: tuple[float, float] = (0.1, 0.35)  # sides of a constant block, fraction of the crop
    jpeg: float = scaled(0.0)  # compression, as of a camera driver or a compressed topic
    jpeg_quality: tuple[float, float] = (30.0, 95.0)


def depth_schedule(config: LossConfig, progress: float) -> float:
    """Factor of the paper's losses at a done fraction of the training: nothing before ``depth_start``."""
    return 1.0 if progress >= config.depth_start else 0.0


def warm_up_schedule(config: LossConfig, progress: float) -> float:
    """Factor of the warm-up losses: 1, then a linear fall to 0 over the second half of their time."""
    end = config.warm_up_end
    return min(1.0, max(0.0, 2.0 * (1.0 - progress / end))) if end > 0 else 0.0


Schedule = Callable[["LossConfig", float], float]


@dataclass(frozen=True)
class LossConfig:
    """The paper's depth loss, and the warm-up losses that start it.

    ``NAME_weight`` is the weight of the term NAME of ``objective.TERMS``; it is multiplied by its schedule's factor.
    """

    size: int = 32  # side of the loss renders, pixels
    face_budget: int = 400  # faces per object in the loss renders; 0 keeps all
    d_max: float = 30.0  # clip of the depth difference, half the largest extent is 100
    gamma: float = 0.01
    depth_start: float = 0.5  # fraction of the training before the first depth render
    depth_weight: float = setting(1.0, schedule=depth_schedule)  # of the paper's L_d
    diversity_weight: float = setting(1.0, schedule=depth_schedule, was="spread_weight")  # of the paper's L_pose
    warm_up_end: float = setting(1.0, was="mixture_end")  # fraction of the training after which warm-up losses are off
    mixture_weight: float = setting(4.0, schedule=warm_up_schedule)  # 0 is the paper
    # Of the auxiliary decoder's reconstruction of the surface; 0 is the paper.
    auxiliary_weight: float = setting(20.0, schedule=warm_up_schedule, was="surface_weight")
    # Of the confidences' cross-entropy, which needs the mixture; 0 is the paper.
    confidence_weight: float = setting(1.0, schedule=warm_up_schedule)
    concentration: tuple[float, float] = (2.0, 8.0)  # κ of the mixture at the start and at its end, geometric

    def concentration_at(self, progress: float) -> float:
        """κ of the mixture, geometric from its first to its last value over the warm-up."""
        low, high = self.concentration
        return float(low * (high / low) ** min(1.0, progress / max(self.warm_up_end, 1e-9)))

    def weights(self) -> dict[Schedule, dict[str, float]]:
        """Weights of the loss terms by name, in groups of one schedule."""
        found: dict[Schedule, dict[str, float]] = {}
        for item in dataclasses.fields(self):
            if "schedule" in item.metadata:
                group = found.setdefault(item.metadata["schedule"], {})
                group[item.name.removesuffix(_WEIGHT)] = getattr(self, item.name)
        return found


@dataclass(frozen=True)
class _Run:
    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, fit for JSON and YAML."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class TrainingConfig(_Run):
    """One training run."""

    width: str = "compact"
    crop_size: int = 32
    hypotheses: int = 6
    tuning: str = "full"
    normalize_code: bool = False
    samples: int = 1_000_000
    batch_size: int = 32
    optimizer: str = "muon"  # of the hidden weight matrices; the rest is Adam's. "adam" for all is the paper
    muon_rate: float = 0.02  # of Muon; it follows the same course as learning_rate
    precision: str = "auto"  # of the encoder in training: fp32, bf16, or auto: bf16 where the hardware has it
    schedule: str = "cosine"  # course of the rates: cosine, or one_cycle for object-specific networks
    learning_rate: float = 2e-3  # of Adam, the greatest of the course
    final_learning_rate: float = 2e-5  # at the last step; equal to learning_rate for a constant rate
    warmup_steps: int = 200  # linear rise before the cosine
    ramp: tuple[float, float] = (0.05, 0.35)  # part of the training over which disturbances grow from none to all
    seed: int = 0
    threads: int = 0  # torch threads on the CPU for synthesis and as many for the network; 0 is half the cores each
    checkpoint_seconds: float = 120.0
    validation_samples: int = 256
    validation_every: int = 20_000  # samples between validations
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        _one_of(self, tuning=TUNINGS, optimizer=OPTIMIZERS, precision=PRECISIONS, schedule=SCHEDULES)
        _at_least_one(self, ("samples", "batch_size", "hypotheses"))

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return max(self.samples // self.batch_size, 1)


@dataclass(frozen=True)
class EncoderConfig(_Run):
    """One pre-training of the encoder as a multi-path augmented autoencoder (Sundermeyer et al., CVPR 2020)."""

    width: str = "compact"
    crop_size: int = 48
    steps: int = 300_000
    images_per_object: int = 4  # a step shows as many of each object
    bootstrap: int = 4  # the loss is the mean over the hardest 1/bootstrap of an image's pixel values
    learning_rate: float = 1e-4  # of Adam
    final_learning_rate: float = 1e-4  # reached by a cosine; equal to learning_rate for a constant rate
    warmup_steps: int = 1  # linear rise of the rate
    precision: str = "auto"  # as in TrainingConfig
    seed: int = 0
    threads: int = 0  # as in TrainingConfig
    checkpoint_seconds: float = 120.0
    log_every: int = 100  # steps between scalars in the TensorBoard log
    picture_every: int = 2_000  # steps between reconstructions in it
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        _one_of(self, precision=PRECISIONS)
        _at_least_one(self, ("steps", "images_per_object", "bootstrap", "log_every", "picture_every"))


@dataclass(frozen=True)
class RefinerConfig(_Run):
    """One training of the refiner: crops, each with several hypotheses, their renders and what is wrong with them."""

    images: str = "compact_fine,compact_robust"  # pose presets whose images alternate, with the first's meshes
    # Of the samples, those of the first object sets; all further sets have the rest together.
    shares: tuple[float, ...] = field(default=(0.5,), metadata={"any_length": True})
    samples: int = 2_000_000  # crops; where no time is given the rates follow them
    batch_size: int = 32  # crops a step
    hypotheses: int = 4  # of each crop
    perturbations: tuple[float, float, float, float, float] = (2.0, 6.0, 12.0, 18.0, 30.0)  # σ per axis, °, drawn alike
    random_share: float = 0.12  # of the hypotheses: any rotation
    flipped_share: float = 0.18  # a multiple of a quarter turn about an axis of the CAD, perturbed
    flipped_perturbation: float = 11.5  # at most this σ, degrees
    answered_share: float = 0.4  # what a pose network answers, of objects that a given one knows
    render_faces: int = 800  # faces per object in the renders of hypotheses
    within: float = 50.0  # degrees: the increment is learnt from hypotheses whose error is smaller
    increment_weight: float = 4.0  # of the chordal distance to the nearest equivalent truth
    before_weight: float = 0.3  # of the likelihood of the error before the increment
    after_weight: float = 0.3  # and after it
    learning_rate: float = 1.5e-3  # of Adam
    final_learning_rate: float = 1.5e-5  # reached by a cosine
    muon_rate: float = 7.5e-3  # of Muon, for the hidden weight matrices
    trunk_rate: float = 0.3  # of muon_rate, for those of the two trunks
    warmup_steps: int = 100  # linear rise of the rates
    first_difficulty: float = 0.3  # of the images, see at_difficulty
    ramp_samples: int = 50_000  # samples, earlier trainings' included, over which it rises to 1
    average: float = 0.999  # of the weights that are kept: share of the older ones at each step
    precision: str = "auto"  # as in TrainingConfig
    seed: int = 0
    threads: int = 0  # as in TrainingConfig
    checkpoint_seconds: float = 120.0
    validation_samples: int = 192
    validation_every: int = 8_000  # samples between validations

    def __post_init__(self) -> None:
        _one_of(self, precision=PRECISIONS)
        _at_least_one(self, ("samples", "batch_size", "hypotheses", "render_faces", "validation_samples"))
        for name in ("random_share", "flipped_share", "answered_share", "average"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a share, give a number from 0 to 1")
        if (share := self.random_share + self.flipped_share) > 1:
            raise ValueError(f"random_share and flipped_share are {share:g} together; give at most 1")
        if min(self.shares) < 0 or sum(self.shares) > 1 + 1e-9:
            raise ValueError(f"shares are {list(self.shares)}; give numbers from 0 to 1, at most 1 together")

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return max(self.samples // self.batch_size, 1)


Settings = TypeVar("Settings", TrainingConfig, EncoderConfig, RefinerConfig)
# Kinds of presets by the first word of their names; all others are TrainingConfig.
_KINDS: dict[str, type] = {"encoder": EncoderConfig, "refiner": RefinerConfig}
Images = TypeVar("Images", SynthesisConfig, AugmentationConfig)
# What older names stand for, named like "loss.d_max".
RENAMED = {
    f"{group}.{item.metadata['was']}": f"{group}.{item.name}"
    for group, kind in (("synthesis", SynthesisConfig), ("augmentation", AugmentationConfig), ("loss", LossConfig))
    for item in dataclasses.fields(kind)
    if "was" in item.metadata
}


def _one_of(config: _Run, **settings: tuple[str, ...]) -> None:
    for name, known in settings.items():
        if getattr(config, name) not in known:
            raise ValueError(f"{name} {getattr(config, name)!r} is unknown; choose one of {', '.join(known)}")


def _at_least_one(config: _Run, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be at least 1")


def config_from_dict(
    values: dict[str, Any],
    kind: type[Settings] = TrainingConfig,  # type: ignore[assignment]
) -> Settings:
    """Settings of a kind from nested values; raises ValueError on an unknown key or a value of the wrong type."""
    built: Settings = _build(kind, _present_names(values), "")
    return built


def load_preset(name_or_path: str, kind: type[Settings] = TrainingConfig) -> Settings:  # type: ignore[assignment]
    """The preset of that name in config/training, or a YAML file; raises ValueError naming what exists.

    A file may begin with ``extends: NAME`` and give only what differs from that preset; of several, ``[A, B]``, later
    ones win.
    """
    try:
        return config_from_dict(_read_preset(name_or_path, ()), kind)
    except yaml.YAMLError as error:
        raise ValueError(f"preset {name_or_path} is no YAML ({error}); correct the file") from error


def preset_names(kind: type[Settings] = TrainingConfig) -> list[str]:  # type: ignore[assignment]
    """The presets of a kind in config/training; files ``*_images.yaml`` are parts of several kinds, not presets."""
    names = sorted(path.stem for path in preset_folder().glob("*.yaml") if not path.stem.endswith("_images"))
    return [name for name in names if _KINDS.get(name.partition("_")[0], TrainingConfig) is kind]


def _read_preset(name_or_path: str, extended: tuple[str, ...]) -> dict[str, Any]:
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = preset_folder() / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(preset_names() + preset_names(EncoderConfig) + preset_names(RefinerConfig))
        raise ValueError(f"no preset {name_or_path!r}; choose one of {known} or give a YAML file")
    values = yaml.safe_load(path.read_text()) or {}
    if not isinstance(values, dict):
        raise ValueError(f"preset {path} is a {type(values).__name__}; give names and values, see config/training")
    values = _present_names(values, warn=True)
    if "extends" not in values:
        return values
    if name_or_path in extended:
        raise ValueError(f"presets extend each other in a circle: {' -> '.join((*extended, name_or_path))}")
    bases = values.pop("extends")
    merged: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        merged = _merged(merged, _read_preset(str(base), (*extended, name_or_path)))
    return _merged(merged, values)


def _present_names(values: Mapping[str, Any], warn: bool = False, prefix: str = "") -> dict[str, Any]:
    """The values under the names that settings have now, where some stand under older ones."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = _present_names(value, warn, f"{prefix}{name}.") if isinstance(value, Mapping) else value
        found[_present_name(prefix + name, warn).removeprefix(prefix)] = inner
    return found


def _present_name(key: str, warn: bool) -> str:
    name = RENAMED.get(key, key)
    if warn and name != key:
        said = f"training setting {key} is now {name}; the old name goes in the next release"
        warnings.warn(said, FutureWarning, stacklevel=3)
    return name


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` on top, group by group."""
    merged = dict(base)
    for name, value in changes.items():
        both = isinstance(merged.get(name), dict) and isinstance(value, dict)
        merged[name] = _merged(merged[name], value) if both else value
    return merged


def preset_folder() -> Path:
    """config/training of this checkout, or of the installed package's share folder."""
    from shared_pose_ros.resources import share_folder

    return share_folder() / "config" / "training"


def _build(kind: type, values: dict[str, Any], prefix: str) -> Any:
    fields = {item.name: item for item in dataclasses.fields(kind)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"unknown training setting {prefix}{unknown[0]}; known: {', '.join(fields)}")
    built: dict[str, Any] = {}
    defaults = kind()
    for name, value in values.items():
        default = getattr(defaults, name)
        if dataclasses.is_dataclass(default):
            if not isinstance(value, dict):
                raise ValueError(f"training setting {prefix}{name} is {value!r}; it is a group: name one of its")
            built[name] = _build(type(default), value, f"{prefix}{name}.")
        else:
            built[name] = _convert(prefix + name, value, default, "any_length" in fields[name].metadata)
    return kind(**built)


def _convert(name: str, value: Any, default: Any, any_length: bool) -> Any:
    if isinstance(default, tuple):
        items = value if isinstance(value, (list, tuple)) else [value] * any_length
        right = len(items) > 0 if any_length else len(items) == len(default)
        if not right or not all(isinstance(item, (int, float)) for item in items):
            number = "" if any_length else f"{len(default)} "
            raise ValueError(f"training setting {name} is {value!r}; give a list of {number}numbers")
        return tuple(float(item) for item in items)
    try:
        converted = type(default)(value)
    except (TypeError, ValueError):
        converted = None
    if isinstance(default, int) and converted != value:
        converted = None  # 2.7 is no number of hypotheses
    if converted is None or (isinstance(default, (bool, str)) and not isinstance(value, type(default))):
        raise ValueError(f"training setting {name} is {value!r}; give a {type(default).__name__}")
    return converted


def at_difficulty(images: Images, difficulty: float) -> Images:
    """The same settings with every disturbance scaled: 0 shows clean parts, 1 is as configured.

    What is a disturbance is declared as ``scaled``: probabilities and spreads, not lights and distances.
    """
    if difficulty >= 1:
        return images
    eased: dict[str, Any] = {}
    for item in dataclasses.fields(images):
        if item.metadata.get("scaled"):
            value = getattr(images, item.name)
            eased[item.name] = tuple(x * difficulty for x in value) if isinstance(value, tuple) else value * difficulty
    return dataclasses.replace(images, **eased)


def changed_settings(first: dict[str, Any], second: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Settings, named like "loss.d_max", that differ between two ``to_dict``, with both values (None: absent)."""
    changed: dict[str, tuple[Any, Any]] = {}
    for name in sorted(set(first) | set(second)):
        old, new = first.get(name), second.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            changed |= changed_settings(old, new, f"{prefix}{name}.")
        elif old != new:
            changed[prefix + name] = (old, new)
    return changed


def override(config: Settings, key: str, value: Any) -> Settings:
    """The configuration with one setting, named like "loss.d_max", changed; ValueError on an unknown key or type."""
    values = place = config.to_dict()
    *groups, name = _present_name(key, warn=True).split(".")
    for group in groups:
        if not isinstance(place.get(group), dict):
            raise ValueError(f"unknown training setting {key}; known: {', '.join(values)}")
        place = place[group]
    if name not in place or isinstance(place[name], dict):
        raise ValueError(f"unknown training setting {key}; known: {', '.join(place)}")
    place[name] = value
    return config_from_dict(values, type(config))
