"""Whether triangles are the surface of a part: closed, wound outwards, every face once; with mends that lose nothing.

Faces that are there twice go; faces that look the other way than their neighbours are reversed, and so are closed
bodies that are inside out. What cannot be mended is counted; what would spoil a training is refused. Metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from shared_pose_ros.geometry.closed_surface import SAME_PLACE, directed_edges, same_places, sixfold_volumes

Vertices = NDArray[np.float64]
Faces = NDArray[np.int64]

# Most faces without area, and least area that would close an opening, as shares of all there is.
MOST_DEGENERATE = 0.5
MOST_MISSING = 0.5
# A mesh whose least extent is below this fraction of its largest is flat.
_FLAT = 1e-6
# Bodies of less than this share of the area may not make the part larger than this many times.
STRAY_AREA, STRAY_GROWTH = 1e-3, 2.0
# Bodies whose boxes are compared with each other, and those and the faces whose common volume is measured.
_COMPARED_BODIES, _JOINED_BODIES, _JOINED_FACES = 2000, 50, 200_000


@dataclass(frozen=True)
class Surface:
    """What was found on a mesh, and mended where that loses nothing.

    Attributes:
        watertight: once mended, every edge is used as often in one direction as in the other.
        volume: cubic metres, cavities taken off and what bodies share counted once; NaN where not watertight.
        area: square metres, every face once.
        bodies: connected pieces.
        cavities: closed bodies within another one that are wound inwards.
        open_edges: edges of one face.
        crowded_edges: edges of three faces or more that do not pair up, or of two that cannot look the same way.
        duplicate_faces: faces on the three corners of another one, left out: those that look the same way, and where
            more than half of a mesh is drawn from both sides, the second of every two.
        double_faces: faces that lie back to back with another one, a wall without thickness; kept.
        degenerate_faces: faces without area, left out.
        slivers: faces with an area, but thinner than a millionth of the size; kept.
        reversed_faces: faces that looked inwards, or the other way than their neighbours; reversed.
        shared_volume: cubic metres that several bodies fill; 0 where it was not measured.
        stray_growth: how many times larger bodies of next to no area make the part.
    """

    watertight: bool
    volume: float
    area: float
    bodies: int
    cavities: int
    open_edges: int
    crowded_edges: int
    duplicate_faces: int
    double_faces: int
    degenerate_faces: int
    slivers: int
    reversed_faces: int
    shared_volume: float
    stray_growth: float

    def notes(self, face_count: int) -> list[str]:
        """Sentences for people on whatever is not as it should be; ``face_count`` faces are left."""
        whole = self.reversed_faces == face_count
        flipped = (
            "it was inside out: reversed"
            if whole
            else f"{self.reversed_faces} of its faces looked the wrong way: reversed"
        )
        shared = f"its bodies overlap: they share {self.shared_volume * 1e6:.4g} cm³"
        grown = f"small bodies apart from the rest make it {self.stray_growth:.2f} times as large: delete leftovers"
        told = {
            f"it is open: {self.open_edges} edges belong to one face only": self.open_edges,
            f"{self.crowded_edges} edges belong to faces that do not pair up": self.crowded_edges,
            f"{self.duplicate_faces} faces lie on the corners of another one: left out": self.duplicate_faces,
            f"{self.double_faces} faces lie back to back, as walls without thickness": self.double_faces,
            f"{self.degenerate_faces} faces have no area: left out": self.degenerate_faces,
            f"{self.slivers} faces are thinner than a millionth of its size": self.slivers,
            flipped: self.reversed_faces,
            shared: self.shared_volume > 0,
            grown: self.stray_growth > 1.2,
        }
        return [sentence for sentence, holds in told.items() if holds]


@dataclass(frozen=True)
class _Edges:
    """Undirected edges.

    Attributes:
        key: ``(3F,)``, the edge of each side of each face, sides as ``directed_edges`` has them.
        forward: ``(3F,)``, whether the side runs from the lower vertex to the higher.
        counts: ``(E,)`` sides per edge.
        ends: ``(E, 2)`` vertices.
    """

    key: NDArray[np.int64]
    forward: NDArray[np.bool_]
    counts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @property
    def balanced(self) -> NDArray[np.bool_]:
        """Whether each edge is used as often in one direction as in the other, ``(E,)``."""
        return np.asarray(2 * np.bincount(self.key, weights=self.forward, minlength=len(self.counts)) == self.counts)


@dataclass(frozen=True)
class _Wound:
    """Faces that look the right way.

    Attributes:
        faces: ``(F, 3)``.
        edges: theirs; only the directions of whole bodies may be other ones.
        body: ``(F,)``, the number of each face's connected piece.
        volumes: ``(B,)`` of the bodies, negative for cavities, NaN for open ones.
        reversed: ``(F,)``, whether the file has the face the other way.
    """

    faces: Faces
    edges: _Edges
    body: NDArray[np.int64]
    volumes: NDArray[np.float64]
    reversed: NDArray[np.bool_]


def merged(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """One vertex per place, and no face that has a place twice."""
    first, place = same_places(vertices)
    return vertices[first], without_repeats(place[faces])


def without_repeats(faces: Faces) -> Faces:
    """The faces of three different corners."""
    return faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]


def with_area(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """The faces that have an area, and the vertices that they use."""
    extent = float(np.ptp(vertices, axis=0).max())
    faces = faces[doubled_areas(vertices, faces) > (extent * SAME_PLACE) ** 2]
    return compact(vertices, faces)


def compact(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """The vertices that faces use, in their order."""
    used = in_use(faces, len(vertices))
    return vertices[used], (np.cumsum(used) - 1)[faces]


def in_use(corners: NDArray[np.integer], count: int) -> NDArray[np.bool_]:
    """Which of ``count`` vertices are among the corners."""
    used = np.zeros(count, dtype=bool)
    used[corners] = True
    return used


def doubled_areas(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """Twice the area of each face, ``(F,)``."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1))


def inspect(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces, Surface]:
    """Mend a surface and say what it is.

    Args:
        vertices: ``(V, 3)`` metres, finite, as a file has them: not merged.
        faces: ``(F, 3)`` rows of ``vertices``.

    Returns:
        Vertices and faces, mended, and what was found.

    Raises:
        ValueError: more than ``MOST_DEGENERATE`` of the faces have no area, the mesh is flat, the surface is open and
            lacks more than ``MOST_MISSING`` of what is there, or bodies of next to no area enlarge the part; with
            value, limit, cause and remedy.
    """
    given = len(faces)
    vertices, faces = _stitched(*merged(*compact(vertices, faces)))
    extent = float(np.ptp(vertices, axis=0).max())
    doubled = doubled_areas(vertices, faces)
    flat = doubled <= (extent * SAME_PLACE) ** 2
    degenerate = given - len(faces) + int(flat.sum())
    _check_solid(vertices[faces].reshape(-1, 3), degenerate, given)
    kept, double = _once(faces)
    doubled, flat = doubled[kept], flat[kept]
    wound = _wind(vertices, faces[kept])
    watertight = bool(np.isfinite(wound.volumes).all())
    shared = _shared_volume(vertices, wound) if watertight else 0.0
    surface = Surface(
        watertight=watertight,
        volume=float(wound.volumes.sum()) - shared,
        area=float(doubled.sum() / 2.0),
        bodies=len(wound.volumes),
        cavities=int((wound.volumes < 0).sum()),
        open_edges=int((wound.edges.counts == 1).sum()),
        crowded_edges=int(((wound.edges.counts > 1) & ~wound.edges.balanced).sum()),
        duplicate_faces=int((~kept).sum()),
        double_faces=double,
        degenerate_faces=degenerate,
        slivers=int(((doubled < _longest_sides(vertices, wound.faces) * extent * SAME_PLACE) & ~flat).sum()),
        reversed_faces=int(wound.reversed[~flat].sum()),
        shared_volume=shared,
        stray_growth=_stray_growth(vertices, wound, doubled),
    )
    _check_missing(vertices, wound.faces, surface)
    return *with_area(vertices, wound.faces), surface


def _wind(vertices: Vertices, faces: Faces) -> _Wound:
    """Reverse the faces that look another way than their neighbours, then the bodies that are inside out."""
    flipped = _against_neighbours(_edges(faces), len(faces))
    faces = np.where(flipped[:, None], faces[:, ::-1], faces)
    edges, body = _edges(faces), _bodies(faces, len(vertices))
    volumes = np.bincount(body, weights=sixfold_volumes(vertices, faces)) / 6.0
    open_sides = np.flatnonzero(~edges.balanced[edges.key])
    is_open = np.zeros(len(volumes), dtype=bool)
    is_open[body[open_sides % len(faces)]] = True
    inward = _inside_out(_boxes(vertices, faces, body), np.where(is_open, 0.0, volumes))
    faces = np.where(inward[body][:, None], faces[:, ::-1], faces)
    volumes = np.where(is_open, np.nan, np.where(inward, -volumes, volumes))
    return _Wound(faces, edges, body, volumes, flipped ^ inward[body])


def _longest_sides(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """``(F,)``."""
    squares = [((vertices[faces[:, k]] - vertices[faces[:, k - 1]]) ** 2).sum(axis=1) for k in range(3)]
    return np.asarray(np.sqrt(np.max(squares, axis=0)))


def _edges(faces: Faces) -> _Edges:
    starts, ends = directed_edges(faces)
    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    count = int(high.max()) + 1
    keys, key, counts = np.unique(low * count + high, return_inverse=True, return_counts=True)
    return _Edges(key.reshape(-1), starts < ends, counts, np.stack([keys // count, keys % count], axis=1))


def _stitched(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """Join vertices along open edges that are one place, yet fell on two points of the grid."""
    if not len(faces):
        return vertices, faces
    edges = _edges(faces)
    border = np.unique(edges.ends[edges.counts == 1])
    if not len(border):
        return vertices, faces
    radius = float(np.ptp(vertices, axis=0).max()) * SAME_PLACE
    pairs = border[cKDTree(vertices[border]).query_pairs(radius, output_type="ndarray")]
    group = _connected(pairs[:, 0], pairs[:, 1], len(vertices))
    first = np.full(len(vertices), len(vertices))
    np.minimum.at(first, group, np.arange(len(vertices)))
    return vertices, without_repeats(first[group][faces])


def _once(faces: Faces) -> tuple[NDArray[np.bool_], int]:
    """Faces ``(F,)`` to keep of those on the same corners, and how many of these lie back to back.

    The first of a direction is kept; where more than half of the faces lie back to back, the first of two directions.
    """
    low, middle, high = np.sort(faces, axis=1).T
    pair = low * (int(high.max()) + 1) + middle
    upwards = (faces < np.roll(faces, -1, axis=1)).sum(axis=1) == 2  # an even permutation of its sorted corners
    order = np.lexsort((upwards, high, pair))
    same_corners = (np.diff(pair[order]) == 0) & (np.diff(high[order]) == 0)
    same_way = same_corners & (np.diff(upwards[order].astype(np.int8)) == 0)
    kept = np.ones(len(faces), dtype=bool)
    kept[order[1:][same_way]] = False
    later = np.maximum(order[1:], order[:-1])[same_corners & ~same_way]
    if 4 * len(later) <= len(faces):
        return kept, 2 * len(later)
    kept[later] = False
    return kept, 0


def _against_neighbours(edges: _Edges, count: int) -> NDArray[np.bool_]:
    """Faces ``(F,)`` to reverse so that neighbours look the same way; the fewer of a piece.

    Every face stands twice in a graph, as it is and reversed; neighbours that look the same way join as they are and as
    they are reversed, others crosswise. A piece of one side only (a Möbius strip) is joined with itself and stays.
    """
    if edges.balanced[edges.counts == 2].all():
        return np.zeros(count, dtype=bool)
    order = np.argsort(edges.key, kind="stable")
    start = (np.cumsum(edges.counts) - edges.counts)[edges.counts == 2]
    one, two = order[start], order[start + 1]
    crosswise = np.where(edges.forward[one] == edges.forward[two], count, 0)
    a, b = one % count, two % count
    label = _connected(
        np.concatenate([a, a + count]), np.concatenate([b + crosswise, b + count - crosswise]), 2 * count
    )
    as_is, flipped = label[:count], label[count:]
    faces = np.bincount(as_is, minlength=int(label.max()) + 1)
    more, same = faces[flipped] > faces[as_is], faces[flipped] == faces[as_is]
    return np.asarray(more | (same & (flipped < as_is)))


def _connected(starts: NDArray[np.int64], ends: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """A label of the connected piece of each of ``count`` nodes."""
    graph = coo_matrix((np.ones(len(starts), dtype=np.int8), (starts, ends)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _bodies(faces: Faces, count: int) -> NDArray[np.int64]:
    """The number of each face's connected piece, ``(F,)`` from 0."""
    label = _connected(faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel(), count)
    return np.unique(label[faces[:, 0]], return_inverse=True)[1].reshape(-1)


def _boxes(vertices: Vertices, faces: Faces, body: NDArray[np.int64]) -> NDArray[np.float64]:
    """Lower and upper corners of the bodies' boxes, ``(B, 2, 3)``."""
    order = np.argsort(body, kind="stable")
    start = np.searchsorted(body[order], np.arange(int(body.max()) + 1))
    corners = vertices[faces[order]]
    low = np.minimum.reduceat(corners.min(axis=1), start, axis=0)
    return np.stack([low, np.maximum.reduceat(corners.max(axis=1), start, axis=0)], axis=1)


def _inside_out(boxes: NDArray[np.float64], volumes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Bodies ``(B,)`` to reverse; ``volumes`` are 0 for open ones.

    A closed body outside of all others has a positive volume. One in the box of a larger body goes with that one: its
    cavities are wound against it.
    """
    if len(volumes) > _COMPARED_BODIES:
        return np.full(len(volumes), bool(volumes.sum() < 0))
    low, high = boxes[:, 0], boxes[:, 1]
    within = (low[:, None] > low).all(axis=2) & (high[:, None] < high).all(axis=2)
    within &= np.abs(volumes) > np.abs(volumes)[:, None]
    inward = volumes < 0
    for body in np.argsort(-np.abs(volumes)):  # a larger body is settled before those in it
        if within[body].any():
            inward[body] = inward[np.where(within[body], np.abs(volumes), 0.0).argmax()]
    return inward


def _shared_volume(vertices: Vertices, wound: _Wound) -> float:
    """Volume that closed bodies count twice: the sum of theirs without that of their union; 0 where not measured."""
    faces, body, volumes = wound.faces, wound.body, wound.volumes
    if not 2 <= len(volumes) <= _JOINED_BODIES or len(faces) > _JOINED_FACES or (volumes <= 0).any():
        return 0.0
    import manifold3d

    size = float(np.ptp(vertices, axis=0).max())
    points = (vertices - vertices.mean(axis=0)) / size
    solids = []
    for number in range(len(volumes)):
        used, rows = np.unique(faces[body == number], return_inverse=True)
        solids.append(manifold3d.Manifold(manifold3d.Mesh64(points[used], rows.reshape(-1, 3).astype(np.uint64))))
    if any(solid.status() != manifold3d.Error.NoError for solid in solids):
        return 0.0
    union = manifold3d.Manifold.batch_boolean(solids, manifold3d.OpType.Add).volume() * size**3
    shared = float(volumes.sum()) - union
    return shared if shared > 1e-6 * float(volumes.sum()) else 0.0


def _stray_growth(vertices: Vertices, wound: _Wound, doubled: NDArray[np.float64]) -> float:
    """How many times larger the part is than without its bodies of next to no area; they may not double it."""
    faces, body = wound.faces, wound.body
    area = np.bincount(body, weights=doubled)
    main = (area >= STRAY_AREA * area.sum())[body]
    if main.all() or not main.any():
        return 1.0
    size, whole = (float(np.ptp(vertices[corners], axis=(0, 1)).max()) for corners in (faces[main], faces))
    if whole > STRAY_GROWTH * size:
        raise ValueError(
            f"its largest extent is {whole * 1e3:.4g} mm, and {size * 1e3:.4g} mm without bodies that have less than "
            f"{STRAY_AREA:.1%} of its surface each (limit: {STRAY_GROWTH:g} times as large); delete these leftovers"
        )
    return whole / size


def _check_solid(corners: Vertices, degenerate: int, given: int) -> None:
    """Raise ValueError for faces, with ``corners (N, 3)``, that have no area or lie in a plane along two axes."""
    if degenerate == given:
        raise ValueError("no face has an area (all points coincide or lie on a line); export a part with a volume")
    extents = np.ptp(corners, axis=0)
    if extents.min() <= _FLAT * extents.max():
        raise ValueError(
            f"the mesh is flat (extents {extents.round(6).tolist()} m); "
            "a solid with a volume is needed: give the sheet its thickness"
        )
    if degenerate > MOST_DEGENERATE * given:
        raise ValueError(
            f"{degenerate} of {given} faces have no area (limit {MOST_DEGENERATE:.0%}): their corners coincide or lie "
            "on a line, as where coordinates were rounded too coarsely; export with more digits or in a smaller unit"
        )


def _check_missing(vertices: Vertices, faces: Faces, surface: Surface) -> None:
    """An open surface lacks at least the length of its summed area vectors, which is zero for a closed one."""
    if surface.watertight or surface.crowded_edges:
        return
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    missing = float(np.linalg.norm(np.cross(b - a, c - a).sum(axis=0))) / 2.0
    if missing > MOST_MISSING * surface.area:
        raise ValueError(
            f"its surface is open ({surface.open_edges} edges belong to one face only) and lacks at least "
            f"{missing / surface.area:.0%} of what is there (limit {MOST_MISSING:.0%}), as a sheet without thickness "
            "or one side of a scan does; export a closed solid, or give the sheet its thickness"
        )
