"""The node's parameters: one table that declares, validates and documents them.

`config/shared_pose.yaml` and the table in docs/reference/node.md are written from it by `python -m
shared_pose_ros.ros.parameter_pages`. Ages are seconds, memory is MiB (2**20 bytes).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Optional, Union

from shared_pose_ros.network.backends.precision import PRECISIONS

Value = Union[bool, int, float, str]


@dataclass(frozen=True)
class Parameter:
    """One row: `range` is (least, greatest) for numbers, `choices` the allowed strings; both inclusive, None for any.

    `read_only` parameters are fixed while the node is configured: set them before `configure`, or after `cleanup`.
    """

    name: str
    default: Value
    description: str
    range: Optional[tuple[float, float]] = None
    choices: Optional[tuple[str, ...]] = None
    unit: str = ""
    read_only: bool = False

    @property
    def type(self) -> type:
        """bool, int, float or str: the type of the default."""
        return type(self.default)

    def problem_with(self, value: Any) -> Optional[str]:
        """Why `value` cannot be taken (naming the value, the limit and the remedy), or None."""
        if type(value) is not self.type:
            return f"{self.name}: {value!r} is a {type(value).__name__}; give a {self.type.__name__}"
        if self.choices is not None and value not in self.choices:
            return f"{self.name}: {value!r} is unknown; choose one of {', '.join(self.choices)}"
        if self.range is not None and not (math.isfinite(value) and self.range[0] <= value <= self.range[1]):
            return f"{self.name}: {value} is outside {self.limits}; give a value inside"
        return None

    @property
    def limits(self) -> str:
        """The allowed values, for people."""
        if self.choices is not None:
            return ", ".join(self.choices)
        return "" if self.range is None else f"{self.range[0]:g} to {self.range[1]:g}"


TABLE: tuple[Parameter, ...] = (
    Parameter("bundle", "", "Path of the model, a `.pose.pt` file written by `shared_pose export`.", read_only=True),
    Parameter(
        "device",
        "auto",
        "Where the network runs; auto takes CUDA if there is a GPU, else the CPU.",
        choices=("auto", "cpu", "cuda"),
        read_only=True,
    ),
    Parameter(
        "precision",
        "auto",
        "Of the network's encoder; auto is int8 on a processor with avx512_vnni instructions, else bf16 where it has "
        "those, else fp32. fp16 is for GPUs.",
        choices=PRECISIONS,
        read_only=True,
    ),
    Parameter("cpu_threads", 0, "Threads of the network on the CPU; 0 leaves it to torch.", (0, 256), read_only=True),
    Parameter(
        "autostart", True, "Configure and activate at start; if false, a lifecycle manager does it.", read_only=True
    ),
    Parameter(
        "image_transport",
        "raw",
        "Type on `image`: sensor_msgs/Image (raw) or CompressedImage (compressed).",
        choices=("raw", "compressed"),
        read_only=True,
    ),
    Parameter(
        "image_is_rectified",
        False,
        "Take the camera matrix from P (true) or from K (false) of camera_info.",
        read_only=True,
    ),
    Parameter(
        "use_depth",
        False,
        "Take positions from the depth images on `depth`, which must be registered to the colour image.",
        read_only=True,
    ),
    Parameter(
        "pairing_slop_seconds",
        0.0,
        "Greatest difference between the stamps of an image and its detections (or its depth image); 0 is exact.",
        (0.0, 1.0),
        unit="s",
        read_only=True,
    ),
    Parameter(
        "image_buffer_seconds",
        1.5,
        "How long an image waits for its detections (and they for it): the detector's greatest latency with a margin.",
        (0.05, 60.0),
        unit="s",
        read_only=True,
    ),
    Parameter(
        "image_buffer_count",
        120,
        "Most images, most detection arrays, and most depth images, that wait.",
        (1, 10000),
        read_only=True,
    ),
    Parameter(
        "image_buffer_mib",
        256,
        "Most memory that the waiting images take; with use_depth as much again for the depth images.",
        (1, 65536),
        unit="MiB",
        read_only=True,
    ),
    Parameter(
        "time_jump_seconds",
        0.5,
        "An image whose stamp is this much older than the newest one starts a new time line "
        "(a bag loop, a clock set back).",
        (0.01, 3600.0),
        unit="s",
        read_only=True,
    ),
    Parameter(
        "max_batch",
        16,
        "Most objects in one run of the network; a frame with more is split. Each size up to it is warmed at "
        "configure; after a raise, the added ones before the next frame.",
        (1, 256),
    ),
    Parameter(
        "score_threshold", 0.0, "Detections whose best score is lower are left out (counter low_score).", (0.0, 1.0)
    ),
    Parameter(
        "hypotheses", 0, "Orientations published per object, best first; 0 publishes all that the model has.", (0, 1000)
    ),
    Parameter(
        "symmetric_representative",
        "reference",
        "Which of the equivalent poses of a symmetric object is published: the network's own (any), the one turned "
        "nearest to reference_orientation (reference), which planners want, or the one nearest to what was published "
        "last for the detection's id (last; the first time as reference).",
        choices=("any", "reference", "last"),
    ),
    Parameter(
        "reference_orientation",
        "facing",
        "The reference for symmetric objects: CAD axes x right, y up, z towards the camera (facing), or those of the "
        "camera, x right, y down, z away (camera).",
        choices=("facing", "camera"),
    ),
    Parameter(
        "smoothing",
        0.0,
        "Memory between frames for detections with an id: one that is k frames old counts smoothing to the power of k; "
        "0 is off.",
        (0.0, 0.95),
    ),
    Parameter(
        "track_timeout_seconds",
        2.0,
        "An id that was not seen for so long, by the images' stamps, is forgotten (smoothing, last).",
        (0.01, 3600.0),
        unit="s",
    ),
    Parameter(
        "publish_tf",
        False,
        "Publish each object whose position is known as a transform on `/tf`, from the image's frame to "
        "`<node name>/<class_id>_<id>`.",
        read_only=True,
    ),
    Parameter(
        "debug_drawing", True, "Draw ~/markers and ~/debug_image for subscribers; false draws nothing, whoever asks."
    ),
)

BY_NAME: Mapping[str, Parameter] = {row.name: row for row in TABLE}


OF_RCLPY = ("use_sim_time", "start_type_description_service")
"""Parameters that rclpy declares on every node; beside them `qos_overrides.*`."""


def problem_with_change(changes: Iterable[tuple[str, Any]], configured: bool) -> Optional[str]:
    """Why a set of (name, value) changes is refused, or None.

    Names outside the table (use_sim_time, start_type_description_service, ...) are not judged. `configured`: the node
    holds a bundle, so read-only parameters may not change.
    """
    for name, value in changes:
        row = BY_NAME.get(name)
        if row is None:
            continue
        problem = row.problem_with(value)
        if problem is None and row.read_only and configured:
            problem = f"{name}: cannot change while the node is configured; deactivate and clean up first"
        if problem is not None:
            return problem
    return None


def from_text(changes: Mapping[str, str]) -> SimpleNamespace:
    """The table's defaults with some values given as text, as attributes of the same names, for a replay without node.

    Raises:
        ValueError: an unknown name, or a value that the parameter cannot take.
    """
    values = {row.name: row.default for row in TABLE}
    for name, text in changes.items():
        row = BY_NAME.get(name)
        if row is None:
            raise ValueError(f"the node has no parameter {name!r}; choose one of {', '.join(BY_NAME)}")
        values[name] = _value(row, text)
        problem = row.problem_with(values[name])
        if problem is not None:
            raise ValueError(problem)
    return SimpleNamespace(**values)


def _value(row: Parameter, text: str) -> Value:
    if row.type is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return row.type(text)
    except ValueError:
        return text


def take_back_unknown(node: Any) -> dict[str, str]:
    """{name: the nearest known name, or ''} of overrides (YAML, command line) that neither table nor rclpy knows.

    rclpy passes over them without a word. Made with `automatically_declare_parameters_from_overrides=True`, the public
    way to see them, the node has declared all overrides: they are undeclared again, `declare` does it properly.
    """
    given = [name for name in node.get_parameters_by_prefix("") if not _is_of_rclpy(name)]
    for name in given:
        node.undeclare_parameter(name)
    unknown = sorted(name for name in given if name not in BY_NAME)
    return {name: next(iter(difflib.get_close_matches(name, BY_NAME, 1)), "") for name in unknown}


def _is_of_rclpy(name: str) -> bool:
    return name in OF_RCLPY or name.startswith("qos_overrides.")


def declare(node: Any) -> None:
    """Declare the whole table on an rclpy node, with ranges and descriptions in the parameter descriptors.

    Raises rclpy's InvalidParameterTypeException or InvalidParameterValueException when an override (YAML, command line)
    has the wrong type or value; its text names the parameter.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    for row in TABLE:
        descriptor = ParameterDescriptor(name=row.name, description=row.description)
        descriptor.additional_constraints = row.limits
        if row.range is not None and row.type is int:
            descriptor.integer_range = [IntegerRange(from_value=int(row.range[0]), to_value=int(row.range[1]), step=1)]
        elif row.range is not None:
            descriptor.floating_point_range = [FloatingPointRange(from_value=row.range[0], to_value=row.range[1])]
        node.declare_parameter(row.name, row.default, descriptor)
        problem = row.problem_with(node.get_parameter(row.name).value)
        if problem is not None:
            raise ValueError(problem)


def read(node: Any) -> SimpleNamespace:
    """The current values of the whole table, as attributes of the same names."""
    return SimpleNamespace(**{row.name: node.get_parameter(row.name).value for row in TABLE})
