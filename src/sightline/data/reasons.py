"""Whatever goes wrong inside a library while an image is read, as one ``ImageError`` with one reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from sightline.data.formats import format_of, missing_bytes
from sightline.data.quiet import quiet
from sightline.errors import ImageError


@contextmanager
def one_reason(name: str, source: object) -> Iterator[None]:
    """Turns whatever a library raises on bad data into one ImageError, and mutes its remarks."""
    with quiet():
        try:
            yield
        except ImageError:
            raise
        except Exception as error:  # a dozen types in Pillow alone, AttributeError among them
            raise ImageError(name, _fault(error, source if isinstance(source, bytes) else b"")) from error


def _fault(error: Exception, data: bytes) -> str:
    text = re.sub(r" \(chunk .*\)", "", str(error).removesuffix(" when reading image file").split("\n")[0][:100])
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\d+", text)
        amount = f": {int(pixels.group()) / 1e6:,.10g} megapixels" if pixels else ""
        return f"declares too many pixels for Pillow{amount}"
    kind, missing = format_of(data) or "image", missing_bytes(data)
    if missing:
        return f"truncated {kind} data (at least {missing} bytes are missing)"
    if isinstance(error, EOFError) or re.search("(?i)truncated|not enough|end of file|eof", text):
        return f"truncated {kind} data"
    return f"damaged {kind} data ({text or type(error).__name__})"
