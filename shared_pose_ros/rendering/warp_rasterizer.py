"""The Warp backend: one kernel for CPU and CUDA, one launch for a mixed batch of objects.

A thread handles one face of one image (on the CPU, 64 faces). Coverage comes from homogeneous edge functions (Olano &
Greer 1997): with the pixel's ray d = (x, y, 1), camera-frame corners a, b, c and the face's normal n, the face is hit
where d·(b×c), d·(c×a) and d·(a×b) all have the sign of a·n, at depth a·n / d·n. No clipping is needed, faces that cross
the camera plane included. A 64-bit atomic minimum over (bits of the depth, face) keeps the nearest: positive floats
order like their bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared_pose_ros.rendering.rasterizer import PackedMeshes

try:
    import warp as wp
except ImportError as error:
    raise ImportError("rasterizer 'warp' needs the package warp-lang; pip install 'shared_pose_ros[train]'") from error

wp.config.log_level = wp.LOG_WARNING
wp.init()
# No gradient passes through the kernel; half the code, twice the compile speed.
wp.set_module_options({"enable_backward": False, "fast_math": True})
EMPTY = 2**63 - 1
"""Key of a pixel that no face covers."""


@wp.func
def _crossing(value: float, focal: float, centre: float, limit: float):
    return wp.min(wp.max(focal * value + centre, -1.0), limit)


@wp.func
def _crossed(slope: float):
    """Times the constant, the pixel where slope·x + constant changes sign."""
    return wp.where(slope == 0.0, 0.0, -1.0 / slope)


@wp.func
def _first(low: float, slope: float, crossed: float, constant: float):
    """At most the first column from ``low`` on where slope·x + constant ≥ 0."""
    if slope > 0.0:
        return wp.max(low, constant * crossed - 0.5)
    return wp.where(slope == 0.0 and constant < 0.0, 1.0e9, low)


@wp.func
def _last(high: float, slope: float, crossed: float, constant: float):
    """At least the last column up to ``high`` where slope·x + constant ≥ 0."""
    if slope < 0.0:
        return wp.min(high, constant * crossed + 0.5)
    return high


@wp.func
def _rasterize_face(
    image: int,
    face: int,
    corner: wp.vec3i,
    vertices: wp.array(dtype=wp.vec3),
    r: wp.mat33,
    t: wp.vec3,
    k: wp.mat33,
    key: wp.array3d(dtype=wp.int64),
):
    a = r * vertices[corner[0]] + t
    b = r * vertices[corner[1]] + t
    c = r * vertices[corner[2]] + t
    near = wp.min(a[2], wp.min(b[2], c[2]))
    far = wp.max(a[2], wp.max(b[2], c[2]))
    if far <= 0.0:
        return
    fx = k[0, 0]
    fy = k[1, 1]
    height = key.shape[1]
    width = key.shape[2]
    x0 = int(0)
    x1 = width - 1
    y0 = int(0)
    y1 = height - 1
    if near > 1.0e-6 * far:
        w = float(width)
        h = float(height)
        ax = _crossing((a[0] + k[0, 1] / fx * a[1]) / a[2], fx, k[0, 2], w)
        bx = _crossing((b[0] + k[0, 1] / fx * b[1]) / b[2], fx, k[0, 2], w)
        cx = _crossing((c[0] + k[0, 1] / fx * c[1]) / c[2], fx, k[0, 2], w)
        ay = _crossing(a[1] / a[2], fy, k[1, 2], h)
        by = _crossing(b[1] / b[2], fy, k[1, 2], h)
        cy = _crossing(c[1] / c[2], fy, k[1, 2], h)
        x0 = wp.max(int(wp.ceil(wp.min(ax, wp.min(bx, cx)))), 0)
        x1 = wp.min(int(wp.floor(wp.max(ax, wp.max(bx, cx)))), width - 1)
        y0 = wp.max(int(wp.ceil(wp.min(ay, wp.min(by, cy)))), 0)
        y1 = wp.min(int(wp.floor(wp.max(ay, wp.max(by, cy)))), height - 1)
        if x0 > x1 or y0 > y1:
            return
    # Edges are differences of corners, taken in the object's frame: a face of 0.2 mm at 0.7 m keeps its digits, which
    # products of camera-frame corners lose.
    ab = r * (vertices[corner[1]] - vertices[corner[0]])
    bc = r * (vertices[corner[2]] - vertices[corner[1]])
    ca = r * (vertices[corner[0]] - vertices[corner[2]])
    normal = wp.cross(ab, bc)
    volume = wp.dot(a, normal)
    # Seen edge-on: tiny against the product of lengths.
    if wp.abs(volume) <= 1.0e-7 * wp.length(a) * wp.length(normal):
        return
    side = wp.sign(volume)
    # Edge functions are linear in the pixel; their constants are taken at the box's first pixel, near the face.
    top = (float(y0) - k[1, 2]) / fy
    left = (float(x0) - k[0, 2] - k[0, 1] * top) / fx
    pa = wp.vec2(a[0] - a[2] * left, a[1] - a[2] * top)
    pb = wp.vec2(b[0] - b[2] * left, b[1] - b[2] * top)
    pc = wp.vec2(c[0] - c[2] * left, c[1] - c[2] * top)
    step = side / fx
    s0 = (b[1] * bc[2] - b[2] * bc[1]) * step
    s1 = (c[1] * ca[2] - c[2] * ca[1]) * step
    s2 = (a[1] * ab[2] - a[2] * ab[1]) * step
    slant = k[0, 1] / fy
    r0 = side * (b[2] * bc[0] - b[0] * bc[2]) / fy - s0 * slant
    r1 = side * (c[2] * ca[0] - c[0] * ca[2]) / fy - s1 * slant
    r2 = side * (a[2] * ab[0] - a[0] * ab[2]) / fy - s2 * slant
    k0 = side * (pb[0] * pc[1] - pb[1] * pc[0])
    k1 = side * (pc[0] * pa[1] - pc[1] * pa[0])
    k2 = side * (pa[0] * pb[1] - pa[1] * pb[0])
    # 1/depth = normal·d / volume.
    inverse = 1.0 / volume
    sz = normal[0] * inverse / fx
    rz = normal[1] * inverse / fy - sz * slant
    kz = (normal[0] * left + normal[1] * top + normal[2]) * inverse
    width_left = float(x1 - x0)
    i0 = _crossed(s0)
    i1 = _crossed(s1)
    i2 = _crossed(s2)
    y = int(y0)
    while y <= y1:
        down = float(y - y0)
        c0 = k0 + r0 * down
        c1 = k1 + r1 * down
        c2 = k2 + r2 * down
        cz = kz + rz * down
        # Where each edge function changes sign along the row: slivers have wide boxes and short rows.
        low = _first(_first(_first(0.0, s0, i0, c0), s1, i1, c1), s2, i2, c2)
        high = _last(_last(_last(width_left, s0, i0, c0), s1, i1, c1), s2, i2, c2)
        # An edge along the row is crossed beyond what an integer holds, where the conversion gives the least of all.
        x = wp.max(int(wp.ceil(wp.min(low, width_left + 1.0))), 0)
        last = wp.min(int(wp.floor(wp.max(high, -1.0))), x1 - x0)
        while x <= last:
            right = float(x)
            inverse_depth = cz + sz * right
            bits = wp.int64(wp.cast(1.0 / inverse_depth, wp.int32))
            candidate = (bits << wp.int64(32)) | wp.int64(face)
            if candidate < key[image, y, x0 + x]:
                inside = wp.min(c0 + s0 * right, wp.min(c1 + s1 * right, c2 + s2 * right))
                if inside >= 0.0 and inverse_depth > 0.0:
                    wp.atomic_min(key, image, y, x0 + x, candidate)
            x += 1
        y += 1


@wp.func
def rasterize_range(
    image: int,
    first: int,
    last: int,
    vertices: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    normals: wp.array(dtype=wp.vec3),
    opaque_from: float,
    r: wp.mat33,
    t: wp.vec3,
    k: wp.mat33,
    key: wp.array3d(dtype=wp.int64),
):
    """Rasterise faces ``first`` to ``last - 1`` of one image, but no faces that others hide for certain."""
    eye = -(wp.transpose(r) * t)
    hides = wp.length(eye) > opaque_from
    face = int(first)
    while face < last:
        corner = faces[face]
        # Half of all faces end here, before anything is transformed.
        if not hides or wp.dot(normals[face], eye - vertices[corner[0]]) > 0.0:
            _rasterize_face(image, face, corner, vertices, r, t, k, key)
        face += 1


@wp.kernel
def _rasterize_faces(
    vertices: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    normals: wp.array(dtype=wp.vec3),
    opaque_from: wp.array(dtype=wp.float32),
    face_offsets: wp.array(dtype=wp.int32),
    object_index: wp.array(dtype=wp.int64),
    rotation: wp.array(dtype=wp.mat33),
    translation: wp.array(dtype=wp.vec3),
    camera: wp.array(dtype=wp.mat33),
    faces_per_thread: int,
    key: wp.array3d(dtype=wp.int64),
):
    image, block = wp.tid()
    index = int(object_index[image])
    first = face_offsets[index] + block * faces_per_thread
    last = wp.min(first + faces_per_thread, face_offsets[index + 1])
    k = camera[image if camera.shape[0] > 1 else 0]
    rasterize_range(
        image, first, last, vertices, faces, normals, opaque_from[index], rotation[image], translation[image], k, key
    )


class WarpRasterizer:
    """Rasterises with NVIDIA Warp; the first launch on a device compiles the kernel (seconds, then cached)."""

    @torch.no_grad()
    def rasterize(
        self,
        meshes: PackedMeshes,
        object_index: Tensor,
        rotation: Tensor,
        translation: Tensor,
        camera: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """Draw one object an image; see ``Rasterizer.rasterize``."""
        batch = object_index.shape[0]
        device = rotation.device
        key = torch.full((batch, *size), EMPTY, dtype=torch.int64, device=device)
        if batch == 0:
            return key
        camera = camera.reshape(-1, 3, 3)
        if camera.shape[0] not in (1, batch):
            raise ValueError(f"{camera.shape[0]} camera matrices for {batch} images; give one, or one per image")
        # A CPU "thread" is a loop iteration with its own overhead; a GPU wants one face a thread.
        faces_per_thread = 1 if device.type == "cuda" else 64
        wp.launch(
            _rasterize_faces,
            dim=(batch, -(-meshes.largest // faces_per_thread)),
            inputs=[
                *mesh_arrays(meshes),
                to_warp(object_index, wp.int64),
                to_warp(rotation.float(), wp.mat33),
                to_warp(translation.float(), wp.vec3),
                to_warp(camera.to(device).float(), wp.mat33),
                faces_per_thread,
                to_warp(key, wp.int64),
            ],
            **launch_arguments(device),
        )
        return torch.where(key == EMPTY, -1, key & 0xFFFFFFFF)


def to_warp(tensor: Tensor, dtype: type) -> wp.array:
    """A Warp view of a tensor, a copy only where it is not contiguous; vectors and matrices are trailing axes."""
    return wp.from_torch(tensor.detach().contiguous(), dtype=dtype)


def mesh_arrays(meshes: PackedMeshes) -> list[wp.array]:
    """What kernels that rasterise read of a pack: vertices, faces, normals, opaque_from, face_offsets."""
    return [
        to_warp(meshes.vertices, wp.vec3),
        to_warp(meshes.faces, wp.vec3i),
        to_warp(meshes.normals, wp.vec3),
        to_warp(meshes.opaque_from, wp.float32),
        to_warp(meshes.face_offsets, wp.int32),
    ]


def launch_arguments(device: torch.device) -> dict[str, object]:
    """Device and, on CUDA, torch's current stream, so that launches keep torch's order."""
    if device.type != "cuda":
        return {"device": "cpu"}
    return {"device": wp.device_from_torch(device), "stream": wp.stream_from_torch(torch.cuda.current_stream(device))}
