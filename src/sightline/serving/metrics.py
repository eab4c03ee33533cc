"""What the server counts, as Prometheus reads it; nothing in it tells of an image."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

# Seconds; requests of one small image take milliseconds, those of many large ones seconds.
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
# Where prometheus_client keeps the figures of several processes.
SHARED = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(frozen=True)
class OfModel:
    """The figures of one model."""

    decode: Any
    wait: Any
    compute: Any
    batch: Any
    predicted: Any
    unreadable: Any

    def computed(self, images: int, seconds: float) -> None:
        self.batch.observe(images)
        self.compute.observe(seconds)
        self.predicted.inc(images)


class Metrics:
    """The server's figures; those of all workers together where ``SHARED`` names a folder."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

        disable_created_metrics()  # a time beside each figure, which no one asks for
        self.registry = kept = CollectorRegistry()
        self.requests = Counter("sightline_requests", "Requests answered.", ("path", "status"), registry=kept)
        self.seconds = Histogram(
            "sightline_request_seconds", "From a request's head to its answer.", ("path",), buckets=SECONDS, registry=kept
        )
        self.images = Counter("sightline_images", "Images by what became of them.", ("model", "result"), registry=kept)
        self.batch = Histogram("sightline_batch_images", "Images computed at once.", ("model",), buckets=BATCHES, registry=kept)
        self.stages = Histogram(
            "sightline_stage_seconds", "An image's decoding and its wait for a batch, and a batch's computing.", ("model", "stage"),
            buckets=SECONDS, registry=kept,
        )  # fmt: skip
        self.queue = Gauge("sightline_queue_images", "Images under way.", registry=kept, multiprocess_mode="livesum")
        self.info = Gauge(
            "sightline_model_info", "1 for each bundle that is served, 0 for one that was replaced.", ("model", "sha256", "task"),
            registry=kept, multiprocess_mode="livemax",
        )  # fmt: skip
        self.swaps = Counter(
            "sightline_swaps", "Bundles that were replaced, by what became of the new one.", ("model", "result"), registry=kept
        )

    def of_model(self, name: str) -> OfModel:
        decode, wait, compute = (self.stages.labels(name, stage) for stage in ("decode", "wait", "compute"))
        predicted, unreadable = (self.images.labels(name, result) for result in ("predicted", "unreadable"))
        return OfModel(decode, wait, compute, self.batch.labels(name), predicted, unreadable)

    def text(self) -> tuple[bytes, str]:
        """All figures in Prometheus' format, and its media type."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self.registry
        if SHARED in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry), CONTENT_TYPE_LATEST
