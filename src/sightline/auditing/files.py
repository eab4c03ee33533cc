"""What the audit says of files: those that could not be read, and those that were, but are not what they seem."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sightline.auditing.finding import NOTE, PROBLEM, Finding, Item
from sightline.data.findings import some


class _Family(NamedTuple):
    """Reasons that ask for the same: a pattern of them, what such files are, in one and in several, and what to do."""

    kind: str
    pattern: str
    one: str
    several: str
    advice: str


# In this order: the first whose pattern is found in a reason has it; the last has all.
_REFUSED = (
    _Family("missing", r"no such file", "is listed, but is not there", "are listed, but are not there",
            "Copy the files to where they are expected, or mend their names in the list."),
    _Family("not-downloaded", r"Git LFS pointer", "is a placeholder of Git LFS, not the image",
            "are placeholders of Git LFS, not the images",
            "Fetch the images themselves with `git lfs pull`."),
    _Family("incomplete", r"file is empty|zero bytes|truncated|bytes are missing|not of the size",
            "is cut short or empty, as after an interrupted copy or a full disk",
            "are cut short or empty, as after an interrupted copy or a full disk",
            "Copy them once more from the camera or wherever they came from; if the originals are like this too, remove them."),
    _Family("not-allowed", r"permission denied", "may not be read by this user", "may not be read by this user",
            "Allow reading them in the file manager or with `chmod`, and run again."),
    _Family("needs-a-package", r"pip install|nothing installed here", "is of a kind that needs one more package to be read",
            "are of a kind that needs one more package to be read", "Install what is named beside the files, or save them as PNG."),
    _Family("too-large", r"the limit is|too many pixels|not enough memory", "is larger than what is opened",
            "are larger than what is opened",
            "If the size is meant, raise --max-pixels or --max-bytes, or cut the images into pieces; if not, the files are damaged."),
    _Family("damaged", r"damaged|decoder crashed|contradicts itself|no frame", "is damaged", "are damaged",
            "Copy them once more from wherever they came from, or open and save them with another program; else remove them."),
    _Family("unsupported", r"not supported|save it (as|uncompressed)|save the file|not read", "is in a format that is not read",
            "are in formats that are not read", "Save them as JPEG, PNG or TIFF with an image program, and run again."),
    _Family("no-image", r"not an image|is a folder|is a device|holds no pixels", "is no image", "are no images",
            "Move them out of the folder, or put the images there that they stand for."),
    _Family("unreadable", r"", "cannot be used as an image", "cannot be used as images",
            "The reason stands beside each file; mend or remove them."),
)  # fmt: skip
_NOTED = (
    _Family("misnamed", r"^named ", "has a name that belongs to another format", "have names that belong to another format",
            "They are read by what they hold, and nothing needs doing; other programs may stumble over them, so better rename them."),
    _Family("several-pages", r"pages", "holds several pages, of which only the first is used",
            "hold several pages, of which only the first is used", "If the others matter, save each page as a file of its own."),
    _Family("more-bands", r"bands", "has more colour bands than a screen shows", "have more colour bands than a screen shows",
            "Say with --bands which of them the model is to see; otherwise it sees the first three."),
    _Family("otherwise-odd", r"", "is odd, but can be used", "are odd, but can be used", "Look at what stands beside each file."),
)  # fmt: skip
# Where in a text the next of several notes begins; a note may hold such a sign itself.
_NEXT_NOTE = re.compile(r"; (?=named |has )")


def file_findings(refused: Sequence[tuple[str, str]], notes: Sequence[tuple[str, str]]) -> list[Finding]:
    """A problem for each family of reasons why files were ``refused``, the most files first, and a note for each of oddities.

    Both are (name, text) as the gate gives them. A file whose note holds several, is in each of their families.
    """
    single = [(name, note) for name, text in notes for note in _NEXT_NOTE.split(text)]
    return _by_family(refused, _REFUSED, PROBLEM) + _by_family(single, _NOTED, NOTE)


def _by_family(told: Sequence[tuple[str, str]], families: Sequence[_Family], level: str) -> list[Finding]:
    members: dict[str, list[Item]] = {family.kind: [] for family in families}
    for name, text in told:
        family = next(family for family in families if re.search(family.pattern, text))
        members[family.kind].append(Item((name,), text))
    full = sorted((family for family in families if members[family.kind]), key=lambda family: -len(members[family.kind]))
    return [_finding(family, members[family.kind], level) for family in full]


def _finding(family: _Family, items: list[Item], level: str) -> Finding:
    is_such = f"1 file {family.one}" if len(items) == 1 else f"{len(items)} files {family.several}"
    where = some([item.images[0] for item in items], len(items))
    unused = f"; left out, so that nothing is learned from what {'it was' if len(items) == 1 else 'they were'} to show"
    return Finding(
        kind=f"file-{family.kind}",
        level=level,
        title=f"{'Files that cannot be used' if level == PROBLEM else 'Odd files'}: {family.kind.replace('-', ' ')}",
        sentence=f"{is_such} ({where}){unused if level == PROBLEM else '; used all the same'}.",
        advice=family.advice,
        items=items,
        figures={"files": len(items), "reasons": _reasons(items)},
    )


def _reasons(items: Sequence[Item]) -> dict[str, int]:
    """How often each reason came, the most frequent first; what differs from file to file, in brackets, does not count."""
    counts: dict[str, int] = {}
    for item in items:
        reason = re.sub(r" \(.*\)", "", item.detail)
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
