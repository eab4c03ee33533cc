"""What a report is made of: a task says what it shows as a list of these, the report draws them.

A block holds finished numbers and words, never arrays to be computed on. Pictures are named by a key,
which the report looks up among the thumbnails it was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """One number a reader should see first, such as ``Tile("Accuracy", "86.0%", "80.7% to 90.0%")``."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    title: str
    tiles: Sequence[Tile]
    note: str = ""


@dataclass(frozen=True)
class Text:
    """``listed`` draws the paragraphs as the points of a list."""

    title: str
    paragraphs: Sequence[str]
    listed: bool = False


@dataclass(frozen=True)
class Table:
    """``rows`` are cells as text, one row a sequence as long as ``columns``. ``folded`` starts closed."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Bar:
    """A share in [0, 1] with its interval (``low``, ``high``), drawn as a bar with a whisker."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Bars:
    title: str
    bars: Sequence[Bar]
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """A difference of shares in [-1, 1] with its interval (``low``, ``high``), drawn as a dot on a whisker beside the line of nought."""

    label: str
    value: float
    low: float
    high: float
    note: str = ""


@dataclass(frozen=True)
class Differences:
    """``worse`` and ``better`` say what lies to the left and to the right of nought."""

    title: str
    rows: Sequence[Difference]
    worse: str
    better: str
    note: str = ""


@dataclass(frozen=True)
class Matrix:
    """Counts, ``counts[truth][predicted]``, coloured by their share of the row."""

    title: str
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]
    row_name: str = "truth"
    column_name: str = "predicted"
    note: str = ""


@dataclass(frozen=True)
class Mark:
    """A box to be drawn on a picture, in pixels of the original image, with a few words; ``kind`` is "given", "wrong" or "true"."""

    box: tuple[float, float, float, float]
    words: str
    kind: str


@dataclass(frozen=True)
class Layer:
    """The classes of an image's parts, drawn in colours beside it: a square map of ``side`` rows as (class, length) runs, row by row,
    255 for what counts for nothing; ``names`` of the classes."""

    title: str
    side: int
    runs: tuple[tuple[int, int], ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """``key`` names a thumbnail; ``caption`` is the line below it, ``detail`` a smaller second one.

    Where there are ``marks``, what is shown is the part of the image around them, with them; ``layers`` are drawn beside the image.
    """

    key: str
    caption: str
    detail: str = ""
    marks: tuple[Mark, ...] = ()
    layers: tuple[Layer, ...] = ()

    @property
    def shown(self) -> str:
        """The name of the picture that is drawn."""
        return f"{self.key}#{hash((self.marks, self.layers))}" if self.marks or self.layers else self.key


@dataclass(frozen=True)
class Gallery:
    """``wide`` draws pictures twice as wide, such as two side by side in one."""

    title: str
    pictures: Sequence[Picture]
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Curves:
    """Lines over a common x axis: ``series`` maps a name to its (x, y) points; ``mark`` is an x worth a vertical line.

    The first series is drawn strongest: it is the one the reader should follow.
    """

    title: str
    x_name: str
    y_name: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    mark: float | None = None
    mark_name: str = ""
    note: str = ""


Block = Tiles | Text | Table | Bars | Differences | Matrix | Gallery | Curves
