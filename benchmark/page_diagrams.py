"""Draws the diagrams of docs/explanation/architecture.md: docs/images/callback_to_publish.svg and cad_to_bundle.svg.

Plain SVG, without a library: boxes on a grid, arrows between their sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

IMAGES = Path("docs/images")
LINE, MARGIN = 17, 14
"""Height of a line of text, and space around the diagram, in pixels."""
FILLS = {"data": "#fff4d6", "code": "#dcebfa", "part": "#f3f3f3", "out": "#dff3e4"}
"""Fill colours: what travels, what computes, what is optional, what leaves."""


@dataclass(frozen=True)
class Box:
    """A box with its name in bold and lines below it: left side, height of its middle, width, all in pixels."""

    x: int
    middle: int
    width: int
    lines: tuple[str, ...]
    kind: str = "code"

    @property
    def height(self) -> int:
        """Room for the lines."""
        return LINE * len(self.lines) + 14

    @property
    def y(self) -> float:
        """Of the upper side."""
        return self.middle - self.height / 2

    def side(self, name: str) -> tuple[float, float]:
        """The middle of the left, right, top or bottom side."""
        x = {"left": 0.0, "right": 1.0}.get(name, 0.5)
        y = {"top": 0.0, "bottom": 1.0}.get(name, 0.5)
        return self.x + x * self.width, self.y + y * self.height


Arrow = tuple[str, str, str]
"""From "box.side", to "box.side", and what travels."""


def callback_to_publish() -> tuple[Mapping[str, Box], Sequence[Arrow], Sequence[tuple[int, int, str]]]:
    """From a callback of the node to the published message: boxes, arrows, headings (x, y, text)."""
    boxes = {
        "inputs": Box(20, 72, 190, ("image, detections,", "depth, camera_info"), "data"),
        "node": Box(270, 72, 210, ("callbacks", "only store", "ros/lifecycle_node.py")),
        "pairing": Box(540, 72, 210, ("PairingBuffer", "by stamp and frame_id", "ros/pairing.py")),
        "worker": Box(810, 72, 190, ("Worker", "newest complete pair", "ros/worker.py")),
        "decode": Box(810, 196, 190, ("decode", "messages to arrays", "ros/message_pipeline.py")),
        "estimate": Box(540, 196, 210, ("estimate", "crop, network, position", "estimator.py")),
        "filter": Box(270, 196, 210, ("temporal filter", "optional, by detection id", "temporal_filter.py"), "part"),
        "select": Box(20, 196, 190, ("select", "hypotheses, equivalent", "poses, covariances")),
        "published": Box(20, 316, 190, ("PublishedPoses", "arrays"), "data"),
        "message": Box(270, 316, 210, ("message", "Detection3DArray", "ros/messages/poses.py")),
        "poses": Box(540, 316, 210, ("~/poses", "reliable, depth 1"), "out"),
        "draw": Box(270, 412, 210, ("drawing thread", "only for subscribers", "ros/visualization/")),
        "shown": Box(540, 412, 210, ("~/markers, ~/debug_image,", "/tf"), "out"),
        "counters": Box(810, 316, 190, ("/diagnostics", "each input published,", "counted or pending"), "out"),
    }
    arrows = [
        ("inputs.right", "node.left", ""),
        ("node.right", "pairing.left", ""),
        ("pairing.right", "worker.left", ""),
        ("worker.bottom", "decode.top", "messages"),
        ("decode.left", "estimate.right", ""),
        ("estimate.left", "filter.right", ""),
        ("filter.left", "select.right", ""),
        ("select.bottom", "published.top", "Frame"),
        ("published.right", "message.left", ""),
        ("message.right", "poses.left", ""),
        ("published.bottom", "draw.left", ""),
        ("draw.right", "shown.left", ""),
        ("decode.bottom", "counters.top", ""),
    ]
    headings = [
        (20, 26, "executor"),
        (810, 26, "worker thread"),
        (540, 150, "pipeline/: stages over arrays (Frame)"),
    ]
    return boxes, arrows, headings


def cad_to_bundle() -> tuple[Mapping[str, Box], Sequence[Arrow], Sequence[tuple[int, int, str]]]:
    """From CAD files to a bundle: boxes, arrows, headings (x, y, text)."""
    boxes = {
        "cad": Box(20, 72, 160, ("CAD files", "STL, PLY, OBJ"), "data"),
        "objects": Box(230, 72, 190, ("ObjectSet", "class ids, symmetries", "meshes/")),
        "synthesis": Box(470, 72, 220, ("Synthesizer", "random rotations, renders,", "backgrounds, augmentation")),
        "crops": Box(740, 72, 190, ("crops, rotations", "one batch"), "data"),
        "network": Box(740, 196, 190, ("PoseNetwork", "encoder, head", "network/")),
        "loss": Box(470, 196, 220, ("Objective", "depth renders, diversity,", "warm-up losses")),
        "optimizer": Box(230, 196, 190, ("optimiser", "Muon, Adam", "training/optimizer.py")),
        "checkpoint": Box(20, 196, 160, ("checkpoint", "resumable"), "data"),
        "export": Box(230, 326, 190, ("export", "script, compare with", "the eager network")),
        "bundle": Box(
            470,
            326,
            220,
            ("bundle, name.pose.pt", "graph from pixels to", "hypotheses, metadata,", "example, meshes"),
            "out",
        ),
        "estimator": Box(740, 326, 190, ("PoseEstimator", "verify, fuse, run", "estimator.py")),
    }
    arrows = [
        ("cad.right", "objects.left", ""),
        ("objects.right", "synthesis.left", ""),
        ("synthesis.right", "crops.left", ""),
        ("crops.bottom", "network.top", ""),
        ("network.left", "loss.right", ""),
        ("loss.left", "optimizer.right", ""),
        ("optimizer.left", "checkpoint.right", ""),
        ("checkpoint.bottom", "export.left", ""),
        ("export.right", "bundle.left", ""),
        ("bundle.right", "estimator.left", ""),
    ]
    headings = [
        (470, 26, "prefetched beside the network"),
        (470, 152, "one step of the Trainer"),
        (740, 282, "in the cell"),
    ]
    return boxes, arrows, headings


def svg(boxes: Mapping[str, Box], arrows: Sequence[Arrow], headings: Sequence[tuple[int, int, str]], title: str) -> str:
    """The diagram as SVG on a white ground."""
    width = max(box.x + box.width for box in boxes.values()) + MARGIN
    height = round(max(box.y + box.height for box in boxes.values()) + MARGIN)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif" font-size="12" fill="#222222">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#555555"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    lines += [
        f'<text x="{x}" y="{y}" fill="#777777" font-style="italic">{escape(text)}</text>' for x, y, text in headings
    ]
    for start, end, label in arrows:
        lines += _arrow(boxes, start, end, label)
    for box in boxes.values():
        lines += _box(box)
    return "\n".join([*lines, "</svg>", ""])


def _arrow(boxes: Mapping[str, Box], start: str, end: str, label: str) -> list[str]:
    (one, leaves), (other, enters) = start.split("."), end.split(".")
    (x, y), (u, v) = boxes[one].side(leaves), boxes[other].side(enters)
    turn = f"V{v:g}" if leaves in ("top", "bottom") and enters in ("left", "right") else ""
    found = [f'<path d="M{x:g} {y:g}{turn}L{u:g} {v:g}" fill="none" stroke="#555555" marker-end="url(#tip)"/>']
    if label:
        found.append(f'<text x="{(x + u) / 2 + 6:g}" y="{(y + v) / 2 + 4:g}">{escape(label)}</text>')
    return found


def _box(box: Box) -> list[str]:
    dash = ' stroke-dasharray="5 3"' if box.kind == "part" else ""
    found = [
        f'<rect x="{box.x}" y="{box.y:g}" width="{box.width}" height="{box.height}" rx="5" fill="{FILLS[box.kind]}" '
        f'stroke="#555555"{dash}/>'
    ]
    for row, text in enumerate(box.lines):
        weight = ' font-weight="bold"' if row == 0 else ""
        centre, base = box.x + box.width / 2, box.y + LINE * (row + 1) + 2
        found.append(f'<text x="{centre:g}" y="{base:g}" text-anchor="middle"{weight}>{escape(text)}</text>')
    return found


def diagrams() -> dict[Path, str]:
    """The diagrams by their paths in the source tree."""
    return {
        IMAGES / "callback_to_publish.svg": svg(*callback_to_publish(), "From a callback to the published message"),
        IMAGES / "cad_to_bundle.svg": svg(*cad_to_bundle(), "From CAD files to a bundle"),
    }
