"""What a camera wrote into an image file. Broken EXIF does not cost the image: what cannot be parsed is not there."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base


def orientation(image: Image.Image) -> int:
    """How the pixels are stored, 1 (upright) to 8, as EXIF counts."""
    stored = _tag(image, Base.Orientation)
    return stored if isinstance(stored, int) and 1 <= stored <= 8 else 1


def orientation_ahead(image: Image.Image, data: bytes) -> int:
    """The same before pixels are loaded; only of a PNG that has it behind them are they loaded for it."""
    told = "exif" in image.info or any(word in data for word in (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif"))
    return orientation(image) if image.format != "PNG" or told else 1


def camera(image: Image.Image) -> str | None:
    """Its make and model."""
    make, model = ("".join(filter(str.isprintable, str(_tag(image, tag) or ""))).strip() for tag in (Base.Make, Base.Model))
    return (model if model.startswith(make) else f"{make} {model}".strip()) or None


def time_taken(image: Image.Image) -> str | None:
    """DateTimeOriginal, else DateTime, in ISO 8601."""
    return _iso_time(_tag(image, Base.DateTimeOriginal, IFD.Exif)) or _iso_time(_tag(image, Base.DateTime))


def has_position(image: Image.Image) -> bool:
    """Whether it says where on earth it was taken."""
    with suppress(Exception):
        return GPS.GPSLatitude in image.getexif().get_ifd(IFD.GPSInfo)
    return False


def _tag(image: Image.Image, tag: int, directory: int | None = None) -> Any:
    with suppress(Exception):
        return (image.getexif().get_ifd(directory) if directory else image.getexif()).get(tag)
    return None


def _iso_time(value: object) -> str | None:
    if value is None:
        return None
    with suppress(ValueError):
        return datetime.strptime(str(value)[:19], "%Y:%m:%d %H:%M:%S").isoformat()
    return None
