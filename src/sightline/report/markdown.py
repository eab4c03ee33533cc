"""Markdown from finished words. Labels, file names and reasons come from outside: none of them may become a heading, a link, a cell of
its own or HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sightline.report.html import printable

_MARKS = re.compile(r"[\\`*\[\]|~#$]|(?<![^\W_])_+|_+(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_FRONT = re.compile(r"---\n.*?\n---\n+", re.DOTALL)


def plain(text: object) -> str:
    """Words that read as they are, on one line; for within a line, not for its beginning."""
    line = " ".join(printable(str(text)).split())
    line = re.sub("[&<>]", lambda found: _ENTITIES[found[0]], line)
    return _MARKS.sub(lambda found: "".join(f"\\{mark}" for mark in found[0]), line)


def code(text: object) -> str:
    """A name as it is, such as that of a file or a flag; not for a table, where a | would end the cell."""
    line = " ".join(printable(str(text)).split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}" if line else ""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are Markdown already; an empty text without rows."""
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def points(lines: Sequence[str]) -> str:
    """A list of lines that are Markdown already, the empty ones left out."""
    return "\n".join(f"- {line}" for line in lines if line)


def split_front(text: str) -> tuple[str, str]:
    """The front matter of a file, empty where it has none, and the rest."""
    found = _FRONT.match(text)
    return (found[0], text[found.end() :]) if found else ("", text)
