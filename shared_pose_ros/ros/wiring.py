"""Whether what the node publishes and subscribes to can reach the other side: types and QoS of the peers on each topic.

The graph is asked each time instead of keeping the middleware's QoS events: a peer that has left raises no event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible


def problems(node: Node, publishers: Iterable[Any], subscriptions: Iterable[Any]) -> list[str]:
    """One sentence for each peer that cannot hear a publisher of the node, or be heard by a subscription of it."""
    found = []
    for subscription in subscriptions:
        topic = subscription.topic_name
        for peer in node.get_publishers_info_by_topic(topic):
            found += _problem(topic, peer, subscription.msg_type, peer.qos_profile, subscription.qos_profile)
    for publisher in publishers:
        topic = publisher.topic_name
        for peer in node.get_subscriptions_info_by_topic(topic):
            found += _problem(topic, peer, publisher.msg_type, publisher.qos_profile, peer.qos_profile)
    return sorted(set(found))


def type_name(message_class: type) -> str:
    """The interface's name of a message class: sensor_msgs/msg/Image."""
    return f"{message_class.__module__.split('.')[0]}/msg/{message_class.__name__}"


def _problem(topic: str, peer: Any, message_class: type, offered: Any, requested: Any) -> list[str]:
    name = f"'{topic}': node '{peer.node_name}'"
    ours = type_name(message_class)
    if peer.topic_type != ours:
        hint = "; set image_transport" if {"Image", "CompressedImage"} & {ours.split("/")[-1]} else ""
        return [f"{name} has the type {peer.topic_type} there, this node {ours}{hint}"]
    compatibility, reason = qos_check_compatible(offered, requested)
    if compatibility == QoSCompatibility.ERROR:
        return [f"{name} has an incompatible QoS ({reason.removeprefix('ERROR: ').strip(' ;')}): change it there"]
    return []
