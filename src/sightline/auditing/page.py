"""``audit.html``: each finding in its words, with pictures side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.auditing.finding import LEVELS, PROBLEM, WARNING, Finding, Item
from sightline.auditing.gate import Usable
from sightline.data.channels import picture_of
from sightline.report import amounts
from sightline.report.html import Page, render_page
from sightline.report.pictures import thumbnail
from sightline.report.sections import Section, without_empty
from sightline.tasks.blocks import Block, Gallery, Picture, Table, Text, Tile, Tiles

# Of each finding so many items are shown as pictures, and so many more as lines; audit.json has all.
PICTURED, LISTED = 24, 200
# Side of a picture, and of the gap between two, in pixels.
SIDE, GAP = 224, 6
LEVEL_NAMES = {"problem": "Problem", "warning": "To look at", "note": "Good to know"}


def audit_page(numbers: Mapping[str, Any], findings: Sequence[Finding], found: Usable) -> str:
    """The page as text, of ``audit.json`` and the findings; pictures come from the store."""
    rows = {name: row for row, name in enumerate(found.names)}
    pictures: dict[str, bytes] = {}
    sections = [Section("overview", "Overview", _overview(numbers, findings))]
    for finding in findings:
        blocks = _blocks(finding, rows)
        for block in blocks:
            if isinstance(block, Gallery):
                for picture, item in zip(block.pictures, _pictured(finding, rows), strict=True):
                    images = [found.store[rows[name]] for name in item.images if name in rows]
                    pictures[picture.key] = thumbnail(_side_by_side(images), 2 * SIDE)
        sections.append(Section(finding.kind, finding.title, blocks))
    return render_page(
        Page(
            title=f"{numbers['title']}: audit",
            window=f"{numbers['title']}: audit",
            sentence=numbers["verdict"],
            facts=_facts(numbers),
            sections=without_empty(sections),
            created=numbers["created"],
            version=numbers["sightline"],
            level="poor" if numbers["counts"][PROBLEM] else "fair" if numbers["counts"][WARNING] else "good",
        ),
        pictures,
    )


def _facts(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("Images", amounts.count(numbers["n"])),
        ("Classes", amounts.count(len(numbers["labels"])) if numbers["labels"] else "none"),
        ("Compared by", numbers["network"] or "facts alone"),
        ("Created", amounts.moment(numbers["created"])),
        ("Seed", str(numbers["seed"])),
    ]


def _overview(numbers: Mapping[str, Any], findings: Sequence[Finding]) -> list[Block]:
    tiles = [Tile(LEVEL_NAMES[level], amounts.count(numbers["counts"][level])) for level in LEVELS]
    rows = [(finding.title, LEVEL_NAMES[finding.level], amounts.count(len(finding.items)) if finding.items else "") for finding in findings]
    steps = [
        "Look at the findings below, the problems first.",
        "Open decisions.csv: each image that was found has a row with what is suggested. Where you agree, put drop or relabel under verb.",
        "Train with --decisions decisions.csv; the report says what that changed.",
    ]
    return [Tiles("Findings", tiles), Table("What was found", ("Finding", "Level", "Images"), rows), Text("What to do", steps, listed=True)]


def _blocks(finding: Finding, rows: Mapping[str, int]) -> list[Block]:
    pictured = _pictured(finding, rows)
    named = [" and ".join(item.images) for item in pictured]
    # The key is what is read aloud of a picture, and the same images may stand below several findings.
    pictures = [Picture(f"{finding.title}: {name}", name, _said(item)) for name, item in zip(named, pictured, strict=True)]
    shown = set(map(id, pictured))
    others = [item for item in finding.items if id(item) not in shown]
    left = len(others) - LISTED
    return [
        Text(LEVEL_NAMES[finding.level], [finding.sentence, finding.advice]),
        Gallery("Pictures", pictures, wide=any(len(item.images) > 1 for item in pictured)),
        Table(
            "More of them" if pictures else "Files",
            ("Image", "What was seen", "Suggested"),
            [(" and ".join(item.images), item.detail, _suggested(item)) for item in others[:LISTED]],
            f"And {amounts.count(left)} more in audit.json." if left > 0 else "",
            folded=bool(pictures),
        ),
    ]


def _pictured(finding: Finding, rows: Mapping[str, int]) -> list[Item]:
    return [item for item in finding.items if any(name in rows for name in item.images)][:PICTURED]


def _said(item: Item) -> str:
    suggested = _suggested(item)
    return f"{item.detail}{f' ({suggested})' if suggested else ''}"


def _suggested(item: Item) -> str:
    return f"{item.suggestion} {item.label}".strip()


def _side_by_side(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Images in one, all as high as the lowest, in RGB, with a white gap between them."""
    scaled = [np.asarray(_as_high(image, min(SIDE, *(each.shape[0] for each in images), SIDE))) for image in images]
    parts: list[NDArray[np.uint8]] = []
    for pixels in scaled:
        parts += [np.full((pixels.shape[0], GAP, 3), 255, np.uint8)] if parts else []
        parts.append(pixels)
    return np.concatenate(parts, axis=1)


def _as_high(image: NDArray[np.uint8], height: int) -> Any:
    picture = picture_of(image).convert("RGB")
    return picture.resize((max(1, round(picture.width * height / picture.height)), height))
