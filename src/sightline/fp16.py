"""Weights in sixteen bits, and in eight more what these round off."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

# Rounding takes up to 2^-12 off a number. Where a tensor as a whole loses more, its numbers are too large or too small for fp16.
LOST = 2.0**-11
# What is rounded off is kept in steps of this share of what was kept, 127 of them to either side: 2^-19 at most is lost then.
STEP = 2.0**-11 / 127
# With remainders, tensors with a smaller share of all weights stay whole. Of MobileNetV2 they are 6%, and a half to two thirds of the rest
# of the difference, as many of its layers sum up few numbers and rounding does not cancel there.
SMALL = 0.01
# So do those with fewer numbers, as the operators that put a weight together take some kilobytes of a file themselves.
FEW = 10_000


def in_fp16(weights: Mapping[str, NDArray[np.float32]], rests: bool) -> dict[str, tuple[NDArray[np.float16], NDArray[np.int8] | None]]:
    """The weights of a network that are stored in fewer bits: in fp16, and with ``rests`` what that rounds off, else None.

    A weight is half * (1 + STEP * rest) again. Those that fp16 cannot hold, and with ``rests`` small ones, are not among them.
    """
    least = max(FEW, SMALL * sum(values.size for values in weights.values())) if rests else 0
    found = {}
    for name, values in weights.items():
        with np.errstate(over="ignore", invalid="ignore"):
            half = values.astype(np.float16)
            fits = np.linalg.norm((values - half).ravel()) <= LOST * np.linalg.norm(values.ravel())
        if fits and values.size >= least:
            found[name] = half, _rest(values, half) if rests else None
    return found


def _rest(values: NDArray[np.float32], half: NDArray[np.float16]) -> NDArray[np.int8]:
    kept = half.astype(np.float32)
    share = np.divide(values - kept, kept, out=np.zeros_like(values), where=kept != 0)
    return np.asarray(np.clip(np.rint(share / STEP), -127, 127), np.int8)
