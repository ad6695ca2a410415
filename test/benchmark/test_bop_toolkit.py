"""The comparison with bop_toolkit, without it: what is no toolkit is named, and one that computes wrongly is found."""

import sys

import bop_toolkit
import pytest

WRONG = {
    "pose_error": "mssd = mspd = add = adi = lambda *args: 1e9\ndef vsd(*args, **kwargs): return [0.0] * 10",
    "misc": "def get_symmetry_transformations(info, step): return []",
    "pose_matching": "def match_poses_scene(*args): return []",
    "score": "def calc_localization_scores(*args, **kwargs): return {'recall': 0.5}",
}


def test_a_folder_without_the_toolkit_is_named(tmp_path, capsys):
    assert bop_toolkit.main(["--toolkit", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no bop_toolkit_lib" in capsys.readouterr().err


@pytest.mark.slow
def test_every_difference_is_found(tmp_path, capsys, monkeypatch):
    library = tmp_path / "bop_toolkit_lib"
    library.mkdir()
    for name, text in WRONG.items():
        (library / f"{name}.py").write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert bop_toolkit.main(["--toolkit", str(tmp_path), "--views", "1"]) == 1
    for name in WRONG:
        sys.modules.pop(f"bop_toolkit_lib.{name}")
    error = capsys.readouterr().err
    assert [name for name in bop_toolkit.LIMITS if f"error: {name} differs by" not in error] == []
