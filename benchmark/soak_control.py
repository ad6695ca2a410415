"""The soak's operator: subscribers come and go, parameters change, the node is deactivated and activated again."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from shared_pose_ros.replay.player import wait
from shared_pose_ros.ros.lifecycle_node import NODE_NAME

TOPICS = {"poses": Detection3DArray, "debug_image": Image, "markers": MarkerArray}
PARAMETERS: dict[str, tuple[Any, ...]] = {
    "score_threshold": (0.0, 0.5, 0.95),
    "hypotheses": (0, 1, 3),
    "symmetric_representative": ("any", "reference"),
    "reference_orientation": ("facing", "camera"),
}
PAUSE = (0.5, 3.0)
"""Between two actions, in s."""
ANSWER_SECONDS = 30.0
"""A service that has not answered by then is a problem of its own."""


class Operator(Node):
    """Acts at random in a thread of its own while its `with` block runs."""

    def __init__(self, context: Context, seed: int) -> None:
        super().__init__("soak_operator", context=context)
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self.inactive = threading.Event()
        """Set while the node may not be listening."""
        self._random = np.random.default_rng(seed)
        self._subscriptions_now: dict[str, Any] = {}
        self._change = self.create_client(ChangeState, f"{NODE_NAME}/change_state")
        self._set = self.create_client(SetParameters, f"{NODE_NAME}/set_parameters")
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="operator")

    def start(self) -> None:
        """Begin to act."""
        self._thread.start()

    def stop(self) -> None:
        """End, with the node active."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        # Everything once at the beginning: what the node makes the first time is not taken for growth.
        for name in TOPICS:
            self._churn(name)
        for _ in range(2):
            self._cycle()
        for name in TOPICS:
            self._churn(name)
        actions: tuple[Callable[[], None], ...] = (self._churn, self._churn, self._churn, self._tune, self._cycle)
        while not self._ending.wait(float(self._random.uniform(*PAUSE))):
            actions[int(self._random.integers(len(actions)))]()

    def _churn(self, name: str = "") -> None:
        """A subscriber more, or one less, of the topic or of one at random."""
        name = name or str(self._random.choice(list(TOPICS)))
        held = self._subscriptions_now.pop(name, None)
        if held is not None:
            self.destroy_subscription(held)
        else:
            topic = f"{NODE_NAME}/{name}"
            self._subscriptions_now[name] = self.create_subscription(
                TOPICS[name], topic, lambda _: None, qos_profile_sensor_data
            )
        self.done[f"{name} {'left' if held else 'joined'}"] += 1

    def _tune(self) -> None:
        """Another value of a parameter."""
        name = str(self._random.choice(list(PARAMETERS)))
        value = PARAMETERS[name][int(self._random.integers(len(PARAMETERS[name])))]
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        answer = self._call(self._set, request)
        if answer is not None and not answer.results[0].successful:
            self.problems.append(f"{name}:={value} was refused: {answer.results[0].reason}")
        self.done["parameter"] += 1

    def _cycle(self) -> None:
        """Deactivate, a moment's rest, activate."""
        self.inactive.set()
        for label in ("deactivate", "activate"):
            request = ChangeState.Request()
            request.transition.label = label
            answer = self._call(self._change, request)
            if answer is not None and not answer.success:
                self.problems.append(f"{label} failed")
            if label == "deactivate":
                time.sleep(float(self._random.uniform(0.2, 1.5)))
        # Best effort: the node must find the publishers anew.
        time.sleep(0.3)
        self.inactive.clear()
        self.done["deactivated and activated"] += 1

    def _call(self, client: Any, request: Any) -> Any:
        # A request that goes out before both sides know each other is lost.
        if not client.wait_for_service(ANSWER_SECONDS):
            self.problems.append(f"no service {client.srv_name} within {ANSWER_SECONDS:g} s")
            return None
        future = client.call_async(request)
        if not wait(future.done, ANSWER_SECONDS):
            self.problems.append(f"{client.srv_name} did not answer within {ANSWER_SECONDS:g} s")
            return None
        return future.result()
