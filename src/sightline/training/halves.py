"""A cut network in training: activations at the cut are computed once and kept, and what lies above learns from them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.model.cut import Cut, cuts
from sightline.model.network import Trainable
from sightline.model.quick import Layers, by, by_torch, quickest
from sightline.training.activations import Kept
from sightline.training.session import VALIDATION_BATCH, Session
from sightline.training.stages import UPPER_SIZES, most_kept_bytes


@dataclass(frozen=True)
class Halves:
    """A cut network with the activations at the cut of all images, as evaluation sees them.

    engine, lower  what computes the layers below the cut, and ``seconds`` it took for an image
    """

    cut: Cut
    train: Kept
    validation: Kept
    engine: str
    lower: Layers
    seconds: float

    @classmethod
    def of(cls, session: Session, precision: str, engine: str | None = None) -> Halves | None:
        """None where the network cannot be cut, or where the activations would take too much memory.

        ``engine`` computes the lower layers; the quickest if none is named.
        """
        found = cuts(session.network)
        if not found:
            return None
        cut, train, validation = found[0], Kept(len(session.train), found[0].shape), Kept(len(session.validation), found[0].shape)
        if train.bytes_of_view + validation.bytes_of_view > most_kept_bytes():
            return None
        some = next(session.plain(session.train))
        if engine is None:
            engine, lower = quickest(cut.lower, some, precision, len(train) * UPPER_SIZES[0][0])
        else:
            lower = by(engine, cut.lower, some, precision)
        started = time.monotonic()
        train.add_view(map(lower, session.plain(session.train)))
        seconds = (time.monotonic() - started) / len(train)
        validation.add_view(map(lower if precision == "fp32" else by_torch(cut.lower, "fp32"), session.plain(session.validation)))
        return cls(cut, train, validation, engine, lower, seconds)


def outputs(upper: Trainable, kept: Kept, names: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    """The raw outputs of the layers above a cut for kept images as evaluation sees them."""
    device = next(upper.parameters()).device
    with torch.inference_mode():
        found = [upper.eval()(batch) for batch in _plain_batches(kept, device)]
    return {name: torch.cat([raw[name] for raw in found]).float().cpu().numpy() for name in names}


def _plain_batches(kept: Kept, device: torch.device) -> Iterator[Tensor]:
    for start in range(0, len(kept), VALIDATION_BATCH):
        rows = range(start, min(start + VALIDATION_BATCH, len(kept)))
        yield kept.get([0] * len(rows), rows, device)
