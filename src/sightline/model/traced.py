"""torchvision's networks as graphs that give what their last layer sees, the last feature map, and maps on the way there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn import functional as F


def traced(model: nn.Module, size: int, taps: Sequence[str] = ()) -> GraphModule:
    """A network in evaluation mode as a graph from (n, 3, size, size) to ``{"embedding", "features", "tap0"...}``.

    ``taps`` are blocks that join branches, whose joined maps are wanted as well.
    """
    from torchvision.models.feature_extraction import create_feature_extractor

    embedding, features = _outputs_of(model, size)
    on_the_way = {f"{block}.cat": f"tap{number}" for number, block in enumerate(taps)}
    return create_feature_extractor(model, {embedding: "embedding"} | {features: "features"} | on_the_way)


def _outputs_of(model: nn.Module, size: int) -> tuple[str, str]:
    """Names of the graph's nodes that give what the last linear layer sees, and the last spatial feature map."""
    import torchvision
    from torch.fx.passes.shape_prop import ShapeProp
    from torchvision.models.feature_extraction import NodePathTracer

    example = torch.zeros(1, 3, size, size)
    # torchvision's own blocks stay whole, as in its ``create_feature_extractor``, which has to find these nodes.
    whole = [block for block in vars(torchvision.ops).values() if isinstance(block, type) and issubclass(block, nn.Module)]
    tracer = NodePathTracer(leaf_modules=whole)
    graph = GraphModule(model, tracer.trace(model))
    with torch.no_grad():
        model(example)  # raises in plain words what ShapeProp would print
        ShapeProp(graph).propagate(example)
    modules = dict(model.named_modules())
    last = next(node for node in reversed(graph.graph.nodes) if isinstance(modules.get(node.target), nn.Linear | nn.Conv2d))

    def calls(node: Node, kinds: tuple[type, ...], functions: tuple[Any, ...]) -> bool:
        return isinstance(modules.get(node.target), kinds) if node.op == "call_module" else node.target in functions

    # Dropout before the last layer is ours to set, so the embedding is taken in front of it.
    embedding = next(node for node in _back_from(last.args[0]) if not calls(node, (nn.Dropout, nn.Flatten), (torch.flatten,)))
    pooling = (nn.AdaptiveAvgPool2d,), (F.adaptive_avg_pool2d, torch.mean, "mean")
    pooled = next((node for node in _back_from(embedding) if calls(node, *pooling)), None)
    # A class token is taken, not averaged: there the positions it was taken from are the map.
    unpooled = next((node for node in _back_from(embedding) if len(node.meta["tensor_meta"].shape) > 2), None)
    features = unpooled if pooled is None else pooled.args[0]
    return tracer.node_to_qualname[embedding], tracer.node_to_qualname[features]


def _back_from(node: Node) -> Iterator[Node]:
    """The node, what it was made from, and so on; of several inputs the first."""
    while isinstance(node, Node):
        yield node
        node = node.args[0] if node.args else None
