"""What is learned from looking at one image, and the pool of processes that looks at many."""

from __future__ import annotations

import functools
import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.data.decode import Limits, decode_with_header, read_bytes
from sightline.errors import ImageError
from sightline.records import ImageRef

BATCH = 16
IDLE_SECONDS = 20
# A panorama is scaled by its longer side, so that no image takes more than this many squares of the store.
MAX_ASPECT = 4
HASH_SIDE, HASH_FREQUENCIES = 32, 8
THUMB_SIDE = 16

Job = tuple[ImageRef, int, Limits]


@dataclass(frozen=True)
class Look:
    """One image's facts and its pixels, (h, w, 3) uint8.

    brightness  mean grey in [0, 1]
    contrast    standard deviation of grey, in [0, 1]
    sharpness   standard deviation of the Laplacian of grey at the store's scale
    phash       64-bit perceptual hash: the signs of the low DCT frequencies of a 32x32 grey copy, against their median
    thumb       (16, 16) uint8 grey copy, to verify what the hash proposes
    """

    pixels: NDArray[np.uint8]
    shape: tuple[int, ...]
    sha256: str = ""
    error: str = ""
    note: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    camera: str = ""
    taken: str = ""
    brightness: float = 0.0
    contrast: float = 0.0
    sharpness: float = 0.0
    phash: np.uint64 = np.uint64(0)
    thumb: Any = None

    @classmethod
    def refused(cls, reason: str, sha256: str = "") -> Look:
        nothing = np.empty((0, 0, 3), np.uint8)
        return cls(nothing, nothing.shape[:2], sha256, reason, thumb=np.zeros((THUMB_SIDE, THUMB_SIDE), np.uint8))


def look_at(ref: ImageRef, side: int, limits: Limits) -> Look:
    """Read, hash, decode and measure one image, its shorter side scaled down to ``side`` pixels."""
    sha256 = ""
    try:
        data = read_bytes(ref, limits)
        sha256 = hashlib.sha256(data).hexdigest()
        header, image = decode_with_header(data, str(ref), min_side=side, limits=limits)
    except ImageError as error:
        return Look.refused(error.reason, sha256)
    picture = _scaled(Image.fromarray(image), side)
    grey = picture.convert("L")
    shades = np.asarray(grey, np.float32) / 255
    return Look(
        pixels=np.asarray(picture), shape=(picture.height, picture.width), sha256=sha256,
        note=header.note or "", format=header.format, mode=header.mode, width=header.width, height=header.height,
        camera=header.camera or "", taken=header.taken or "",
        brightness=float(shades.mean()), contrast=float(shades.std()), sharpness=_sharpness(shades),
        phash=perceptual_hash(grey), thumb=np.asarray(grey.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX)),
    )  # fmt: skip


def _scaled(picture: Image.Image, side: int) -> Image.Image:
    scale = min(1.0, max(side / min(picture.size), 1 / max(picture.size)))
    scale = min(scale, MAX_ASPECT * side / max(picture.size))
    size = tuple(max(1, round(length * scale)) for length in picture.size)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)


def _sharpness(shades: NDArray[np.float32]) -> float:
    if min(shades.shape) < 3:
        return 0.0
    inner = shades[1:-1, 1:-1]
    laplacian = shades[:-2, 1:-1] + shades[2:, 1:-1] + shades[1:-1, :-2] + shades[1:-1, 2:] - 4 * inner
    return float(laplacian.std())


def perceptual_hash(grey: Image.Image) -> np.uint64:
    """The pHash of Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010)."""
    shades = np.asarray(grey.resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX), np.float64)
    basis = _cosines()
    low = (basis @ shades @ basis.T).ravel()
    bits = low > np.median(low[1:])
    return np.packbits(bits).view(">u8")[0].astype(np.uint64)


@functools.cache
def _cosines() -> NDArray[np.float64]:
    """The first rows of the 32-point DCT-II, (8, 32)."""
    positions = np.arange(HASH_SIDE) + 0.5
    return np.cos(np.pi / HASH_SIDE * np.outer(np.arange(HASH_FREQUENCIES), positions))


def looked_at(jobs: Sequence[Job], workers: int) -> Iterator[Look]:
    """One Look for each job, in order, from a pool of processes with a bounded number of batches under way.

    A decoder that crashes takes the pool with it: that batch is then repeated one image at a time, so that only
    the image at fault is lost, and what else was under way is sent again.
    """
    batches = [jobs[start : start + BATCH] for start in range(0, len(jobs), BATCH)]
    pending: deque[tuple[Sequence[Job], Any]] = deque()
    position = 0
    while pending or position < len(batches):
        while position < len(batches) and len(pending) < 2 * workers:
            pending.append((batches[position], _submit(batches[position], workers)))
            position += 1
        batch, future = pending.popleft()
        try:
            yield from future.result()
        except BrokenProcessPool:
            yield from _one_by_one(batch, workers)
            pending = deque((other, _submit(other, workers)) for other, _ in pending)


def _submit(batch: Sequence[Job], workers: int) -> Any:
    # loky's workers do not import the caller's script, so no guard is asked of those who call us from one.
    from loky import get_reusable_executor

    return get_reusable_executor(max_workers=workers, timeout=IDLE_SECONDS).submit(_look_at_all, batch)


def _look_at_all(batch: Sequence[Job]) -> list[Look]:
    return [look_at(*job) for job in batch]


def _one_by_one(batch: Sequence[Job], workers: int) -> Iterator[Look]:
    for job in batch:
        try:
            yield from _submit([job], workers).result()
        except BrokenProcessPool:
            yield Look.refused("the image decoder crashed on it")
