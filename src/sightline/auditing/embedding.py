"""What a pretrained network makes of every image: the vectors by which the audit compares them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline import console
from sightline.config import NetworkConfig
from sightline.data.prepare import Prepare
from sightline.data.reading import Reading
from sightline.data.store import Store
from sightline.model.backbone import SMALL_SIDE
from sightline.model.choose import Choice, choose
from sightline.model.network import Network
from sightline.model.quick import quickest
from sightline.training.batches import plain_batches

# Sides that images are embedded at, unless one is asked for: half the work of 224 px for nearly the same judgement; small images are
# enlarged, as the weights have seen nothing that small.
SIDE, SIDE_OF_SMALL = 160, 96
BATCH = 32


def choose_for_audit(config: NetworkConfig, median_size: tuple[int, int], reading: Reading) -> Choice:
    """The network that ``train`` would choose, but for small images one that looks at them enlarged."""
    small = min(median_size) <= SMALL_SIDE and config.size is None
    return choose(replace(config, size=SIDE_OF_SMALL) if small else config, median_size, reading)


def embed(store: Store, choice: Choice, *, size: int | None = None) -> NDArray[np.float32]:
    """The embedding (n, d) float32 of each stored image; ``size`` is the side in pixels to look at them with, if not the audit's own."""
    size = size or min(choice.prepare.size, SIDE)
    prepare = replace(choice.prepare, size=size if choice.takes(size) else choice.prepare.size)
    backbone = choice.build().eval()
    layers = _Embedding(Network(backbone, nn.Identity(), prepare)).eval()
    first = torch.from_numpy(next(plain_batches(store, prepare, BATCH)))
    _, run = quickest(layers, first, "fp32", len(store))
    batches = console.track(_tensors(store, prepare), -(-len(store) // BATCH), "Comparing images")
    return np.concatenate([run(batch).numpy() for batch in batches])


def _tensors(store: Store, prepare: Prepare) -> Iterator[Tensor]:
    for batch in plain_batches(store, prepare, BATCH):
        yield torch.from_numpy(batch)


class _Embedding(nn.Module):
    """A network's embedding alone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        embedding: Tensor = self.network.backbone(self.network.normal(images))[0]
        return embedding
