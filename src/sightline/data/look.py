"""What is learned from looking at one image, and the pool of processes that looks at many."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.data.channels import changed, picture_of
from sightline.data.content import file_id, window_id
from sightline.data.decode import Limits, Picture, decode_window, picture_with_header, read_bytes, read_size
from sightline.data.locks import lock
from sightline.data.reading import Reading
from sightline.errors import ImageError
from sightline.processor import keep_memory
from sightline.records import Dataset, ImageRef

BATCH = 16
IDLE_SECONDS = 20
# How often a process of the pool looks whether its parent is still there.
WATCH_SECONDS = 1.0
# A panorama is scaled by its longer side, so that no image takes more than this many squares of the store.
MAX_ASPECT = 4
THUMB_SIDE = 16
# Images whose headers tell how large the others may be.
PEEKED_IMAGES = 64

# What each process of the pool keeps of the memory it frees: enough to take the next photograph into (decision 026).
KEPT_BYTES = 2**26

_NO_PIXELS = np.empty((0, 0, 3), np.uint8)

# An image, its shorter side in pixels, the limits, the sha256 it had when last looked at ("" for a new one), and what is read of it.
Job = tuple[ImageRef, int, Limits, str, Reading]


@dataclass(frozen=True)
class Placed:
    """Pixels that were written to a file: the byte at which they begin in it, and their shape (h, w, channels)."""

    start: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Look:
    """One image's facts and its pixels, (h, w, channels) uint8, or where they were put.

    Of several channels, the first three are seen as red, green and blue.

    brightness  mean grey in [0, 1]
    contrast    standard deviation of grey, in [0, 1]
    sharpness   standard deviation of the Laplacian of grey at the store's scale
    colour      (3,) float32, mean red, green and blue in [0, 1]
    thumb       (16, 16) uint8 grey copy
    position    whether EXIF tells where it was taken; quality that of JPEG compression, 1 to 100, or 0
    border      (2,) float32, mean and standard deviation of grey along the edge, in [0, 1]
    """

    pixels: NDArray[np.uint8] | Placed
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
    colour: NDArray[np.float32] = field(default_factory=lambda: np.zeros(3, np.float32))
    thumb: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((THUMB_SIDE, THUMB_SIDE), np.uint8))
    position: bool = False
    quality: int = 0
    border: NDArray[np.float32] = field(default_factory=lambda: np.zeros(2, np.float32))

    def without_pixels(self) -> Look:
        """Its facts."""
        return replace(self, pixels=_NO_PIXELS)

    @classmethod
    def refused(cls, reason: str, sha256: str = "") -> Look:
        return cls(np.empty((0, 0, 3), np.uint8), sha256, reason)


# Takes a batch to workers elsewhere, where that was asked for; who dies there raises BrokenProcessPool in what it gives.
ELSEWHERE: ContextVar[Callable[[Sequence[Job]], Future[list[Look | None]]] | None] = ContextVar("ELSEWHERE", default=None)


def look_at(ref: ImageRef, side: int, limits: Limits, known_sha256: str = "", reading: Reading = Reading()) -> Look | None:
    """Read, hash, decode and measure one image, its shorter side scaled down to ``side`` pixels.

    None when its bytes have the sha256 that is already known: it is then not decoded.
    """
    sha256 = ""
    try:
        data = read_bytes(ref, limits) if ref.window is None else None
        sha256 = window_id(file_id(ref, limits), ref) if data is None else hashlib.sha256(data).hexdigest()
        if sha256 == known_sha256:
            return None
        if data is None:
            header, image = decode_window(ref, limits=limits, reading=reading)
        else:
            header, image = picture_with_header(data, str(ref), frame=ref.frame, min_side=side, limits=limits, reading=reading)
    except ImageError as error:
        return Look.refused(error.reason, sha256)
    pixels, picture = _scaled(image, side)
    grey = picture.convert("L")
    shades = np.asarray(grey)
    (brightness, contrast), *_ = _means_and_deviations(grey)
    colour = [mean for mean, _ in _means_and_deviations(picture)]
    return Look(
        pixels=pixels, sha256=sha256, note=header.note or "",
        format=header.format, mode=header.mode, width=header.width, height=header.height,
        camera=header.camera or "", taken=header.taken or "",
        brightness=brightness, contrast=contrast, sharpness=_sharpness(shades),
        colour=np.resize(np.array(colour, np.float32), 3), thumb=_thumb(grey),
        position=header.position, quality=header.quality, border=_border(shades),
    )  # fmt: skip


def _scaled(image: Picture, side: int) -> tuple[NDArray[np.uint8], Image.Image]:
    """The image with its shorter side scaled down, (h, w, channels), and what is shown of it, in mode RGB or L."""

    def smaller(picture: Image.Image) -> Image.Image:
        scale = min(1.0, side / min(picture.size), MAX_ASPECT * side / max(picture.size))
        size = tuple(max(1, round(length * scale)) for length in picture.size)
        return picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)

    if isinstance(image, Image.Image):
        picture = smaller(image)
        return np.asarray(picture), picture
    pixels = changed(image, smaller)
    return pixels, picture_of(pixels)


def _means_and_deviations(picture: Image.Image) -> list[tuple[float, float]]:
    """Of each band's pixels, in [0, 1]: from how many there are of each value, which is quicker than from each of them."""
    found, values = [], np.arange(256) / 255
    for counts in np.array(picture.histogram(), float).reshape(-1, 256):
        mean = counts @ values / counts.sum()
        found.append((float(mean), float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum()))))
    return found


def _sharpness(grey: NDArray[np.uint8]) -> float:
    if min(grey.shape) < 3:
        return 0.0
    shades = grey.astype(np.int16)
    inner = shades[1:-1, 1:-1]
    laplacian = shades[:-2, 1:-1] + shades[2:, 1:-1] + shades[1:-1, :-2] + shades[1:-1, 2:] - 4 * inner
    return float(laplacian.std(dtype=np.float32)) / 255


def _border(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]) / np.float32(255)
    return np.array([edge.mean(), edge.std()], np.float32)


def _thumb(grey: Image.Image) -> NDArray[np.uint8]:
    # Hamming: a box would alias small images, and resized copies of one would come out different.
    return np.asarray(grey.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.HAMMING))


def looked_at(jobs: Iterable[Job], workers: int, pixel_file: Path | None = None) -> Iterator[Look | None]:
    """What ``look_at`` gives for each job, in order, from a pool of processes with a bounded number of batches under way.

    They may put the pixels behind what a ``pixel_file`` holds, and then give their places instead; OSError where that fails.
    A decoder that crashes takes the pool with it, and whatever was under way. Those batches are then repeated one image
    at a time with nothing beside it, so that only the images at fault are lost.
    """
    rest, how = iter(jobs), (workers, pixel_file and pixel_file.absolute())
    batches = iter(lambda: list(itertools.islice(rest, BATCH)), [])
    pending = deque((batch, _submit(batch, *how)) for batch in itertools.islice(batches, 2 * workers))
    while pending:
        batch, future = pending.popleft()
        try:
            yield from future.result()
        except BrokenProcessPool:
            wait([other for _, other in pending])
            yield from _one_by_one(batch, *how)
            pending = deque((other, late if late.exception() is None else _submit(other, *how)) for other, late in pending)
        pending.extend((batch, _submit(batch, *how)) for batch in itertools.islice(batches, 1))


def _submit(batch: Sequence[Job], workers: int, pixel_file: Path | None) -> Future[list[Look | None]]:
    # Who looks may stand in another folder: elsewhere, or where the caller stood when the pool was made.
    sent = [(replace(ref, path=os.path.abspath(ref.path)), *rest) for ref, *rest in batch]
    if (submit := ELSEWHERE.get()) is not None:
        return submit(sent)
    # loky's workers do not import the caller's script, so no guard is asked of those who call us from one.
    from loky import get_reusable_executor

    for _ in range(2):  # it may break just after it was handed out; the next one is new
        with suppress(BrokenProcessPool):
            pool = get_reusable_executor(max_workers=workers, timeout=IDLE_SECONDS, initializer=_begin)
            return pool.submit(look_at_all, sent, pixel_file)
    raise BrokenProcessPool("the pool of processes breaks as soon as it is made")


def _begin() -> None:
    """What a process of the pool does first."""
    keep_memory(KEPT_BYTES)
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process soon after its parent: of one that was killed it would wait for ever for more to do."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


def look_at_all(batch: Sequence[Job], pixel_file: Path | None = None) -> list[Look | None]:
    """What ``look_at`` gives for each job; the pixels in a file, where one is named and the disk lets several processes write to it."""
    looks = [look_at(*job) for job in batch]
    if pixel_file is not None:
        with pixel_file.open("r+b") as file:
            if lock(file.fileno()):
                return [look and replace(look, pixels=put(look, file)) for look in looks]
    return looks


def put(look: Look, file: BinaryIO) -> Placed:
    """Write the pixels of a Look behind what the file holds."""
    assert isinstance(look.pixels, np.ndarray)
    start = file.seek(0, os.SEEK_END)
    file.write(np.ascontiguousarray(look.pixels).data)
    return Placed(start, look.pixels.shape)


def _one_by_one(batch: Sequence[Job], workers: int, pixel_file: Path | None) -> Iterator[Look | None]:
    for job in batch:
        try:
            yield from _submit([job], workers, pixel_file).result()
        except BrokenProcessPool:
            yield Look.refused("the image decoder crashed on it")


def median_size(dataset: Dataset, limits: Limits) -> tuple[int, int]:
    """Median width and height in pixels of some images, from their headers; files without a sound one are passed over here
    and named when they are looked at. Where most images are wide, all are counted as wide, and so with tall ones."""
    places = np.unique(np.linspace(0, len(dataset) - 1, PEEKED_IMAGES).astype(int))
    sizes = []
    for place in places:
        try:
            sizes.append(read_size(dataset.refs[place], limits))
        except ImageError:
            continue
    if not sizes:
        return 0, 0
    shorter, longer = np.median(np.sort(sizes, axis=1), axis=0).astype(int).tolist()
    wide = np.mean([width >= height for width, height in sizes]) >= 0.5
    return (longer, shorter) if wide else (shorter, longer)
