"""A backbone and the head of a task, put together."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

from torch import nn

from sightline.data.prepare import Prepare
from sightline.model.backbone import Backbone
from sightline.model.network import Network
from sightline.model.pyramid import pyramid
from sightline.model.rfdetr import RfDetr, is_rfdetr
from sightline.tasks import TASKS


def heads_of(task: str, backbone: str) -> ModuleType:
    """The module in ``model/heads`` with a task's head and objective for a backbone of this name."""
    return importlib.import_module("sightline.model.heads.queries" if is_rfdetr(backbone) else TASKS[task].head)


def assembled(
    backbone: Backbone, heads: ModuleType, classes: int, dropout: float, prepare: Prepare, auxiliary: Sequence[nn.Module] = ()
) -> Network:
    """The network of a plain backbone, with the weights that it has, and the head of a task's module in ``model/heads``.

    Where that head reads maps, the backbone becomes one that gives them, and is used up; RF-DETR's gives its decoder to the head.
    """
    if not heads.DENSE:
        return Network(backbone, heads.make_head(backbone.num_features, classes, dropout), prepare, auxiliary)
    if isinstance(backbone, RfDetr):
        return Network(backbone, heads.make_head(backbone, classes, dropout), prepare)
    seen = pyramid(backbone, prepare.channels, prepare.shape)
    return Network(seen, heads.make_head(seen.levels, classes, dropout), prepare)
