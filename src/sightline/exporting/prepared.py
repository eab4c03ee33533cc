"""Images as a network takes them, held in memory, so that graph after graph can be tried on them without reading a file again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.decode import Limits
from sightline.data.prepare import Prepare
from sightline.exporting.judging import BATCH, Raw, replayed
from sightline.exporting.material import Images
from sightline.records import Infer
from sightline.tasks import Task, kept

# Bytes of images that are held at most: 500 of 512 x 384 pixels are 0.3 GB.
MOST_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Prepared:
    """n images: ``pixels`` (n, height, width, channels) uint8, ``frames`` (n, 10) as ``RawBatch`` has them, and their ``targets``."""

    pixels: NDArray[np.uint8]
    frames: NDArray[np.float64]
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.pixels)

    def first(self, count: int) -> Prepared:
        return Prepared(self.pixels[:count], self.frames[:count], self.targets[:count])

    def dense(self, infer: Infer) -> Raw:
        """All that the network gives; of many images on which things lie it would not fit into memory."""
        return _joined([raw for raw, _ in self._computed(infer)])

    def kept(self, infer: Infer, task: Task) -> Raw:
        """What the task keeps of what the network gives."""
        return _joined([kept(task, raw, targets) for raw, targets in self._computed(infer)])

    def _computed(self, infer: Infer) -> Iterator[tuple[dict[str, NDArray[Any]], NDArray[Any]]]:
        for start in range(0, len(self), BATCH):
            part = slice(start, start + BATCH)
            yield {**infer(self.pixels[part]), "frame": self.frames[part]}, self.targets[part]


def prepared(images: Images, prepare: Prepare, limits: Limits, what: str) -> Prepared:
    """Those of the images that can be read, the others being named, and no more of them than memory is given for.

    Raises DataError when none can.
    """
    most = max(1, MOST_BYTES // (int(np.prod(prepare.shape)) * prepare.channels))
    chosen = images if len(images) <= most else Images(images.refs[:most], images.targets[:most])
    infer: Infer = lambda batch: {"images": batch}  # noqa: E731  # type: ignore[dict-item]
    raws, read = replayed({"as": infer}, chosen, prepare, limits, what)
    return Prepared(raws["as"]["images"], raws["as"]["frame"], read.targets)


def _joined(raws: list[Raw]) -> Raw:
    return {name: np.concatenate([raw[name] for raw in raws]) for name in raws[0]}
