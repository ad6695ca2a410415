"""The one list of what can happen to an input; diagnostics, the log and docs/reference/counters.md derive from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class CounterInfo:
    """`stream`: what one count is (image, detections = one array, depth, object; note = the output came all the same).

    `normal` counters are expected in healthy operation and raise no warning.
    """

    stream: str
    meaning: str
    remedy: str = ""
    normal: bool = False


COUNTERS: Mapping[str, CounterInfo] = {
    "unmatched_image": CounterInfo(
        "image", "no detections came for the image within image_buffer_seconds", normal=True
    ),
    "superseded_image": CounterInfo("image", "its pair was complete, but a newer one went first", normal=True),
    "duplicate_image": CounterInfo(
        "image",
        "an image with the same stamp and frame is buffered already",
        "check that the camera driver stamps each image and that nothing publishes twice",
    ),
    "image_buffer_full": CounterInfo(
        "image",
        "dropped to keep the buffer within image_buffer_count and image_buffer_mib",
        "raise them, or lower image_buffer_seconds",
    ),
    "time_jump_image": CounterInfo("image", "waited when the stamps jumped back", normal=True),
    "deactivated_image": CounterInfo("image", "waited when the node was deactivated", normal=True),
    "reset_image": CounterInfo("image", "waited when ~/reset was called", normal=True),
    "unmatched_detection": CounterInfo(
        "detections",
        "no image of the same stamp came within image_buffer_seconds",
        "if rate/image_hz is below the camera's, images are lost on the way: set the Fast DDS profile there too "
        "(FASTRTPS_DEFAULT_PROFILES_FILE); else the detector must copy the image's stamp, or set pairing_slop_seconds",
    ),
    "late_detection": CounterInfo(
        "detections",
        "its image had been dropped before it came",
        "raise image_buffer_seconds above the lateness_max_s of these diagnostics (and image_buffer_mib with it)",
    ),
    "frame_id_mismatch": CounterInfo(
        "detections", "an image has its stamp but another frame_id", "the detector must copy the image's frame_id"
    ),
    "superseded": CounterInfo(
        "detections",
        "a newer complete pair came before this one was started",
        "the network is slower than the detections: lower their rate or take a faster device",
    ),
    "duplicate_detection": CounterInfo(
        "detections",
        "an equal array for the same image is known already",
        "check that nothing publishes the detections twice",
    ),
    "detection_buffer_full": CounterInfo(
        "detections",
        "more than image_buffer_count arrays waited for images",
        "check that images arrive; raise image_buffer_count",
    ),
    "time_jump_detection": CounterInfo("detections", "waited when the stamps jumped back", normal=True),
    "deactivated_detection": CounterInfo("detections", "waited when the node was deactivated", normal=True),
    "reset_detection": CounterInfo("detections", "waited when ~/reset was called", normal=True),
    "unmatched_depth": CounterInfo("depth", "no pair needed the depth image within image_buffer_seconds", normal=True),
    "duplicate_depth": CounterInfo(
        "depth",
        "a depth image with the same stamp and frame is buffered already",
        "check that nothing publishes the depth images twice",
    ),
    "depth_buffer_full": CounterInfo(
        "depth",
        "dropped to keep the buffer within image_buffer_count and image_buffer_mib",
        "raise them, or lower image_buffer_seconds",
    ),
    "time_jump_depth": CounterInfo("depth", "waited when the stamps jumped back", normal=True),
    "deactivated_depth": CounterInfo("depth", "waited when the node was deactivated", normal=True),
    "reset_depth": CounterInfo("depth", "waited when ~/reset was called", normal=True),
    "bad_encoding": CounterInfo(
        "detections", "the image's encoding cannot be read", "publish rgb8, bgr8, mono8 or Bayer"
    ),
    "truncated_image": CounterInfo(
        "detections",
        "the image's data is shorter than its size says",
        "check the driver; for large images set the Fast DDS profile",
    ),
    "empty_image": CounterInfo("detections", "the image has no pixels", "check the driver"),
    "undecodable_image": CounterInfo("detections", "the compressed image cannot be decoded", "publish JPEG or PNG"),
    "estimator_error": CounterInfo(
        "detections", "the estimator raised an error (in the log)", "report it with the log"
    ),
    "out_of_memory": CounterInfo(
        "detections",
        "memory did not suffice for the frame, not even for one object at a time",
        "free the GPU or the machine's memory, or take device: cpu",
    ),
    "publish_error": CounterInfo(
        "detections", "the poses could not be published (in the log)", "report it with the log"
    ),
    "no_hypothesis": CounterInfo("object", "the detection has no results, so no class", "check the detector"),
    "low_score": CounterInfo("object", "its best score is below score_threshold, or not a number", normal=True),
    "unknown_class": CounterInfo(
        "object",
        "its class_id is not in the bundle",
        "publish a class_id or alias of the bundle (in the log at configure; aliases in ~/vision_info)",
    ),
    "non_finite_box": CounterInfo("object", "its box has a NaN or infinite number", "check the detector"),
    "empty_box": CounterInfo("object", "its box has a zero or negative side", "check the detector"),
    "outside_image": CounterInfo(
        "object", "its box does not touch the image", "boxes are pixels of the image (not 0 to 1)"
    ),
    "oversized_box": CounterInfo(
        "object", "its box is many times larger than the image", "boxes are pixels of the image"
    ),
    "non_finite_pose": CounterInfo(
        "object",
        "its pose has a NaN or infinite number: the network estimated it so, or camera_info is out of all range",
        "calibrate the camera if K is wild; else the bundle is bad: export it again",
    ),
    "lost_with_frame": CounterInfo(
        "object", "was in an array that got no output (see the detections counters)", normal=True
    ),
    "time_jumps": CounterInfo("note", "image stamps jumped back by more than time_jump_seconds", normal=True),
    "no_camera_info": CounterInfo(
        "note",
        "frame without camera_info: orientation not corrected for the viewing ray, no position",
        "connect camera_info",
        normal=True,
    ),
    "invalid_camera_info": CounterInfo(
        "note", "camera_info without a usable matrix (all zero or not finite): as without it", "calibrate the camera"
    ),
    "camera_info_mismatch": CounterInfo(
        "note",
        "camera_info of another frame_id or image size: as without it",
        "connect the camera_info of this camera and resolution",
    ),
    "no_depth": CounterInfo(
        "note",
        "use_depth is on, but no depth image of the frame's stamp was there: positions from the boxes",
        "check that depth is published with the image's stamp and frame_id and before the detections; "
        "else set pairing_slop_seconds",
    ),
    "unusable_depth": CounterInfo(
        "note",
        "the depth image cannot be read, or has not the image's ratio of sides: positions from the boxes",
        "publish 16UC1 or 32FC1, registered to the colour image",
    ),
    "depth_rejected": CounterInfo(
        "note",
        "object with too few depths in its box's middle, or depths that contradict its box: position from the box",
        normal=True,
    ),
    "alignment_rejected": CounterInfo(
        "note",
        "object that the depth image shows in none of its hypotheses: orientation as the network gave it",
        normal=True,
    ),
    "not_refined": CounterInfo(
        "note",
        "refine is on without a refiner in the bundle or without warp-lang: orientation as the network gave it",
        "see the reason in the log",
    ),
    "no_mesh": CounterInfo(
        "note",
        "object without a mesh in the bundle: neither refined nor aligned to depth",
        "add its CAD: shared_pose export BUNDLE --objects CAD",
    ),
    "track_contradicted": CounterInfo(
        "note",
        "an object's new hypotheses contradicted those before (smoothing): its track began anew",
        normal=True,
    ),
    "not_newer": CounterInfo(
        "note",
        "an object's frame was not newer than its track (smoothing, last, refine_memory): estimated by itself, the "
        "track kept",
        normal=True,
    ),
    "shared_id": CounterInfo(
        "note",
        "detections of one class share an id in one array (smoothing, last, refine_memory): each is estimated by "
        "itself",
        "the tracker must give every part an id of its own",
    ),
    "batch_halved": CounterInfo(
        "note",
        "memory did not suffice for a batch: half of it was tried (each halving counts)",
        "lower max_batch, or free the GPU",
    ),
    "warm_up_error": CounterInfo(
        "note",
        "the sizes that a raised max_batch added could not be warmed: their first frames are slower, or halved",
        "lower max_batch",
    ),
    "drawing_error": CounterInfo(
        "note",
        "markers, debug image or transforms could not be made; poses are not affected",
        "report it with the log",
    ),
}
