"""The node's parameters (``pipeline.parameters``) on an rclpy node: declared, read, changes judged."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from shared_pose_ros.pipeline.parameters import PARAMETERS, NodeParameters

if TYPE_CHECKING:
    from rclpy.node import Node

OF_RCLPY = ("use_sim_time", "start_type_description_service")
"""Parameters that rclpy declares on every node; beside them `qos_overrides.*`."""


def problem_with_change(changes: Iterable[tuple[str, object]], configured: bool) -> str | None:
    """Why a set of (name, value) changes is refused, or None.

    Names of others (use_sim_time, start_type_description_service, ...) are not judged. `configured`: the node
    holds a bundle, so read-only parameters may not change.
    """
    for name, value in changes:
        row = PARAMETERS.get(name)
        if row is None:
            continue
        problem = row.problem_with(value)
        if problem is None and row.read_only and configured:
            problem = f"{name}: cannot change while the node is configured; deactivate and clean up first"
        if problem is not None:
            return problem
    return None


def take_back_unknown(node: Node) -> dict[str, str]:
    """{name: the nearest known name, or ''} of overrides (YAML, command line) that neither table nor rclpy knows.

    rclpy passes over them without a word. Made with `automatically_declare_parameters_from_overrides=True`, the public
    way to see them, the node has declared all overrides: they are undeclared again, `declare` does it properly.
    """
    given = [name for name in node.get_parameters_by_prefix("") if not _is_of_rclpy(name)]
    for name in given:
        node.undeclare_parameter(name)
    unknown = sorted(name for name in given if name not in PARAMETERS)
    return {name: next(iter(difflib.get_close_matches(name, PARAMETERS, 1)), "") for name in unknown}


def _is_of_rclpy(name: str) -> bool:
    return name in OF_RCLPY or name.startswith("qos_overrides.")


def declare(node: Node) -> None:
    """Declare the whole table on an rclpy node, with ranges and descriptions in the parameter descriptors.

    Raises rclpy's InvalidParameterTypeException or InvalidParameterValueException when an override (YAML, command line)
    has the wrong type or value; its text names the parameter.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    for row in PARAMETERS.values():
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


def read(node: Node) -> NodeParameters:
    """The current values."""
    return NodeParameters(**{name: node.get_parameter(name).value for name in PARAMETERS})
