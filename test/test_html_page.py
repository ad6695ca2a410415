"""Pages that stand alone: escaped, parseable, nothing fetched."""

import base64
import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from shared_pose_ros.html_page import Picture, contents, figure, heading, paragraph, picture, table, write_page


def decoded(element):
    """The image of an <img> with inlined data, ``(H, W, 3)`` uint8 RGB."""
    kind, data = element.get("src").split(",", 1)
    assert kind == "data:image/png;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def test_a_page_is_xml_and_text_is_escaped(tmp_path):
    body = [
        paragraph("a < b & c", "protocol"),
        table(["x", "<y>"], [["1", "&"]], ["all", "2"]),
        table((), [["k", "v"]]),
    ]
    path = write_page(tmp_path / "new" / "page.html", "A & <B>", body, "p{color:red}")
    page = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    assert page.findtext("head/title") == page.findtext("body/h1") == "A & <B>"
    assert page.find("body/p").text == "a < b & c" and page.find("body/p").get("class") == "protocol"
    first, second = page.findall("body/table")
    assert [cell.text for cell in first.iter("th")] == ["x", "<y>"]
    assert [[cell.text for cell in row.findall("td")] for row in first.findall("tr")[1:]] == [["1", "&"], ["all", "2"]]
    assert first.findall("tr")[-1].get("class") == "mean" and second.find("tr/th") is None
    assert page.findtext("head/style").endswith("p{color:red}")


def test_contents_lead_to_the_headings():
    links = ElementTree.fromstring(contents({"one": "A & B", "two": "C"}))
    assert [(link.get("href"), link.text) for link in links.iter("a")] == [("#one", "A & B"), ("#two", "C")]
    title = ElementTree.fromstring(heading("A & B", "one", 3))
    assert (title.tag, title.get("id"), title.text) == ("h3", "one", "A & B")
    assert heading("x") == "<h2>x</h2>"


def test_photographs_may_be_jpeg():
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8), (0, 0), 5)
    small, large = (ElementTree.fromstring(picture(image, "x", quality)) for quality in (80, None))
    kind, data = small.get("src").split(",", 1)
    assert kind == "data:image/jpeg;base64" and len(data) < 0.3 * len(large.get("src"))
    found = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(found.astype(int) - image).mean() < 3
    assert (small.get("width"), small.get("height")) == ("120", "90")
    shown = ElementTree.fromstring(figure(Picture(image, "x"), 80))
    assert shown.find("img").get("src") == small.get("src")


def test_a_page_can_be_read_in_the_dark_and_on_paper(tmp_path):
    style = ElementTree.fromstring(write_page(tmp_path / "p.html", "t", []).read_text()).findtext("head/style")
    assert "prefers-color-scheme:dark" in style and "@media print" in style
    used, defined = set(re.findall(r"var\((--\w+)\)", style)), set(re.findall(r"(--\w+):", style))
    assert used and used <= defined


def test_pictures_are_inlined_without_loss():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(ElementTree.fromstring(picture(image, "x"))), image)
    shown = ElementTree.fromstring(figure(Picture(image, 'a "b" <c>')))
    assert shown.findtext("figcaption") == shown.find("img").get("alt") == 'a "b" <c>'
    for wrong in (image[:, :, 0], image.astype(np.float32), image[:, :, :2]):
        with pytest.raises(ValueError, match="give \\(H, W, 3\\) uint8"):
            picture(wrong, "x")
