"""Runs the node for a long time at 30 Hz with random faults and checks that it loses nothing, grows not, and lives.

    python benchmark/soak.py --minutes 30 [--seed 0] [--json benchmark/results/soak.json]

Prints JSON; exit code 1 if a check failed. What is done and what is checked: docs/benchmarks/node.md.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from node_metrics import rounded
from node_process import hardware
from output import emit
from soak_checks import counter_problems, log_problems, memory_fit, memory_problems, transport, unbalanced

from shared_pose_ros.bundle import load_bundle
from shared_pose_ros.replay.demo_live import DemoError, prepare_environment
from shared_pose_ros.resources import share_folder
from shared_pose_ros.training.provenance import source_commit

RATE = 30.0
SETTLE_SECONDS = 15.0
"""After the last message the node has so long to answer or count everything."""


def play(made: Any, stream: Any, operator: Any, seconds: float) -> dict[str, Any]:
    """Publish the stream for so long; what was sent by topic, and what the diagnostics showed meanwhile."""
    sent = {topic: {"sent": 0, "inactive": 0} for topic in ("image", "detections")}
    due: list[tuple[float, int, str, bytes]] = []
    number, checked, broken, checks = 0, 0.0, [], 0
    began = next_frame = time.monotonic()
    while (now := time.monotonic()) < began + seconds or due:
        if now >= next_frame and now < began + seconds:
            for delay, topic, data in stream.frame(1 / RATE):
                number += 1
                heapq.heappush(due, (next_frame + delay, number, topic, data))
            next_frame += 1 / RATE
        while due and due[0][0] <= now:
            _, _, topic, data = heapq.heappop(due)
            made.player.play(topic, data)
            if topic in sent:
                sent[topic]["sent"] += 1
                sent[topic]["inactive"] += operator.inactive.is_set()
        if made.player.status is not None and made.player.status_time > checked:
            checked, checks = made.player.status_time, checks + 1
            broken += unbalanced(values_of(made.player))
        made.node.check()
        time.sleep(max(min(next_frame, due[0][0] if due else next_frame) - time.monotonic(), 0.001))
    return {"sent": sent, "broken": broken, "diagnostics_checked": checks, "seconds": time.monotonic() - began}


def values_of(player: Any) -> dict[str, str]:
    """The node's latest diagnostics."""
    return {entry.key: entry.value for entry in player.status.values}


def settled_values(made: Any) -> tuple[dict[str, str], list[str]]:
    """Diagnostics with nothing pending, from after this call; a problem if that does not come."""
    from shared_pose_ros.replay.player import wait

    asked = time.monotonic()
    player = made.player
    done = wait(lambda: player.status_time > asked + 1.0 and player.settled, SETTLE_SECONDS, made.node.check)
    return values_of(player), [] if done else [f"messages are still pending after {SETTLE_SECONDS:g} s"]


def soak(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """(figures, problems) of one run."""
    from node_cell import cell
    from node_input import make_input
    from soak_control import Operator
    from soak_faults import Stream

    from shared_pose_ros.replay.player import spinning

    metadata = load_bundle(options.bundle).metadata
    log = options.logs / "soak.log"
    with cell(options.bundle, metadata, log) as made, spinning(lambda c: Operator(c, options.seed + 1)) as operator:
        stream = Stream(options.seed, made.classes, time.time_ns())
        with made.watch(1.0) as watch:
            operator.start()
            try:
                played = play(made, stream, operator, 60 * options.minutes)
            finally:
                operator.stop()
            values, problems = settled_values(made)
        counters = made.player.counters
        # Whatever was set, the node must still answer.
        if not made.ask(make_input("640x480", "raw", 1, made.classes), 5).answers:
            problems.append("after the run the node answers no more")
        code = made.node.stop()
    figures: dict[str, Any] = {"seconds": rounded(played["seconds"]), "topics": {}}
    for topic, counts in played["sent"].items():
        stream_name = "images" if topic == "image" else topic
        received = int(values[f"received/{stream_name}"])
        figures["topics"][topic], found = transport(counts["sent"], counts["inactive"], received, topic)
        problems += found
    problems += [*played["broken"], *unbalanced(values), *operator.problems, *counter_problems(counters)]
    problems += [*memory_problems(watch.resident), *log_problems(log.read_text(encoding="utf-8", errors="replace"))]
    problems += [f"the node ended with exit code {code}"] if code else []
    fit = memory_fit(watch.resident)
    figures |= {
        "published": {name: int(values[f"published/{name}"]) for name in ("poses", "objects")},
        "used_images": int(values["used/images"]),
        "counters": {name: number for name, number in counters.items() if number},
        "faults": dict(sorted(stream.faults.items())),
        "operator": dict(sorted(operator.done.items())),
        "diagnostics_checked": played["diagnostics_checked"],
        "memory_mib_a_minute": rounded(fit.slope),
        "memory_mib_a_minute_standard_error": rounded(fit.slope_error),
        "memory_seconds_and_mib": [
            (round(when - watch.resident[0][0]), rounded(value))
            for when, value in watch.resident[:: max(len(watch.resident) // 60, 1)]
        ],
        **watch.report(),
    }
    return figures, problems


def main() -> int:
    """Soak, print, write; 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0, help="of faults and of the operator")
    parser.add_argument("--bundle", type=Path, default=share_folder() / "models" / "demo_parts.pose.pt")
    parser.add_argument("--logs", type=Path, default=Path("out/soak"), help="folder for the node's log")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    prepare_environment()
    try:
        figures, problems = soak(options)
    except DemoError as error:
        figures, problems = {}, [str(error)]
    result = {
        "command": " ".join(["python", "benchmark/soak.py", *sys.argv[1:]]),
        "commit": source_commit(),
        "hardware": hardware(),
        "bundle": options.bundle.name,
        "problems": problems,
        **figures,
    }
    emit(result, options.json)
    for problem in problems:
        print(f"soak: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
