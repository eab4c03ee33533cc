"""What the modes and colour profiles of a Pillow image mean: the colours a viewer shows, or the bands as they are stored."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from sightline.data.reading import eight_bits


def as_stored(image: Image.Image) -> Image.Image:
    """A loaded image whose bands are levels; a palette's colours are what it stands for."""
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image.convert("L") if image.mode == "1" else image


def srgb(image: Image.Image, window: tuple[float, float] | None, most: int | None) -> Image.Image:
    """A loaded image of any mode as sRGB."""
    profile = image.info.get("icc_profile")
    if image.mode[0] in "IF":  # 16 or 32 bits a pixel
        image = Image.fromarray(eight_bits(np.asarray(image), window, most))
    elif image.has_transparency_data:
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")  # premultiplied grey has no direct way
        image = Image.new("RGB", image.size, "white")
        image.paste(layer, mask=layer)
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    if profile and (transform := _to_srgb(profile, image.mode)):
        return transform.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From an embedded profile to sRGB; None where the profile is broken, for another mode, or sRGB itself under whatever name."""
    try:
        source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        if source.profile.xcolor_space.strip() != {"L": "GRAY"}.get(mode, mode):
            return None
        transform = ImageCms.buildTransform(source, srgb, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
        levels = np.arange(0, 256, 51, dtype=np.uint8)
        samples = Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(36, 6, 3)).convert(mode)
        change = np.asarray(transform.apply(samples), np.int16) - np.asarray(samples.convert("RGB"))
        return transform if np.abs(change).max() > 2 else None
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError):  # ImportError: a Pillow without littleCMS
        return None
