"""Named evaluation protocols: what is given, what is scored, and the conditions that every table prints about it.

Figures of different protocols must not be compared, least of all with BOP leaderboards: under ``paper`` the
translation, the identity and the visible box come from the ground truth. Boxes are (cx, cy, w, h) in pixels.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from shared_pose_ros.evaluation.bop import BopFrame, Instance
from shared_pose_ros.evaluation.pose_metrics import METRICS, STEPS

TRANSLATIONS = ("ground_truth", "estimated")
# How the parts of evaluation conditions begin.
_CONDITIONS = (
    "protocol",
    "data",
    "object id",
    "translation",
    "allocentric-to-egocentric correction",
    "VSD",
    "missing depth",
    "test depth",
    "visibility",
    "MSSD",
    "most visible instance",
    "listed targets",
    "CAD",
    "random-rotation baseline",
)
# How earlier versions said the same.
_OLDER_WORDS = (
    ("viewing-ray correction", "allocentric-to-egocentric correction"),
    ("; chance: ", "; random-rotation baseline: "),
    (" random rotations an instance", " random rotations per instance"),
)


@dataclass(frozen=True)
class DetectionNoise:
    """The detection noise model: what a simulated detector makes of a visible box, jitter and misses.

    It is the same for an instance whatever else is evaluated. By default the boxes' intersection over union with
    the true ones is 0.84 on average.

    Attributes:
        centre: standard deviation of the centre's shift, in fractions of the box's width and height.
        size: standard deviation of the logarithm of the width's and of the height's factor.
        miss: probability that an instance is not detected.
        seed: of everything.
    """

    centre: float = 0.04
    size: float = 0.08
    miss: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("centre", "size"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"the detection noise of the {name} is {getattr(self, name)}; give a fraction in 0…1")
        if not 0.0 <= self.miss < 1.0:
            raise ValueError(f"the probability of a miss is {self.miss}; give 0 or more and less than 1")

    def detect(self, box: np.ndarray, scene_id: int, image_id: int, gt_id: int) -> np.ndarray | None:
        """The box ``(4,)`` that the detector reports for an instance's visible box ``(4,)``, None for a miss."""
        key = zlib.crc32(f"{self.seed}/{scene_id}/{image_id}/{gt_id}".encode())
        generator = np.random.default_rng(key)
        # All draws are always made: with another probability of a miss the boxes stay the same.
        missed, shift, stretch = generator.random() < self.miss, generator.normal(size=2), generator.normal(size=2)
        if missed:
            return None
        box = np.asarray(box, dtype=np.float64)
        centre = box[:2] + self.centre * shift * box[2:]
        return np.concatenate([centre, box[2:] * np.exp(self.size * stretch)])

    def __str__(self) -> str:
        return (
            f"visible box of ground truth with a detector's noise: centre σ {self.centre * 100:g} % of its sides, "
            f"size σ {self.size * 100:g} %, {self.miss * 100:g} % missed and scored 0, seed {self.seed}"
        )


@dataclass(frozen=True)
class Protocol:
    """How poses are scored.

    Attributes:
        name: as given on the command line.
        score: what the score is called in tables.
        translation: ``ground_truth`` or ``estimated`` (from box, camera and CAD).
        taus: VSD misalignment tolerances, in fractions of the diameter, or metres where ``tau_in_metres``.
        tau_in_metres: unit of ``taus``.
        thetas: a VSD error below these is correct.
        delta: tolerance of the visibility test, metres.
        missing_visible: a surface counts as visible where the scene's depth is missing (BOP'19), or not (BOP'18).
        recalls: names of ``METRICS`` whose average recalls are averaged with that of VSD into the score.
        visibility_min: smallest visible fraction of an instance that is scored.
        one_instance: score only the most visible instance of an object in an image.
        targets: score the dataset's listed targets where it lists them.
        boxes: what a detector does to the visible boxes; None gives them as they are.
    """

    name: str
    score: str
    translation: str = "ground_truth"
    taus: tuple[float, ...] = STEPS
    tau_in_metres: bool = False
    thetas: tuple[float, ...] = STEPS
    delta: float = 0.015
    missing_visible: bool = True
    recalls: tuple[str, ...] = ()
    visibility_min: float = 0.1
    one_instance: bool = False
    targets: bool = False
    boxes: DetectionNoise | None = None

    def __post_init__(self) -> None:
        if self.translation not in TRANSLATIONS:
            raise ValueError(f"translation {self.translation!r} is unknown; choose one of {', '.join(TRANSLATIONS)}")

    def changed(self, translation: str | None = None, boxes: DetectionNoise | None = None) -> Protocol:
        """The same protocol with another source of translations or boxes, where given; its conditions say so."""
        return replace(self, translation=translation or self.translation, boxes=boxes or self.boxes)

    def tolerances(self, diameter: float) -> Tensor:
        """VSD tolerances ``(T,)`` in metres for an object of this diameter (m)."""
        return torch.tensor(self.taus, dtype=torch.float64) * (1.0 if self.tau_in_metres else diameter)

    def thresholds(self) -> dict[str, tuple[float, ...]]:
        """Of the recalls that are averaged into the score, by the name of their metric; ``vsd`` comes first."""
        return {"vsd": self.thetas, **{name: METRICS[name].thresholds for name in self.recalls}}

    def select(self, frame: BopFrame, targets: Mapping[tuple[int, int, str], int] | None) -> list[Instance]:
        """The annotations of a frame that this protocol scores, in the dataset's order."""
        seen = [i for i in frame.instances if i.visibility >= self.visibility_min]
        chosen = []
        for class_id in {i.class_id for i in seen}:
            ranked = sorted((i for i in seen if i.class_id == class_id), key=lambda i: -i.visibility)
            limit = len(ranked)
            if self.targets and targets is not None:
                limit = targets.get((frame.scene_id, frame.image_id, class_id), 0)
            chosen += ranked[: min(limit, 1) if self.one_instance else limit]
        return sorted(chosen, key=lambda i: i.gt_id)

    def conditions(
        self, data: str, corrected: bool, test_depth: str, cad: str, baseline: str, boxes: str | None = None
    ) -> str:
        """The evaluation conditions in one line: everything that must be known before two figures are compared.

        Args:
            data: dataset, split and number of images.
            corrected: whether the allocentric-to-egocentric correction, along the viewing ray, was on.
            test_depth: where the scene's depth comes from.
            cad: resolution of the CAD that is rendered.
            baseline: how its random rotations were drawn.
            boxes: where object ids and boxes come from, if not from the ground truth as this protocol gives them.
        """
        if boxes is None and self.boxes is None:
            boxes = "object id and visible box from ground truth"
        elif boxes is None:
            boxes = f"object id from ground truth, {self.boxes}"
        given = self.translation == "ground_truth"
        source = "of the CAD's centre of symmetry from ground truth" if given else "estimated from the box"
        own = [
            f"{boxes}, estimate scored against its own instance",
            f"translation {source}",
            f"allocentric-to-egocentric correction {'on' if corrected else 'off'}",
        ]
        return self._conditions(data, own, test_depth, cad, baseline)

    def results_conditions(self, data: str, test_depth: str, cad: str, baseline: str) -> str:
        """The evaluation conditions of poses that come from a results file; arguments as in ``conditions``."""
        limit = "the one" if self.one_instance else "as many as there are instances to find,"
        own = [
            f"object id and pose from a results file, of an object in an image {limit} of highest score, matched "
            "greedily to instances at every threshold",
            "translation as in the results file",
        ]
        return self._conditions(data, own, test_depth, cad, baseline)

    def _conditions(self, data: str, own: Sequence[str], test_depth: str, cad: str, baseline: str) -> str:
        scale, unit = (1e3, " mm") if self.tau_in_metres else (100.0, " % of diameter")
        missing = "visible (BOP'19)" if self.missing_visible else "not visible (BOP'18)"
        parts = [
            f"protocol {self.name}",
            f"data {data}",
            *own,
            f"VSD τ {_values(self.taus, scale, unit)}, θ {_values(self.thetas)}, δ {self.delta * 1e3:g} mm",
            f"missing depth {missing}",
            f"test depth {test_depth}",
            f"visibility ≥ {self.visibility_min * 100:g} %",
        ]
        if self.recalls:
            parts.append("MSSD θ 5…50 % of diameter, MSPD θ 5…50 px at 640 px width, AR = mean of the three recalls")
        if self.one_instance:
            parts.append("most visible instance of an object in an image")
        if self.targets:
            parts.append("listed targets only where the dataset lists them")
        return "; ".join([*parts, f"CAD {cad}", f"random-rotation baseline: {baseline}"])


PROTOCOLS: Mapping[str, Protocol] = {
    "paper": Protocol(name="paper", score="AR_VSD"),
    "detector": Protocol(name="detector", score="AR_VSD", boxes=DetectionNoise()),
    "bop19": Protocol(name="bop19", score="AR", translation="estimated", recalls=("mssd", "mspd"), targets=True),
    "bop18": Protocol(
        name="bop18",
        score="recall VSD",
        translation="estimated",
        taus=(0.02,),
        tau_in_metres=True,
        thetas=(0.3,),
        missing_visible=False,
        one_instance=True,
        targets=True,
    ),
}


def get_protocol(name: str) -> Protocol:
    """The protocol called ``name``; raises ValueError that lists the names."""
    if name not in PROTOCOLS:
        raise ValueError(f"protocol {name!r} is unknown; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def check_comparable(conditions: Sequence[str]) -> None:
    """Refuse to put figures of different protocols side by side; call it before several go into one table.

    Args:
        conditions: of the evaluations, their ``protocol_line``.

    Raises:
        ValueError: conditions differ; the message names each with its values.
    """
    fields = [condition_fields(line) for line in conditions]
    names = dict.fromkeys(name for known in fields for name in known)
    differing = []
    for name in names:
        values = dict.fromkeys(known.get(name, "not stated") for known in fields)
        if len(values) > 1:
            differing.append(f"{name} ({' / '.join(values)})")
    if differing:
        raise ValueError(
            f"evaluations of different protocols cannot stand in one table: they differ in {', '.join(differing)}; "
            "evaluate all systems with the same options"
        )


def condition_fields(line: str) -> dict[str, str]:
    """Evaluation conditions by the words that they begin with, such as ``protocol``, ``data`` and ``CAD``.

    Lines that an earlier version wrote give the fields of the present words.
    """
    for older, present in _OLDER_WORDS:
        line = line.replace(older, present)
    fields: dict[str, str] = {}
    last = "protocol"
    for part in line.split("; "):
        name = next((name for name in _CONDITIONS if part.startswith(name)), None)
        if name is None or name in fields:  # a semicolon within a name of data
            fields[last] = f"{fields[last]}; {part}" if last in fields else part
        else:
            fields[name] = part[len(name) :].lstrip(": ")
            last = name
    return fields


def _values(values: tuple[float, ...], scale: float = 1.0, unit: str = "") -> str:
    first, last = f"{values[0] * scale:g}", f"{values[-1] * scale:g}"
    return f"{first}{unit}" if len(values) == 1 else f"{first}…{last}{unit} ({len(values)} values)"
