"""Small pieces for tests of training: a store in memory, a network of a few thousand weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray

from conftest import SHAPES, render_shape
from sightline.data.prepare import Prepare
from sightline.data.store import Facts, Store
from sightline.model.backbone import BackboneSpec, build
from sightline.model.heads.classify import make_head
from sightline.model.network import Network


def store_of(images: Sequence[NDArray[np.uint8]]) -> Store:
    """A store of images (h, w, 3) uint8 that were never on a disk; its facts are all 0."""
    facts = Facts(**{entry.name: np.zeros(len(images), np.int64) for entry in fields(Facts)})
    ends = np.cumsum([image.size for image in images])
    pixels = np.concatenate([image.ravel() for image in images])
    return Store(facts, 32, np.concatenate([[0], ends[:-1]]), np.array([image.shape[:2] for image in images]), pixels)


def shapes_store(per_class: int, seed: int = 0) -> tuple[Store, NDArray[np.int64]]:
    """Rendered shapes of 32 px and their targets."""
    images = [np.asarray(render_shape(kind, seed * 1000 + number)) for kind in SHAPES for number in range(per_class)]
    return store_of(images), np.repeat(np.arange(len(SHAPES)), per_class)


def tiny_network(*, seed: int = 0, classes: int = 3, dropout: float = 0.2, size: int = 32, name: str = "test_resnet") -> Network:
    torch.manual_seed(seed)
    backbone = build(BackboneSpec(name, size, keep_resolution=True))
    return Network(backbone, make_head(backbone.num_features, classes, dropout), Prepare(size))
