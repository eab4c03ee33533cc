"""Width and height of many images, by their headers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.data.decode import Limits, read_size
from sightline.data.findings import Faults
from sightline.errors import ImageError
from sightline.processor import processors
from sightline.records import ImageRef

Item = TypeVar("Item")
Result = TypeVar("Result")
# Images whose headers are held against what annotations say of them.
COMPARED_IMAGES = 64
# Jobs under way for each thread, so that a million wait as what they are and not as futures.
AHEAD = 64


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], what: str) -> Iterator[Result]:
    """What ``work`` gives for each item, in order, from as many threads as there are processors, with a progress bar."""
    workers = processors()
    with ThreadPoolExecutor(workers) as pool:
        step = AHEAD * workers
        parts = (items[start : start + step] for start in range(0, len(items), step))
        yield from console.track((result for part in parts for result in pool.map(work, part)), len(items), what)


def read_sizes(refs: Sequence[ImageRef], limits: Limits) -> tuple[NDArray[np.float64], list[str]]:
    """(n, 2) width and height of upright images, nan where they cannot be read, and n reasons why not, "" where they can."""

    def size_or_reason(ref: ImageRef) -> tuple[float, float, str]:
        try:
            return (*read_size(ref, limits), "")
        except ImageError as error:
            return np.nan, np.nan, error.reason

    found = list(in_threads(size_or_reason, refs, "Reading the images' sizes"))
    sizes = np.array([(width, height) for width, height, _ in found], np.float64).reshape(-1, 2)
    return sizes, [reason for _, _, reason in found]


def compare_sizes(refs: Sequence[ImageRef], stated: NDArray[np.float64], limits: Limits, faults: Faults) -> None:
    """Hold the stated sizes of some images against their headers, and count what differs. Unreadable ones are passed over: they are
    named when they are looked at."""
    rows = np.unique(np.linspace(0, len(refs) - 1, min(COMPARED_IMAGES, len(refs))).astype(int)).tolist()
    sizes, _ = read_sizes([refs[row] for row in rows], limits)
    for row, (width, height) in zip(rows, sizes.tolist(), strict=True):
        said = stated[row].tolist()
        if np.isfinite([width, *said]).all() and said != [width, height]:
            text = f"{refs[row]}: {said[0]:g} x {said[1]:g} stated, {width:g} x {height:g} in the file"
            faults.add(f"images of another size than stated, whose boxes may be misplaced, of {len(rows)} compared", text)
