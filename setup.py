"""Build shared_pose_ros for colcon (ament_python) and for pip; package.xml holds the version and the description."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
NAME = "shared_pose_ros"
SHARED_FOLDERS = ("launch", "config", "examples", "models")

MANIFEST = ElementTree.parse(HERE / "package.xml").getroot()

# What a cell needs. ROS itself comes from the ROS installation or from requirements/ros.txt: its wheels are not for
# every machine. A ROS machine's own python3-opencv serves as well as the headless wheel; the plain opencv-python wheel
# does not import on a machine without libGL. CI tries the minima with the versions of requirements/minimum.txt.
RUNTIME = ["numpy>=1.21", "opencv-python-headless>=4.5.4", "PyYAML>=5.4", "torch>=2.2"]
TRAIN = [
    "fast-simplification>=0.1.7",
    "kornia>=0.7.3",
    "manifold3d>=3.5",
    "scipy>=1.8",
    "tensorboard>=2.20",
    "torch>=2.9",  # torch.optim.Muon, the default optimiser
    "tqdm>=4.60",
    "trimesh>=4.6",
    "warp-lang>=1.14",
]
REPLAY = ["rosbags>=0.11.7"]
CHECKS = ["codespell>=2.3", "import-linter>=2.1", "mypy>=1.15", "ruff>=0.12", "types-PyYAML"]
EXTRAS = {
    "train": TRAIN,
    "replay": REPLAY,
    # All that tests, linters and type checker need. `colcon test` runs pytest because it finds it under this name.
    "test": [*TRAIN, *REPLAY, *CHECKS, "catkin-pkg>=1.0", "hypothesis>=6", "lxml>=4", "pytest>=7", "pytest-cov>=5"],
    # What benchmark/inference.py times the bundle against, and what draws the plots; nothing else uses them.
    "benchmark": ["matplotlib>=3.8", "onnx>=1.16", "onnxruntime>=1.18", "openvino>=2024.4"],
    # What `make docs` builds the site with.
    "docs": ["mkdocs>=1.6", "mkdocs-material>=9.6", "mkdocstrings[python]>=1.0"],
    # The reference renderer. This build loads with this torch alone, so it wants an environment of its own.
    "pytorch3d": ["easypytorch3d==0.7.9.post1", "torch==2.12.0"],
}


def shared_files() -> list[tuple[str, list[str]]]:
    """Data files as (destination folder, sources): the ament marker, package.xml and the folders under share/."""
    share = f"share/{NAME}"
    files = [("share/ament_index/resource_index/packages", [f"resource/{NAME}"]), (share, ["package.xml"])]
    for folder in SHARED_FOLDERS:
        for directory in sorted(path for path in (HERE / folder, *(HERE / folder).rglob("*")) if path.is_dir()):
            if directory.name == "__pycache__":
                continue
            relative = directory.relative_to(HERE).as_posix()
            sources = sorted(f"{relative}/{path.name}" for path in directory.iterdir() if path.is_file())
            if sources:
                files.append((f"{share}/{relative}", sources))
    return files


setup(
    name=NAME,
    version=MANIFEST.findtext("version"),
    description=" ".join(MANIFEST.findtext("description").split()),
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").is_file() else "",
    long_description_content_type="text/markdown",
    maintainer=MANIFEST.findtext("maintainer"),
    maintainer_email=MANIFEST.find("maintainer").get("email"),
    license=MANIFEST.findtext("license"),
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    data_files=shared_files(),
    python_requires=">=3.10",
    install_requires=RUNTIME,
    extras_require=EXTRAS,
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"shared_pose = {NAME}.cli.main:main",
            f"shared_pose_node = {NAME}.ros.node:main",
        ]
    },
)
