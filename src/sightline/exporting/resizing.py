"""What ``Prepare`` does to decoded pixels, as ONNX operators: bit for bit what Pillow computes, from an image of any size.

Pillow resizes in two passes, each a weighted sum of neighbours with weights of 22 bits behind the point, rounded to eight bits in
between (its ``Resample.c``; the filters are the triangle and Keys, "Cubic convolution interpolation", 1981, with a = -0.5, widened
when shrinking). Here each pass is a product with a matrix of these very weights, computed in float64 from the image's size.
Which pass is first makes a difference of a few levels; Pillow 13 begins with the rows where they lose far more than the columns.

Whole numbers below 2**24 are exact in float32 however they are added up. So the weights are taken apart into two matrices, each of
which keeps its sums below that (of up to a thousand neighbours), and the sums are put together again in int32: the answer does not
depend on the machine. Neighbouring places of the input need a short stretch of the image, so each pass goes in blocks: that saves most
of the products, and most of the memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image

from sightline.data.channels import GREY
from sightline.data.prepare import Prepare
from sightline.exporting.formulas import Formulas, Value

# Bits behind the point of Pillow's weights, and how many of them are in the second matrix.
PRECISION_BITS, LOW_BITS = 22, 7
REACH = {"bilinear": 1.0, "bicubic": 2.0}
# Places of the input that are computed at once.
BLOCK = 32


@dataclass(frozen=True)
class Pass:
    """How one side of the image comes to lie on one side of the input; all are float64.

    side          pixels of the image
    start, scale  where the first of ``count`` places begins and how long each is, in pixels of the image
    count, first  how many places of the input show the image, and the first of them
    places        how many places the input has
    """

    side: Value
    start: Value
    scale: Value
    count: Value
    first: Value
    places: int

    def within(self, graph: Formulas) -> Pass:
        """The same, for formulas within others."""
        return replace(self, **{name: replace(getattr(self, name), graph=graph) for name in ("side", "start", "scale", "count", "first")})


def prepared(graph: Formulas, image: Value, prepare: Prepare) -> Value:
    """(height, width, 3) uint8 of any size to what ``prepare`` gives, (rows, columns, 3) uint8."""
    across, down = _passes(graph, image, prepare)

    def columns_first(inner: Formulas) -> Value:
        turned = inner("Transpose", image, perm=[1, 0, 2])
        return inner("Transpose", _resized(inner, turned, across, down, prepare.interpolation), perm=[1, 0, 2])

    def rows_first(inner: Formulas) -> Value:
        return _resized(inner, image, down, across, prepare.interpolation)

    if pillow_may_begin_with_rows():
        fewer = down.side - down.count
        tall = graph("And", fewer > 0.0, fewer > (across.side - across.count) * 2.0)
        made = graph.choice(tall, rows_first, columns_first)
    else:
        made = columns_first(graph)
    if prepare.fit != "pad":
        return made
    shown = graph("And", graph("Unsqueeze", _shown(graph, down), [1]), graph("Unsqueeze", _shown(graph, across), [0]))
    return graph("Where", graph("Unsqueeze", shown, [2]), made, np.uint8(GREY))


@cache
def pillow_may_begin_with_rows() -> bool:
    """Whether the Pillow at hand does so with a tall image, as from version 13 on."""
    tall = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 30), np.uint8))
    columns_first = tall.resize((20, 90), Image.Resampling.BICUBIC).resize((20, 20), Image.Resampling.BICUBIC)
    return tall.resize((20, 20), Image.Resampling.BICUBIC).tobytes() != columns_first.tobytes()


def _passes(graph: Formulas, image: Value, prepare: Prepare) -> tuple[Pass, Pass]:
    """Across and down: the formulas of ``Prepare.way_back`` and ``Prepare.__call__``."""
    shape = graph.cast(graph("Shape", image), "float64")
    height, width = graph("Gather", shape, 0), graph("Gather", shape, 1)
    rows, columns = prepare.shape
    if prepare.fit == "pad":
        scale = graph("Min", float(columns) / width, float(rows) / height)
        return _placed(graph, width, scale, columns), _placed(graph, height, scale, rows)
    across, down = width / float(columns), height / float(rows)
    if prepare.fit == "crop":
        across = down = graph("Min", across, down) * prepare.crop_fraction
    return _cut(graph, width, across, columns), _cut(graph, height, down, rows)


def _cut(graph: Formulas, side: Value, step: Value, places: int) -> Pass:
    """The middle of a side. Pillow takes where it begins and ends as float32."""
    start = (side - step * float(places)) / 2.0
    edges = graph("Max", start, 0.0), graph("Min", side, start + step * float(places))
    first, last = (graph.cast(graph.cast(edge, "float32"), "float64") for edge in edges)
    stretch = graph.cast(graph.cast(last - first, "float32"), "float64")
    return Pass(side, first, stretch / float(places), graph.constant(float(places)), graph.constant(0.0), places)


def _placed(graph: Formulas, side: Value, scale: Value, places: int) -> Pass:
    """All of a side, in the middle of as many places or fewer."""
    count = graph("Max", graph("Round", side * scale), 1.0)
    return Pass(side, graph.constant(0.0), side / count, count, graph("Floor", (float(places) - count) / 2.0), places)


def _shown(graph: Formulas, along: Pass) -> Value:
    """(places,) whether the image reaches there."""
    numbers = graph.constant(np.arange(along.places, dtype=np.float64))
    return graph("And", graph("LessOrEqual", along.first, numbers), numbers < along.first + along.count)


def _resized(graph: Formulas, image: Value, along: Pass, other: Pass, interpolation: str) -> Value:
    """(a, b, 3) uint8 along its first axis, then along the other."""
    narrow = _narrowed(graph, graph("Reshape", image, [0, -1]), along.within(graph), interpolation)
    turned = graph("Transpose", graph("Reshape", narrow, [along.places, -1, 3]), perm=[1, 0, 2])
    small = _narrowed(graph, graph("Reshape", turned, [0, -1]), other.within(graph), interpolation)
    return graph("Transpose", graph("Reshape", small, [other.places, along.places, 3]), perm=[1, 0, 2])


def _narrowed(graph: Formulas, lines: Value, along: Pass, interpolation: str) -> Value:
    """(side, m) uint8 to (places, m) uint8."""
    wide = graph("Max", along.scale, 1.0)
    reach, narrow = wide * REACH[interpolation], 1.0 / wide
    blocks = []
    for first in range(0, along.places, BLOCK):
        numbers = np.arange(first, min(first + BLOCK, along.places), dtype=np.float64)
        # Beyond the image, where there will be grey, the nearest place is computed.
        inside = graph("Max", graph("Min", numbers - along.first, along.count - 1.0), 0.0)
        centres = along.start + (inside + 0.5) * along.scale
        low = graph("Max", graph("Floor", graph("Gather", centres, 0) - reach), 0.0)
        high = graph("Min", graph("Ceil", graph("Gather", centres, -1) + reach), along.side)
        pixels = graph("Range", low, high, 1.0)
        apart = graph("Unsqueeze", pixels, [0]) - graph("Unsqueeze", centres, [1]) + 0.5
        weights = _filter(graph, graph("Abs", apart * narrow), interpolation)
        stretch = graph("Slice", lines, *(graph("Unsqueeze", graph.cast(end, "int64"), [0]) for end in (low, high)), [0])
        blocks.append(_weighted(graph, weights / graph("ReduceSum", weights, [1]), stretch))
    return graph("Concat", *blocks, axis=0)


def _filter(graph: Formulas, apart: Value, interpolation: str) -> Value:
    """The weight of a pixel so far from the middle, before they are made to add up to 1."""
    if interpolation == "bilinear":
        return graph("Max", 1.0 - apart, 0.0)
    near = (apart * 1.5 - 2.5) * apart * apart + 1.0
    far = (((apart - 5.0) * apart + 8.0) * apart - 4.0) * -0.5
    return graph("Where", apart < 1.0, near, graph("Where", apart < 2.0, far, 0.0))


def _weighted(graph: Formulas, weights: Value, pixels: Value) -> Value:
    """(places, stretch) float64 times (stretch, m) uint8 as (places, m) uint8."""
    scaled = weights * 2.0**PRECISION_BITS
    whole = graph("Floor", graph("Abs", scaled) + 0.5) * graph("Sign", scaled)
    high = graph("Round", whole / 2.0**LOW_BITS)
    low = whole - high * 2.0**LOW_BITS
    numbers = graph.cast(pixels, "float32")
    above, below = (graph.cast(graph.cast(part, "float32") @ numbers, "int32") for part in (high, low))
    total = above * np.int32(1 << LOW_BITS) + below + np.int32(1 << (PRECISION_BITS - 1))
    return graph.cast(graph("Clip", total / np.int32(1 << PRECISION_BITS), np.int32(0), np.int32(255)), "uint8")
