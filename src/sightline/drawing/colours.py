"""One colour for each class, the same in every picture, told apart with any kind of colour vision.

The first seven are those of Okabe and Ito (2008), without black; where there are more classes they come again, darker and lighter.
"""

from __future__ import annotations

Colour = tuple[int, int, int]

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
VERMILION, BLUE = (213, 94, 0), (0, 114, 178)
FIRST = (VERMILION, (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (230, 159, 0), BLUE)
# What each round of classes is mixed with, and how much of it.
ROUNDS: tuple[tuple[Colour, float], ...] = ((BLACK, 0.0), (BLACK, 0.5), (WHITE, 0.55), (BLACK, 0.72), (WHITE, 0.78))


def colour_of(index: int) -> Colour:
    """The colour of the class with this index; from the 36th on they repeat."""
    other, share = ROUNDS[index // len(FIRST) % len(ROUNDS)]
    red, green, blue = (round(own + (towards - own) * share) for own, towards in zip(FIRST[index % len(FIRST)], other, strict=True))
    return red, green, blue


def contrasting(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on a colour (relative luminance as in WCAG 2)."""
    red, green, blue = (((part / 255 + 0.055) / 1.055) ** 2.4 if part > 10 else part / 255 / 12.92 for part in colour)
    return BLACK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else WHITE
