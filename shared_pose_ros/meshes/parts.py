"""The demo parts: ten textureless industrial parts of our own, built by constructive solid geometry.

``python -m shared_pose_ros.meshes.parts OUT_DIR`` writes one binary PLY a part (millimetres) and objects.yaml, the
same bytes each time. Each part's function states the frame; origins lie where a designer would put them, not at the
centre. The parts run from fully asymmetric over discrete symmetries to rotational ones, and one (``socket``) shows the
feature that fixes its rotation from one side only. Symmetries are written down by hand and tested on the surface.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from shared_pose_ros.meshes.mesh import MeshError
from shared_pose_ros.meshes.ply import write_ply

if TYPE_CHECKING:
    from manifold3d import Manifold

LICENCE = "Apache-2.0; designed for this project"
# Corners of a full circle. A multiple of 2, 3, 4 and 6, so that no symmetry is broken by the tessellation.
SEGMENTS = 72
Z_AXIS = (0, 0, 1)


@dataclass(frozen=True)
class Part:
    """One demo part: identity, the function that builds it, and its symmetries in the form of objects.yaml."""

    class_id: str
    name: str
    build: Callable[[], Manifold]
    symmetries: tuple[dict[str, Any], ...] = ()
    note: str = ""


def manifold_class() -> type[Manifold]:
    """Class of solids; MeshError without manifold3d."""
    try:
        from manifold3d import Manifold
    except ImportError as error:
        raise MeshError("building parts needs manifold3d: pip install manifold3d") from error
    return Manifold


def box(low: Sequence[float], high: Sequence[float]) -> Manifold:
    """Box between two corners, mm."""
    size = [b - a for a, b in zip(low, high, strict=True)]
    return manifold_class().cube(size).translate(low)


def rod(
    start: Sequence[float], axis: str, length: float, radius: float, end_radius: float = -1, segments: int = SEGMENTS
) -> Manifold:
    """Cylinder or cone (towards ``end_radius``) of ``length`` from ``start`` along +x, +y or +z, mm."""
    upright = manifold_class().cylinder(length, radius, end_radius, segments)
    angles = {"x": (0.0, 90.0, 0.0), "y": (-90.0, 0.0, 0.0), "z": (0.0, 0.0, 0.0)}[axis]
    return upright.rotate(angles).translate(start)


def prism(outline: Sequence[tuple[float, float]], low: float, high: float) -> Manifold:
    """Polygon in x, y (counter-clockwise), extruded from z = low to z = high, mm."""
    from manifold3d import CrossSection

    return manifold_class().extrude(CrossSection([outline]), high - low).translate((0.0, 0.0, low))


def turned(profile: Sequence[tuple[float, float]], segments: int = SEGMENTS) -> Manifold:
    """Solid of revolution about z from a closed profile of (radius, z), counter-clockwise, mm."""
    from manifold3d import CrossSection

    return manifold_class().revolve(CrossSection([profile]), segments)


def hull(*solids: Manifold) -> Manifold:
    """Convex hull of solids."""
    return manifold_class().batch_hull(list(solids))


def bracket() -> Manifold:
    """Angle bracket: long leg along x, short leg along z at x = 0, rib on one side; origin in the inner corner."""
    corner = box((-12, -24, -12), (0, 24, 0))
    long_leg = hull(corner, box((80, -24, -12), (100, 2, 0)), box((60, 14, -12), (76, 24, 0)))
    short_leg = hull(corner, rod((-12, 0, 36), "x", 12, 24))
    rib = prism([(0, 0), (46, 0), (0, 40)], 0, 12).rotate((90, 0, 0)).translate((0, -12, 0))
    slot = hull(rod((48, -2, -20), "z", 30, 9), rod((76, -10, -20), "z", 30, 9))
    return long_leg + short_leg + rib - slot - rod((-20, 2, 36), "x", 30, 12)


def shaft() -> Manifold:
    """Stepped shaft along z with a flange off its middle; origin in the flange's face."""
    below = [(0, -36), (8, -36), (10, -34), (10, 0)]
    above = [(27, 0), (27, 9), (15, 9), (15, 50), (11, 50), (11, 80), (9, 84), (0, 84)]
    return turned(below + above)


def hex_bolt() -> Manifold:
    """Bolt along z, hexagon head below z = 0, round shank above; origin under the head."""
    hexagon = [(30 * math.cos(k * math.pi / 3), 30 * math.sin(k * math.pi / 3)) for k in range(6)]
    head = prism(hexagon, -22, 0)
    return head + turned([(0, -1), (13, -1), (13, 60), (9, 66), (0, 66)])


def socket() -> Manifold:
    """Round socket along z, open at the top; a bridge and an eccentric pin inside, hidden from behind."""
    shell = turned([(0, 0), (17, 0), (17, 30), (25, 34), (25, 84), (20, 84), (20, 38), (0, 38)])
    pin = rod((9, 0, 37), "z", 40, 7)
    bridge = box((-21, -4, 37), (9, 4, 72)) ^ rod((0, 0, 30), "z", 60, 20.5)
    return shell + pin + bridge


def clevis() -> Manifold:
    """Fork head along z: round shank below, two prongs above, pin hole along y; two-fold about z."""
    body = hull(box((-16, -22, 0), (16, 22, 40)), rod((0, -22, 46), "y", 44, 16))
    slot = box((-30, -10, 14), (30, 10, 80))
    return body - slot - rod((0, -30, 46), "y", 60, 8) + rod((0, 0, -52), "z", 53, 11)


def tee() -> Manifold:
    """Pipe tee: run along x with collars, narrower branch along z; two-fold about z."""
    outer = rod((-55, 0, 0), "x", 110, 16) + rod((0, 0, 0), "z", 60, 12)
    collars = rod((-55, 0, 0), "x", 14, 22) + rod((41, 0, 0), "x", 14, 22) + rod((0, 0, 48), "z", 12, 17)
    bores = rod((-60, 0, 0), "x", 120, 11) + rod((0, 0, 0), "z", 70, 8)
    return outer + collars - bores


def handle() -> Manifold:
    """Three-armed handle in the x, y plane with a long stem along −z; three-fold about z."""
    arm = hull(rod((0, 0, 0), "z", 13, 11), rod((40, 0, 2), "z", 11, 8))
    arms = arm + arm.rotate((0, 0, 120)) + arm.rotate((0, 0, 240))
    return arms + rod((0, 0, -46), "z", 56, 12) + rod((0, 0, 10), "z", 8, 14, 11) - rod((0, 0, -60), "z", 44, 7)


def block() -> Manifold:
    """Machined block: step at one end, pocket in the top, boss on the step, hole from the side; asymmetric."""
    body = box((0, 0, 0), (104, 56, 34)) - box((66, -1, 15), (110, 60, 40)) - box((-1, -1, -1), (30, 18, 40))
    pocket = hull(rod((20, 38, 14), "z", 30, 10), rod((50, 38, 14), "z", 30, 10))
    boss = rod((86, 38, 14), "z", 30, 13) - rod((86, 38, 20), "z", 30, 7)
    wedge = prism([(0, 0), (30, 0), (0, 24)], -1, 60).rotate((0, 0, 90)).translate((104, 0, 0))
    return body - pocket + boss - wedge - rod((46, -5, 16), "y", 26, 9)


def lever() -> Manifold:
    """Cam lever: hub along z at the origin, bent arm in the x, y plane, peg on its end; asymmetric."""
    hub = hull(rod((0, 0, 0), "z", 30, 18), rod((-14, 14, 0), "z", 30, 8))
    arm = hull(rod((0, 0, 4), "z", 12, 13), rod((54, -10, 4), "z", 12, 9))
    tip = hull(rod((54, -10, 4), "z", 12, 9), rod((80, 26, 4), "z", 12, 9))
    peg = rod((80, 26, 4), "z", 44, 9)
    return hub + arm + tip + peg - rod((0, 0, -5), "z", 40, 10)


def ring() -> Manifold:
    """Flanged bush about z: wide thin flange, conical collar, through bore; rotational."""
    return turned([(15, 0), (40, 0), (42, 2), (42, 9), (26, 9), (21, 36), (15, 36)])


PARTS: tuple[Part, ...] = (
    Part("bracket", "angle bracket", bracket),
    Part("shaft", "stepped shaft", shaft, ({"axis": Z_AXIS, "fold": "continuous"},)),
    Part("hex_bolt", "hexagon bolt", hex_bolt, ({"axis": Z_AXIS, "fold": 6},)),
    Part("socket", "socket with a hidden pin", socket, (), "the rotation about z shows from the front only"),
    Part("clevis", "fork head", clevis, ({"axis": Z_AXIS, "fold": 2},)),
    Part("tee", "pipe tee", tee, ({"axis": Z_AXIS, "fold": 2},)),
    Part("handle", "three-armed handle", handle, ({"axis": Z_AXIS, "fold": 3},)),
    Part("block", "machined block", block),
    Part("lever", "cam lever", lever),
    Part("ring", "flanged bush", ring, ({"axis": Z_AXIS, "fold": "continuous"},)),
)


def part_arrays(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Vertices ``(V, 3)`` float32 in millimetres and faces ``(F, 3)`` int32 of a part, in the order that is written.

    Raises:
        MeshError: manifold3d is not installed, or the construction is not one closed solid.
    """
    solid = part.build()
    if solid.is_empty() or len(solid.decompose()) != 1:
        raise MeshError(f"part '{part.class_id}': the construction is not one solid; check its function")
    mesh = solid.to_mesh()
    vertices = np.round(np.asarray(mesh.vert_properties, dtype=np.float64)[:, :3], 4).astype(np.float32)
    return vertices, np.asarray(mesh.tri_verts, dtype=np.int32)


def objects_document() -> dict[str, Any]:
    """Content of objects.yaml for the demo parts."""
    objects = []
    for number, part in enumerate(PARTS, start=1):
        entry: dict[str, Any] = {
            "class_id": part.class_id,
            "name": part.name,
            "aliases": [str(number)],
            "file": f"{part.class_id}.ply",
            "unit": "mm",
            "symmetries": [{key: list(v) if key == "axis" else v for key, v in s.items()} for s in part.symmetries],
        }
        if part.note:
            entry["note"] = part.note
        objects.append(entry)
    return {"licence": LICENCE, "objects": objects}


def write_parts(folder: str | Path) -> list[Path]:
    """Write every part and objects.yaml into ``folder`` (made when missing); returns the files written.

    Raises:
        MeshError: manifold3d is not installed.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for part in PARTS:
        vertices, faces = part_arrays(part)
        files.append(folder / f"{part.class_id}.ply")
        write_ply(files[-1], vertices, faces, "unit: millimetre")
    files.append(folder / "objects.yaml")
    head = "# Written by python -m shared_pose_ros.meshes.parts; symmetries: rotations by 360°/fold about an axis\n"
    text = yaml.safe_dump(objects_document(), sort_keys=False, default_flow_style=None, width=110)
    files[-1].write_text(head + text, encoding="utf-8")
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: write the parts into a folder; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m shared_pose_ros.meshes.parts",
        description="Build the demo parts (PLY, millimetres) and their objects.yaml.",
    )
    parser.add_argument("out_dir", type=Path, help="folder for the files, for example models/parts")
    options = parser.parse_args(arguments)
    try:
        files = write_parts(options.out_dir)
    except (MeshError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {len(files)} files to {options.out_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
