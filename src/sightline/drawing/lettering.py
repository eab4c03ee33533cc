"""Words as pixels: a font that has the letters, and rows that fit."""

from __future__ import annotations

from functools import cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont

# Pillow's own font has English letters only. For others, the first of these that is installed and has them all.
INSTALLED = (
    *("NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf"),
    *("NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc"),
)  # fmt: skip
# No letter, so that what a font draws for it is what it draws for letters that it lacks.
NO_LETTER = "\uffff"


@cache
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


def wrapped(text: str, font: Font, width: int) -> list[str]:
    """The text in rows no wider than ``width`` pixels, broken between words and, where one is too long, inside it; at least one row."""
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            rows[-1] = longer
            continue
        rows.append(word)
        while font.getlength(rows[-1]) > width and len(rows[-1]) > 1:
            fits = max((length for length in range(1, len(rows[-1])) if font.getlength(rows[-1][:length]) <= width), default=1)
            rows[-1:] = [rows[-1][:fits], rows[-1][fits:]]
    return [row for row in rows if row] or [""]
