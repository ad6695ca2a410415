"""Whether what the node publishes and subscribes to can reach the other side: types and QoS of the peers on each topic.

The graph is read each time instead of keeping the middleware's QoS events: a peer that has left raises no event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible

MOST_NAMED = 3
"""Topics that one sentence lists."""
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


def problems(node: Node, published: Iterable[str], subscribed: Iterable[str]) -> list[str]:
    """One sentence for each peer that cannot hear the node on a published topic, or be heard on a subscribed one."""
    found = []
    for topics, publishes in ((published, True), (subscribed, False)):
        for topic in topics:
            senders, receivers = node.get_publishers_info_by_topic(topic), node.get_subscriptions_info_by_topic(topic)
            ours = [end for end in (senders if publishes else receivers) if _is_of(node, end)]
            peers = [end for end in (receivers if publishes else senders) if not _is_of(node, end)]
            for end in ours[:1]:
                found += [text for peer in peers if (text := _problem(topic, end, peer, publishes))]
    return sorted(set(found))


def elsewhere(node: Node, topic: str) -> str:
    """What to do about a subscribed topic on which nobody publishes: topics of its type on which somebody does."""
    kinds = {end.topic_type for end in node.get_subscriptions_info_by_topic(topic) if _is_of(node, end)}
    others = [
        name
        for name, types in node.get_topic_names_and_types()
        if kinds & set(types) and any(not _is_of(node, end) for end in node.get_publishers_info_by_topic(name))
    ]
    if not others:
        return "check that it is published there"
    named = ", ".join(f"'{name}'" for name in sorted(others)[:MOST_NAMED])
    return f"nobody publishes there, but the same type is on {named}: remap one of them"


def _is_of(node: Node, end: Any) -> bool:
    return (end.node_name, end.node_namespace) == (node.get_name(), node.get_namespace())


def _problem(topic: str, ours: Any, peer: Any, publishes: bool) -> str:
    if peer.topic_type != ours.topic_type:
        remedy = (
            "set image_transport" if {peer.topic_type, ours.topic_type} == set(IMAGE_TYPES) else "remap one of them"
        )
        return (
            f"'{topic}': node '{peer.node_name}' has the type {peer.topic_type}, this node {ours.topic_type}: {remedy}"
        )
    # Both as the graph tells them: a deadline that nobody set is infinite there, and 0 in a QoSProfile made here.
    sender, receiver = (ours, peer) if publishes else (peer, ours)
    compatibility, reason = qos_check_compatible(sender.qos_profile, receiver.qos_profile)
    if compatibility != QoSCompatibility.ERROR:
        return ""
    clashes = ", ".join(text.removeprefix("ERROR:").strip() for text in reason.split(";") if "ERROR" in text)
    return f"'{topic}': the QoS of node '{peer.node_name}' is incompatible ({clashes}): change it there"
