"""Stores of images built for tests, and whether they are what they should be."""

from __future__ import annotations

import os

import numpy as np

from sightline.data import store
from sightline.data.decode import Limits
from sightline.data.folder import read_folder
from sightline.data.look import look_at
from sightline.data.store import look_once

SIDE = 24


def counted_decoding(monkeypatch):
    """Images are looked at in this process, and the names of those that had to be decoded are collected here."""
    names = []

    def counted(jobs, workers, pixel_file=None):
        for job in jobs:
            seen = look_at(*job)
            names.extend([os.path.basename(job[0].path)] if seen is not None else [])
            yield seen

    monkeypatch.setattr(store, "looked_at", counted)
    return names


def build(root, *, side=SIDE, limit_bytes=1e9, retry=True):
    dataset = root if not isinstance(root, os.PathLike) else read_folder(root)
    return look_once(dataset, side, limits=Limits(), workers=2, limit_bytes=limit_bytes, retry=retry)


def assert_is_store_of(built, root):
    refs = read_folder(root).refs
    assert built.facts.path.tolist() == [str(ref) for ref in refs]
    for row, ref in enumerate(refs):
        np.testing.assert_array_equal(built[row], look_at(ref, SIDE, Limits()).pixels)


def pixel_files(cache):
    return sorted(cache.glob("stores/*/pixels-*.bin"))
