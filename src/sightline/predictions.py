"""What a model says of an image, how its raw outputs become that, and what a reader of it should know besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol


@dataclass(frozen=True)
class Decision:
    """How raw outputs become answers; chosen on calibration images and kept in the bundle.

    temperature    divides the logits; above 1 makes less sure
    offset         is then added to them, where scores are not those of a choice among classes; None for nothing
    thresholds     label -> score in [0, 1] from which it is given; empty for tasks that answer with the best label
    promise        the share of answers that are right when those below ``answer_from`` are not given; None where none is promised
    answer_from    the score of an answer from which it is given
    name_from      the score from which labels are named as candidates, so that with probability ``named`` all true ones are
    familiar_from  the similarity to the nearest training images from which an image is not called unfamiliar
    fades_over     how much less similar an image must be for its logits, and so its classes' probabilities, to fade by a factor of e
    """

    temperature: float = 1.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    promise: float | None = None
    answer_from: float | None = None
    named: float | None = None
    name_from: float | None = None
    familiar_from: float | None = None
    offset: float | None = None
    fades_over: float | None = None


@dataclass(frozen=True, slots=True)
class Caution:
    """What else a reader of a prediction should know.

    abstained   the model does not answer: too unsure to keep its promise, or the image is unfamiliar. The prediction is its best guess
    unfamiliar  the image is unlike any training image
    candidates  labels among which the true ones are, with the bundle's ``named`` probability; None where that is not promised
    """

    abstained: bool
    unfamiliar: bool
    candidates: tuple[str, ...] | None

    def __str__(self) -> str:
        if self.abstained:
            return "unlike any training image, best guess" if self.unfamiliar else "not sure, best guess"
        return "sure enough"

    def to_json(self) -> dict[str, Any]:
        """``{"abstained", "unfamiliar"}``, and ``"candidates"`` where they are promised."""
        named = {} if self.candidates is None else {"candidates": list(self.candidates)}
        return {"abstained": self.abstained, "unfamiliar": self.unfamiliar, **named}


@dataclass(frozen=True, slots=True)
class Classification:
    """What a classifier says of one image: ``labels`` with their ``scores`` in [0, 1], best first."""

    labels: tuple[str, ...]
    scores: tuple[float, ...]
    caution: Caution | None = None

    @property
    def label(self) -> str:
        return self.labels[0]

    @property
    def score(self) -> float:
        return self.scores[0]

    @property
    def answer(self) -> frozenset[str]:
        """What is said, whatever the scores."""
        return frozenset(self.labels[:1])

    def to_json(self, top: int | None = None) -> list[dict[str, Any]]:
        """``[{"label", "score"}...]``, best first, at most ``top``."""
        return [{"label": label, "score": score} for label, score in zip(self.labels[:top], self.scores[:top], strict=True)]

    def in_words(self, top: int | None = None) -> str:
        """Such as ``cat 93.1%, dog 4.2%``."""
        return _listed(self.to_json(top))


@dataclass(frozen=True)
class Tags:
    """What a tagger says of one image, which may have several labels or none.

    labels  the labels given: those whose score is at or above their threshold; best first
    scores  every label with its probability in [0, 1], best first
    """

    labels: tuple[str, ...]
    scores: Mapping[str, float]
    caution: Caution | None = None

    @property
    def answer(self) -> frozenset[str]:
        """What is said, whatever the scores."""
        return frozenset(self.labels)

    def to_json(self, top: int | None = None) -> list[dict[str, Any]]:
        """``[{"label", "score"}...]`` of the labels given, best first, at most ``top``; empty when none is given."""
        return [{"label": label, "score": self.scores[label]} for label in self.labels[:top]]

    def in_words(self, top: int | None = None) -> str:
        """Such as ``sea 93.1%, sun 70.2%``."""
        return _listed(self.to_json(top)) or "no label"


def _listed(entries: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{entry['label']} {entry['score']:.1%}" for entry in entries)


class Prediction(Protocol):
    """What every task's answer on an image offers."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def caution(self) -> Caution | None:
        """What else to know of it; None where the model makes no promises."""
        ...

    @property
    def answer(self) -> frozenset[str]:
        """The labels that are given, whatever their scores."""
        ...

    def to_json(self, top: int | None = None) -> list[dict[str, Any]]:
        """``[{"label", "score"...}...]``, of at most ``top`` classes."""
        ...

    def in_words(self, top: int | None = None) -> str:
        """What is said, of at most ``top`` classes, on a line."""
        ...
