"""Small bags for the replay's tests: parts of the tiny bundle in images of noise, whole, damaged or odd."""

from __future__ import annotations

import dataclasses

import numpy as np
from evaluation_scene import CAMERA, SIZE

from shared_pose_ros.evaluation import bag
from shared_pose_ros.ros import parameters

IMAGE, INFO, DETECTIONS, TRUTH = "/cam/image", "/cam/camera_info", "/detector/boxes", "/truth"
DEPTH = "/cam/depth"
START, PERIOD = 1_700_000_000_000_000_000, 100_000_000
FRAME = "cam_optical"


def noise(number):
    """Image `number` of a repeatable sequence."""
    return np.random.default_rng(number).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def stamp(number):
    return START + number * PERIOD


def found(count, first=0):
    """`count` detections of the tiny bundle's three parts in a row."""
    return [
        bag.Detection(f"part_{i % 3}", f"track {first + i}", 0.9, box=np.array([20.0 + 25 * i, 50.0 + i, 24.0, 30.0]))
        for i in range(count)
    ]


def boxes_message(count, number):
    return bag.detections_2d_message(found(count), stamp(number), FRAME)


def picture(number, transport="raw"):
    if transport == "raw":
        return bag.image_message(noise(number), stamp(number), FRAME)
    return bag.compressed_image_message(noise(number), stamp(number), FRAME, transport)


def depth(number, encoding="16UC1", size=SIZE):
    """A slanted plane from 0.35 to 0.6 m, in millimetres or metres, with a tenth of the pixels missing."""
    plane = np.linspace(0.35, 0.6, size[1]) * np.ones(size) * (np.random.default_rng(number).random(size) > 0.1)
    values = (1000 * plane).astype(np.uint16) if encoding == "16UC1" else plane.astype(np.float32)
    rgb = picture(number)
    data = np.frombuffer(values.tobytes(), np.uint8)
    fields = {"height": size[0], "width": size[1], "step": values.strides[0], "encoding": encoding, "data": data}
    return dataclasses.replace(rgb, **fields)


def info(number):
    return bag.camera_info_message(CAMERA, SIZE, stamp(number), FRAME)


def write(path, messages, storage="mcap"):
    """Record (topic, message, time in ns) triples; returns the folder."""
    with bag.BagWriter(path, storage) as writer:
        for topic, message, time_ns in messages:
            writer.write(topic, message, time_ns)
    return path


def ordinary(path, frames=4, storage="mcap", transport="raw", with_depth=False):
    """A bag with nothing wrong: `frames` images with 1, 2, 3, … detections, all but the second with depth if asked."""
    messages = []
    for number in range(frames):
        messages += [
            (INFO, info(number), stamp(number)),
            (IMAGE, picture(number, transport), stamp(number) + 1),
            (DETECTIONS, boxes_message(1 + number % 6, number), stamp(number) + 20_000_000),
        ]
        if with_depth and number != 1:
            messages.insert(-1, (DEPTH, depth(number, ("16UC1", "32FC1")[number % 2]), stamp(number) + 2))
    return write(path, messages, storage)


def cut(folder, share):
    """Shorten a bag's storage file to a share of its bytes, as a killed recorder leaves it."""
    (file,) = [path for path in folder.iterdir() if path.suffix in (".mcap", ".db3")]
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    return file


def settings(bundle, transport="raw", **changes):
    return parameters.from_text(
        {"bundle": str(bundle), "device": "cpu", "image_transport": transport, "max_batch": "4", **changes}
    )
