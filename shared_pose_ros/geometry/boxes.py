"""Boxes and the square crop around them.

Convention: a box is (cx, cy, w, h) in pixels with pixel centres at integer coordinates, so the box that just covers the
pixels x0…x1 has cx = (x0 + x1)/2 and w = x1 − x0 + 1.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor


def box_from_mask(mask: np.ndarray) -> np.ndarray:
    """The tight box of a mask's non-zero pixels.

    Args:
        mask: ``(H, W)``.

    Returns:
        ``(4,)`` float64 (cx, cy, w, h).

    Raises:
        ValueError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise ValueError("the mask has no pixel set; there is no box around nothing")
    x0, x1, y0, y1 = columns[0], columns[-1], rows[0], rows[-1]
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0 + 1, y1 - y0 + 1], dtype=np.float64)


def box_from_corner_xywh(corner_box: np.ndarray) -> np.ndarray:
    """(cx, cy, w, h) of boxes given as BOP's (x, y, w, h), x and y the centre of the top left pixel.

    Args:
        corner_box: ``(..., 4)``.

    Returns:
        ``(..., 4)`` float64.
    """
    x, y, w, h = np.moveaxis(np.asarray(corner_box, dtype=np.float64), -1, 0)
    return np.stack([x + (w - 1) / 2, y + (h - 1) / 2, w, h], axis=-1)


def crop_side(boxes: Tensor, pad: float) -> Tensor:
    """Side of the square crop around each box, pixels: pad · max(w, h) (pad = 1.2 in Bengtson et al., 2022).

    Args:
        boxes: ``(B, 4)``.
        pad: factor > 0.

    Returns:
        ``(B,)``.
    """
    return boxes[:, 2:4].amax(dim=1) * pad


def box_iou(box: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes.

    Args:
        box: ``(4,)``.
        other: ``(4,)``.

    Returns:
        0…1; 0 where neither has an area.
    """
    (cx, cy, w, h), (ox, oy, ow, oh) = np.asarray(box, dtype=np.float64), np.asarray(other, dtype=np.float64)
    width = max(0.0, min(cx + w / 2, ox + ow / 2) - max(cx - w / 2, ox - ow / 2))
    height = max(0.0, min(cy + h / 2, oy + oh / 2) - max(cy - h / 2, oy - oh / 2))
    union = w * h + ow * oh - width * height
    return float(width * height / union) if union > 0 else 0.0
