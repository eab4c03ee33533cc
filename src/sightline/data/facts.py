"""What is known of the images that were looked at: columns, mapped from the disk where they are many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.look import Look
from sightline.data.tables import Column
from sightline.texts import Texts

# The facts that come from looking at an image; the others are known from its directory entry.
LOOKED_FACTS = (
    "sha256", "error", "note", "format", "mode", "width", "height", "camera", "taken",
    "brightness", "contrast", "sharpness", "colour", "thumb", "position", "quality", "border",
)  # fmt: skip
TEXTS = ("sha256", "error", "note", "format", "mode", "camera", "taken")
_KINDS = {"width": np.int64, "height": np.int64, "quality": np.int64, "position": np.bool_, "colour": np.float32, "border": np.float32,
          "thumb": np.uint8}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What looking at n images told, one row an image, in the data set's order; rows with an ``error`` hold zeros.

    ``Look`` says what the columns from ``sha256`` on mean. Those of texts are ``Texts``, which behave as arrays of texts.
    """

    path: Texts
    bytes: NDArray[np.int64]
    mtime_ns: NDArray[np.int64]
    sha256: Texts
    error: Texts
    note: Texts
    format: Texts
    mode: Texts
    width: NDArray[np.int64]
    height: NDArray[np.int64]
    camera: Texts
    taken: Texts
    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    colour: NDArray[np.float32]
    thumb: NDArray[np.uint8]
    position: NDArray[np.bool_]
    quality: NDArray[np.int64]
    border: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.path)

    @property
    def readable(self) -> NDArray[np.bool_]:
        readable: NDArray[np.bool_] = self.error == ""
        return readable

    def select(self, rows: NDArray[Any]) -> Facts:
        return Facts(*(getattr(self, entry.name)[rows] for entry in fields(self)))


def looked_columns(looks: Sequence[Look]) -> dict[str, Column]:
    """The columns of LOOKED_FACTS, of some images."""

    def column(name: str, values: Iterable[Any]) -> Column:
        return Texts.of(map(str, values)) if name in TEXTS else np.array(list(values), _KINDS.get(name, np.float64))

    return {name: column(name, (getattr(look, name) for look in looks)) for name in LOOKED_FACTS}
