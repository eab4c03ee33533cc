"""The training images that a network finds most like an image: what it has seen, beside what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.errors import ModelFileError
from sightline.explanation.subject import Floats
from sightline.records import NO_TARGET

if TYPE_CHECKING:
    from sightline.reference import Known


@dataclass(frozen=True)
class Neighbour:
    """A training image: its path within the data, its labels, the cosine of the angle between its embedding and the image's (1 where
    they point the same way), and a small JPEG of it, empty where the bundle holds no images."""

    name: str
    labels: tuple[str, ...]
    similarity: float
    thumb: bytes = b""

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "labels": list(self.labels), "similarity": round(self.similarity, 4)}


def nearest(known: Known, embedding: Floats, labels: Sequence[str], count: int) -> list[Neighbour]:
    """Up to ``count`` of the known training images, the most similar first, for an embedding (d,) of any length.

    Raises ModelFileError where the embeddings are not of one length.
    """
    if embedding.shape != known.embeddings.shape[1:]:
        raise ModelFileError("The embeddings in the bundle's reference are not those of its graph; copy or train it again.")
    length = float(np.linalg.norm(embedding))
    similarity = known.embeddings.astype(np.float32) @ (embedding / (length or 1.0)).astype(np.float32)
    order = np.argsort(-similarity, kind="stable")[:count].tolist()
    return [
        Neighbour(
            known.names[row],
            names_of(known.targets[row], labels),
            float(np.clip(similarity[row], -1.0, 1.0)),
            known.thumbs[row] if known.thumbs else b"",
        )
        for row in order
    ]


def names_of(target: Any, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels of an image from its target: an index, or (k,) bool."""
    if np.ndim(target):
        return tuple(labels[label] for label in np.flatnonzero(target))
    return () if target == NO_TARGET else (labels[int(target)],)
