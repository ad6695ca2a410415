"""Which CAD the parity tests draw (the header says it): the demo parts, and T-LESS where found; figures at the end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "SHARED_POSE_TLESS"
SETS = {"demo": ROOT / "models" / "parts"}
FIGURES = []


def find_tless():
    """Folder of T-LESS' CAD models: of the variable, else beside the checkout, else None."""
    named = os.environ.get(VARIABLE)
    folder = Path(named) if named else ROOT.parent / "shared" / "tless"
    folder = folder / "models_cad" if (folder / "models_cad").is_dir() else folder
    if (folder / "models_info.json").is_file():
        return folder
    if named:
        raise pytest.UsageError(f"{VARIABLE}={named} has no models_cad/models_info.json; correct it or unset it")
    return None


def pytest_configure(config):
    folder = find_tless()
    if folder is not None:
        SETS["tless"] = folder


def pytest_report_header(config):
    found = SETS.get("tless", f"not found ({VARIABLE}=DIR names its folder), the demo parts alone")
    return f"T-LESS CAD: {found}"


def pytest_generate_tests(metafunc):
    if "cad" in metafunc.fixturenames:
        metafunc.parametrize("cad", SETS.values(), ids=SETS.keys(), scope="session")


@pytest.fixture
def measured(request):
    """measured(name, value) puts a figure under the results."""
    return lambda name, value: FIGURES.append(f"{request.node.callspec.id}: {name} {value:.1e}")


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("measured")
        terminalreporter.write_line("\n".join(FIGURES))
