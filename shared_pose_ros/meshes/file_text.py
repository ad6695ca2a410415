"""What a mesh file is: its text in whatever encoding, and the format that its first bytes show."""

from __future__ import annotations

import re

_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_HEAD = 4096
# First bytes of what is found under a mesh file's name, once white space is gone.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself: run git lfs pull"),
    (rb"\x00\x05\x16\x07", "the macOS attributes of another file"),
    (rb"ISO-10303-21", "STEP, exact surfaces and no triangles"),
    (rb".{72}S {6}1\s", "IGES, exact surfaces and no triangles"),
    (rb"DBRep_DrawableShape|CASCADE Topology", "OpenCASCADE BRep, exact surfaces and no triangles"),
    (rb"glTF", "glTF binary (.glb)"),
    (rb"PK\x03\x04", "a ZIP archive, as 3MF and zipped files are"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"7z\xbc\xaf|Rar!", "an archive"),
    (rb"Kaydara FBX", "FBX"),
    (rb"BLENDER", "a Blender scene"),
    (rb"SolidWorks|\xd0\xcf\x11\xe0", "a CAD system's own document (OLE container)"),
    (rb"%PDF", "PDF"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{12}\x28\x00\x00\x00", "an image"),
    (rb"(?i:<!doctype html|<html)", "a web page, as a failed download leaves"),
    (rb"(?i:(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<COLLADA)", "COLLADA (.dae)"),
    (rb"(?i:(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<amf)", "AMF"),
    (rb"(?i:(<\?xml[^>]*>\s*)?<x3d|#X3D)", "X3D"),
    (rb"<\?xml", "XML"),
    (rb"#VRML", "VRML (.wrl)"),
    (rb"(?i:AC10\d\d)", "a DWG drawing"),
    (rb"0\s+SECTION\s", "a DXF drawing"),
    (rb"\{\s*\"", "JSON, as glTF (.gltf) is"),
    (rb"(ST|C|N|4|n)*OFF\s", "OFF"),
    (rb"# \.PCD|VERSION 0?\.7", "a PCD point cloud"),
    (rb"(?i:ply)\s+(comment|format|obj_info|element)", "PLY"),
    (rb"(?i:solid\b.*?facet\s+normal)", "ASCII STL"),
    (rb"(#[^\n]*\s+|(mtllib|o|g|s|usemtl)[ \t][^\n]*\s+)*v[ \t]+[-+.\d][^\n]*\s", "Wavefront OBJ"),
)


def text_of(data: bytes) -> str:
    """The text of a file, without byte-order mark and with single line ends.

    UTF-8, UTF-16 with or without mark, and for the rest Latin-1, in which names may be wrong but no number is.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _lines(data[len(mark) :].decode(encoding, errors="replace"))
    sample = data[:_HEAD]
    if sample.count(0) > len(sample) // 3:  # every other byte of plain letters in UTF-16 is zero
        order = "utf-16-be" if sample[:2].startswith(b"\x00") else "utf-16-le"
        return _lines(data.decode(order, errors="replace"))
    return _lines(data.decode("latin-1"))


def foreign_format(data: bytes, own: str) -> str:
    """What a file holds that is none of the format its name says, "" where that is not known.

    Args:
        data: the file.
        own: "PLY", "STL" or "OBJ".

    Returns:
        A noun with article where it has one, for "the file is …" or "the file holds …".
    """
    head = data[:_HEAD]
    if head and not data.strip(b"\x00"):
        return "nothing but zero bytes"
    starts = (head.lstrip(), text_of(head).lstrip().encode("latin-1", errors="replace"))
    for pattern, name in _SIGNATURES:
        if any(re.match(pattern, start, re.DOTALL) for start in starts):
            return "" if own in name else name
    if head[:2] in (b"\x4c\x01", b"\x64\x86") and own == "OBJ":
        return "a compiled program's object file"
    return ""


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
