"""A backbone's feature maps at several strides, for tasks that say where things are.

Whatever ``backbone.build`` makes is taken: timm's networks tell their stages' maps, torchvision's are read off their graph, and of a
plain transformer or a user's own module there is one map, from which the neck makes what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from sightline.errors import UsageError
from sightline.model.backbone import Backbone, ModuleBackbone, TorchvisionBackbone
from sightline.model.cut import Place, Shapes, latest_small, narrow_places
from sightline.model.strided import with_quick_strides

# Finer maps say little about what is seen, and coarser ones little about where.
STRIDES = (4, 8, 16, 32, 64)
# Both sides shrink alike, or it is another kind of tensor; networks that do not pad leave small maps uneven. Two to this power.
LENIENCY = 0.7
# (n, channels, rows, columns)
MAP = 4
# Named to whoever has taken a backbone without maps: from the small to the larger, of several families.
WITH_MAPS = ("mobilenetv2_100", "efficientnet_b0", "convnext_atto", "resnet18")

Maps = Callable[[nn.Module, Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Level:
    """A feature map: its channels, and the pixels of the input between two neighbouring places of it."""

    channels: int
    stride: int


class Pyramid(Backbone):
    """``forward((n, channels, height, width) float)`` gives the embedding (n, num_features), the last map, and every level's map.

    Maps are (n, channels, rows, columns), finest first; the last of them is the last map, and its mean the embedding. The weights have
    the names that they have in the plain backbone; layers that no map needs, such as those that make an embedding for
    a classifier, are left out.
    """

    def __init__(self, inner: nn.Module, maps: Maps, levels: Sequence[Level]) -> None:
        super().__init__(inner, levels[-1].channels)
        self.maps = maps
        self.levels = tuple(levels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.maps(self.inner, images)
        return maps[-1].mean((2, 3)), maps[-1], *maps


def pyramid(backbone: Backbone, channels: int, shape: tuple[int, int]) -> Pyramid:
    """The backbone, with the weights that it has, as one that gives maps of inputs with ``channels`` and of ``shape`` (height, width).

    The backbone itself is used up. Raises UsageError where it gives no map that says where something is.
    """
    images = torch.zeros(1, channels, *shape)
    inner = backbone.eval().inner
    read, maps = _read(backbone, images)
    if not all(stride for _, stride in maps):
        raise UsageError(
            f"--backbone {backbone.name}: gives no feature map that says where in an image of {shape[1]} x {shape[0]} px something is; "
            f"take one that does, such as {', '.join(WITH_MAPS[:-1])} or {WITH_MAPS[-1]}."
        )
    with_quick_strides(inner)
    made = Pyramid(inner, read, [Level(channels, stride) for channels, stride in maps])
    _leave_out_idle_layers(made.eval(), images)
    return made.train()


def _read(backbone: Backbone, images: Tensor) -> tuple[Maps, list[tuple[int, int]]]:
    """How the backbone's maps are read, and channels and stride of each, a stride of 0 being that of no map."""
    inner = backbone.inner
    # Not inference_mode: some networks keep tensors of their first pass, and those of inference mode cannot be trained with.
    with torch.no_grad():
        read = _stages_of_timm(inner, images) or _places_of_torchvision(backbone, images) or _last_map(backbone)
        return read, [(each.shape[1], _stride(each.shape, images)) for each in read(inner, images)]


@dataclass(frozen=True)
class Stages:
    """The maps of some of a timm network's stages."""

    indices: tuple[int, ...]

    def __call__(self, inner: nn.Module, images: Tensor) -> Sequence[Tensor]:
        maps: Sequence[Tensor] = inner.forward_intermediates(images, indices=list(self.indices), intermediates_only=True)
        return maps


def _stages_of_timm(inner: nn.Module, images: Tensor) -> Maps | None:
    """The last map of each stride; None where all maps are of one stride, since then only the network's end is made to be read."""
    if not hasattr(inner, "forward_intermediates"):
        return None
    shapes = [each.shape for each in inner.forward_intermediates(images, intermediates_only=True)]
    last = {_stride(shape, images): index for index, shape in enumerate(shapes)}
    chosen = tuple(last[stride] for stride in STRIDES if stride in last)
    return Stages(chosen) if len(chosen) > 1 else None


def _places_of_torchvision(backbone: Backbone, images: Tensor) -> Maps | None:
    """The last narrow place of each stride in the traced graph, which then ends in those; in the last map where there are none."""
    graph = backbone.inner
    if not isinstance(backbone, TorchvisionBackbone) or not isinstance(graph, fx.GraphModule):
        return None
    plain = graph.graph.output_node().args[0]
    _end_in(graph, [plain["features"].name])  # what else it gives would pass by all later places
    shapes = Shapes(graph)
    shapes.run(images)
    places: dict[int, list[Place]] = {}
    for node in narrow_places(graph.graph):
        shape = shapes.of.get(node.name, torch.Size())
        stride = _stride(shape, images)
        if stride:
            places.setdefault(stride, []).append(Place(node, shape[2:].numel(), shape[1:].numel()))
    chosen = [latest_small(places[stride]).name for stride in STRIDES if stride in places]
    _end_in(graph, chosen or [plain["features"].name])
    return _outputs


def _end_in(graph: fx.GraphModule, names: Sequence[str]) -> None:
    """Give these nodes, and compute no more than they need, in training as in evaluation."""
    for training in (True, False):
        graph.train(training)  # torchvision keeps two graphs, and this changes to the other
        named = {node.name: node for node in graph.graph.nodes}
        graph.graph.output_node().args = ([named[name] for name in names],)
        graph.graph.eliminate_dead_code()
        graph.recompile()


def _outputs(inner: nn.Module, images: Tensor) -> Sequence[Tensor]:
    return [_as_map(each, images) for each in inner(images)]


def _last_map(backbone: Backbone) -> Maps:
    return _last_of_module if isinstance(backbone, ModuleBackbone) else _last_of_timm


def _last_of_timm(inner: nn.Module, images: Tensor) -> Sequence[Tensor]:
    features = inner.forward_features(images)
    return [_as_map(features.permute(0, 3, 1, 2) if getattr(inner, "output_fmt", "NCHW") == "NHWC" else features, images)]


def _last_of_module(inner: nn.Module, images: Tensor) -> Sequence[Tensor]:
    outputs = inner(images)
    return [_as_map(outputs[1] if isinstance(outputs, tuple) else outputs, images)]


def _as_map(features: Tensor, images: Tensor) -> Tensor:
    """A transformer's (n, positions, channels) laid out as (n, channels, rows, columns), without the tokens in front of them."""
    if features.ndim != MAP - 1:
        return features
    height, width = images.shape[2:]
    positions = features.shape[1]
    for stride in STRIDES:
        for patch in (stride, stride - 2):  # patches of 14 pixels are as usual as those of 16
            rows, columns = height // patch, width // patch
            if rows * columns <= positions < rows * columns + max(rows, columns):
                return features[:, positions - rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))
    return features


def _stride(shape: torch.Size, images: Tensor) -> int:
    """That of a map (n, channels, rows, columns) of the images; 0 where it is not one of ``STRIDES``, or no such map."""
    if len(shape) != MAP or not shape.numel():
        return 0
    down, across = (math.log2(side / places) for side, places in zip(images.shape[2:], shape[2:], strict=True))
    stride = 2 ** round((down + across) / 2)
    return stride if abs(down - across) <= LENIENCY and stride in STRIDES else 0


def _leave_out_idle_layers(made: Pyramid, images: Tensor) -> None:
    """Replace layers whose weights reach no map: they would never get a gradient, and their weights would be shipped for nothing."""
    learned = {name: weights for name, weights in made.inner.named_parameters() if weights.requires_grad}
    with torch.enable_grad():
        reached = sum((each.float().sum() for each in made(images)[2:]), torch.zeros(()))
        gradients = torch.autograd.grad(reached, list(learned.values()), allow_unused=True) if learned else ()
    idle = {name for (name, _), gradient in zip(learned.items(), gradients, strict=True) if gradient is None}
    gone: list[str] = []
    for name, module in list(made.inner.named_modules()):
        weights = [f"{name}.{each}" for each, _ in module.named_parameters()]
        inside_gone = any(name.startswith(f"{each}.") for each in gone)
        if name and weights and not inside_gone and idle.issuperset(weights):
            made.inner.set_submodule(name, nn.Identity())
            gone.append(name)
