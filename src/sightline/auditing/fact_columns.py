"""Facts about images as columns of numbers, in groups: what may tell the label without a look at what is on the image.

Colour, mean brightness, contrast and sharpness are left out, and so is how well a picture could be compressed: they are what the images
show as much as how they were taken. A handwritten 1 has less ink than an 8, fewer edges and fewer bytes. What is left are the shades of
the darkest and the brightest parts, which light and camera move, and edges of one shade. With the others, the classes of rendered discs,
squares and crosses could be told in 94% of cases, and without them by chance only. The folder is the label, so of a file's name only the
stem counts, without the label in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.store import Facts

Column = NDArray[np.float64]

SIZE, CAMERA, BRIGHTNESS, BORDER, COMPRESSION = "size", "camera", "brightness", "border", "compression"
FILE_NAME, CAPTURE_TIME = "file name", "capture time"
# What leaves its mark on the pixels, and what no network can see but tells that classes were collected apart.
VISIBLE = (SIZE, CAMERA, BRIGHTNESS, BORDER, COMPRESSION)
HIDDEN = (FILE_NAME, CAPTURE_TIME)
# Of values such as cameras, so many of the commonest have a column of their own, if they have at least so many images.
COMMONEST, FEWEST = 8, 3
# Quantiles of an image's shades that stand for its darkest and brightest parts.
EXTREMES = (0.01, 0.99)
# Rows and columns of the small grey copy on each side that may be a border, which tells nothing of the light.
EDGE = 2
# Up to this standard deviation, in [0, 1], the pixels along the edge are one shade: compression leaves as much.
PLAIN = 0.04
# Formats that may be compressed more or less and do not say how much.
UNSTATED = ("WEBP", "AVIF", "JPEG2000", "HEIF")
# Digits of a number in a file's name that count, as many as a float holds.
DIGITS = 15


@dataclass(frozen=True)
class FactGroup:
    """``values`` (n, k) float64, NaN where nothing is known; ``phrases`` say each of the k in words, with a place for its value.

    A phrase without a place belongs to a column of 0 and 1: it says what 1 means.
    """

    values: NDArray[np.float64]
    phrases: tuple[str, ...]


def fact_groups(facts: Facts, names: Sequence[str], labels: Sequence[str]) -> dict[str, FactGroup]:
    """The columns of n images by group; those that are the same for all images are left out, and so are groups without a column.

    ``names`` are the images' file names, with or without folders; ``labels`` are not counted as a part of them.
    """
    columns = {
        SIZE: _size(facts),
        CAMERA: [*_commonest(facts.camera, "taken with {!r}", "without the name of a camera"),
                 ("with the place where it was taken", facts.position)],
        BRIGHTNESS: _extremes(facts.thumb),
        BORDER: [("an edge all of one shade, {:.0%} of white", np.where(facts.border[:, 1] < PLAIN, facts.border[:, 0], np.nan))],
        COMPRESSION: _compression(facts),
        FILE_NAME: _file_name(names, labels),
        CAPTURE_TIME: _capture_time(facts.taken),
    }  # fmt: skip
    found = {}
    for group, pairs in columns.items():
        telling = [(phrase, np.asarray(values, np.float64)) for phrase, values in pairs]
        telling = [(phrase, values) for phrase, values in telling if not _is_constant(values)]
        if telling:
            found[group] = FactGroup(np.stack([values for _, values in telling], axis=1), tuple(phrase for phrase, _ in telling))
    return found


def _is_constant(values: Column) -> bool:
    known = values[~np.isnan(values)]
    return len(known) == 0 or (len(known) == len(values) and bool((known == known[0]).all()))


def _size(facts: Facts) -> list[tuple[str, NDArray[Any]]]:
    return [("{:.0f} pixels wide", facts.width), ("{:.0f} pixels high", facts.height),
            ("{:.2f} times as wide as high", facts.width / np.maximum(facts.height, 1))]  # fmt: skip


def _extremes(thumb: NDArray[np.uint8]) -> list[tuple[str, NDArray[Any]]]:
    """Of small grey copies without their edge, which may be a border, the shades of the darkest and brightest parts."""
    inner = thumb[:, EDGE:-EDGE, EDGE:-EDGE]
    shades = np.quantile(inner.reshape(len(thumb), -1), EXTREMES, axis=1) / 255
    return [("the brightest parts at {:.0%} of white", shades[1]), ("the darkest parts at {:.0%} of white", shades[0])]


def _compression(facts: Facts) -> list[tuple[str, NDArray[Any]]]:
    quality = np.where(facts.quality > 0, facts.quality, np.nan)
    per_pixel = np.where(np.isin(facts.format, UNSTATED), facts.bytes / np.maximum(facts.width * facts.height, 1), np.nan)
    return [*_commonest(facts.format, "saved as {}"), *_commonest(facts.mode, "in mode {}"), ("saved at JPEG quality {:.0f}", quality),
            ("{:.2f} bytes a pixel", per_pixel)]  # fmt: skip


def _commonest(values: NDArray[np.str_], phrase: str, nothing: str = "") -> list[tuple[str, NDArray[Any]]]:
    """A column of 0 and 1 for each of the commonest values; with ``nothing`` in words, one for "" too."""
    found, counts = np.unique(values, return_counts=True)
    order = np.lexsort((found, -counts))
    kept = [str(found[place]) for place in order if found[place] and counts[place] >= FEWEST][:COMMONEST]
    # Braces in a camera's name are no place for a value.
    columns = [(phrase.format(value).replace("{", "(").replace("}", ")"), values == value) for value in kept]
    return [*columns, (nothing, values == "")] if nothing else columns


def _file_name(names: Sequence[str], labels: Sequence[str]) -> list[tuple[str, NDArray[Any]]]:
    """Leading letters, length and number of the stems; NaN where there is no number."""
    stems = _stems(names, labels)
    letters = np.array([match[0].lower() if (match := re.match(r"[^\W\d_]+", stem)) else "" for stem in stems])
    numbers = [float(found[-1][-DIGITS:]) if (found := re.findall(r"\d+", stem, re.ASCII)) else np.nan for stem in stems]
    return [("{:.0f} characters in the file's name", np.array([len(stem) for stem in stems])),
            ("number {:.0f} in the file's name", np.array(numbers)),
            *_commonest(letters, "a file name that begins with {!r}", "a file name that begins with no letter")]  # fmt: skip


def _stems(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """File names without folder, ending and what in them is a label: a whole word, however its own words are joined."""
    stems = [PurePosixPath(name).stem for name in names]
    words = sorted((re.findall(r"[^\W_]+", label) for label in labels), key=lambda parts: -sum(map(len, parts)))
    patterns = [_not_within(parts[0][0], r"[\W_]*".join(map(re.escape, parts)), parts[-1][-1]) for parts in words if parts]
    if not patterns:
        return stems
    label = re.compile("|".join(patterns), re.IGNORECASE)
    return [label.sub("", stem).lstrip("_- ") for stem in stems]


def _not_within(first: str, pattern: str, last: str) -> str:
    """The pattern where letters do not follow letters, nor digits digits: "cat" in "cat12", but not in "catalogue"."""
    before, after = (r"\d" if end.isdigit() else r"[^\W\d_]" for end in (first, last))
    return f"(?<!{before}){pattern}(?!{after})"


def _capture_time(taken: NDArray[np.str_]) -> list[tuple[str, NDArray[Any]]]:
    known = [datetime.fromisoformat(str(moment)) if moment else None for moment in taken]
    hours = [np.nan if moment is None else moment.hour + moment.minute / 60 for moment in known]
    days = [np.nan if moment is None else float(moment.toordinal()) for moment in known]
    return [("taken at {:.0f} o'clock", np.array(hours)), ("taken on day {:.0f}", np.array(days))]
