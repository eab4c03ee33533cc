"""Pictures of which it is known what matters: a small striped square somewhere on a mottled ground, and a network that has learned
which way its stripes run."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional as F

from sightline.data.prepare import Prepare
from sightline.model.backbone import BackboneSpec, build
from sightline.model.heads.classify import make_head
from sightline.model.network import Network, torch_infer
from sightline.records import Infer

SIDE, OBJECT = 48, 12
LABELS = ("lying", "upright")


def mottled(rng: np.random.Generator, side: int = SIDE) -> NDArray[np.uint8]:
    """A ground of smooth patches and fine noise in any colour."""
    coarse = Image.fromarray(rng.integers(40, 216, (6, 6, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(coarse) + rng.normal(0, 12, (side, side, 3)), 0, 255).astype(np.uint8)


def render_object(seed: int, kind: int) -> tuple[NDArray[np.uint8], tuple[slice, slice]]:
    """An image (SIDE, SIDE, 3) and where its object is: stripes that lie (kind 0) or stand (kind 1)."""
    rng = np.random.default_rng([seed, kind])
    image = mottled(rng)
    top, left = rng.integers(2, SIDE - OBJECT - 2, 2).tolist()
    place = slice(top, top + OBJECT), slice(left, left + OBJECT)
    stripes = np.where(np.arange(OBJECT) % 4 < 2, 230, 25)
    image[place] = (stripes[:, None] if kind == 0 else stripes[None, :])[:, :, None]
    return image, place


def render_objects(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[tuple[slice, slice]]]:
    """Images, their kinds in turn, and the places of their objects."""
    targets = np.arange(count) % 2
    images, places = zip(*(render_object(seed * 100_000 + number, kind) for number, kind in enumerate(targets.tolist())), strict=True)
    return np.stack(images), targets, list(places)


class Small(nn.Module):
    """Three convolutions, four pixels to a cell of the last map."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 24, 24)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            images = F.relu(norm(layer(images)))
            images = F.avg_pool2d(images, 2) if number < 2 else images
        return images


def untrained(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    backbone = build(BackboneSpec("module/Small", SIDE), Small())
    return Network(backbone, make_head(backbone.num_features, len(LABELS), 0.0), Prepare(SIDE))


@cache
def trained(steps: int = 40) -> Network:
    """A network that tells the two kinds apart; a few seconds, once."""
    network = untrained()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for step in range(steps):
        images, targets, _ = render_objects(48, 1 + step)
        loss = F.cross_entropy(network.train()(torch.from_numpy(images))["logits"], torch.from_numpy(targets))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def infer_of(network: Network) -> Infer:
    return torch_infer(network, torch.device("cpu"), ("logits", "embedding", "features"))
