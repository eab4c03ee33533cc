"""Images in groups: by a column of values, by two, by the answer; and the groups in which most goes wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.gaps import alikeness, chance_of_gap, difference_interval, fewer_than_chance, mean_interval
from sightline.evaluation.paired import holm

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A group of fewer images is not judged: of twenty, each is five points.
SMALLEST = 20
# Nor is one whose images belong to fewer than so many patients, or whatever else makes images related.
FEWEST_RELATED = 10
NOT_GIVEN = ""
# Pairs of columns that are looked at, those with the largest cells first: chosen without a look at what is right in them.
MOST_PAIRS = 36
# A pair counts only where chance is far below 5%, and there are many: another batch of draws stops most of them.
PAIR_BATCHES = (200, 1_000, 10_000)
# A slice with more than this share of its images in another one is a part of it.
PART = 0.8
# Words for groups with an order of their own; all others are sorted, numbers by their size.
ORDERED = ("dark", "small", "middle", "bright", "large", "night", "morning", "day", "evening")


@dataclass(frozen=True)
class Grouping:
    """n images in the groups of a column that are large enough to be judged.

    names      of the g groups
    codes      (n,) int64, which of them an image is in; -1 where it is in none
    too_small  (name, images) of the others, the largest first
    not_given  images without a value, which are in no group
    alike      how many images count as one, where related images are right or wrong together
    """

    name: str
    names: tuple[str, ...]
    codes: Ints
    too_small: tuple[tuple[str, int], ...] = ()
    not_given: int = 0
    alike: float = 1.0

    @property
    def inside(self) -> Ints:
        """Rows of the images that are in a group."""
        return np.flatnonzero(self.codes >= 0)

    def rows(self, group: int) -> Ints:
        return np.flatnonzero(self.codes == group)

    def among(self, values: Floats, related: Ints | None) -> Grouping:
        """The same groups with what (n,) values tell of related images; those related have the same index in (n,) ``related``."""
        rows = self.inside
        return self if related is None else replace(self, alike=alikeness(values[rows], self.codes[rows], related[rows]))


def large_enough(cells: Ints, n_cells: int, related: Ints | None) -> NDArray[np.bool_]:
    """(n_cells,) whether so many of (m,) ``cells`` are this one that it can be judged, and of enough of those ``related``."""
    large = np.bincount(cells, minlength=n_cells) >= SMALLEST
    if related is None:
        return large
    width = int(related.max(initial=0)) + 1
    return np.asarray(large & (np.bincount(np.unique(cells * width + related) // width, minlength=n_cells) >= FEWEST_RELATED))


def grouping(name: str, column: Sequence[str], related: Ints | None = None) -> Grouping:
    """The groups of a column of n texts; outer blanks do not count, and an empty text is no value. Related images have the same index
    in (n,) ``related``."""
    values, codes, sizes = np.unique([value.strip() for value in column], return_inverse=True, return_counts=True)
    texts = [str(value) for value in values]
    order = sorted(range(len(texts)), key=lambda place: _rank(texts[place]))
    large = large_enough(codes.astype(np.int64), len(texts), related)
    judged = [place for place in order if large[place] and texts[place] != NOT_GIVEN]
    small = [place for place in order if not large[place] and texts[place] != NOT_GIVEN]
    index = np.full(len(texts), -1, np.int64)
    index[judged] = np.arange(len(judged))
    return Grouping(
        name,
        tuple(texts[place] for place in judged),
        index[codes] if len(texts) else np.empty(0, np.int64),
        tuple(sorted(((texts[place], int(sizes[place])) for place in small), key=lambda group: -group[1])),
        int(sum(sizes[place] for place in order if texts[place] == NOT_GIVEN)),
    )


def _rank(text: str) -> tuple[int, list[tuple[float, str]]]:
    word = text.split(" ", 1)[0]
    parts = re.findall(r"(\d+(?:\.\d+)?)|(\D+)", text, re.ASCII)
    place = ORDERED.index(word) if word in ORDERED else len(ORDERED)
    return place, [(float(number) if number else -1.0, other) for number, other in parts]


def why_left_out(made: Grouping, n: int) -> str:
    """Why the groups of a column of n images cannot be compared, in words that follow its name; "" where they can."""
    if len(made.names) >= 2:
        return ""
    given, values = n - made.not_given, len(made.names) + len(made.too_small)
    if not given:
        return "no image has a value"
    if values == 1:
        return f"{_all(given, n)} the same value, {(made.names or made.too_small[0])[0]!r}"
    if values == given:
        return f"{_all(given, n)} a value of its own, as a name or a number has that only identifies"
    if made.names:
        return f"only one of its {values} values, {made.names[0]!r}, has enough images"
    return f"none of its {values} values has enough images"


def _all(given: int, n: int) -> str:
    return "every image has" if given == n else f"each of the {given} images that have one has"


def crossed(first: Grouping, second: Grouping, related: Ints | None = None) -> Grouping | None:
    """The cells of two groupings that are large enough; None unless each grouping has cells to compare within a group of the other."""
    both = (first.codes >= 0) & (second.codes >= 0)
    width = len(second.names)
    cells = np.where(both, first.codes * width + second.codes, -1)
    n_cells = len(first.names) * width
    judged = np.flatnonzero(large_enough(cells[both], n_cells, related if related is None else related[both]))
    # Two cells in a row of their table, and two in a column.
    if not all((np.unique(places, return_counts=True)[1] > 1).any() for places in (judged // width, judged % width)):
        return None
    index = np.full(n_cells + 1, -1, np.int64)  # the last place is for images in no cell
    index[judged] = np.arange(len(judged))
    names = tuple(f"{first.names[cell // width]}, {second.names[cell % width]}" for cell in judged.tolist())
    return Grouping(f"{first.name} and {second.name}", names, index[cells])


@dataclass(frozen=True)
class Pair:
    """The cells of two groupings, and how often chance makes any cell differ as much within the groups of either alone."""

    first: Grouping
    second: Grouping
    cells: Grouping
    p: float


def pairs(groupings: Sequence[Grouping], values: Floats, related: Ints | None = None, seed: int = 0) -> tuple[list[Pair], int]:
    """Pairs of groupings with enough images in their cells, tested on (n,) values, and how many more there would have been.

    A pair differs only where neither of its two groupings explains the cells, so its p is the larger of both tests.
    """
    made = [(a, b, cells) for a, b in combinations(groupings, 2) if (cells := crossed(a, b, related)) is not None]
    made.sort(key=lambda pair: -len(pair[2].inside))
    found = []
    for a, b, cells in made[:MOST_PAIRS]:
        rows, cells = cells.inside, cells.among(values, related)
        part, codes = values[rows], cells.codes[rows]
        within = [chance_of_gap(part, codes, one.codes[rows], alike=cells.alike, seed=seed, batches=PAIR_BATCHES).p for one in (a, b)]
        found.append(Pair(a, b, cells, max(within)))
    return found, max(0, len(made) - MOST_PAIRS)


@dataclass(frozen=True)
class Slice:
    """Rows of the images that have something in common: ``group`` of ``of``. ``doubt`` is the p-value, corrected for all that was looked
    at, of what the slice is a part of; 0 where it stands for itself. ``alike`` images count as one. ``answered`` says that what they have
    in common is what the model says of them."""

    of: str
    group: str
    rows: Ints
    doubt: float = 0.0
    alike: float = 1.0
    answered: bool = False


@dataclass(frozen=True)
class Ranked:
    """A slice with the mean of its values, its interval, which allows for the number of slices that were looked at (Bonferroni), and the
    p-value of chance making it as bad, corrected in the same way (Holm)."""

    slice: Slice
    mean: float
    interval: tuple[float, float]
    p: float


def worst_slices(values: Floats, slices: Sequence[Slice], most: int = 5) -> list[Ranked]:
    """Of slices with a mean below that of all (n,) values, those with the lowest upper end of the interval, so that none is in front for
    being small. Parts of one in front are left out, unless they are clearly worse. No p is smaller than the slice's ``doubt``."""
    slices = [one for one in slices if len(one.rows) < len(values)]
    level = 1 - 0.05 / max(1, len(slices))
    ranked = [
        Ranked(one, float(values[one.rows].mean()), mean_interval(values[one.rows], level, one.alike), max(p, one.doubt))
        for one, p in zip(slices, holm([_chance_of_worse(values, one) for one in slices]), strict=True)
    ]
    ranked.sort(key=lambda entry: (entry.interval[1], entry.mean))
    kept: list[Ranked] = []
    for entry in ranked:
        if len(kept) < most and entry.mean < values.mean() and not any(_tells_nothing_new(entry, other) for other in kept):
            kept.append(entry)
    return kept


def _tells_nothing_new(entry: Ranked, other: Ranked) -> bool:
    shared = len(np.intersect1d(entry.slice.rows, other.slice.rows, assume_unique=True))
    return shared > PART * len(entry.slice.rows) and entry.interval[1] >= other.mean


def _chance_of_worse(values: Floats, one: Slice) -> float:
    """One-sided: exact for 0 and 1 where no images are alike, and by the normal distribution otherwise."""
    n, size, part = len(values), len(one.rows), values[one.rows]
    if one.alike == 1 and np.isin(values, (0.0, 1.0)).all():
        return fewer_than_chance(round(part.sum()), size, round(values.sum()), n)
    spread = float(values.std()) * (one.alike * (n - size) / max(1, n - 1) / size) ** 0.5
    return NormalDist().cdf(float(part.mean() - values.mean()) / spread) if spread > 0 else 1.0


@dataclass(frozen=True)
class Extremes:
    """The groups of a grouping with the lowest and the highest mean, and the difference with its interval.

    The interval allows for the choice of these two among all groups: it holds for all pairs at once (Bonferroni).
    """

    low: int
    high: int
    difference: float
    interval: tuple[float, float]


def extremes(values: Floats, made: Grouping) -> Extremes:
    """Of (n,) values; the grouping has at least one group."""
    parts = [values[made.rows(group)] for group in range(len(made.names))]
    means = [float(part.mean()) for part in parts]
    low, high = int(np.argmin(means)), int(np.argmax(means))
    choices = max(1, len(parts) * (len(parts) - 1) // 2)
    return Extremes(low, high, means[high] - means[low], difference_interval(parts[high], parts[low], 1 - 0.05 / choices, made.alike))


def corrected(families: Iterable[tuple[float, Sequence[float]]]) -> list[list[float]]:
    """p-values of families of questions corrected so that the chance of any false alarm is that of one test.

    Each family comes with its share of that chance; the share of a family without a question goes to the others. Within a family
    the correction is Holm's.
    """
    asked = list(families)
    total = sum(share for share, p_values in asked if p_values)
    return [[min(1.0, p * total / share) for p in holm(p_values)] for share, p_values in asked]
