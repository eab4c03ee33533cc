"""What an audit says: findings, each in a sentence that needs no expert, with the images it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# How much a finding matters: what spoils the figures or the model, what should be looked at, what is good to know.
PROBLEM, WARNING, NOTE = LEVELS = ("problem", "warning", "note")
# What can be done with an image.
KEEP, DROP, RELABEL = VERBS = ("keep", "drop", "relabel")


@dataclass(frozen=True)
class Item:
    """One image, or some side by side, that a finding is about.

    images      their names in the findings; a suggestion is about the first
    detail      what was seen on it, in few words
    suggestion  one of VERBS, or "" where only a person can tell; ``label`` the new one for RELABEL
    """

    images: tuple[str, ...]
    detail: str
    suggestion: str = ""
    label: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"images": list(self.images), "detail": self.detail, "suggestion": self.suggestion, "label": self.label}


@dataclass(frozen=True)
class Finding:
    """``kind`` is a short name for programs; ``sentence`` says what was found and what it means, ``advice`` what to do.

    ``figures`` are numbers that belong to it, by name.
    """

    kind: str
    level: str
    title: str
    sentence: str
    advice: str
    items: Sequence[Item] = ()
    figures: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "level": self.level, "title": self.title, "sentence": self.sentence, "advice": self.advice,
                "figures": self.figures or {}, "items": [item.to_json() for item in self.items]}  # fmt: skip
