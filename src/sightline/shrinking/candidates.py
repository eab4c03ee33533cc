"""What can be tried: shapes of a network from the gentlest to the harshest, and how fast and large each would be before it is trained."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sightline import console
from sightline.data.prepare import Prepare
from sightline.errors import ModelFileError, UsageError
from sightline.exporting.quantise import quantised
from sightline.manifest import Manifest
from sightline.model.assembly import assembled
from sightline.model.backbone import MODULE, SMALL_SIDE, BackboneSpec, build, has_fixed_size
from sightline.model.export import export_graph
from sightline.model.network import Network
from sightline.model.small import is_same_at
from sightline.model.weights import Weights, hub_weights, load_into
from sightline.shrinking.asked import Asked, spoken_size, spoken_time
from sightline.shrinking.pruning import pruned
from sightline.tasks import TASKS

# Of the side of the input, in steps that suit the network's strides; below the smallest nothing is to be seen any more.
SIDES, STEPS, SMALLEST_SIDE = (6 / 7, 5 / 7, 4 / 7, 3 / 7), (4, 32), 12
# Of the channels of each layer.
CHANNELS = (0.75, 0.5, 0.3)
# Small convolutional networks, the larger first; which of them are faster on a machine is measured there.
BACKBONES = ("mobilenetv3_large_100", "resnet10t", "mobilenetv4_conv_small", "mobilenetv3_small_100", "lcnet_050")
# Random images by which the ranges of an untrained network are measured: its speed does not depend on them.
NOISE_IMAGES = 16
RGB = 3


# (graph, prepare, whether it is in INT8) to milliseconds an image and bytes of the file.
Measure = Callable[[bytes, Prepare, bool], tuple[float, int]]


@dataclass(frozen=True)
class Shape:
    """A network that could be trained.

    name      in words
    family    what is made smaller: "input", "channels" or "backbone"
    inherits  whether it begins with the weights of the model it is made from
    epochs    that it learns for, where nothing else is asked for
    channels  share of the channels that it keeps of those
    weights   pretrained ones that it begins with; None for the source's own, or for random ones
    """

    name: str
    family: str
    spec: BackboneSpec
    prepare: Prepare
    inherits: bool
    epochs: int
    channels: float = 1.0
    weights: Weights | None = None


@dataclass(frozen=True)
class Foreseen:
    """A shape, in INT8 or not, with what its untrained graph takes here: milliseconds an image and bytes of the file."""

    shape: Shape
    int8: bool
    latency_ms: float
    size: int

    def __str__(self) -> str:
        what = f"{self.shape.name}{', INT8' * self.int8}"
        return f"{what}: {spoken_time(self.latency_ms)}, {spoken_size(self.size)}"


def shape_of(manifest: Manifest) -> Shape:
    """That of the model which smaller ones are made from."""
    spec, prepare = BackboneSpec.from_json(manifest.backbone), Prepare.from_json(manifest.prepare)
    return Shape("the model itself", "input", spec, prepare, True, 8)


def families(manifest: Manifest, asked: Asked) -> list[list[Shape]]:
    """The shapes that can be tried, each family from the gentlest on, the one that is trained soonest first."""
    spec, prepare = BackboneSpec.from_json(manifest.backbone), Prepare.from_json(manifest.prepare)
    backbones = _backbones(spec, prepare)
    if spec.name.startswith(MODULE):
        return [backbones]
    itself = shape_of(manifest)
    channels = [_with_channels(itself, share) for share in CHANNELS]
    # For a smaller file alone, the size of the input is no matter.
    sides = [] if asked.latency_ms is None or has_fixed_size(spec.name) else [_with_side(itself, side) for side in _own_sides(itself)]
    return [family for family in (sides, channels, backbones) if family]


def harsh_families(manifest: Manifest, asked: Asked) -> list[list[Shape]]:
    """Where none of those is fast enough: fewer channels, or the smallest backbones, that see a smaller input as well."""
    spec, prepare = BackboneSpec.from_json(manifest.backbone), Prepare.from_json(manifest.prepare)
    if asked.latency_ms is None:
        return []
    small = _backbones(spec, prepare)[-2:]
    backbones = [_with_side(shape, side) for side in _sides(prepare)[-2:] for shape in small]
    if spec.name.startswith(MODULE) or has_fixed_size(spec.name):
        return [backbones]
    itself = replace(shape_of(manifest), epochs=12)
    both = [_with_side(_with_channels(itself, share), side) for share, side in zip(CHANNELS[1:], _own_sides(itself)[-2:], strict=False)]
    return [family for family in (both, backbones) if family]


def _sides(prepare: Prepare) -> list[int]:
    step = STEPS[prepare.size > SMALL_SIDE]
    sides = dict.fromkeys(step * round(share * prepare.size / step) for share in SIDES)
    return [side for side in sides if SMALLEST_SIDE <= side < prepare.size]


def _own_sides(itself: Shape) -> list[int]:
    """Those at which what the model has learned still holds."""
    prepare = itself.prepare
    return [side for side in _sides(prepare) if is_same_at(itself.spec.name, prepare.size, side)]


def _with_side(shape: Shape, side: int) -> Shape:
    words = f"input of {side} px" if shape.family == "input" else f"{shape.name}, input of {side} px"
    return replace(shape, name=words, spec=replace(shape.spec, size=side), prepare=replace(shape.prepare, size=side))


def _with_channels(shape: Shape, share: float) -> Shape:
    return replace(shape, name=f"{share:.0%} of the channels", family="channels", channels=share, epochs=shape.epochs + 2)


def _backbones(spec: BackboneSpec, prepare: Prepare) -> list[Shape]:
    keep, found = prepare.size <= SMALL_SIDE, []
    for name in BACKBONES:
        if name == spec.name:
            continue
        weights = hub_weights(name, download=False) if prepare.channels == RGB else None
        arguments = weights.contract.arguments if weights else {}
        looks = replace(prepare, mean=weights.contract.mean, std=weights.contract.std) if weights else prepare
        small = BackboneSpec(name, prepare.size, arguments, keep, prepare.channels)
        found.append(Shape(name, "backbone", small, looks, False, 15 if weights else 30, weights=weights))
    return found


def untrained(shape: Shape, source: Network | None, manifest: Manifest, dropout: float = 0.0) -> Network:
    """The network of a shape, in training mode, with the weights that it begins with. Raises UsageError or ModelFileError where there is
    no such network."""
    heads, backbone = importlib.import_module(TASKS[manifest.task].head), build(shape.spec)
    if shape.weights is not None:
        load_into(backbone, shape.weights)
    network = assembled(backbone, heads, len(manifest.labels), dropout, shape.prepare)
    if shape.inherits:
        assert source is not None
        network.load_state_dict(source.state_dict())
    return pruned(network, shape.channels) if shape.channels < 1 else network


def foreseen(shape: Shape, source: Network | None, manifest: Manifest, measure: Measure, asked: Asked) -> list[Foreseen]:
    """What the shape would take in float and, where that is too much, in INT8; empty where it cannot be built or exported."""
    with torch.random.fork_rng(devices=[]):
        try:
            graph = export_graph(untrained(shape, source, manifest), shape.prepare.shape)
            found = [Foreseen(shape, False, *measure(graph, shape.prepare, False))]
            if asked.int8 and not asked.met(found[0].latency_ms, found[0].size):
                found.append(foreseen_in_int8(shape, graph, measure))
        except (UsageError, ModelFileError) as error:
            console.say(f"{shape.name}: cannot be tried ({error})")
            return []
    console.say("Untrained, " + "; in INT8 ".join(str(one) if not one.int8 else spoken_time(one.latency_ms) for one in found))
    return found


def foreseen_in_int8(shape: Shape, graph: bytes, measure: Measure) -> Foreseen:
    """What a graph of this shape would take in INT8 with no layer left in float, which is the least. Raises ModelFileError."""
    noise = np.random.default_rng(0).integers(0, 256, (NOISE_IMAGES, *shape.prepare.shape, shape.prepare.channels), np.uint8)
    return Foreseen(shape, True, *measure(quantised(graph, noise, shape.name), shape.prepare, True))


def picked(
    shapes: Sequence[Sequence[Shape]], look: Callable[[Shape], Sequence[Foreseen]], asked: Asked
) -> tuple[list[Foreseen], list[Foreseen]]:
    """Of each family the gentlest shape that is small and fast enough, and all that was looked at on the way."""
    picks: list[Foreseen] = []
    seen: list[Foreseen] = []
    for family in shapes:
        for shape in family:
            found = look(shape)
            seen += found
            if fitting := [one for one in found if asked.met(one.latency_ms, one.size)]:
                picks.append(fitting[0])
                break
    return picks, seen
