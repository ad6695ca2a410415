"""Make the demo bag: cluttered scenes of the demo parts, rendered with light, grounds and seeds of their own.

    python tools/make_demo_bag.py --out models/demo_bag

The same settings give the same scenes. Takes some minutes; needs the extras [train] and [replay].
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from shared_pose_ros.meshes.object_set import ObjectSet  # noqa: E402
from shared_pose_ros.replay.bag_frames import write_scenes  # noqa: E402
from shared_pose_ros.scenes.clutter import SceneSettings, generate_frames  # noqa: E402


def main() -> None:
    """Render and record."""
    defaults = SceneSettings()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", default=ROOT / "models" / "parts", help="object set (default: the demo parts)")
    parser.add_argument("--out", type=Path, required=True, help="the bag's folder; an existing one is replaced")
    parser.add_argument("--scenes", type=int, default=defaults.scenes)
    parser.add_argument("--views", type=int, default=defaults.views, help="images of each heap")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    options = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order, whatever the machine
    settings = dataclasses.replace(defaults, scenes=options.scenes, views=options.views, seed=options.seed)
    frames = generate_frames(ObjectSet.load(options.objects), settings)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out.parent) as folder:
        # The bag's files are named after its folder.
        finished = Path(folder) / options.out.name
        count = write_scenes(finished, tqdm(frames, total=settings.scenes * settings.views, unit="image"))
        shutil.rmtree(options.out, ignore_errors=True)
        finished.rename(options.out)
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(f"{options.out}: {count} images, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
