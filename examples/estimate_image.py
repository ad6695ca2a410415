"""Poses of the parts in one image, from Python alone: no ROS, no node.

python examples/estimate_image.py                    # an image of the demo bag; prints the poses, writes poses.png
python examples/estimate_image.py --frame 30 --picture other.png

The demo bag stands for your camera and detector: it has the image, the camera matrix and the boxes. It also has the
true poses, which a cell does not know; they are printed beside the estimated positions.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

import shared_pose_ros as sp
from shared_pose_ros.geometry.rotations import quaternion_from_rotation
from shared_pose_ros.replay.bag_frames import read_frames
from shared_pose_ros.resources import share_folder


def main() -> None:
    """Estimate, print, draw."""
    models = share_folder() / "models"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=models / "demo_parts.pose.pt", help="NAME.pose.pt")
    parser.add_argument("--frame", type=int, default=0, help="which image of the demo bag")
    parser.add_argument("--picture", type=Path, default=Path("poses.png"), help="where the overlay goes")
    options = parser.parse_args()

    frame = read_frames(models / "demo_bag")[options.frame]
    parts = [frame.truth[name] for name in frame.boxes]
    boxes, class_ids = np.stack(list(frame.boxes.values())), [part.class_id for part in parts]

    # A bundle is verified as it is loaded: BundleError says what is wrong with one that cannot be used.
    estimator = sp.PoseEstimator.load(options.bundle)
    index = np.array([estimator.object_index(class_id) for class_id in class_ids])
    estimate = estimator.estimate(frame.image, boxes, index, frame.camera)

    best = quaternion_from_rotation(torch.from_numpy(estimate.rotations[:, 0])).numpy()
    for row, class_id in enumerate(class_ids):
        print(
            f"{class_id}: confidence {estimate.confidences[row, 0]:.2f}, quaternion {np.round(best[row], 3)}, "
            f"position {np.round(estimate.translations[row], 3)} m, true {np.round(parts[row].translation, 3)} m"
        )
    shown = sp.draw_estimates(frame.image, boxes, class_ids, estimate, index, estimator.meshes, frame.camera)
    if not cv2.imwrite(str(options.picture), cv2.cvtColor(shown, cv2.COLOR_RGB2BGR)):
        raise ValueError(f"{options.picture} cannot be written; give a .png or .jpg in an existing folder")
    print(options.picture)


if __name__ == "__main__":
    main()
