"""The bundles that are served, by name; one that is replaced on disk is opened, warmed and swapped in while the old one answers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline import console
from sightline.bundle import Bundle
from sightline.config import ServeConfig
from sightline.data.decode import Limits
from sightline.errors import SightlineError, did_you_mean
from sightline.onnx_check import graph_io
from sightline.processor import processors
from sightline.reference import reference_of
from sightline.runtime import Model
from sightline.serving.batching import Batcher
from sightline.serving.declined import Declined
from sightline.serving.metrics import Metrics
from sightline.serving.places import Places

if TYPE_CHECKING:
    from sightline.explanation.explain import Explainer

# How often bundles are looked at, and for how long one must not change before it is opened.
LOOK_SECONDS = 1.0
# OpenVINO prepares itself anew for each size of batch that it first sees; so much time is spent on that ahead.
WARM_SECONDS = 2.0
# Batches of decoded images there may be: one that is computed, and one that is filled meanwhile.
AHEAD = 2
# An explanation computes hundreds of images, so that few of them may wait.
MOST_EXPLANATIONS = 8


@dataclass(frozen=True)
class Served:
    """An open bundle and what computes it. Requests that have one keep it, whatever is swapped in meanwhile.

    settings  with which the model was opened
    facts     what the bundle has, as ``GET /v1/models`` tells it
    known_by  what told the file from others before it was opened
    """

    name: str
    bundle: Bundle
    model: Model
    batcher: Batcher
    sha256: str
    settings: Mapping[str, Any]
    facts: Mapping[str, bool]
    known_by: tuple[int, ...]

    def about(self, default: bool) -> dict[str, Any]:
        """As ``GET /v1/models`` lists it."""
        manifest = self.model.manifest
        return {
            "name": self.name, "task": manifest.task, "labels": list(manifest.labels), "sha256": self.sha256, "created": manifest.created,
            "default": default, "unfit": list(manifest.unfit), "engine": self.model.engine, **self.facts,
        }  # fmt: skip

    @cached_property
    def explainer(self) -> Explainer:
        """Opened when first asked for, as it takes memory of its own; to be asked for in one thread only."""
        from sightline.explanation.explain import OUTPUTS
        from sightline.serving.explained import explainer_of

        return explainer_of(self.bundle, Model.of(self.bundle, **self.settings, outputs=OUTPUTS))


class Models:
    """The bundles by name, the default first. To be used from one event loop, apart from ``open``."""

    def __init__(self, paths: dict[str, Path], config: ServeConfig, metrics: Metrics) -> None:
        """``paths`` by name. Nothing is opened yet."""
        self.paths, self.config, self.metrics = paths, config, metrics
        self.limits = Limits(config.max_pixels, config.max_bytes)
        self.threads = config.threads or processors()
        self.decoding = ThreadPoolExecutor(self.threads, "decoding")
        self.computing = ThreadPoolExecutor(1, "computing")
        self.explaining = ThreadPoolExecutor(1, "explaining")
        self.parsing = ThreadPoolExecutor(1, "parsing")  # one body at a time, which meanwhile takes several times its size
        self.explanations = Places(MOST_EXPLANATIONS)
        self._served: dict[str, Served] = {}

    def open(self) -> Models:
        """Open and warm all of them; raises ModelFileError for one that is broken, altered, foreign or too new."""
        for name in self.paths:
            self._put(self._opened(name))
        return self

    def close(self) -> None:
        """Let the threads and files go; what is being computed is finished."""
        for pool in (self.decoding, self.computing, self.explaining, self.parsing):
            pool.shutdown(cancel_futures=True)
        for served in self:
            served.bundle.close()

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def __len__(self) -> int:
        return len(self._served)

    @property
    def ready(self) -> bool:
        return len(self._served) == len(self.paths)

    def named(self, name: str | None) -> Served:
        """The model of that name, or the default. Raises Declined."""
        if name is None:
            return next(iter(self._served.values()))
        if name not in self._served:
            raise Declined(404, f"There is no model {name!r}.{did_you_mean(name, self._served)} See /v1/models.")
        return self._served[name]

    async def swap(self, name: str) -> bool:
        """Open the file that a model's path now has, and serve that; where it is broken, the old one serves on and this is False."""
        try:
            served = await asyncio.to_thread(self._opened, name)
        except Exception as error:  # whatever it is, what is open goes on
            self.metrics.swaps.labels(name, "refused").inc()
            reason = error if isinstance(error, SightlineError) else f"{self.paths[name]}: cannot be opened ({error})."
            console.warn(f"{reason} The {name} that was open is served on.")
            return False
        old = self._served[name]
        self._put(served)
        if served.sha256 != old.sha256:
            self.metrics.info.labels(name, old.sha256, old.model.manifest.task).set(0)
        self.metrics.swaps.labels(name, "served").inc()
        console.say(f"{self.paths[name]} was replaced: {name} is now {served.sha256[:12]}.")
        return True

    async def watch(self) -> None:
        """Swap whatever is replaced, until cancelled. A file that is refused is not opened again before it changes again."""
        known = {served.name: served.known_by for served in self}
        seen = dict(known)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for name, path in self.paths.items():
                now = await asyncio.to_thread(_known_by, path)
                if now and now == seen[name] and now != known[name]:
                    known[name] = now
                    await self.swap(name)
                seen[name] = now

    def _put(self, served: Served) -> None:
        self._served[served.name] = served
        self.metrics.info.labels(served.name, served.sha256, served.model.manifest.task).set(1)

    def _opened(self, name: str) -> Served:
        path, config = self.paths[name], self.config
        known_by = _known_by(path)
        bundle = Bundle.open(path, require_signature=config.require_signature)
        try:
            settings: dict[str, Any] = {
                "threads": self.threads, "engine": config.engine, "precision": config.precision, "batch_size": config.batch_size,
            }  # fmt: skip
            model = Model.of(bundle, **settings)
            sha256, facts = bundle.sha256(), _facts(bundle)
            _warm(model, config.batch_size)
        except BaseException:
            bundle.close()
            raise
        batcher = Batcher(
            model, name, decoding=self.decoding, computing=self.computing, limits=self.limits, batch_size=config.batch_size,
            max_wait=config.max_wait_ms / 1000, ahead=AHEAD * config.batch_size + self.threads, metrics=self.metrics,
        )  # fmt: skip
        return Served(name, bundle, model, batcher, sha256, settings, facts, known_by)


def _known_by(path: Path) -> tuple[int, ...]:
    """What changes when a file is replaced; nothing where there is none."""
    try:
        facts = os.stat(path)
    except OSError:
        return ()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _facts(bundle: Bundle) -> dict[str, bool]:
    outputs = {output.name for output in graph_io(bundle.read("graph"), str(bundle.path))[1]}
    return {
        "report": bundle.has("report"), "card": bundle.has("card"), "nearest": "embeddings" in reference_of(bundle),
        "explains": {"embedding", "features"} <= outputs,
    }  # fmt: skip


def _warm(model: Model, batch_size: int) -> None:
    """Compute blank batches of every size, the smallest and the largest first, for as long as there is time."""
    start = time.perf_counter()
    for size in (1, batch_size, *range(2, batch_size)):
        model.infer(np.zeros((size, *model.prepare.shape, model.prepare.channels), np.uint8))
        if time.perf_counter() - start > WARM_SECONDS:
            return
