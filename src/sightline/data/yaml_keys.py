"""The few forms of YAML that describe YOLO data: keys at the margin, with a scalar, a list or a map of scalars each.

Only the keys that are asked for are read, so that what else a file holds (a licence, a script for downloads) does not matter. Of those,
anything beyond these forms is refused, with its line: anchors, tags, nesting, text over several lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection

Value = str | list[str] | dict[str, str]

_KEY = re.compile(r"""(?P<key>[\w.-]+|'[^']*'|"[^"]*")\s*:(?:\s+(?P<rest>.*))?\Z""")
# What these match is found in one pass: quotes behind a backslash begin nothing, and words hold no blanks, which stand between them.
_SCALAR = r"""'(?:[^']|'')*'|(?<!\\)"(?:[^"\\]|\\.)*\""""
_WORDS, _WORDS_AND_COLONS = (rf"""[^,'"\[\]{{}}#\s{without}]+(?:\s+[^,'"\[\]{{}}#\s{without}]+)*""" for without in (":", ""))
_FLOW = re.compile(rf"""\s*(?:(?P<key>{_SCALAR}|{_WORDS})\s*:\s+)?(?P<item>{_SCALAR}|{_WORDS_AND_COLONS})\s*(?:,|\Z)""")
_STRANGE = "&*!|>%@`{}[]"


class NotUnderstood(ValueError):
    """The text names the line."""


def read_keys(text: str, wanted: Collection[str]) -> dict[str, Value]:
    """The wanted keys that are there and have a value; raises NotUnderstood."""
    found: dict[str, Value] = {}
    blocks: list[tuple[str, int, list[str]]] = []
    is_open = False
    for number, line in enumerate(text.splitlines(), 1):
        bare = _without_comment(line)
        if bare.strip() in ("", "---", "..."):
            continue
        if bare[0] not in " \t-" and not is_open:
            if not (match := _KEY.match(bare)):
                raise NotUnderstood(f"line {number}: {line.strip()[:60]!r} is no key with a value")
            blocks.append((_plain(match["key"], number), number, [match["rest"] or ""]))
            is_open = blocks[-1][2][0].lstrip()[:1] in ("[", "{") and not _closes(bare)
        elif blocks:
            blocks[-1][2].append(bare)
            if is_open and _closes(bare):
                is_open, blocks[-1][2][:] = False, [_joined(blocks[-1][2])]
        else:
            raise NotUnderstood(f"line {number}: does not begin with a key")
    if is_open:
        blocks[-1][2][:] = [_joined(blocks[-1][2])]
    for key, number, lines in blocks:
        if key in wanted and any(lines):
            if key in found:
                raise NotUnderstood(f"line {number}: {key} is there twice")
            found[key] = _value(lines, number)
    return found


def _closes(line: str) -> bool:
    """Whether a line ends a list or map in brackets that was open before it."""
    return re.sub(_SCALAR, "", line).rstrip()[-1:] in ("]", "}")


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)


def _value(lines: list[str], number: int) -> Value:
    first, *rest = lines
    if first.strip():
        if len(rest):
            raise NotUnderstood(f"line {number + 1}: text over several lines is not understood")
        return _flow(first.strip(), number) if first.strip()[0] in "[{" else _plain(first, number)
    if all(line.lstrip().startswith("- ") for line in rest):
        return [_plain(line.lstrip()[2:], number + place) for place, line in enumerate(rest, 1)]
    if len({len(line) - len(line.lstrip()) for line in rest}) > 1:
        raise NotUnderstood(f"line {number + 1}: nested values are not understood")
    pairs: dict[str, str] = {}
    for place, line in enumerate(rest, number + 1):
        match = _KEY.match(line.strip())
        if not match or not match["rest"]:
            raise NotUnderstood(f"line {place}: {line.strip()[:60]!r} is no key with a value")
        pairs[_plain(match["key"], place)] = _plain(match["rest"], place)
    return pairs


def _flow(text: str, number: int) -> Value:
    """``[a, b]`` or ``{0: a, 1: b}``."""
    closing = {"[": "]", "{": "}"}[text[0]]
    inner, position = text[1:-1].strip().removesuffix(","), 0
    if text[-1] != closing:
        raise NotUnderstood(f"line {number}: the list has no end")
    items: list[tuple[str | None, str]] = []
    while position < len(inner):
        match = _FLOW.match(inner, position)
        if not match or (match["key"] is None) != (closing == "]"):
            raise NotUnderstood(f"line {number}: {inner[position : position + 60].strip()!r} is not understood")
        items.append((None if match["key"] is None else _plain(match["key"], number), _plain(match["item"], number)))
        position = match.end()
    return {str(key): item for key, item in items} if closing == "}" else [item for _, item in items]


def _plain(text: str, number: int) -> str:
    """A scalar as text, without its quotes."""
    text = text.strip()
    try:
        if text[:1] == '"':
            return str(json.loads(text))
    except ValueError as error:
        raise NotUnderstood(f"line {number}: {text[:60]!r} is not understood") from error
    if text[:1] == "'" and re.fullmatch(_SCALAR, text):
        return text[1:-1].replace("''", "'")
    if text[:1] in _STRANGE or text[:2] in ("- ", "? ", ": ") or ": " in text or text[:1] == "'":
        raise NotUnderstood(f"line {number}: {text[:60]!r} is not understood; put it into quotes if it is text")
    return text


def _without_comment(line: str) -> str:
    """Up to a # that stands at the beginning or behind a blank, outside quotes."""
    kept = re.match(rf"""(?:{_SCALAR}|\w'|(?<=\S)\#|[^#])*""", line)
    return (kept.group() if kept else line).rstrip()
