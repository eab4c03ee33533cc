"""How the values of an image file become 8-bit channels: which bands are read, and which levels become black and white."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import ConfigError, ImageError, ModelFileError

MAX_CHANNELS = 16
MAX_BAND = 512


@dataclass(frozen=True)
class Reading:
    """What is read from an image file. Without either, what a viewer shows: red, green and blue.

    window  (low, high), the levels that become 0 and 255, of images deeper than 8 bits; what lies beyond is clipped
    bands   the file's bands that become the channels, in this order, counted from 1; taken as they are stored, without
            colour management, and without laying transparency over white
    """

    window: tuple[float, float] | None = None
    bands: tuple[int, ...] | None = None

    @property
    def channels(self) -> int:
        return 3 if self.bands is None else len(self.bands)

    @classmethod
    def of(cls, window: str | None, bands: str | None) -> Reading:
        """From settings such as ``"0,4095"`` and ``"4,3,2"``; ConfigError naming every mistake."""
        low_high, numbers = _numbers(window, float), _numbers(bands, int)
        problems = []
        if window is not None and not (low_high and _is_window(low_high)):
            problems.append(f"window must be two numbers, the lower one first, such as 0,4095, not {window!r}.")
        if bands is not None and not (numbers and _are_bands(numbers)):
            problems.append(f"bands must be 1 to {MAX_CHANNELS} numbers of bands, counted from 1, such as 4,3,2, not {bands!r}.")
        if problems:
            raise ConfigError(problems)
        return cls((low_high[0], low_high[1]) if low_high else None, numbers)

    def to_json(self) -> dict[str, Any]:
        return {"window": list(self.window) if self.window else None, "bands": list(self.bands) if self.bands else None}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Reading:
        """The inverse of ``to_json``; what is missing was not stated. Raises ModelFileError for what this version does not do."""
        window, bands = (tuple(fields[name]) if fields.get(name) is not None else None for name in ("window", "bands"))
        if (window is not None and not _is_window(window)) or (bands is not None and not _are_bands(bands)):
            raise ModelFileError(f"The model's way of reading images is not understood ({dict(fields)}); upgrade Sightline.")
        return cls(window, bands)


def _numbers(text: str | None, kind: type) -> tuple[Any, ...] | None:
    try:
        return None if text is None else tuple(kind(part) for part in text.split(","))
    except ValueError:  # the caller says so, in words
        return None


def _is_window(values: tuple[Any, ...]) -> bool:
    return len(values) == 2 and all(type(value) in (int, float) and math.isfinite(value) for value in values) and values[0] < values[1]


def _are_bands(values: tuple[Any, ...]) -> bool:
    return 1 <= len(values) <= MAX_CHANNELS and all(type(value) is int and 1 <= value <= MAX_BAND for value in values)


def channels_of(values: NDArray[Any], reading: Reading, name: str, most: int | None = None) -> NDArray[np.uint8]:
    """The channels (h, w, c) uint8 that are read of all bands of an image, (h, w, n) of any kind of number.

    Without stated bands a viewer's: the first three, or the first as grey. ``most`` is the highest level that the file says it
    uses. Raises ImageError when there are fewer bands than asked for.
    """
    count = values.shape[2]
    if reading.bands and max(reading.bands) > count:
        asked = ", ".join(map(str, reading.bands))
        raise ImageError(name, f"has {count} band{'s'[: count != 1]}, and bands {asked} are asked for")
    bands = [band - 1 for band in reading.bands] if reading.bands else [0, 1, 2] if count >= 3 else [0]
    channels = eight_bits(values[:, :, bands], reading.window, most)
    return channels if len(bands) == reading.channels else np.repeat(channels, reading.channels, axis=2)


def eight_bits(values: NDArray[Any], window: tuple[float, float] | None = None, most: int | None = None) -> NDArray[np.uint8]:
    """Levels of any shape as uint8.

    8-bit levels stay. Others are scaled so that ``window`` becomes 0 and 255. Without one, whole numbers in 0..65535 are scaled
    from 0 to ``most`` (65535 unless the file says less), all others from their own minimum and maximum.
    """
    if values.dtype in (np.uint8, np.bool_):
        return np.ascontiguousarray(values, np.uint8)
    if window is None:
        window = _range(values, most)
    if values.dtype == np.uint16:  # each level is computed once
        return _scaled(np.arange(65536), *window)[values]
    return _scaled(values, *window)


def _range(values: NDArray[Any], most: int | None) -> tuple[float, float]:
    if values.dtype.kind in "ui" and values.min(initial=0) >= 0:
        highest = int(values.max(initial=0))
        if most and highest <= most:
            return 0.0, float(most)
        if highest <= 65535:  # also where the file says that it uses less, and errs
            return 0.0, 65535.0
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """``low`` to 0, ``high`` to 255, rounded and clipped; a level that is no number is 0."""
    above = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    np.clip(above, low, high, out=above)
    above -= low
    above *= 255 / (high - low) if high > low else 0.0
    return np.rint(above, out=above).astype(np.uint8)
