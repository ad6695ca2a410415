"""Random textureless industrial parts without end, for trainings that need many shapes.

``python -m shared_pose_ros.meshes.random_parts OUT_DIR COUNT`` writes binary PLYs (millimetres). A part depends on its
seed alone. It is one closed solid of a family of ``part_families``, sometimes with a part of another family on it, and
with features (bosses, pins, screws, holes, slots). Some families are symmetric; one small feature often breaks that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.meshes.diameter import diameter
from shared_pose_ros.meshes.mesh import UNITS, Mesh, MeshError
from shared_pose_ros.meshes.object_set import ObjectModel, ObjectSet
from shared_pose_ros.meshes.part_families import electrical, housings, linkages, prismatic, rotational, sheets, wheels
from shared_pose_ros.meshes.part_families.features import SIDES, with_feature, with_part
from shared_pose_ros.meshes.part_families.sampler import Sampler
from shared_pose_ros.meshes.parts import manifold_class
from shared_pose_ros.meshes.ply import write_ply
from shared_pose_ros.meshes.symmetries import Symmetries, detect_symmetries

if TYPE_CHECKING:
    from manifold3d import Manifold

Build = Callable[[Sampler], "Manifold"]
# Each family with its share of the parts.
FAMILIES: tuple[tuple[Build, int], ...] = (
    (rotational.turned_part, 5),
    (wheels.gear, 2),
    (wheels.knob, 2),
    (wheels.wheel, 2),
    (wheels.fastener, 2),
    (prismatic.plate, 4),
    (prismatic.machined_block, 4),
    (sheets.bent_sheet, 4),
    (sheets.rail, 2),
    (linkages.lever, 3),
    (linkages.fork, 2),
    (linkages.ring_clamp, 2),
    (linkages.spring_clip, 2),
    (linkages.fitting, 3),
    (linkages.pipe_bend, 2),
    (housings.enclosure, 4),
    (housings.socket_outlet, 3),
    (housings.cap, 3),
    (electrical.terminal_block, 4),
    (electrical.connector, 3),
    (electrical.relay, 3),
)
_DECK = tuple(build for build, share in FAMILIES for _ in range(share))
# What happens to a part of a family, each with its share.
_KINDS = ("plain",) * 2 + ("one small",) * 3 + ("features",) * 4 + ("combined",) * 2

SMALLEST, LARGEST = 20.0, 150.0  # largest extent, mm
FEWEST_FACES, MOST_FACES = 100, 5000
_ATTEMPTS = 50
# Edges below this share of the largest extent are collapsed: slivers of the construction.
_SLIVER = 2e-5


def random_part(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices ``(V, 3)`` in millimetres and faces ``(F, 3)`` of the part of a seed, one closed solid.

    Args:
        seed: any non-negative integer.

    Raises:
        ValueError: a negative seed.
        MeshError: manifold3d is not installed, or no attempt gave one solid of the right size.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}: give a non-negative integer")
    manifold_class()  # names the package where it is missing
    for attempt in range(_ATTEMPTS):
        draw = Sampler(seed, attempt)
        arrays = _arrays(draw, _solid(draw))
        if arrays is not None and _is_acceptable(*arrays):
            return arrays
    raise MeshError(f"seed {seed}: none of {_ATTEMPTS} attempts gave one closed solid; use another seed")


def random_object_set(count: int, seed: int, detect: bool = False) -> ObjectSet:
    """Object set of random parts, for a ``Synthesizer``.

    Args:
        count: number of objects, at least 1.
        seed: of the first part; part k has the seed ``seed + k`` and the class id ``random_`` with that number.
        detect: look for the parts' symmetries, which takes longer than building them; otherwise none are stated.

    Raises:
        ValueError: a count below 1 or a negative seed.
        MeshError: as ``random_part``.
    """
    if count < 1:
        raise ValueError(f"count is {count}: an object set needs at least 1 object")
    return ObjectSet(tuple(_object_model(number, detect) for number in range(seed, seed + count)))


def _object_model(seed: int, detect: bool) -> ObjectModel:
    vertices, faces = random_part(seed)
    mesh = Mesh((vertices * UNITS["mm"]).astype(np.float32), faces)
    extents, name = mesh.extents, class_id(seed)
    return ObjectModel(
        class_id=name,
        aliases=(),
        name=name,
        mesh=mesh,
        diameter=diameter(mesh),
        extents=extents,
        centre=mesh.centre,
        scale=float(extents.max()) / 2.0,
        symmetries=detect_symmetries(mesh) if detect else Symmetries(),
        path=Path(f"{name}.ply"),
    )


def class_id(seed: int) -> str:
    """Class id of the part of a seed, for example ``random_000123``."""
    return f"random_{seed:06d}"


def _solid(draw: Sampler) -> Manifold:
    """A part of a family, its features, a random side up."""
    solid = draw.pick(_DECK)(draw)
    kind = draw.pick(_KINDS)
    if kind == "combined":
        solid = with_part(draw, solid, draw.pick(_DECK))
    for _ in range(draw.count(1, 4) if kind == "features" else draw.count(0, 1) if kind == "combined" else 0):
        solid = with_feature(draw, solid)
    if kind == "one small":
        solid = with_feature(draw, solid, small=True)
    return solid.rotate(draw.pick(SIDES))


def _arrays(draw: Sampler, solid: Manifold) -> tuple[NDArray[np.float32], NDArray[np.int32]] | None:
    """The largest piece, scaled to a random size; None if the solid is empty or falls apart."""
    pieces = sorted(solid.decompose(), key=lambda piece: piece.volume())
    if not pieces or pieces[-1].volume() < 0.97 * solid.volume():
        return None
    box = pieces[-1].bounding_box()
    extent = max(box[k + 3] - box[k] for k in range(3))
    size = draw.log_between(1.02 * SMALLEST, 0.98 * LARGEST)
    mesh = pieces[-1].scale([size / extent] * 3).simplify(_SLIVER * size).to_mesh()
    vertices = np.round(np.asarray(mesh.vert_properties, dtype=np.float64)[:, :3], 4).astype(np.float32)
    return vertices, np.asarray(mesh.tri_verts, dtype=np.int32)


def _is_acceptable(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> bool:
    """True for a closed surface of the right size also after vertices at the same place have become one."""
    if not FEWEST_FACES <= len(faces) <= MOST_FACES or np.ptp(vertices, axis=0).min() < 0.02 * np.ptp(vertices):
        return False
    _, owner = np.unique(vertices, axis=0, return_inverse=True)
    corners = owner.reshape(-1)[faces]
    edges = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]), axis=1)
    _, uses = np.unique(edges[:, 0].astype(np.int64) * len(vertices) + edges[:, 1], return_counts=True)
    return bool((uses == 2).all())


def write_random_parts(folder: str | Path, count: int, seed: int = 0) -> list[Path]:
    """Write the parts of ``count`` seeds from ``seed`` on into ``folder`` (made when missing); returns the files.

    Raises:
        ValueError: as ``random_part``.
        MeshError: as ``random_part``.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(seed, seed + count):
        files.append(folder / f"{class_id(number)}.ply")
        write_ply(files[-1], *random_part(number), "unit: millimetre")
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: write random parts into a folder; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m shared_pose_ros.meshes.random_parts",
        description="Build random industrial parts (PLY, millimetres).",
    )
    parser.add_argument("out_dir", type=Path, help="folder for the files")
    parser.add_argument("count", type=int, help="number of parts")
    parser.add_argument("--seed", type=int, default=0, help="of the first part (default: 0)")
    options = parser.parse_args(arguments)
    try:
        files = write_random_parts(options.out_dir, options.count, options.seed)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {len(files)} files to {options.out_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
