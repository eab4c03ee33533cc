"""Words as pixels: a font that has the letters, and rows that fit."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont

# Pillow's own font has English letters only. For others, the first of these that is installed and has them all.
INSTALLED = (
    *("NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf"),
    *("NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc"),
)  # fmt: skip
# No letter, so that what a font draws for it is what it draws for letters that it lacks.
NO_LETTER = "\uffff"
# Letters of a text that are drawn: several times the longest sentence of ours.
LONGEST = 2000


@lru_cache(1000)
def font_for(text: str, size: int) -> Font:
    """A font of so many pixels for a text: Pillow's own where it has all letters or no other does."""
    own = ImageFont.load_default(size)
    assert isinstance(own, ImageFont.FreeTypeFont)
    if text.isascii() or printable(text, own) == text:
        return own
    for name in INSTALLED:
        try:
            font = ImageFont.truetype(name, size)
        except OSError:  # not installed
            continue
        if printable(text, font) == text:
            return font
    return own


def printable(text: str, font: Font) -> str:
    """The text with ``?`` for letters that the font lacks, for which it would draw boxes."""
    if text.isascii():
        return text
    lacking = bytes(font.getmask(NO_LETTER))
    sound = text.encode("utf-8", "replace").decode()  # file names may hold bytes that are no text
    return "".join(letter if letter.isascii() or bytes(font.getmask(letter)) != lacking else "?" for letter in sound)


def shortened(text: str) -> str:
    """A text that takes a moment to draw, whoever wrote it."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def wrapped(text: str, font: Font, width: int) -> list[str]:
    """The text in rows no wider than ``width`` pixels, broken between words and, where one is too long, inside it; at least one row."""
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            rows[-1] = longer
            continue
        rows.append(word)
        while font.getlength(rest := rows[-1]) > width and len(rest) > 1:
            fits = max(1, bisect_right(range(1, len(rest)), width, key=lambda length, rest=rest: font.getlength(rest[:length])))
            rows[-1:] = [rest[:fits], rest[fits:]]
    return [row for row in rows if row] or [""]
