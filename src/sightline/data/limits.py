"""The largest image that is opened, checked on what a file's header declares, before memory for its pixels is taken."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.config.opening import MAX_BYTES, MAX_PIXELS
from sightline.errors import ImageError

# Values that one pixel may have on average at the limit: RGBA's. A file of more bands may have fewer pixels.
VALUES_A_PIXEL = 4


@dataclass(frozen=True)
class Limits:
    """The largest image that is opened: pixels of one frame as its header declares them, and bytes of the file."""

    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES

    def check_bytes(self, size: int, name: str) -> None:
        """Raises ImageError."""
        _check(size, self.max_bytes, name, "holds", "megabytes")

    def check_pixels(self, width: int, height: int, name: str, bands: int = 1) -> None:
        """Raises ImageError, also for an image without pixels."""
        if min(width, height, bands) < 1:
            raise ImageError(name, f"declares {width} x {height} pixels in {bands} bands, which is no image")
        _check(width * height, self.max_pixels, name, f"declares {width} x {height} =", "megapixels")
        most = VALUES_A_PIXEL * self.max_pixels
        _check(width * height * bands, most, name, f"declares {width} x {height} x {bands} bands =", "million values")


def _check(count: int, most: int, name: str, verb: str, unit: str) -> None:
    if count > most:
        raise ImageError(name, f"{verb} {count / 1e6:,.10g} {unit}, the limit is {most / 1e6:,.10g}")
