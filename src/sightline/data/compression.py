"""How strongly a JPEG file is compressed, by the table in it."""

from __future__ import annotations

from PIL import Image

# The sum of the luminance table in Annex K of the JPEG standard (ITU-T T.81), which the IJG's library scales by quality.
STANDARD_SUM = 3688


def jpeg_quality(image: Image.Image) -> int:
    """The IJG's quality, 1 to 100, whose luminance table is as coarse as the image's; 0 for other formats. To be asked before loading.

    Below 15 it comes out too high, as the table's numbers end at 255.
    """
    tables = getattr(image, "quantization", None)
    if not tables:
        return 0
    percent = 100 * sum(tables[min(tables)]) / STANDARD_SUM
    quality = (200 - percent) / 2 if percent <= 100 else 5000 / percent
    return round(min(100.0, max(1.0, quality)))
