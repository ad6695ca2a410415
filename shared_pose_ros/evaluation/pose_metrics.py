"""The errors of a pose beside VSD, each declared once: results, JSON files, tables and reports take them from here.

Convention: metres, pixels, degrees, float64. A metric that has a summary is also measured for every hypothesis and for
random rotations: it has columns in every table, beside those of the best hypothesis and of the baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from shared_pose_ros.evaluation.metrics import Comparison, add, adi, mspd, mssd, symmetric_rotation_error
from shared_pose_ros.meshes.object_set import ObjectModel

# Bit for bit the thresholds of bop_toolkit, np.arange(0.05, 0.51, 0.05): VSD errors are ratios of small numbers, and
# 3/20 < 0.15000000000000002.
STEPS = tuple(0.05 + 0.05 * i for i in range(10))
# BOP's MSPD thresholds hold for images 640 pixels wide.
MSPD_WIDTH = 640.0


@dataclass(frozen=True)
class PoseMetric:
    """A figure of a single pose.

    Attributes:
        name: in results and JSON files, which also have ``oracle_NAME``, that of the best hypothesis, and
            ``chance_NAME``, the median of random rotations, of those that tables show.
        title: in tables.
        unit: of its values: "m" (shown in millimetres), "px", "°", or "".
        error: of the N poses of a comparison ``(N,)``.
        worst: what an instance counts that a detector missed, of its object and the image's width.
        summary: how an object's instances are summed up in tables; None keeps the metric to single instances.
        limits: the tables also show the share of instances below each of these.
        larger_is_better: which hypothesis is the best, and that the share is of those above the limits.
        columns: names of summary and share in JSON files, if not NAME_SUMMARY and NAME_recall.
        thresholds: those of its average recall, for protocols that average it into their score.
        scaled: values as the thresholds mean them.
        on_request: left out where it is not asked for by its name, because it takes time.
    """

    name: str
    title: str
    unit: str
    error: Callable[[Comparison], Tensor]
    worst: Callable[[ObjectModel, float], float]
    summary: Literal["median", "mean"] | None = None
    limits: tuple[float, ...] = ()
    larger_is_better: bool = False
    columns: tuple[str, str] | None = None
    thresholds: tuple[float, ...] = ()
    scaled: Callable[[Tensor, Comparison], Tensor] = lambda values, _: values
    on_request: bool = False

    @property
    def column(self) -> str:
        """Name of its summary in JSON files."""
        return self.columns[0] if self.columns else f"{self.name}_{self.summary}"

    @property
    def recall_column(self) -> str:
        """Name of the shares within its limits in JSON files."""
        return self.columns[1] if self.columns else f"{self.name}_recall"

    @property
    def shown_unit(self) -> str:
        """Of its values in tables."""
        return "mm" if self.unit == "m" else self.unit

    @property
    def head(self) -> str:
        """Head of its column."""
        return f"{self.title} {self.shown_unit}".rstrip()

    @property
    def limit_heads(self) -> list[str]:
        """Heads of the columns of shares: "< 5° %", or "tilt < 5° %" of others than the rotation error."""
        sign, gap = ">" if self.larger_is_better else "<", "" if self.unit in ("°", "") else " "
        title = "" if self.columns else f"{self.title} "
        return [f"{title}{sign} {self.shown(limit):g}{gap}{self.shown_unit} %" for limit in self.limits]

    def shown(self, value: float) -> float:
        """A value in the unit of tables."""
        return 1e3 * value if self.unit == "m" else value

    def text(self, value: float) -> str:
        """A value as tables show it."""
        return f"{self.shown(value):.1f}"

    def summarised(self, values: Sequence[float]) -> float:
        """Of an object's instances, as ``summary`` says."""
        return float(np.mean(values) if self.summary == "mean" else np.median(values))

    def best(self, values: np.ndarray) -> float:
        """Of several hypotheses ``(n,)``."""
        return float(values.max() if self.larger_is_better else values.min())

    def within(self, values: Sequence[float]) -> tuple[float, ...]:
        """Share of the values better than each of the limits."""
        found = np.asarray(values)
        return tuple(float((found > x if self.larger_is_better else found < x).mean()) for x in self.limits)


METRICS: dict[str, PoseMetric] = {
    metric.name: metric
    for metric in (
        PoseMetric(
            name="mssd",
            title="MSSD",
            unit="m",
            error=mssd,
            worst=lambda model, width: model.diameter,
            thresholds=STEPS,
            scaled=lambda values, seen: values / seen.model.diameter,
        ),
        PoseMetric(
            name="mspd",
            title="MSPD",
            unit="px",
            error=mspd,
            worst=lambda model, width: width,
            thresholds=tuple(100.0 * step for step in STEPS),
            scaled=lambda values, seen: values * (MSPD_WIDTH / seen.width),
        ),
        PoseMetric(
            name="rotation_deg",
            title="rotation error",
            unit="°",
            error=lambda seen: symmetric_rotation_error(seen.rotation, seen.rotation_truth, seen.model.symmetries),
            worst=lambda model, width: 180.0,
            summary="median",
            limits=(5.0, 10.0, 15.0),
            columns=("rotation_error_deg_median", "recall_deg"),
        ),
        PoseMetric(
            name="add",
            title="ADD",
            unit="m",
            error=add,
            worst=lambda model, width: model.diameter,
            on_request=True,
        ),
        PoseMetric(
            name="adi",
            title="ADI",
            unit="m",
            error=adi,
            worst=lambda model, width: model.diameter,
            on_request=True,
        ),
    )
}


def table_metrics() -> list[PoseMetric]:
    """Those that tables show."""
    return [metric for metric in METRICS.values() if metric.summary]


def plain_values(record: Any) -> dict[str, Any]:
    """A dataclass as JSON has it: entries of its mappings ``metrics`` and ``recalls`` stand beside its other fields."""
    flat: dict[str, Any] = {}
    for name, value in asdict(record).items():
        flat |= value if name in ("metrics", "recalls") else {name: value}
    return flat
