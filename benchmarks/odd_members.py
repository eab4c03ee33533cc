"""Manifests, reports and arrays with values of other kinds, sizes and shapes than belong there."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

import mutations
import numpy as np
from numpy.random import Generator

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, 10**30, 0.5, -0.5, 1e308, 1e-308, float("inf"), "", "a", "x" * 5000, "\0", "\ud800",
    "../x", "classify", "tag", "detect", "segment", "crop", "int8", [], {}, [[]], [0], [1, 2, 3], ["a", "a"], {"a": 1},
    [0.5, 0.5, 0.5], [1e308] * 3,
)  # fmt: skip


def change_json(rng: Generator, inside: Any, root: Any) -> None:
    """Change one place of a value in JSON; of a view of an object, also in the object."""
    place, at = root, inside
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return
        key = keys[rng.integers(len(keys))]
        if isinstance(at[key], dict | list) and at[key] and rng.integers(3):
            place, at = place[key], at[key]
            continue
        break
    odd = copy.deepcopy(ODD[rng.integers(len(ODD))])
    way = rng.integers(6)
    if way == 0:
        del place[key]
    elif way == 1 and isinstance(place, dict):
        place[("z", "x" * 300, "\n")[rng.integers(3)]] = odd
    elif way == 2 and isinstance(place[key], list) and place[key]:
        place[key] = place[key] * int(rng.integers(2, 50))
    elif way == 3:
        deep: Any = 1
        for _ in range(int(rng.integers(1, 900))):
            deep = [deep]
        place[key] = deep
    else:
        place[key] = odd


def change_bytes(rng: Generator, data: bytes) -> bytes:
    made = bytearray(data)
    mutations.PLAIN[rng.integers(len(mutations.PLAIN))](rng, made)
    return bytes(made)


def change_report(rng: Generator, data: bytes) -> bytes:
    made = json.loads(data)
    change_json(rng, made, made)
    return json.dumps(made).encode()


def change_arrays(rng: Generator, data: bytes) -> bytes:
    """Other kinds, shapes and values of one of the arrays, or none."""
    with np.load(io.BytesIO(data)) as read:
        arrays = {name: read[name] for name in read.files}
    name = list(arrays)[rng.integers(len(arrays))]
    array, way = arrays[name], int(rng.integers(9))
    if way == 0:
        del arrays[name]
    elif way == 1:
        arrays["z"] = arrays.pop(name)
    elif way == 2:
        arrays[name] = array[: len(array) // 2] if array.ndim else array[None]
    elif way == 3:
        arrays[name] = np.concatenate([array, array]) if array.ndim else array[None, None]
    elif way == 4:
        kinds = ("f2", "f4", "f8", "i1", "i8", "u1", "u8", "?", "U3", "S2", "c8", ">f4")
        kind = kinds[rng.integers(len(kinds))]
        arrays[name] = np.zeros(array.shape, kind) if array.dtype.kind == "U" else array.astype(kind)
    elif way == 5:
        arrays[name] = array.reshape(-1) if array.ndim > 1 else array.reshape(*array.shape, 1)
    elif way == 6:
        arrays[name] = np.zeros((0, *array.shape[1:]), array.dtype)
    else:
        _put_odd(rng, array)
    sink = io.BytesIO()
    np.savez(sink, **arrays)
    return sink.getvalue()


def _put_odd(rng: Generator, array: np.ndarray) -> None:
    odd = {"f": (np.nan, np.inf, -np.inf, 1e30, -1.0), "i": (-1, -(2**62), 2**62, 99), "u": (0, 255), "b": (True,), "U": ("", "\0")}
    values = odd.get(array.dtype.kind, (0,))
    flat = array.reshape(-1)
    if flat.size:
        with np.errstate(over="ignore"):
            flat[rng.integers(flat.size, size=rng.integers(1, 5))] = np.array(values[rng.integers(len(values))]).astype(array.dtype)
