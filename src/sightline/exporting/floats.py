"""Which layers of an INT8 graph stay in float: as few as it takes, chosen on validation images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sightline import console
from sightline.exporting.judging import Loss
from sightline.exporting.quantise import in_float

# Layers are compared for so many seconds at most.
COMPARED_SECONDS = 120.0
# More in float than this and little would be left to gain.
MOST_IN_FLOAT = 0.5
# Share of the answers that may be others on validation. One always may, as may the accuracy of one: of 150 images each is two thirds of
# a point, and what is released is decided on the test images.
CHANGED = 0.02


@dataclass(frozen=True)
class Mixed:
    """A graph with some layers in float, and what it loses on validation images, where so large a share of the answers may be others."""

    graph: bytes
    in_float: tuple[str, ...]
    loss: Loss
    most_changed: float = CHANGED

    def holds(self, max_loss: float) -> bool:
        points = max(max_loss, 100 / self.loss.n)
        return self.loss.points <= points + 1e-9 and self.loss.changed <= max(1, self.most_changed * self.loss.n)


def mixed(
    int8: bytes, graph: bytes, layers: Sequence[str], apart: Callable[[bytes], float], judge: Callable[[bytes], Loss], max_loss: float,
    most_changed: float = CHANGED,
) -> Mixed:  # fmt: skip
    """All in INT8 if that holds, or else with the layers in float that bring the outputs nearest: one, two, four... until it holds.

    layers  those that are in INT8
    apart   graph -> how far its outputs are from the float graph's, on a few images
    judge   graph -> what it loses on all validation images

    Returns the one that loses least where none holds.
    """

    def tried(names: Sequence[str]) -> Mixed:
        made = in_float(int8, graph, names) if names else int8
        return Mixed(made, tuple(names), judge(made), most_changed)

    found = [tried(())]
    if found[0].holds(max_loss):
        return found[0]
    console.say(f"All in INT8: {found[0].loss} on validation images, so layers go back to float.")
    order = _by_harm(int8, graph, layers, apart)
    count = 1
    while count <= max(1, MOST_IN_FLOAT * len(layers)):
        names = set(order[:count])
        found.append(tried([name for name in layers if name in names]))
        console.say(f"{count} of {len(layers)} layers in float: {found[-1].loss}.")
        if found[-1].holds(max_loss):
            return found[-1]
        count *= 2
    return min(found, key=lambda one: (one.loss.points, one.loss.changed))


def _by_harm(int8: bytes, graph: bytes, layers: Sequence[str], apart: Callable[[bytes], float]) -> list[str]:
    """The layers, first the one without whose rounding the outputs are nearest to those expected; the untried come last.

    The ends of a network are tried first, because that is where rounding mostly hurts.
    """

    def harms() -> Iterator[tuple[float, str]]:
        for name in _from_the_ends(layers):
            yield apart(in_float(int8, graph, [name])), name

    until, found = time.monotonic() + COMPARED_SECONDS, []
    for harm in console.track(harms(), len(layers), "Comparing layers"):
        found.append(harm)
        if time.monotonic() > until:
            break
    known = [name for _, name in sorted(found)]
    return known + [name for name in layers if name not in known]


def _from_the_ends(layers: Sequence[str]) -> list[str]:
    left, right = list(layers), []
    while left:
        right.append(left.pop(0))
        if left:
            right.append(left.pop())
    return right
