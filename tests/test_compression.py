"""compression: the quality that a JPEG was saved with is read from its table."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sightline.data.compression import jpeg_quality
from sightline.data.decode import Limits
from sightline.data.look import look_at
from sightline.records import ImageRef


def saved(image: Image.Image, **options) -> Image.Image:
    sink = io.BytesIO()
    image.save(sink, **options)
    return Image.open(sink)


@pytest.mark.parametrize("quality", [20, 40, 60, 75, 90, 95, 100])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_quality_pillow_saved_with_comes_back(quality, mode):
    image = Image.effect_noise((64, 48), 60).convert(mode)
    assert jpeg_quality(saved(image, format="JPEG", quality=quality)) == pytest.approx(quality, abs=1)


def test_other_formats_have_none():
    assert jpeg_quality(saved(Image.new("RGB", (8, 8)), format="PNG")) == 0
    assert jpeg_quality(Image.new("RGB", (8, 8))) == 0


def test_looking_at_a_photograph_tells_quality_position_and_border(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    pixels[:3] = pixels[-3:] = 255
    pixels[:, :3] = pixels[:, -3:] = 255
    exif = Image.Exif()
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 0.0)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=90, exif=exif)
    Image.fromarray(pixels[5:-5, 5:-5]).save(tmp_path / "b.png")
    framed, bare = (look_at(ImageRef(str(tmp_path / name)), 224, Limits()) for name in ("a.jpg", "b.png"))
    assert (framed.quality, framed.position) == (90, True)
    assert (bare.quality, bare.position) == (0, False)
    assert framed.border[0] > 0.97
    assert framed.border[1] < 0.05
    assert abs(bare.border[0] - 0.5) < 0.1
    assert bare.border[1] > 0.1
