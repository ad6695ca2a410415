"""The one list of the values in /diagnostics; reporter.py fills them, docs/reference/counters.md derives from it."""

from __future__ import annotations

from collections.abc import Mapping

from shared_pose_ros.pipeline.statistics import STAGES, WINDOW
from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.pairing import RECENT_ARRAYS

RATE_SECONDS = 5
"""Rates are means over this time."""

VALUES: Mapping[str, str] = {
    "state": "unconfigured, inactive or active",
    "bundle": "name of the bundle; empty while unconfigured, as the next four",
    "weights_sha256": "hash of its weights",
    "device": "cpu or cuda",
    "device_reason": "why this device, where `device: auto` found no GPU",
    "camera": "`K known`, or why it is not used",
    "unknown_parameters": "names given at start that the node does not have, with the nearest name it has",
    "age/image_s": "time since the latest image; ages are empty before the first",
    "age/detections_s": "time since the latest detections",
    "age/camera_info_s": "time since the latest camera_info",
    "age/depth_s": "time since the latest depth image",
    "age/pair_s": "time since an image and its detections were complete",
    "rate/image_hz": f"images per second, over the last {RATE_SECONDS} s",
    "rate/detections_hz": "detection arrays per second, likewise",
    "rate/poses_hz": "published poses per second, likewise",
    "received/images": "images since the start of the node",
    "received/detections": "detection arrays",
    "received/depth": "depth images",
    "received/camera_info": "camera_info messages",
    "used/images": "images that were part of a pair taken",
    "used/depth": "depth images taken for a pair",
    "published/poses": "messages on `~/poses`",
    "published/objects": "objects in them",
    "pending/images": "images that wait for detections",
    "pending/detections": "arrays that wait for their image or for the network, or are in work",
    "pending/depth": "depth images that no pair has needed yet",
    "lateness_recent_s": f"greatest delay behind their image of the latest {RECENT_ARRAYS} arrays",
    "lateness_max_s": "greatest since the start: `image_buffer_seconds` must be above it",
}
LATENCIES: Mapping[str, str] = {
    "wait": "complete pair to start",
    "decode": "messages to pixels and boxes",
    "estimate": "crop, network, hypotheses",
    "publish": "message built and handed over",
    "total": "complete pair to published",
}
RESOURCES: Mapping[str, str] = {
    "tracks": "objects that the temporal filter remembers",
    "batch/last": "objects in the latest run of the network; empty before the first",
    "batch/mean": f"mean over the latest {WINDOW} runs",
    "batch/max": "greatest over them",
    "memory/resident_mib": "memory of the process in RAM; empty where the system does not tell",
    "memory/images_mib": "data of the buffered images",
    "memory/gpu_allocated_mib": "GPU memory in tensors; empty on the CPU",
    "memory/gpu_reserved_mib": "GPU memory that torch holds; empty on the CPU",
    "threads/process": "all threads of the process; empty where the system does not tell",
    "threads/torch": "threads of the network on the CPU",
}


def documented() -> dict[str, str]:
    """{key: what it is} of every value that the node publishes, in the order of publication."""
    latencies = {}
    for stage in STAGES:
        latencies[f"latency/{stage}_p50_s"] = f"{LATENCIES[stage]}, median of the latest {WINDOW} frames"
        latencies[f"latency/{stage}_p99_s"] = "its 99th percentile"
    counters = {f"counter/{name}": f"see [counters](#counters): {info.meaning}" for name, info in COUNTERS.items()}
    return {**VALUES, **latencies, **RESOURCES, **counters}
