"""Small bags for the replay's tests: parts of the tiny bundle in images of noise, whole, damaged or odd."""

from __future__ import annotations

import dataclasses

import numpy as np
from evaluation_scene import CAMERA, SIZE, turn

from shared_pose_ros.bags import bag_io
from shared_pose_ros.evaluation.bop import Instance
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.replay.bag_frames import write_scenes
from shared_pose_ros.scenes.clutter import SceneFrame

IMAGE, INFO, DETECTIONS, TRUTH = "/cam/image", "/cam/camera_info", "/detector/boxes", "/truth"
DEPTH = "/cam/depth"
START, PERIOD = 1_700_000_000_000_000_000, 100_000_000
FRAME = "cam_optical"
POSES = (("1", turn([1, 2, 3], 70), [-0.03, 0.0, 0.30]), ("2", turn([3, 1, -1], 150), [0.03, 0.01, 0.36]))


def noise(number):
    """Image `number` of a repeatable sequence."""
    return np.random.default_rng(number).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def stamp(number):
    return START + number * PERIOD


def found(count, first=0):
    """`count` detections of the tiny bundle's three parts in a row."""
    return [
        bag_io.Detection(
            f"part_{i % 3}", f"track {first + i}", 0.9, box=np.array([20.0 + 25 * i, 50.0 + i, 24.0, 30.0])
        )
        for i in range(count)
    ]


def boxes_message(count, number):
    return bag_io.detections_2d_message(found(count), stamp(number), FRAME)


def picture(number, transport="raw"):
    if transport == "raw":
        return bag_io.image_message(noise(number), stamp(number), FRAME)
    return bag_io.compressed_image_message(noise(number), stamp(number), FRAME, transport)


def depth(number, encoding="16UC1", size=SIZE):
    """A slanted plane from 0.35 to 0.6 m, in millimetres or metres, with a tenth of the pixels missing."""
    plane = np.linspace(0.35, 0.6, size[1]) * np.ones(size) * (np.random.default_rng(number).random(size) > 0.1)
    values = (1000 * plane).astype(np.uint16) if encoding == "16UC1" else plane.astype(np.float32)
    rgb = picture(number)
    data = np.frombuffer(values.tobytes(), np.uint8)
    fields = {"height": size[0], "width": size[1], "step": values.strides[0], "encoding": encoding, "data": data}
    return dataclasses.replace(rgb, **fields)


def info(number):
    return bag_io.camera_info_message(CAMERA, SIZE, stamp(number), FRAME)


def write(path, messages, storage="mcap"):
    """Record (topic, message, time in ns) triples; returns the folder."""
    with bag_io.BagWriter(path, storage) as writer:
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
    return NodeParameters.from_text(
        {"bundle": str(bundle), "device": "cpu", "image_transport": transport, "max_batch": "4", **changes}
    )


def write_two_frames(folder):
    """Two images; class 1 is hidden to 40 % in the second."""
    rng = np.random.default_rng(0)
    frames = []
    for image_id in range(2):
        instances = tuple(
            Instance(class_id, number, rotation, np.array(translation), 1.0 - 0.6 * (image_id and not number), box)
            for number, ((class_id, rotation, translation), box) in enumerate(
                zip(POSES, np.array([[57.0, 61.0, 50.0, 45.5], [97.0, 66.0, 36.0, 30.0]]))
            )
        )
        image = np.full((*SIZE, 3), 100, np.uint8) + rng.integers(0, 20, (*SIZE, 3), dtype=np.uint8)
        none = np.zeros((2, *SIZE), dtype=bool)
        frames.append(SceneFrame(4, image_id, image, np.ones(SIZE, np.float32), CAMERA, instances, none, none))
    assert write_scenes(folder, frames) == 2
    return folder
