"""What the paper prints (Bengtson et al., SITIS 2022, Tables I and II), to stand beside own figures.

Its images are other ones (T-LESS test scenes), so these figures are of another protocol than any measured here.
"""

from __future__ import annotations

from dataclasses import dataclass

PROTOCOL = (
    "published: Bengtson et al., SITIS 2022; AR_VSD on the test images of T-LESS, 30 objects, true translation, id and "
    "visible box; milliseconds on an i7-7700k with a GTX 1060, one crop at a time; other data, other machine"
)


@dataclass(frozen=True)
class PublishedSystem:
    """Figures of one column of the paper; None where it prints none.

    Attributes:
        score: mean AR_VSD over 30 objects, 0…1.
        milliseconds: a crop.
        megabytes: of memory, as printed.
        samples: of the pose training.
    """

    score: float
    milliseconds: float | None = None
    megabytes: float | None = None
    samples: int | None = None


PUBLISHED = {
    "30 codebooks": PublishedSystem(0.6077, 7.0, 1365.0),
    "30 networks": PublishedSystem(0.6234, 6.2, 33.0, 60_000_000),
    "shared +FT": PublishedSystem(0.6313, 6.4, 16.6, 20_000_000),
    "shared -FT": PublishedSystem(0.5451),
}
