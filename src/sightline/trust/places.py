"""Places in a network where its channels can be looked at: found by hooks, so that any backbone or a user's own module will do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sightline.model.network import Network

# A map has at least this many rows and columns; smaller ones, as of gates, say nothing of where.
SMALLEST_MAP = 2
# Tokens in front of those of an image's patches: a class token, registers.
MOST_PREFIX = 8
# Dimensions of (n, tokens, channels) and of (n, channels, rows, columns).
SEQUENCE, IMAGE = 3, 4
NAMES = ("early", "middle", "late")
# With so many sizes of maps each has its own stage; the first of more is the stem, whose filters are shown anyway.
STAGES = 3
# Where maps keep one size, as in most transformers, these shares of the blocks lie below each stage's end.
ISOTROPIC_ENDS = (0.25, 0.6, 1.0)


@dataclass(frozen=True)
class Place:
    """The output of a module of the backbone, seen as a map (n, channels, rows, columns).

    stage   "early", "middle" or "late"; empty where it is none
    layout  "first": (n, channels, rows, columns), "last": (n, rows, columns, channels), "tokens": (n, prefix + rows * columns, channels)
    """

    module: str
    layout: str
    channels: int
    rows: int
    columns: int
    prefix: int = 0
    stage: str = ""

    def map_of(self, output: Tensor) -> Tensor:
        """(n, channels, rows, columns); for another size of the input, rows and columns are others."""
        if self.layout == "first":
            return output
        if self.layout == "last":
            return output.permute(0, 3, 1, 2)
        patches = output[:, self.prefix :]
        side = math.isqrt(patches.shape[1])
        return patches.reshape(len(patches), side, side, -1).permute(0, 3, 1, 2)


class _Reached(Exception):
    """Ends a pass where nothing further up is asked for."""


@contextmanager
def at_rest(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, and afterwards each of its modules in the mode it had."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def maps_at(network: Network, images: Tensor, places: Sequence[Place]) -> list[Tensor]:
    """The maps (n, c, h, w) at places, which stand in the order of the network, for images (n, s, s, channels), float in [0, 255].

    Layers above the last place are not computed.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Tensor) -> None:
            outputs[name] = output.clone()  # what follows may overwrite it
            if name == places[-1].module:
                raise _Reached

        return hook

    handles = [network.backbone.get_submodule(place.module).register_forward_hook(keep(place.module)) for place in places]
    try:
        network.backbone(network.normal(images))
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return [place.map_of(outputs[place.module]) for place in places]


def stages_of(network: Network, images: Tensor) -> list[Place]:
    """Up to three places, early, middle and late in the network, as two images or more (n, s, s, channels) pass through it.

    Of maps of one size the last counts, a stage being what lies between two reductions; where maps keep one size, the blocks of
    which the network mostly consists are counted. Empty where nothing in the network gives a map.
    """
    places = _all_places(network, images)
    sizes = sorted({place.rows for place in places}, reverse=True)
    last = {place.rows: place for place in places}
    if len(sizes) >= STAGES:
        first = int(len(sizes) > STAGES)
        chosen = [last[sizes[index]] for index in (first, (first + len(sizes)) // 2, len(sizes) - 1)]
    else:
        blocks = _blocks(network, places)
        chosen = [blocks[max(0, round(share * len(blocks)) - 1)] for share in ISOTROPIC_ENDS if blocks]
    unique = list(dict.fromkeys(sorted(chosen, key=places.index)))
    names = NAMES if len(unique) == STAGES else (NAMES[0], NAMES[-1])[-len(unique) :]
    return [Place(**{**vars(place), "stage": name}) for place, name in zip(unique, names, strict=True)] if unique else []


def _all_places(network: Network, images: Tensor) -> list[Place]:
    """Every module of the backbone that is called once and gives a map, in the order in which they are done."""
    calls: list[tuple[str, Tensor]] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            calls.append((name, output if isinstance(output, Tensor) else torch.empty(0)))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in network.backbone.named_modules() if name]
    try:
        with torch.no_grad():
            network.backbone(network.normal(images))
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, _ in calls]
    once = [(name, output) for name, output in calls if names.count(name) == 1]
    # A block's last layer gives what the block gives; the block itself is done after it and stands for both.
    by_tensor = {id(output): (name, output) for name, output in once}
    found = [_place(name, output) for name, output in once if by_tensor[id(output)][0] == name and len(output) == len(images)]
    return [place for place in found if place is not None and place.rows >= SMALLEST_MAP]


def _place(name: str, output: Tensor) -> Place | None:
    """The output as a map, None where it is none."""
    if output.ndim == IMAGE:
        _, a, b, c = output.shape
        # Inputs are square, and so are maps.
        return Place(name, "last", c, a, b) if a == b != c else Place(name, "first", a, b, c) if b == c else None
    if output.ndim == SEQUENCE:
        side = math.isqrt(output.shape[1])
        prefix = output.shape[1] - side * side
        return Place(name, "tokens", output.shape[2], side, side, prefix) if prefix <= MOST_PREFIX else None
    return None


def _blocks(network: Network, places: Sequence[Place]) -> list[Place]:
    """Of the kinds of modules that recur, those in which most of the parameters are; all places where no kind recurs."""
    kinds: dict[type[nn.Module], list[Place]] = {}
    for place in places:
        kinds.setdefault(type(network.backbone.get_submodule(place.module)), []).append(place)
    recurring = [kind for kind in kinds.values() if len(kind) >= STAGES]

    def parameters(kind: Sequence[Place]) -> int:
        return sum(parameter.numel() for place in kind for parameter in network.backbone.get_submodule(place.module).parameters())

    return max(recurring, key=parameters, default=list(places))
