"""The linters of an ament package, without ament: ruff (style, docstrings) and the schema rules of package.xml."""

import re
import shutil
import subprocess
import sys

from checkout import ROOT
from lxml import etree

MANIFESTS = (ROOT / "package.xml", *sorted((ROOT / "tools" / "pip_ros").glob("*/package.xml")))
REQUIRED = ("name", "version", "description", "maintainer", "license")
# REP 149: what may stand in a package.xml of format 3, in this order for the first ones.
ALLOWED = {
    *REQUIRED,
    *("url", "author", "build_depend", "build_export_depend", "buildtool_depend", "buildtool_export_depend"),
    *("exec_depend", "depend", "doc_depend", "test_depend", "conflict", "replace", "group_depend", "member_of_group"),
    "export",
}


def run(*command):
    """Output and exit status of a command run in the checkout."""
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def manifest_errors(text):
    """What REP 149 forbids in the text of a package.xml, one sentence each."""
    root = etree.fromstring(text.encode())
    errors = []
    if root.tag != "package" or root.get("format") != "3":
        errors.append("the root must be <package format='3'>")
    children = [child for child in root if isinstance(child.tag, str)]
    errors += [f"<{child.tag}> is unknown" for child in children if child.tag not in ALLOWED]
    for tag in REQUIRED:
        if not (root.findtext(tag) or "").strip():
            errors.append(f"<{tag}> is missing or empty")
    for tag in ("name", "version", "description", "export"):
        if len(root.findall(tag)) > 1:
            errors.append(f"<{tag}> stands more than once")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", root.findtext("name") or ""):
        errors.append("<name> must be lower-case letters, digits and underscores")
    if not re.fullmatch(r"\d+\.\d+\.\d+", root.findtext("version") or ""):
        errors.append("<version> must be MAJOR.MINOR.PATCH")
    errors += [
        f"<maintainer> {node.text} has no e-mail" for node in root.findall("maintainer") if not node.get("email")
    ]
    if not (root.findtext("export/build_type") or "").strip():
        errors.append("<export><build_type> is missing")
    declared = [(child.tag, child.text) for child in children if child.tag.endswith("depend")]
    errors += [f"<{tag}>{name} stands twice" for tag, name in sorted(set(declared)) if declared.count((tag, name)) > 1]
    return errors


def test_ruff_finds_nothing():
    status, output = run(sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", ".")
    assert status == 0, output


def test_ruff_checks_docstrings_and_mistakes(tmp_path):
    # Guards the settings: were a rule group dropped from ruff.toml, the test above would pass on anything.
    (tmp_path / "bad.py").write_text("import os\n\n\ndef area(w, h):\n    assert w > 0\n    return w * h\n")
    config = str(ROOT / "ruff.toml")
    status, output = run(sys.executable, "-m", "ruff", "check", "--no-cache", "--config", config, str(tmp_path))
    assert status == 1
    assert all(rule in output for rule in ("D100", "D103", "F401", "S101")), output


def test_manifests_follow_the_format():
    for path in MANIFESTS:
        assert manifest_errors(path.read_text(encoding="utf-8")) == [], path
        if shutil.which("xmllint"):
            status, output = run("xmllint", "--noout", str(path))
            assert status == 0, output


def test_the_manifest_rules_find_errors():
    good = MANIFESTS[0].read_text(encoding="utf-8")
    for old, new, error in (
        ('format="3"', 'format="2"', "format='3'"),
        ("<name>shared_pose_ros</name>", "<name>Shared Pose</name>", "<name>"),
        ("<exec_depend>rclpy</exec_depend>", "<run_depend>rclpy</run_depend>", "<run_depend>"),
        ("<exec_depend>rclpy</exec_depend>", "<exec_depend>launch</exec_depend>", "twice"),
        ("<build_type>ament_python</build_type>", "", "<build_type>"),
        (" email=", " mail=", "e-mail"),
    ):
        assert old in good
        assert any(error in found for found in manifest_errors(good.replace(old, new))), error


def test_shell_scripts_parse():
    status, output = run("bash", "-n", ".ci/run")
    assert status == 0, output
