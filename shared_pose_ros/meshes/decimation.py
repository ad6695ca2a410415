"""Fewer faces for the same shape: quadric edge collapses, many independent ones a round, in numpy.

Each vertex carries the sum of squared distances to its faces' planes, weighted by area (Garland and Heckbert 1997). A
round takes the cheapest edges whose surroundings do not touch, so that all collapse at once, and skips those that would
turn a face over, make a needle or change the topology. Open borders hold through planes that stand upright on them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Vertices = NDArray[np.float64]
Faces = NDArray[np.int64]

_BORDER_WEIGHT = 10.0
# Pull towards the edge's middle, relative to the quadrics: decides where planes leave the position open.
_REGULARISATION = 1e-4
# A collapse may turn a face's normal by at most acos(0.3) and leave no face flatter than this (4√3 area / Σ edge²).
_MIN_NORMAL_COSINE = 0.3
_MIN_QUALITY = 0.01


def decimate(vertices: Vertices, faces: Faces, face_budget: int) -> tuple[Vertices, Faces]:
    """Collapse edges until at most ``face_budget`` faces are left, or no edge can go.

    Args:
        vertices: ``(V, 3)``, of a size near 1.
        faces: ``(F, 3)``, without duplicate vertices.
        face_budget: faces wanted.

    Returns:
        Vertices (some unused) and faces, of which there can be more than wanted.
    """
    vertices, faces = vertices.copy(), np.asarray(faces, dtype=np.int64)
    quadrics = _vertex_quadrics(vertices, faces)
    while len(faces) > face_budget:
        edges, edge_faces = _edges(faces)
        position, cost = _targets(vertices, quadrics, edges)
        # Few at a time: within a round the order is not greedy, and checking more costs more than more rounds (tried).
        order = np.argsort(cost, kind="stable")[: max(200, len(edges) // 8)]
        order = order[_keeps_topology(edges, edge_faces, len(vertices), order)]
        order = order[_keeps_faces(vertices, faces, edges[order], position[order])]
        if len(order) == 0:
            break
        chosen = order[_independent(edges, order, len(vertices))]
        chosen = chosen[: max(1, (len(faces) - face_budget + 1) // 2)]
        keep, drop = edges[chosen].T
        vertices[keep] = position[chosen]
        quadrics[keep] += quadrics[drop]
        target = np.arange(len(vertices))
        target[drop] = keep
        faces = target[faces]
        gone = (faces[:, 0] == faces[:, 1]) | (faces[:, 1] == faces[:, 2]) | (faces[:, 2] == faces[:, 0])
        faces = faces[~gone]
    return vertices, faces


def _normals(corners: Vertices) -> tuple[Vertices, NDArray[np.float64]]:
    """Unit normals ``(N, 3)`` and doubled areas ``(N,)`` of triangles ``(N, 3, 3)``."""
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled = np.sqrt(np.einsum("ni,ni->n", cross, cross))
    return cross / np.maximum(doubled, 1e-30)[:, None], doubled


def _normals_and_qualities(corners: Vertices) -> tuple[Vertices, NDArray[np.float64]]:
    """Unit normals ``(N, 3)`` and shapes ``(N,)``, 1 for an equilateral triangle and 0 for a line."""
    normals, doubled = _normals(corners)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    ones = np.ones(3)
    # The squared third side follows from the other two; products with ones sum faster than .sum does here.
    squares = 2.0 * ((first**2) @ ones + (second**2) @ ones - (first * second) @ ones)
    return normals, 2.0 * np.sqrt(3.0) * doubled / np.maximum(squares, 1e-30)


def _edges(faces: Faces) -> tuple[Faces, NDArray[np.int64]]:
    """Undirected edges ``(E, 2)`` and the number of faces at each."""
    directed = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    key, counts = np.unique(directed[:, 0] << 32 | directed[:, 1], return_counts=True)
    return np.stack([key >> 32, key & 0xFFFFFFFF], axis=1), counts


def _vertex_quadrics(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """Quadrics ``(V, 4, 4)``: sums of area-weighted plane products, with upright planes along open borders."""
    corners = vertices[faces]
    normals, doubled = _normals(corners)
    quadrics = np.zeros((len(vertices), 4, 4))
    _add_planes(quadrics, faces, normals, corners[:, 0], doubled / 2.0)
    edges, counts = _edges(faces)
    border = {(int(i), int(j)) for i, j in edges[counts == 1]}
    for k in range(3) if border else ():
        pairs = np.sort(faces[:, [k, (k + 1) % 3]], axis=1)
        at = np.array([(int(i), int(j)) in border for i, j in pairs])
        along = vertices[pairs[at, 1]] - vertices[pairs[at, 0]]
        upright = np.cross(along, normals[at])
        length = np.maximum(np.linalg.norm(upright, axis=1), 1e-30)
        weight = _BORDER_WEIGHT * length**2
        _add_planes(quadrics, pairs[at], upright / length[:, None], vertices[pairs[at, 0]], weight)
    return quadrics


def _add_planes(
    quadrics: NDArray[np.float64], owners: Faces, normals: Vertices, points: Vertices, weights: NDArray[np.float64]
) -> None:
    planes = np.concatenate([normals, -(normals * points).sum(axis=1, keepdims=True)], axis=1)
    products = weights[:, None, None] * planes[:, :, None] * planes[:, None, :]
    for column in owners.T:
        np.add.at(quadrics, column, products)


def _targets(vertices: Vertices, quadrics: NDArray[np.float64], edges: Faces) -> tuple[Vertices, NDArray[np.float64]]:
    """Best position of each edge's merged vertex ``(E, 3)`` and its cost ``(E,)``."""
    quadric = quadrics[edges[:, 0]] + quadrics[edges[:, 1]]
    start, end = vertices[edges[:, 0]], vertices[edges[:, 1]]
    middle = (start + end) / 2.0
    weight = _REGULARISATION * np.trace(quadric[:, :3, :3], axis1=1, axis2=2) + 1e-30
    matrix = quadric[:, :3, :3] + weight[:, None, None] * np.eye(3)
    position = np.linalg.solve(matrix, (weight[:, None] * middle - quadric[:, :3, 3])[:, :, None])[:, :, 0]
    homogeneous = np.concatenate([position, np.ones((len(edges), 1))], axis=1)
    cost = np.maximum(np.einsum("ei,eij,ej->e", homogeneous, quadric, homogeneous), 0.0)
    # On flat ground every collapse is free: the shortest edges go first there.
    squared_length = ((end - start) ** 2).sum(axis=1)
    return position, cost + 1e-6 * weight / _REGULARISATION * squared_length


def _keeps_topology(
    edges: Faces, edge_faces: NDArray[np.int64], count: int, order: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether the ends of each edge in ``order`` share as many neighbours as the edge has faces (link condition)."""
    both = np.concatenate([edges, edges[:, ::-1]])
    adjacency = csr_matrix((np.ones(len(both), dtype=np.int32), (both[:, 0], both[:, 1])), shape=(count, count))
    shared = np.asarray(adjacency[edges[order, 0]].multiply(adjacency[edges[order, 1]]).sum(axis=1)).ravel()
    on_border = np.zeros(count, dtype=bool)
    on_border[edges[edge_faces != 2].ravel()] = True
    bridge = on_border[edges[order]].all(axis=1) & (edge_faces[order] == 2)
    return (shared == edge_faces[order]) & (edge_faces[order] <= 2) & ~bridge


def _keeps_faces(vertices: Vertices, faces: Faces, edges: Faces, position: Vertices) -> NDArray[np.bool_]:
    """Whether moving both ends of each edge to its position neither flips nor flattens a remaining face."""
    old_normals, old_qualities = _normals_and_qualities(vertices[faces])
    corner_vertex = faces.ravel()
    by_vertex = np.argsort(corner_vertex, kind="stable")
    starts = np.searchsorted(corner_vertex[by_vertex], np.arange(len(vertices) + 1))
    fine = np.ones(len(edges), dtype=bool)
    for end, other in ((0, 1), (1, 0)):
        lengths = starts[edges[:, end] + 1] - starts[edges[:, end]]
        edge = np.repeat(np.arange(len(edges)), lengths)
        within = np.arange(len(edge)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        corner = by_vertex[starts[edges[edge, end]] + within]
        face = corner // 3
        remains = (faces[face] != edges[edge, other][:, None]).all(axis=1)
        edge, corner, face = edge[remains], corner[remains], face[remains]
        after = vertices[faces[face]]
        after[np.arange(len(face)), corner % 3] = position[edge]
        normals, qualities = _normals_and_qualities(after)
        bad = np.einsum("ni,ni->n", old_normals[face], normals) < _MIN_NORMAL_COSINE
        bad |= qualities < np.minimum(_MIN_QUALITY, old_qualities[face])  # needles that were there may stay
        fine[edge[bad]] = False
    return fine


def _independent(edges: Faces, order: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Positions in ``order`` of edges that are the first of all candidates touching their ends' neighbourhoods."""
    rank = np.arange(len(order))
    first = np.full(count, len(order))
    np.minimum.at(first, edges[order].ravel(), np.repeat(rank, 2))
    around = first.copy()
    np.minimum.at(around, edges[:, 0], first[edges[:, 1]])
    np.minimum.at(around, edges[:, 1], first[edges[:, 0]])
    return np.flatnonzero((around[edges[order, 0]] == rank) & (around[edges[order, 1]] == rank))
