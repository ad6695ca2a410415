"""The slow, obvious rasteriser that the fast one is checked against: float64, one ray and one face at a time."""

import numpy as np


def corners_of(vertices, faces, rotation, translation):
    """Camera-frame corners (F, 3, 3) of all faces."""
    placed = np.asarray(vertices, dtype=np.float64) @ np.asarray(rotation, dtype=np.float64).T
    return (placed + np.asarray(translation, dtype=np.float64))[faces]


def intersect(triangles, ray):
    """Möller-Trumbore for faces (F, 3, 3): distance along `ray` (F,) and smallest barycentric coordinate (F,).

    A ray along a face's plane gives distance −1.
    """
    a = triangles[:, 0]
    edge1, edge2 = triangles[:, 1] - a, triangles[:, 2] - a
    p = np.cross(ray, edge2)
    determinant = (edge1 * p).sum(axis=1)
    flat = np.abs(determinant) < 1e-14
    scale = 1.0 / np.where(flat, 1.0, determinant)
    u = -(a * p).sum(axis=1) * scale
    q = np.cross(-a, edge1)
    v = (q @ ray) * scale
    return np.where(flat, -1.0, (edge2 * q).sum(axis=1) * scale), np.minimum(np.minimum(u, v), 1 - u - v)


def hit_distance(triangle, ray):
    """Distance along `ray` of one face's plane."""
    return intersect(np.asarray(triangle)[None], ray)[0][0]


def pixel_ray(camera, x, y):
    """Ray (x, y, 1) through a pixel's centre."""
    k = np.asarray(camera, dtype=np.float64)
    down = (y - k[1, 2]) / k[1, 1]
    return np.array([(x - k[0, 2] - k[0, 1] * down) / k[0, 0], down, 1.0])


def render(vertices, faces, rotation, translation, camera, size):
    """Nearest face (−1 background) and its depth (0) in every pixel, and whether the pixel is disputable.

    Disputable: a face's edge within 1e-4 of the pixel (barycentric), or another face at the same depth to 1e-5.
    """
    triangles = corners_of(vertices, faces, rotation, translation)
    face_id, depth = np.full(size, -1), np.zeros(size)
    disputable = np.zeros(size, dtype=bool)
    for y in range(size[0]):
        for x in range(size[1]):
            z, margin = intersect(triangles, pixel_ray(camera, x, y))
            disputable[y, x] = ((np.abs(margin) < 1e-4) & (z > 0)).any()
            z = np.where((margin >= 0) & (z > 0), z, np.inf)
            nearest = z.min()
            if nearest < np.inf:
                depth[y, x], face_id[y, x] = nearest, z.argmin()
                disputable[y, x] |= (z < nearest * (1 + 1e-5)).sum() > 1
    return face_id, depth, disputable
