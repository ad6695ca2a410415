"""The node's parameters: one class that declares, validates and documents them.

A new parameter is a field here and its use in a stage; the node's declaration, `config/shared_pose.yaml`, the reference
page and `replay --set` follow from it. Ages are seconds, memory is MiB (2**20 bytes).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared_pose_ros.network.backends.precision import PRECISIONS

Value = bool | int | float | str


@dataclass(frozen=True)
class Parameter:
    """What is known of one parameter.

    Attributes:
        name: of the field and of the ROS parameter.
        default: its type is the parameter's.
        description: one or two sentences.
        range: (least, greatest) of a number, both inclusive; None for any.
        choices: the allowed strings; None for any.
        unit: for people.
        read_only: fixed while the node is configured: set it before ``configure``, or after ``cleanup``.
    """

    name: str
    default: Value
    description: str
    range: tuple[float, float] | None = None
    choices: tuple[str, ...] | None = None
    unit: str = ""
    read_only: bool = False

    @property
    def type(self) -> type[Value]:
        """bool, int, float or str: the type of the default."""
        return type(self.default)

    def problem_with(self, value: object) -> str | None:
        """Why ``value`` cannot be taken (naming the value, the limit and the remedy), or None."""
        if type(value) is not self.type:
            return f"{self.name}: {value!r} is a {type(value).__name__}; give a {self.type.__name__}"
        if self.choices is not None and value not in self.choices:
            return f"{self.name}: {value!r} is unknown; choose one of {', '.join(self.choices)}"
        if self.range is None or not isinstance(value, (int, float)):
            return None
        if not (math.isfinite(value) and self.range[0] <= value <= self.range[1]):
            return f"{self.name}: {value} is outside {self.limits}; give a value inside"
        return None

    @property
    def limits(self) -> str:
        """The allowed values, for people."""
        if self.choices is not None:
            return ", ".join(self.choices)
        return "" if self.range is None else f"{self.range[0]:g} to {self.range[1]:g}"

    def parse(self, text: str) -> object:
        """The value that a text stands for; the text itself where it stands for none of the type."""
        if self.type is bool:
            return {"true": True, "false": False}.get(text.lower(), text)
        try:
            return self.type(text)
        except ValueError:
            return text


def parameter(
    default: Value,
    description: str,
    range: tuple[float, float] | None = None,
    choices: tuple[str, ...] | None = None,
    unit: str = "",
    read_only: bool = False,
) -> Any:
    """A field of ``NodeParameters``; the arguments are the attributes of ``Parameter``."""
    facts = {"description": description, "range": range, "choices": choices, "unit": unit, "read_only": read_only}
    return dataclasses.field(default=default, metadata=facts)


@dataclass(frozen=True)
class NodeParameters:
    """The values of all parameters at one moment. The defaults are valid, but for the bundle, which must be named."""

    bundle: str = parameter("", "Path of the model, a `.pose.pt` file written by `shared_pose export`.", read_only=True)
    device: str = parameter(
        "auto",
        "Where the network runs; auto takes CUDA if there is a GPU, else the CPU.",
        choices=("auto", "cpu", "cuda"),
        read_only=True,
    )
    precision: str = parameter(
        "auto",
        "Of the network's encoder; auto is int8 on a processor with avx512_vnni instructions, else bf16 where it "
        "has those, else fp32. fp16 is for GPUs.",
        choices=PRECISIONS,
        read_only=True,
    )
    cpu_threads: int = parameter(
        0, "Threads of the network on the CPU; 0 leaves it to torch.", range=(0, 256), read_only=True
    )
    autostart: bool = parameter(
        True, "Configure and activate at start; if false, a lifecycle manager does it.", read_only=True
    )
    image_transport: str = parameter(
        "raw",
        "Type on `image`: sensor_msgs/Image (raw) or CompressedImage (compressed).",
        choices=("raw", "compressed"),
        read_only=True,
    )
    image_is_rectified: bool = parameter(
        False, "Take the camera matrix from P (true) or from K (false) of camera_info.", read_only=True
    )
    use_depth: bool = parameter(
        False,
        "Align poses to the depth images on `depth`, which must be registered to the colour image; an object without "
        "a mesh in the bundle takes its position alone from them.",
        read_only=True,
    )
    refine: int = parameter(
        -1,
        "Steps in which the hypotheses are refined by rendering them; 0 is off, -1 is two where the bundle has a "
        "refiner and meshes. Needs warp-lang.",
        range=(-1, 4),
    )
    refine_hypotheses: int = parameter(
        3, "Hypotheses of each object that are refined, most confident first; 0 refines all.", range=(0, 1000)
    )
    refine_memory: bool = parameter(
        False,
        "Refine the pose published last for the detection's id as one more hypothesis; needs ids that stay with their "
        "parts.",
    )
    pairing_slop_seconds: float = parameter(
        0.0,
        "Greatest difference between the stamps of an image and its detections (or its depth image); 0 is exact.",
        range=(0.0, 1.0),
        unit="s",
        read_only=True,
    )
    image_buffer_seconds: float = parameter(
        1.5,
        "How long an image waits for its detections (and they for it): the detector's greatest latency with a margin.",
        range=(0.05, 60.0),
        unit="s",
        read_only=True,
    )
    image_buffer_count: int = parameter(
        120, "Most images, most detection arrays, and most depth images, that wait.", range=(1, 10000), read_only=True
    )
    image_buffer_mib: int = parameter(
        256,
        "Most memory that the waiting images take; with use_depth as much again for the depth images.",
        range=(1, 65536),
        unit="MiB",
        read_only=True,
    )
    time_jump_seconds: float = parameter(
        0.5,
        "An image whose stamp is this much older than the newest one starts a new time line (a bag loop, a clock "
        "set back).",
        range=(0.01, 3600.0),
        unit="s",
        read_only=True,
    )
    max_batch: int = parameter(
        16,
        "Most objects in one run of the network; a frame with more is split. Each size up to it is warmed at "
        "configure; after a raise, the added ones before the next frame.",
        range=(1, 256),
    )
    score_threshold: float = parameter(
        0.0, "Detections whose best score is lower are left out (counter low_score).", range=(0.0, 1.0)
    )
    hypotheses: int = parameter(
        0, "Orientations published per object, best first; 0 publishes all that the model has.", range=(0, 1000)
    )
    symmetric_representative: str = parameter(
        "reference",
        "Which of the equivalent poses of a symmetric object is published: the network's own (any), the one "
        "rotated nearest to reference_orientation (reference), which planners want, or the one nearest to what was"
        " published last for the detection's id (last; the first time as reference).",
        choices=("any", "reference", "last"),
    )
    reference_orientation: str = parameter(
        "facing",
        "The reference for symmetric objects: CAD axes x right, y up, z towards the camera (facing), or those of "
        "the camera, x right, y down, z away (camera).",
        choices=("facing", "camera"),
    )
    smoothing: float = parameter(
        0.0,
        "Temporal filtering of detections with an id: one that is k frames old counts smoothing to the power "
        "of k; 0 is off.",
        range=(0.0, 0.95),
    )
    track_timeout_seconds: float = parameter(
        2.0,
        "An id that was not seen for so long, by the images' stamps, is forgotten (smoothing, last, refine_memory).",
        range=(0.01, 3600.0),
        unit="s",
    )
    publish_tf: bool = parameter(
        False,
        "Publish each object whose position is known as a transform on `/tf`, from the image's frame to `<node "
        "name>/<class_id>_<id>`.",
        read_only=True,
    )
    debug_drawing: bool = parameter(
        True, "Draw ~/markers and ~/debug_image for subscribers; false draws nothing, whoever asks."
    )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> NodeParameters:
        """The defaults with some values given.

        Raises:
            ValueError: an unknown name, or a value that the parameter cannot take.
        """
        for name, value in values.items():
            if name not in PARAMETERS:
                raise ValueError(f"the node has no parameter {name!r}; choose one of {', '.join(PARAMETERS)}")
            problem = PARAMETERS[name].problem_with(value)
            if problem is not None:
                raise ValueError(problem)
        return cls(**values)

    @classmethod
    def from_text(cls, texts: Mapping[str, str]) -> NodeParameters:
        """As ``of``, with each value as text, as a command line has it."""
        return cls.of(
            {name: PARAMETERS[name].parse(text) if name in PARAMETERS else text for name, text in texts.items()}
        )


PARAMETERS: Mapping[str, Parameter] = {
    entry.name: Parameter(entry.name, getattr(NodeParameters, entry.name), **entry.metadata)
    for entry in dataclasses.fields(NodeParameters)
}
"""All parameters by name, in the order in which they are documented."""
