"""How large an image may be that is opened: settings that several stages have."""

from __future__ import annotations

from typing import Any

from sightline.settings import setting

MAX_PIXELS, MAX_BYTES = 120_000_000, 256_000_000


def most_pixels() -> Any:
    return setting(MAX_PIXELS, "Refuse images with more pixels than this.", low=1)


def most_bytes(default: int = MAX_BYTES) -> Any:
    return setting(default, "Refuse image files larger than this many bytes.", low=1)
