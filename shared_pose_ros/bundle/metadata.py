"""The facts of a bundle, ``metadata.json``."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 1
# Names in the file that are others here: every version of the package reads the same schema.
_JSON_NAMES = {"tta_rotations": "turns"}


class BundleError(RuntimeError):
    """A bundle cannot be written or used; the message is one sentence with the reason and the remedy."""


@dataclass(frozen=True)
class BundleObject:
    """What a cell needs to know of one object.

    Attributes:
        class_id: the string that the detector publishes.
        aliases: other strings that mean the same object.
        name: for people.
        diameter: metres.
        extents: edges of the CAD's bounding box, metres.
        centre: centre of that box in the CAD frame, metres.
        scale: half the largest extent, metres.
        symmetries: as ``meshes.symmetries.Symmetries.to_dict`` gives them.
    """

    class_id: str
    aliases: tuple[str, ...]
    name: str
    diameter: float
    extents: tuple[float, float, float]
    centre: tuple[float, float, float]
    scale: float
    symmetries: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BundleObject:
        """Of plain values, as JSON has them."""
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**plain)


@dataclass(frozen=True)
class BundleMetadata:
    """Facts of a bundle; ``objects`` are in the network's order."""

    name: str
    objects: tuple[BundleObject, ...]
    hypotheses: int
    crop_pad: float
    crop_size: int
    encoder_width: str
    tuning: str
    normalize_code: bool
    preset: str
    samples: int
    seed: int
    commit: str
    tta_rotations: int = 1  # in which the network sees a crop: 4 are its quarter rotations (test_time_augmentation)
    metrics: dict[str, Any] = field(default_factory=dict)
    storage: str = "fp32"  # of the weights in the file: fp16 takes half of it; they are fp32 once loaded
    torch_version: str = ""
    weights_sha256: str = ""  # of the weights as stored
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """As the file has them."""
        values = dataclasses.asdict(self)
        return json.dumps({_JSON_NAMES.get(name, name): value for name, value in values.items()})

    @classmethod
    def from_json(cls, text: str | bytes, origin: str) -> BundleMetadata:
        """Of what ``to_json`` wrote, in this version of the package or an earlier one.

        Args:
            text: of the file's entry.
            origin: the file, for messages.

        Raises:
            BundleError: no such text, or of another schema.
        """
        try:
            values = json.loads(text)
            version = values.get("schema_version")
        except (ValueError, AttributeError) as error:
            raise BundleError(f"metadata of {origin} are damaged ({error}); export or copy it again") from error
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{origin} has schema version {version}, this package reads {SCHEMA_VERSION}; export it again"
            )
        try:
            values |= {name: values.pop(key) for name, key in _JSON_NAMES.items() if key in values}
            objects = tuple(BundleObject.from_dict(entry) for entry in values.pop("objects"))
            return cls(objects=objects, **values)
        except (TypeError, KeyError, AttributeError) as error:
            raise BundleError(
                f"metadata of {origin} do not fit schema {SCHEMA_VERSION} ({error}); export again"
            ) from error
