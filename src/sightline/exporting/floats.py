"""Which layers of an INT8 graph stay in float: as few as it takes, chosen on validation images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.exporting.judging import Loss, Raw
from sightline.exporting.quantise import in_float

# Layers are compared on so many images, and for so many seconds at most.
COMPARED_IMAGES, COMPARED_SECONDS = 32, 120.0
# More in float than this and little would be left to gain.
MOST_IN_FLOAT = 0.5
# Share of the answers that may be others on validation. One always may, as may the accuracy of one: of 150 images each is two thirds of
# a point, and what is released is decided on the test images.
CHANGED = 0.02


@dataclass(frozen=True)
class Mixed:
    """A graph with some layers in float, and what it loses on validation images."""

    graph: bytes
    in_float: tuple[str, ...]
    loss: Loss

    def holds(self, max_loss: float) -> bool:
        points = max(max_loss, 100 / self.loss.n)
        return self.loss.points <= points + 1e-9 and self.loss.changed <= max(1, CHANGED * self.loss.n)


def mixed(
    int8: bytes,
    graph: bytes,
    layers: Sequence[str],
    compute: Callable[[bytes, int | None], Raw],
    judge: Callable[[Raw], Loss],
    expected: Raw,
    max_loss: float,
) -> Mixed:
    """All in INT8 if that holds, or else with the layers in float that bring the outputs nearest: one, two, four... until it holds.

    compute   (graph, n) -> raw outputs of the first n validation images, of all where n is None
    judge     raw outputs of all validation images -> what is lost
    expected  the float graph's raw outputs

    Returns the one that loses least where none holds.
    """

    def tried(names: Sequence[str]) -> Mixed:
        made = in_float(int8, graph, names) if names else int8
        return Mixed(made, tuple(names), judge(compute(made, None)))

    found = [tried(())]
    if found[0].holds(max_loss):
        return found[0]
    console.say(f"All in INT8: {found[0].loss} on validation images, so layers go back to float.")
    order = _by_harm(int8, graph, layers, compute, expected)
    count = 1
    while count <= max(1, MOST_IN_FLOAT * len(layers)):
        names = set(order[:count])
        found.append(tried([name for name in layers if name in names]))
        console.say(f"{count} of {len(layers)} layers in float: {found[-1].loss}.")
        if found[-1].holds(max_loss):
            return found[-1]
        count *= 2
    return min(found, key=lambda one: (one.loss.points, one.loss.changed))


def _by_harm(int8: bytes, graph: bytes, layers: Sequence[str], compute: Callable[[bytes, int | None], Raw], expected: Raw) -> list[str]:
    """The layers, first the one without whose rounding the outputs are nearest to those expected; the untried come last.

    The ends of a network are tried first, because that is where rounding mostly hurts.
    """

    def apart(raw: Raw) -> float:
        return sum(float(np.abs(_centred(values) - _centred(expected[name][: len(values)])).mean()) for name, values in raw.items())

    def harms() -> Iterator[tuple[float, str]]:
        for name in _from_the_ends(layers):
            yield apart(compute(in_float(int8, graph, [name]), COMPARED_IMAGES)), name

    until, found = time.monotonic() + COMPARED_SECONDS, []
    for harm in console.track(harms(), len(layers), "Comparing layers"):
        found.append(harm)
        if time.monotonic() > until:
            break
    known = [name for _, name in sorted(found)]
    return known + [name for name in layers if name not in known]


def _centred(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Without what all outputs of an image have in common, which changes no answer."""
    return np.asarray(values - values.mean(axis=-1, keepdims=True))


def _from_the_ends(layers: Sequence[str]) -> list[str]:
    left, right = list(layers), []
    while left:
        right.append(left.pop(0))
        if left:
            right.append(left.pop())
    return right
