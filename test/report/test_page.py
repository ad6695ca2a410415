"""The report is one file that any browser shows: strict markup, nothing fetched, every link and picture whole."""

import base64
import dataclasses
import html
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from evaluation_scene import StandInEstimator, objects, turn
from test_sections import evaluation as figures

from shared_pose_ros.evaluation.bundle_evaluation import evaluate_bundle
from shared_pose_ros.evaluation.instance_scoring import RandomRotationBaseline
from shared_pose_ros.evaluation.protocols import get_protocol
from shared_pose_ros.html_page import Picture
from shared_pose_ros.report.cases import case_pictures, dataset_frames, gallery
from shared_pose_ros.report.page import group_evaluations, report_path, write_report

VOID = {"meta", "img", "br", "hr", "link", "input"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class Strict(HTMLParser):
    """Reads a page as a browser would; raises AssertionError for tags that do not nest."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.images = [], Counter(), [], [], []

    def handle_startendtag(self, tag, attributes):
        self.note(tag, dict(attributes))

    def handle_starttag(self, tag, attributes):
        self.note(tag, dict(attributes))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def note(self, tag, attributes):
        self.tags[tag] += 1
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        self.images += [(attributes["src"], attributes.get("alt"))] if tag == "img" else []


def checked(text):
    """The parsed page (by both parsers); AssertionError for anything that a browser might stumble over or fetch."""
    page = Strict()
    page.feed(text)
    page.close()
    assert page.open == [], f"never closed: {page.open}"
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links), page.links
    for source, alternative in page.images:
        kind, data = source.split(",", 1)
        assert kind == "data:image/jpeg;base64" and alternative
        assert (
            cv2.imdecode(np.frombuffer(base64.b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR) is not None
        )
    bare = re.sub(r"data:image/jpeg;base64,[^\"]*", "data:", text)
    assert not re.search(r"https?:|src=\"(?!data:)|@import|url\(|\bon\w+=", bare)
    return ElementTree.fromstring(text)


BASELINE = RandomRotationBaseline(3)


@pytest.fixture(scope="module")
def report(tmp_path_factory, dataset, scorer):
    """A report of two settings, some boxes not the true ones, object 1 rotated by 90°."""
    estimator = StandInEstimator(dataset, error=turn([0, 0, 1], 90))
    evaluations = [
        dataclasses.replace(e, instances=tuple(dataclasses.replace(i, box_iou=0.7) for i in e.instances))
        for e in evaluate_bundle(
            estimator, dataset, scorer, get_protocol("paper"), (True, False), RandomRotationBaseline(3)
        )
    ]
    cases = case_pictures(evaluations[0], dataset_frames(dataset), scorer)
    pictures = gallery(evaluations[0], dataset, scorer)
    folder = tmp_path_factory.mktemp("report")
    return write_report(folder, "A <title> & more", evaluations, pictures, ["latency 3 ms"], cases, scorer.objects)


def test_the_page_is_whole_and_has_every_section(report):
    assert report.name == "report.html"
    page = checked(report.read_text(encoding="utf-8"))
    assert page.findtext("head/title") == page.findtext("body/h1") == "A <title> & more"
    links = [link.text for link in page.iter("a")]
    assert links == [heading.text for heading in page.iter("h2")]
    assert links == [
        *("Summary", "Notes", "By object", "Recall over the threshold", "By visible share"),
        *("By angle off the optical axis", "By overlap of the given and the true box (IoU)"),
        "Ambiguous views: residual rotations of wrong estimates, corrected",
        *("Does confidence mean correctness?", "Worst cases, corrected", "Median cases, corrected"),
        *("Best cases, corrected", "Poses over the images"),
        "All instances, corrected",
    ]
    assert len(list(page.iter("img"))) == 3 + 2
    text = "".join(page.itertext())
    assert text.count("protocol paper; data") == 2 and "latency 3 ms" in text
    assert "90° about z 2" in text and "ground truth green, estimate orange" in text


# Run in the page when all is loaded: what the browser made of it replaces the page's content.
PROBE = """<script>addEventListener("load", () => {
const seen = {
  images: [...document.images].map((image) => [image.complete, image.naturalWidth, image.clientWidth]),
  plots: [...document.querySelectorAll("svg")].map((plot) => plot.getBoundingClientRect().width),
  fetched: performance.getEntriesByType("resource").map((entry) => entry.name)
    .filter((name) => !name.startsWith("data:")),
  tables: document.querySelectorAll("table").length,
  ink: getComputedStyle(document.body).color,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
};
document.body.textContent = JSON.stringify(seen);
});</script></body>"""


def seen_by(command, page, folder):
    """What a browser makes of a page's text, as a dictionary; None if it does not run."""
    path = folder / "probed.html"
    path.write_text(page.replace("</body>", PROBE), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", "--virtual-time-budget=10000"]
    arguments = [command, *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()]
    try:
        result = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"<body>(\{.*\})</body>", result.stdout, re.DOTALL)
    return json.loads(html.unescape(found.group(1))) if found else None


def working_browser(folder):
    """A browser that shows a page on this machine, or None: some packages only forward to another."""
    commands = [command for command in map(shutil.which, BROWSERS) if command]
    return next((command for command in commands if seen_by(command, "<html><body>x</body></html>", folder)), None)


@pytest.mark.slow
def test_a_browser_shows_it(report, tmp_path):
    text = report.read_text(encoding="utf-8")
    page = checked(text)  # all that can be said on a machine without a browser
    command = working_browser(tmp_path)
    if command is None:
        return
    seen = seen_by(command, text, tmp_path)
    assert seen["fetched"] == [] and seen["overflow"] <= 0
    assert len(seen["images"]) == 5 and all(done and width > 0 and shown > 100 for done, width, shown in seen["images"])
    plots = list(page.iter("{http://www.w3.org/2000/svg}svg")) + list(page.iter("svg"))
    assert len(seen["plots"]) == len(plots) > 8 and all(width > 300 for width in seen["plots"])
    assert seen["tables"] == len(list(page.iter("table")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("</h1>", "</h2>"),
        ('href="#notes"', 'href="#nowhere"'),
        ('id="notes"', 'id="frames"'),
        ("<p>latency 3 ms</p>", '<img src="https://example.org/a.png" alt="x"/>'),
        ("<p>latency 3 ms</p>", "<script>1</script>"),
        ("<p>latency 3 ms</p>", "<p>latency<br></p>"),
        ("base64,/9j/4", "base64,/9j/!"),
        ("base64,/9j/4AAQ", "base64,AAAAAAAA"),
        ("</style>", "p{background:url(x.png)}</style>"),
    ],
)
def test_the_check_sees_what_is_broken(report, old, new):
    text = report.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises((AssertionError, ValueError, ElementTree.ParseError)):
        checked(text.replace(old, new, 1))


def test_hundreds_of_instances_stay_a_small_file(tmp_path):
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.integers(0, 256, (540, 720, 3), dtype=np.uint8), (0, 0), 1.5)
    crops = [Picture(noise[:256, :512].copy(), f"case {number}") for number in range(24)]
    frames = [Picture(np.tile(noise, (2, 2, 1)), f"frame {number}") for number in range(8)]
    results = figures().instances
    many = figures(results=tuple(dataclasses.replace(results[n % 3], gt_id=n) for n in range(500)))
    path = write_report(tmp_path / "r.html", "t", [many], frames, (), {"worst": crops}, objects())
    assert path.stat().st_size < 6e6
    page = checked(path.read_text(encoding="utf-8"))
    assert {image.get("width") for image in page.iter("img")} == {"512", "960"}
    assert len(page.findall(".//details/table/tr")) == 501


def test_a_folder_gets_a_report_and_a_page_keeps_its_name(tmp_path):
    assert report_path("out/tless") == Path("out/tless/report.html")
    assert report_path("out/tless.v2") == Path("out/tless.v2/report.html")
    assert report_path("out/tless.html") == Path("out/tless.html") and report_path("A.HTM") == Path("A.HTM")
    assert write_report(tmp_path / "new" / "folder", "t", []) == tmp_path / "new" / "folder" / "report.html"


def test_a_report_without_pictures_has_no_gallery(tmp_path):
    page = write_report(tmp_path / "r.html", "empty", []).read_text()
    assert "Poses over the images" not in page
    checked(page)
    shown = write_report(tmp_path / "r.html", "t", [], [Picture(np.zeros((4, 4, 3), np.uint8), "a & b")]).read_text()
    assert "a &amp; b" in shown


def test_only_what_may_be_compared_stands_together(tmp_path):
    line = "protocol paper; viewing-ray correction {}; chance: 20"
    on, off = (figures(flag, protocol_line=line.format(word)) for flag, word in ((True, "on"), (False, "off")))
    other = dataclasses.replace(on, system="other")
    bop = dataclasses.replace(
        on, protocol="bop19", score_name="AR", protocol_line="protocol bop19; " + line.format("on")
    )
    data = dataclasses.replace(on, protocol_line=line.format("on") + "; data b")
    assert [list(group) for group in group_evaluations([on, bop, off, data])] == [
        ["corrected", "not corrected"], ["net"], ["net"],
    ]  # fmt: skip
    assert [list(group) for group in group_evaluations([on, other])] == [["net", "other"]]
    assert [list(group) for group in group_evaluations([on, off, other])] == [
        ["net, corrected", "net, not corrected", "other, corrected"]
    ]
    assert [list(group) for group in group_evaluations([on, on, on])] == [["net", "net #2", "net #3"]]
    cases = {"worst": [Picture(np.zeros((4, 4, 3), np.uint8), "c")]}
    path = write_report(tmp_path, "t", [on, bop], cases=cases, objects=objects())
    page = checked(path.read_text(encoding="utf-8"))
    heads = [heading.text for heading in page.iter("h2")]
    assert "Worst cases, net (part 1, protocol paper)" in heads
    assert "Summary (part 1, protocol paper)" in heads and "Summary (part 2, protocol bop19)" in heads
