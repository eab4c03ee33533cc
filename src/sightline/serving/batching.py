"""Micro-batches: images of many requests are decoded in threads beside inference and computed together.

A batch is computed as soon as the engine is free and the batch is full or nothing else is being decoded, and at the latest when its
first image has waited for ``max_wait``: one client waits for nobody, many share the weights that are read for each batch.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.data.decode import Limits, read_size
from sightline.errors import ImageError
from sightline.predictions import Prediction
from sightline.runtime import Model, Prepared, prepared
from sightline.serving.declined import Declined
from sightline.serving.metrics import Metrics


@dataclass(frozen=True)
class Found:
    """A prediction, and width and height of the upright original."""

    prediction: Prediction
    size: tuple[int, int]


@dataclass(frozen=True)
class _Waiting:
    pixels: NDArray[np.uint8]
    frame: NDArray[np.float64]
    since: float
    answer: asyncio.Future[Found]


class Batcher:
    """Predictions of one model for many callers; to be used from one event loop."""

    def __init__(
        self, model: Model, name: str, *, decoding: Executor, computing: Executor, limits: Limits, batch_size: int, max_wait: float,
        ahead: int, metrics: Metrics,
    ) -> None:  # fmt: skip
        """A batcher of a model, called ``name`` in the figures.

        decoding   threads in which images are read and prepared
        computing  the thread in which batches are computed, shared by all models, so that they do not compete for the processor
        max_wait   seconds
        ahead      images that may be decoded or computed at once; the others wait as files, which take less memory
        """
        self.model, self.name = model, name
        self.decoding, self.computing = decoding, computing
        self.limits, self.batch_size, self.max_wait = limits, batch_size, max_wait
        self.metrics = metrics.of_model(name)
        self._ahead = asyncio.Semaphore(ahead)
        self._waiting: deque[_Waiting] = deque()
        self._coming = 0
        self._computes = False
        self._timer: asyncio.TimerHandle | None = None

    async def predict(self, data: bytes) -> Found | ImageError:
        """What is on an image, of which ``data`` is the file; or why it cannot be read. Cancelled, it takes its place in no batch.

        Raises Declined where the engine fails.
        """
        async with self._ahead:
            return await (self._predicted(data) if self.model.tiling is None else self._in_tiles(data))

    async def _in_tiles(self, data: bytes) -> Found | ImageError:
        """By a model that was trained on tiles: those of an image are batches of their own, between the batches of other models."""

        def found() -> Found | ImageError:
            started = time.perf_counter()
            (prediction,) = self.model.stream([data], batch_size=self.batch_size, limits=self.limits)
            if isinstance(prediction, ImageError):
                self.metrics.unreadable.inc()
                return prediction
            self.metrics.computed(1, time.perf_counter() - started)
            return Found(prediction, read_size(data, self.limits))

        try:
            return await asyncio.get_running_loop().run_in_executor(self.computing, found)
        except Exception as fault:
            raise self._declined(fault, 1) from fault

    async def _predicted(self, data: bytes) -> Found | ImageError:
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        image: Prepared | None = None
        self._coming += 1
        try:
            image = await loop.run_in_executor(self.decoding, prepared, data, self.model.prepare, self.limits)
        finally:
            self._coming -= 1
            if image is None or isinstance(image, ImageError):
                self._go()  # the others may have waited for this one
        if isinstance(image, ImageError):
            self.metrics.unreadable.inc()
            return image
        now = time.perf_counter()
        self.metrics.decode.observe(now - started)
        waiting = _Waiting(*image, now, loop.create_future())
        self._waiting.append(waiting)
        self._go()
        return await waiting.answer

    def _go(self, overdue: bool = False) -> None:
        """Compute a batch, if now is the time."""
        if self._computes or not self._waiting:
            return
        if overdue or len(self._waiting) >= self.batch_size or not self._coming:
            self._compute()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.max_wait, self._go, True)

    def _compute(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self.batch_size:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():  # its caller has gone
                batch.append(waiting)
        if not batch:
            return
        now = time.perf_counter()
        for waiting in batch:
            self.metrics.wait.observe(now - waiting.since)
        self._computes = True
        computed = asyncio.get_running_loop().run_in_executor(self.computing, self._found, batch)
        computed.add_done_callback(lambda future: self._answer(batch, future))

    def _found(self, batch: list[_Waiting]) -> list[Found]:
        started = time.perf_counter()
        frames = np.stack([waiting.frame for waiting in batch])
        raw: dict[str, NDArray[Any]] = {**self.model.infer(np.stack([waiting.pixels for waiting in batch])), "frame": frames}
        predictions = self.model.decode(raw)
        self.metrics.computed(len(batch), time.perf_counter() - started)
        return [Found(found, (int(width), int(height))) for found, (width, height) in zip(predictions, frames[:, 6:8], strict=True)]

    def _answer(self, batch: list[_Waiting], computed: asyncio.Future[list[Found]]) -> None:
        self._computes = False
        fault = asyncio.CancelledError() if computed.cancelled() else computed.exception()
        error = None if fault is None else self._declined(fault, len(batch))
        for place, waiting in enumerate(batch):
            if waiting.answer.done():
                continue
            if error is None:
                waiting.answer.set_result(computed.result()[place])
            else:
                waiting.answer.set_exception(error)
        self._go()

    def _declined(self, fault: BaseException, images: int) -> Declined:
        console.warn(f"{self.name}: a batch of {images} could not be computed ({type(fault).__name__}: {fault}).")
        return Declined(503, f"{self.name} could not compute this: send it again later.", 1)
