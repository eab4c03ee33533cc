"""What a model said of the test images, as arrays to be compared by groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.intervals import wilson_interval
from sightline.tasks.tag import SEPARATOR
from sightline.trust.attributes import GROUP

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Answered:
    """n test images, what was said of them, and m labels that are true of them.

    right   (n,) in [0, 1]; ``scores`` (n,) in [0, 1] or NaN; ``names`` of the images
    kinds   (n,) indices, equal for images with the same true labels
    rows    (m,) the image of each true label; ``labels`` (m,) which label; ``found`` (m,) whether the model gave it, 0 or 1
    given   each label that was given to any image, with the rows of these
    related (n,) indices, equal for images that may be right or wrong together, such as those of a patient; None where none are
    """

    right: NDArray[np.float64]
    scores: NDArray[np.float64]
    names: Sequence[str]
    kinds: Ints
    rows: Ints
    labels: Ints
    found: NDArray[np.float64]
    given: Sequence[tuple[str, Ints]]
    related: Ints | None

    @classmethod
    def of(
        cls,
        outcomes: Sequence[Mapping[str, Any]],
        targets: NDArray[Any],
        labels: Sequence[str],
        names: Sequence[str],
        related: Ints | None = None,
    ) -> Answered:
        """From a task's outcomes, a row an image; ``targets`` are (n,) int64, or (n, k) bool where an image may have several labels."""
        rows, true = np.nonzero(targets) if targets.ndim == 2 else (np.arange(len(targets)), targets.astype(np.int64))
        given = _given([str(outcome["predicted"]) for outcome in outcomes], labels, several=targets.ndim == 2)
        width = len(labels)
        cells = np.concatenate([np.empty(0, np.int64), *(images * width + label for label, images in given)])
        right, scores = (np.array([outcome[name] for outcome in outcomes], np.float64) for name in ("right", "score"))
        return cls(
            right,
            scores,
            names,
            np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1),
            rows,
            true,
            np.isin(rows * width + true, cells).astype(np.float64),
            [(labels[label], images) for label, images in given],
            related,
        )

    def __len__(self) -> int:
        return len(self.right)

    def related_for(self, attribute: str) -> Ints | None:
        """Which images are related where an attribute is looked at; none where the attribute is what relates them."""
        return None if attribute == GROUP else self.related

    def recall(self, rows: Ints, alike: float) -> tuple[float, tuple[float, float]] | None:
        """Share of the true labels of these images that were given, with an interval; None where they have none."""
        among = np.isin(self.rows, rows)
        found = self.found[among]
        if not len(found):
            return None
        # Labels of one image may be found or missed together, so that only images count.
        images, share = len(np.unique(self.rows[among])) / alike, float(found.mean())
        return share, wilson_interval(share * images, images)


def _given(answers: Sequence[str], labels: Sequence[str], *, several: bool) -> list[tuple[int, Ints]]:
    """Each label's index with the rows that it was given to; labels given to none are left out."""
    images = defaultdict(list)
    for row, answer in enumerate(answers):
        images[answer].append(row)
    rows_of: dict[int, list[int]] = defaultdict(list)
    for answer, rows in images.items():
        # A label may hold the separator, so that answers are searched and not taken apart.
        joined = f"{SEPARATOR}{answer}{SEPARATOR}"
        for label, name in enumerate(labels):
            if f"{SEPARATOR}{name}{SEPARATOR}" in joined if several else name == answer:
                rows_of[label] += rows
    return [(label, np.array(sorted(rows), np.int64)) for label, rows in sorted(rows_of.items())]
