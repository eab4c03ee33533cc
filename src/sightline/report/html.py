"""One HTML file from a report, or from any sections: nothing to load, no script, the pictures inside."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any, NamedTuple

from sightline.drawing.maps import table_of
from sightline.report import amounts, draw
from sightline.report.sections import Section, all_sections, facts
from sightline.scenes import IGNORED
from sightline.tasks.blocks import Block, Picture

# Longer than this, the rest is folded: bars and pictures a reader scrolls past.
OPEN_BARS = 24
OPEN_PICTURES = 24

_SIGNATURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}
# Control characters are not allowed in HTML; the bidirectional ones could make a file name read as another.
_UNPRINTABLE = dict.fromkeys(
    [*range(0x00, 0x09), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"
)
# What reads as a number is set flush right. No nested repetition: the cells come from outside.
_NUMBER = re.compile(r"[-−+]?\d[\d,]*(?:\.\d+)?(?: × 10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?(?: ?(?:%|[a-zA-Z]{1,3}))?(?: \d+ (?:s|min))?")


class Drawn(NamedTuple):
    """A block with its number on the page, its kind (which macro draws it) and its geometry, where it has one."""

    number: int
    kind: str
    block: Block
    drawing: Any = None


@dataclass(frozen=True)
class Page:
    """What stands on a page: ``window`` is the title in the browser's bar; ``sentence`` is what a reader in a hurry takes away, with
    a ``level`` (good, fair, poor) where it has one; ``facts`` are (name, value); ``created`` is ISO 8601."""

    title: str
    window: str
    sentence: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    created: str
    version: str
    level: str = ""


def render(report: Mapping[str, Any], task_blocks: Sequence[Block], pictures: Mapping[str, bytes]) -> str:
    """A run's report as a page; see ``render_page``."""
    verdict = report["verdict"]
    return render_page(
        Page(
            title=report["title"],
            window=f"{report['title']}: report",
            sentence=verdict["sentence"],
            facts=facts(report),
            sections=all_sections(report, task_blocks),
            created=report["created"],
            version=report["sightline"],
            level=verdict["level"],
        ),
        pictures,
    )


def render_page(page: Page, pictures: Mapping[str, bytes]) -> str:
    """The page as text to be written as UTF-8. ``pictures`` are JPEG or PNG bytes by ``Picture.shown``.

    Every word of the page is escaped: labels, file names and reasons come from outside.
    """
    number = iter(range(1, 1 + sum(len(section.blocks) for section in page.sections)))
    drawn = [(section, [_drawn(next(number), block) for block in section.blocks]) for section in page.sections]
    text: str = _template().render(
        page=page,
        created=amounts.moment(page.created),
        sections=drawn,
        source=partial(_source, pictures),
        legend=_legend,
        numeric_columns=_numeric_columns,
        bar_text=draw.bar_text,
        interval_text=draw.interval_text,
        open_bars=OPEN_BARS,
        open_pictures=OPEN_PICTURES,
        number_of=amounts.number_of,
    )
    return printable(text.strip())


def printable(text: str) -> str:
    """Text that can be written as UTF-8 and reads as it is: file names may hold bytes that are no text (lone surrogates)."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").translate(_UNPRINTABLE)


def _drawn(number: int, block: Block) -> Drawn:
    geometry = {"Curves": draw.curves, "Differences": draw.differences, "Matrix": draw.matrix}.get(type(block).__name__)
    return Drawn(number, type(block).__name__.lower(), block, geometry(block) if geometry else None)  # type: ignore[operator]


def _template() -> Any:
    # Imported here so that `import sightline.report.html` stays cheap.
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = resources.files("sightline.report")
    style = (resources.files("sightline.drawing") / "theme.css").read_text("utf-8") + (folder / "report.css").read_text("utf-8")
    style = re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)).strip()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((folder / "report.html.j2").read_text("utf-8"))
    # The one text that is not escaped is our own.
    template.globals["style"] = Markup(style)
    return template


def _source(pictures: Mapping[str, bytes], picture: Picture) -> str | None:
    """A picture as a data URI; None where it is missing or is neither JPEG nor PNG."""
    content = pictures.get(picture.shown, b"")
    for signature, kind in _SIGNATURES.items():
        if content.startswith(signature):
            return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return None


def _legend(pictures: Sequence[Picture]) -> list[tuple[str, str]]:
    """The classes in the layers of pictures, by their index, each with its colour as CSS has it."""
    names: dict[int, str] = {}
    for layer in (layer for picture in pictures for layer in picture.layers):
        names.update({label: layer.names[label] for label, _ in layer.runs if label < len(layer.names)})
        if any(label == IGNORED for label, _ in layer.runs):
            names[IGNORED] = "does not count"
    tables = [layer.names for picture in pictures for layer in picture.layers][:1]
    return [(names[label], f"#{bytes(table_of(tables[0])[label]).hex()}") for label in sorted(names)]


def _numeric_columns(rows: Sequence[Sequence[str]]) -> set[int]:
    """Columns, but for the first, in which every cell is a number or nothing."""
    columns = list(zip(*rows, strict=True))
    return {
        index
        for index, cells in enumerate(columns)
        if index and all(cell in ("", amounts.NOTHING) or _NUMBER.fullmatch(cell) for cell in cells) and any(cells)
    }
