"""A network cut in two: what lies below gives activations that can be kept, what lies above learns from them.

The cut is made in a traced graph of the network's blocks, at a place that everything has to pass through as one tensor. Both halves
share their layers with the network itself, so what the upper half learns, the network has learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from sightline.model.network import Network, Trainable
from sightline.model.views import one_view

# Of networks whose maps keep one size, as of most transformers, these shares of the places lie below the cuts.
ISOTROPIC_SHARES = (0.75, 0.5)
# The halves one after the other compute the same numbers in the same order; what remains is a library choosing another way.
TOLERANCE = 1e-4
# Inside a block a map may be this many times as large as between blocks; no cut is made there.
WIDENED = 2
# Fewer blocks alike are not worth cutting between.
FEWEST_ALIKE = 4
# Dimensions of (n, features), and of (n, positions, channels).
FLAT, SEQUENCE = 2, 3


class Upper(Trainable):
    """The layers above the cut, as the training loop takes a network: activations in, named raw outputs out."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.auxiliary = nn.ModuleList()

    def forward(self, activations: Tensor) -> dict[str, Tensor]:
        embedding, features, *_ = self.backbone(activations)
        return {**self.head(embedding), "embedding": embedding, "features": features}


class Lower(nn.Module):
    """The layers below the cut: images as ``Network`` takes them to activations."""

    def __init__(self, network: Network, backbone: nn.Module) -> None:
        super().__init__()
        self.normal = network.normal
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        activations: Tensor = self.backbone(self.normal(images))
        return activations


@dataclass(frozen=True)
class Cut:
    """Both halves, and the shape of one image's activations between them."""

    lower: Lower
    upper: Upper
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """A node that could be cut at: how many positions its map has, and how many numbers an image's map takes."""

    node: fx.Node
    positions: int
    numbers: int


class _Blocks(fx.Tracer):
    """Looks into plain sequences and traced graphs; any other block stays whole, so that nothing inside it has to be traceable."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return type(module) is not nn.Sequential and not isinstance(module, fx.GraphModule)


def cuts(network: Network) -> list[Cut]:
    """The network cut before its last stage and before the last two, a stage being the blocks whose maps have one size.

    Of a network whose maps keep one size, the last quarter and the last half lie above. Empty where the network cannot be traced or
    has no such place. The network is left in evaluation mode.
    """
    backbone, side = network.eval().backbone, network.prepare.size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, side, side, network.prepare.channels), generator=generator).to(network.scale)
    try:
        graph, root = _traced(backbone)
    except (fx.proxy.TraceError, TypeError, ValueError, NotImplementedError, AttributeError, RuntimeError):
        return []  # what decides on numbers cannot be followed
    with torch.no_grad():
        shapes = Shapes(fx.GraphModule(root, graph))
        shapes.run(network.normal(images))
    narrow = narrow_places(graph)
    output = next(iter(reversed(graph.nodes)))
    maps = [(node, shapes.of[node.name]) for node in narrow if len(shapes.of.get(node.name, ())) > FLAT]
    places = [Place(node, _positions(shape), shape[1:].numel()) for node, shape in maps]
    found = []
    for node in _before_stages(places, _positions(shapes.of[output.args[0][1].name])):
        cut = Cut(
            Lower(network, _below(root, graph, node)), Upper(_above(root, graph, node), network.head), tuple(shapes.of[node.name][1:])
        )
        if _agrees(cut, network, images):
            found.append(cut)
    return found


def _traced(backbone: nn.Module) -> tuple[fx.Graph, nn.Module]:
    """The backbone's blocks as a graph from images to (embedding, features), without what only auxiliary heads read."""
    tracer = _Blocks()
    graph = tracer.trace(backbone)
    output = next(iter(reversed(graph.nodes)))
    output.args = (tuple(output.args[0][:2]),)
    return _module(backbone, graph).graph, backbone


class Shapes(fx.Interpreter):
    """Runs a graph and notes the shape of every tensor."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.of: dict[str, torch.Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.of[n.name] = result.shape
        return result


def narrow_places(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that everything passes through: after one of them nothing is used that was computed before it."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    narrow, needed_until = [], -1
    for node, place in order.items():
        if node.op in ("get_attr", "output"):  # weights are there on both sides
            continue
        if needed_until <= place and node.op != "placeholder":
            narrow.append(node)
        needed_until = max([needed_until, *(order[user] for user in node.users)])
    return narrow


def _positions(shape: torch.Size) -> int:
    """How many positions a map has: (n, c, h, w), (n, h, w, c) or (n, positions, channels)."""
    if len(shape) == SEQUENCE:
        return shape[1]
    rows, columns = (shape[1], shape[2]) if shape[1] == shape[2] != shape[3] else (shape[2], shape[3])
    return rows * columns


def _before_stages(places: Sequence[Place], final: int) -> list[fx.Node]:
    """A place before the map falls to its ``final`` size, and one before it falls to the size in front of that."""
    larger = sorted({place.positions for place in places if place.positions > final})
    if larger:
        return [latest_small([place for place in places if place.positions == positions]) for positions in larger[:2]]
    alike = [place.node for place in places if place.positions == final]
    return [alike[int(share * len(alike))] for share in ISOTROPIC_SHARES] if len(alike) >= FEWEST_ALIKE else []


def latest_small(places: Sequence[Place]) -> fx.Node:
    """The latest of places alike, but for those inside a block that widens the map for a while."""
    limit = WIDENED * min(place.numbers for place in places)
    return [place.node for place in places if place.numbers <= limit][-1]


def _below(root: nn.Module, graph: fx.Graph, place: fx.Node) -> fx.GraphModule:
    lower, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        copies[node] = lower.node_copy(node, copies.__getitem__)
        if node is place:
            break
    lower.output(copies[place])
    return _module(root, lower)


def _above(root: nn.Module, graph: fx.Graph, place: fx.Node) -> fx.GraphModule:
    upper, passed = fx.Graph(), False
    copies = {place: upper.placeholder("activations")}
    for node in graph.nodes:
        if (passed and node.op != "placeholder") or node.op == "get_attr":
            copies[node] = upper.node_copy(node, copies.__getitem__)
        passed = passed or node is place
    return _module(root, upper)


def _module(root: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """A module over the graph that shares the layers it uses with ``root``."""
    module = fx.GraphModule(root, graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    module.delete_all_unused_submodules()
    return module


@torch.no_grad()
def _agrees(cut: Cut, network: Network, images: Tensor) -> bool:
    """Whether the halves, one after the other, are the network as it learns: with one view of an image."""
    with one_view(network):
        whole = network(images)
    parts = cut.upper.eval()(cut.lower.eval()(images))
    return all(torch.allclose(whole[name], parts[name], rtol=TOLERANCE, atol=TOLERANCE) for name in ("logits", "embedding"))
