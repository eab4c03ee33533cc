"""Weights in sixteen bits lose what rounding takes, in twenty-four a 128th of that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.fp16 import FEW, STEP, in_fp16

# From the least number that fp16 holds in full to nearly its largest.
LEAST, MOST = 2.0**-14, 60_000.0
NUMBERS = st.lists(st.floats(LEAST, MOST, width=32) | st.floats(-MOST, -LEAST, width=32) | st.just(0.0), min_size=1, max_size=50)


@given(NUMBERS)
@settings(deadline=None)
def test_what_is_rounded_off_comes_back_to_a_share_of_two_to_the_minus_19(numbers):
    values = np.resize(np.array(numbers, np.float32), FEW)
    half, rest = in_fp16({"w": values}, rests=True)["w"]
    assert (half.dtype, rest.dtype) == (np.float16, np.int8)
    whole = half.astype(np.float64) * (1 + STEP * rest.astype(np.float64))
    assert (np.abs(whole - values) <= 2.0**-19 * np.abs(values) * 1.01).all()
    alone, nothing = in_fp16({"w": values}, rests=False)["w"]
    assert nothing is None
    assert np.array_equal(alone, half)


@pytest.mark.parametrize("scale", [1e6, 1e-9])
@pytest.mark.parametrize("rests", [False, True])
def test_what_fp16_cannot_hold_stays_whole(scale, rests):
    values = np.random.default_rng(0).normal(0, scale, (100, FEW // 100)).astype(np.float32)
    assert in_fp16({"w": values}, rests) == {}


def test_with_remainders_small_tensors_stay_whole():
    rng = np.random.default_rng(0)
    sizes = {"large": 100 * FEW, "medium": FEW, "small": FEW - 1}
    weights = {name: rng.normal(0, 1, size).astype(np.float32) for name, size in sizes.items()}
    assert set(in_fp16(weights, rests=False)) == set(sizes)
    assert set(in_fp16(weights, rests=True)) == {"large"}
    del weights["large"]
    assert set(in_fp16(weights, rests=True)) == {"medium"}
