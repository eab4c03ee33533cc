"""Images that show little or differ oddly from the rest: without content, dark, overexposed, even, blurred, odd-shaped, tiny.

No image is named for what it is alone: an X-ray is dark, a slide is bright and a digit is tiny, and so are all of their kind. One is
named when it is beyond a bound that hardly any good photograph reaches *and* far from the middle of its data set, in robust deviations.
Where so many are that they are no exceptions, that is said, and none is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.auditing.finding import DROP, NOTE, WARNING, Finding, Item
from sightline.data.store import Facts

# Robust deviations from the median from which an image is an exception; less where two measures have to agree.
FAR, FAR_TWICE = 3.0, 2.5
# A share of the images, and a number of them, up to which they are exceptions; more are how the data are.
MOST, FEW = 0.05, 3
# Standard deviation of grey of a picture in a single colour: one level, as compression leaves.
EVEN = 1 / 255
# Patches of 256 that may be lighter, or darker, than what counts as the lightest, or darkest, part: a lamp does not light a picture.
STRAY = 2
# An image is dark when its lightest part is, bright when its darkest part is, and shows hardly anything when these two are alike and
# nothing smaller stands out. Mean grey would not do: white behind a thing is not overexposed, and night behind it not too dark.
DARK, BRIGHT, ALIKE, LITTLE = 0.25, 0.7, 0.12, 0.05
# Sharpness divided by contrast. Of 860 phone photographs the softest has 0.08; blurred by 1% of the side they have 0.06.
SOFT = 0.11
# Times wider or taller than is usual; the side in pixels of a square of the same area, times smaller than is usual, and a side on
# which nothing can be shown.
STRETCHED, SMALL, SMALLER, NOTHING = 2.0, 96, 3.0, 4
# The least that a deviation of logarithms is taken for, where nearly all images are alike.
LEAST = 0.15

Column = NDArray[np.float64]


@dataclass(frozen=True)
class _Kind:
    """``one`` and ``several`` complete "1 image" and "2 images"; ``means`` says what that does to the model."""

    kind: str
    title: str
    one: str
    several: str
    means: str
    advice: str


@dataclass(frozen=True)
class _Found:
    """Which of n images are of a kind, how much so (the more, the higher), what was seen on one, and which have no content."""

    kind: _Kind
    flagged: NDArray[np.bool_]
    degree: Column
    detail: Callable[[int], str]
    empty: NDArray[np.bool_]


_EMPTY = _Kind(
    "empty", "Images without content", "shows one even colour and nothing else", "show one even colour and nothing else",
    "There is nothing to learn from such an image, and the model is taught to guess.",
    "Drop them, as suggested, and find out how they came about: a lens cap, a failed export, a mask in the wrong folder.",
)  # fmt: skip
_DARK = _Kind(
    "dark", "Dark images", "is dark all over", "are dark all over",
    "Other images here are not, and where little can be seen, little can be learned.",
    "Look at them: keep those on which you can tell what is shown, and drop or retake the others. If the model will have to work in the "
    "dark, it needs many more of them.",
)  # fmt: skip
_BRIGHT = _Kind(
    "bright", "Overexposed images", "is bright all over", "are bright all over",
    "Other images here are not, and what is washed out cannot be learned.",
    "Look at them: keep those on which you can tell what is shown, and drop or retake the others.",
)  # fmt: skip
_PLAIN = _Kind(
    "plain", "Images that show hardly anything", "is nearly even", "are nearly even",
    "It may be fog, a wall, or the background without the thing.",
    "Look whether what their label says can be seen on them; if not, drop them.",
)  # fmt: skip
_BLURRED = _Kind(
    "blurred", "Blurred images", "is much softer than usual here", "are much softer than usual here",
    "What is out of focus or shaken has lost the fine marks by which kinds are often told apart.",
    "Look at them: keep those on which you can tell what is shown, and drop or retake the others.",
)  # fmt: skip
_SHAPE = _Kind(
    "odd-shape", "Odd-shaped images", "is far wider or taller than usual here", "are far wider or taller than usual here",
    "All images are brought to one shape for the model, which cuts most of such an image off, or squeezes it.",
    "Look at them: often they are strips, panoramas or screenshots. Cut them to what matters, or drop them.",
)  # fmt: skip
_TINY = _Kind(
    "tiny", "Tiny images", "is far smaller than usual here", "are far smaller than usual here",
    "Such an image has to be enlarged for the model, and the details that others show are missing.",
    "Often they are previews or icons: look for the originals, and drop them if there are none.",
)  # fmt: skip


def quality_findings(facts: Facts, names: Sequence[str]) -> list[Finding]:
    """A finding for each kind of which there are images, in each the most extreme first; what cannot be read is left out.

    ``names`` are the n rows' names in findings. A picture with several faults is named for the first: without content, dark,
    overexposed, showing hardly anything, blurred; its shape and size are judged apart.
    """
    rows = np.flatnonzero(facts.readable)
    if not len(rows):
        return []
    facts, names = facts.select(rows), [names[row] for row in rows.tolist()]
    findings = []
    known = np.zeros(len(rows), bool)
    for found in _pictures(facts):
        if (new := found.flagged & ~known).any():
            findings.append(_finding(found, new, names))
        known |= found.flagged
    return findings + [_finding(found, found.flagged, names) for found in _forms(facts) if found.flagged.any()]


def _pictures(facts: Facts) -> Iterator[_Found]:
    """What is seen on them."""
    patches = np.partition(facts.thumb.reshape(len(facts), -1), (STRAY, -1 - STRAY), axis=1)
    darkest, lightest = (patches[:, place] / 255 for place in (STRAY, -1 - STRAY))
    contrast, span = facts.contrast, lightest - darkest
    # A picture of few things has little that is sharp, and one of much contrast can be sharp and have little for that.
    clear = facts.sharpness / np.maximum(contrast, EVEN)
    dark, light, wide, sharp = (float(np.median(column)) for column in (darkest, lightest, span, clear))
    empty = contrast <= EVEN
    yield _Found(_EMPTY, empty, -contrast, lambda row: f"brightness {facts.brightness[row]:.0%} everywhere", empty)

    away = -_deviations(lightest)
    is_dark = (lightest < DARK) & (away > FAR)
    yield _Found(_DARK, is_dark, away, lambda row: f"no part is brighter than {lightest[row]:.0%}; {light:.0%} is usual", empty)

    away = -_deviations(1 - darkest)
    is_bright = (darkest > BRIGHT) & (away > FAR)
    yield _Found(_BRIGHT, is_bright, away, lambda row: f"no part is darker than {darkest[row]:.0%}; {dark:.0%} is usual", empty)

    away = -_deviations(span)
    is_plain = (span < ALIKE) & (contrast < LITTLE) & (away > FAR)
    yield _Found(_PLAIN, is_plain, away, lambda row: f"light and dark parts differ by {span[row]:.0%}; {wide:.0%} is usual", empty)

    away = np.minimum(-_deviations(clear), -_deviations(facts.sharpness))
    is_blurred = (clear < SOFT) & (away > FAR_TWICE)
    yield _Found(_BLURRED, is_blurred, away, lambda row: f"{clear[row] / max(sharp, EVEN):.0%} as sharp as usual for what it shows", empty)


def _forms(facts: Facts) -> Iterator[_Found]:
    """How wide and high they are."""
    width, height = np.maximum(facts.width, 1), np.maximum(facts.height, 1)
    # Lying or standing is the same shape: phones take both.
    shape, side = np.maximum(width / height, height / width), np.sqrt(width * height)
    usual = f"{np.median(width):.0f} x {np.median(height):.0f} is usual"
    empty = side < NOTHING

    def detail(row: int) -> str:
        return f"{width[row]} x {height[row]} pixels; {usual}"

    away = np.abs(np.log(shape / np.median(shape)))
    is_stretched = (away > np.log(STRETCHED)) & (np.abs(_deviations(shape)) > FAR) & ~empty
    yield _Found(_SHAPE, is_stretched, away, detail, empty)

    away = -_deviations(side)
    yield _Found(_TINY, (side < SMALL) & (side * SMALLER < np.median(side)) & (away > FAR), away, detail, empty)


def _finding(found: _Found, flagged: NDArray[np.bool_], names: Sequence[str]) -> Finding:
    """The images by name; or only how many, where they are too many to be exceptions, but for those without content."""
    kind, count = found.kind, int(np.count_nonzero(flagged))
    share = count / len(names)
    figures = {"images": count, "share": share}
    many = count > max(FEW, MOST * len(names))
    such = f"{count} of {len(names)} images {kind.one if count == 1 else kind.several}"
    if many and kind is not _EMPTY:
        return Finding(
            kind.kind, NOTE, kind.title, f"{such}. So many are how these data are, rather than exceptions, and none is named.",
            "Nothing needs doing if the model will meet as many of them in use.", figures=figures,
        )  # fmt: skip
    rows = np.flatnonzero(flagged)
    rows = rows[np.argsort(-found.degree[rows], kind="stable")]
    items = [Item((names[row],), found.detail(row), DROP if found.empty[row] and not many else "") for row in rows.tolist()]
    doubt = "So many may be meant, such as images of nothing: look at some of them, and drop those that are not." if many else kind.advice
    return Finding(kind.kind, WARNING, kind.title, f"{such}. {kind.means}", doubt, items, figures)


def _deviations(amounts: Column) -> Column:
    """How far logarithms are from their median, in deviations as a normal distribution with their median absolute deviation has them."""
    values = np.log(np.maximum(amounts, 1e-4))
    middle = np.median(values)
    away: Column = (values - middle) / max(1.4826 * float(np.median(np.abs(values - middle))), LEAST)
    return away
