"""Every kernel that a GPU runs compiles for the GPUs that people have; no GPU is needed for that."""

import pytest

from shared_pose_ros.rendering import shading, warp_rasterizer
from shared_pose_ros.rendering.warp_rasterizer import wp

ARCHITECTURES = (75, 86, 89, 90, 120)
"""Turing, Ampere, Ada, Hopper and Blackwell."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "kernel"), [(warp_rasterizer, "_rasterize_faces"), (shading, "_shade_pixels")], ids=str
)
def test_it_compiles(module, kernel, tmp_path):
    wp.compile_aot_module(module, arch=ARCHITECTURES, module_dir=tmp_path, use_ptx=True)
    for architecture in ARCHITECTURES:
        (path,) = tmp_path.glob(f"*.sm{architecture}.ptx")
        code = path.read_text()
        assert f".target sm_{architecture}" in code and kernel in code
