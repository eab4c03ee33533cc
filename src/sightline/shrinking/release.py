"""The chosen variant as a bundle: how it answers chosen anew where it was trained, what it knows, its own replay, and its card."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import bundle as bundles
from sightline.bundle import Bundle, Part, arrays_to_bytes
from sightline.engines.adapters import onnx_infer
from sightline.errors import RequirementNotMet
from sightline.manifest import Manifest
from sightline.model.network import Network
from sightline.processor import int8_features, processor_features, processor_name
from sightline.replay import record
from sightline.report.build import library_versions, now
from sightline.report.markdown import split_front, table
from sightline.runtime import Model
from sightline.shrinking.asked import spoken_size, spoken_time
from sightline.shrinking.lesson import Lesson
from sightline.shrinking.measuring import Bench, Made, Point
from sightline.trust.judged import judge, linear_head_of

# Seconds for the embeddings of training images, which unfamiliar images are told by.
KNOWN_SECONDS = 30.0
DRAFT = "draft.sight"
PICTURES = ("thumbs", "thumb_ends")
# What of a decision means nothing without embeddings of training images.
SIMILARITIES = ("familiar_from", "fades_over")
LINEAR_IMAGES = 8
NO_PROMISES = (
    "It makes no promises, and its temperature and thresholds are those of the model it was made from: the data given differ from those "
    "of its training, so that their validation images may be among its training images.\n\n"
)


@dataclass(frozen=True)
class Base:
    """What a bundle says and knows beside its graph: of the source, or of a network that was trained in its stead.

    held_out  whether its temperature, thresholds and promises were chosen on images that its weights were not trained on
    """

    manifest: Manifest
    reference: Mapping[str, NDArray[Any]]
    held_out: bool = True

    @classmethod
    def of_source(cls, source: Bundle) -> Base:
        return cls(source.manifest, source.arrays("reference") if source.has("reference") else {})

    @classmethod
    def of_network(cls, made: Made, network: Network, source: Bundle, lesson: Lesson) -> Base:
        """Temperature, thresholds, promises and embeddings of the trained network; where no images were held out that these could be chosen
        on, the source's temperature and thresholds and no promises. RequirementNotMet where its graph computes otherwise."""
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder, DRAFT)
            bundles.write(draft, replace(made.manifest, members=()), [Part("model.onnx", "graph", made.graph, required=True)])
            judged = judge(draft, network, lesson.gated, lesson.settings, KNOWN_SECONDS)
        stored = [lesson.gated.store[row] for row in lesson.gated.dataset.rows_of("train")[:LINEAR_IMAGES].tolist()]
        images = np.stack([made.prepare(image)[0] for image in stored])
        reference = {"seen": lesson.seen(source), **judged.known.arrays(), **judged.drift, **linear_head_of(judged, network, images)}
        if lesson.held_out:
            return cls(made.manifest.deciding(judged.decision), reference)
        known = {name: values for name, values in reference.items() if not name.startswith("calibration_")}
        return cls(replace(made.manifest, promises={}), known, held_out=False)


def written(path: Path, made: Made, base: Base, bench: Bench, point: Point, points: Sequence[Point], max_loss: float) -> None:
    """Write the variant; of what it could carry beside its graph as much as the size that is asked for has room for.

    Raises RequirementNotMet, with nothing written, where that is not even the least.
    """
    variant = {"precision": "int8" if made.manifest.is_int8 else "fp32", **_facts(bench.source, point, points, max_loss)}
    shape = {"prepare": made.manifest.prepare, "backbone": made.manifest.backbone}
    told = replace(base.manifest, variant=variant, created=now(), versions=library_versions(), members=(), **shape)
    card = Part("card.md", "card", _card(point, points, bench, max_loss, base.held_out).encode())
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder, DRAFT)
        for manifest, parts in _with_less_and_less(replace(made, manifest=told), base, bench):
            bundles.write(draft, manifest, [*parts, card])
            if bench.asked.bytes is None or draft.stat().st_size <= bench.asked.bytes:
                bundles.write(path, manifest, [*parts, card])
                return
        size = spoken_size(draft.stat().st_size)
    raise RequirementNotMet(f"{path}: not written, as with its card and what it was trained on it takes {size}, more than {bench.asked}.")


def _with_less_and_less(made: Made, base: Base, bench: Bench) -> Iterator[tuple[Manifest, list[Part]]]:
    """Manifest and parts with all there is, then without small pictures, with ever fewer images to replay, at last without embeddings."""
    reference, files, replay = dict(base.reference), bench.replay.files, bench.replay
    model = Model(made.manifest, onnx_infer(made.work(bench.threads)), threads=bench.threads)
    bare = {name: values for name, values in reference.items() if name not in PICTURES}
    least = {name: values for name, values in reference.items() if name == "seen"}
    alone = {name: value for name, value in made.manifest.promises.items() if name not in SIMILARITIES}
    unfamiliar = replace(made.manifest, promises=alone)
    fewer = [len(files) // 2**halving for halving in range(len(files).bit_length())]
    ways = [(made.manifest, reference, len(files)), *((made.manifest, bare, count) for count in fewer), (unfamiliar, least, 1)]
    for told, known, count in ways:
        parts = [Part("model.onnx", "graph", made.graph, required=True)]
        if known:
            parts.append(Part("reference.npz", "reference", arrays_to_bytes(known)))
        yield told, [*parts, Part("replay.npz", "replay", record(model, files[:count], rendered=replay.rendered))]


def _facts(source: Bundle, point: Point, points: Sequence[Point], max_loss: float) -> dict[str, Any]:
    """What the manifest says of the variant."""
    return {
        "made": point.name, "max_loss": max_loss, "loss": point.loss.points, "points": [one.to_json() for one in points],
        "of": {"graph_sha256": hashlib.sha256(source.read("graph")).hexdigest(), "created": source.manifest.created},
        "recorded_on": {"processor": processor_name(), "features": processor_features(), "int8": int8_features()},
    }  # fmt: skip


def _card(point: Point, points: Sequence[Point], bench: Bench, max_loss: float, held_out: bool) -> str:
    """The source's card behind what was done and lost, its front matter first as hubs expect it."""
    source, first, n = bench.source, points[0], point.loss.n
    rows = [
        [("**" + one.name + "**") if one is point else one.name, f"{one.speed.latency_ms:.2f}", spoken_size(one.size),
         f"{one.value:.4f} ({one.interval[0]:.4f} to {one.interval[1]:.4f})", f"{one.loss.share:.2%}"]
        for one in points
    ]  # fmt: skip
    said = (
        f"# A smaller model\n\nMade for {bench.asked}: {point.name}. On {n} test images it loses {point.loss.points:.2f} points of "
        f"{point.metric} ({max_loss:g} allowed) and answers {point.loss.share:.2%} of them otherwise; an image takes "
        f"{spoken_time(point.speed.latency_ms)} instead of {spoken_time(first.speed.latency_ms)} on {processor_name()} "
        f"({point.engine}). It was chosen on {point.validation.n} validation images; {len(points)} variants were measured on the "
        f"test images.\n\n{'' if held_out else NO_PROMISES}"
        f"{table(['variant', 'ms an image', 'size', f'{first.metric} (95% interval)', 'answers changed'], rows)}\n"
    )
    if not source.has("card"):
        return said
    front, body = split_front(source.read("card").decode())
    return f"{front}{said}\nWhat follows is said of the model it was made from.\n\n{body}"


def first_free(path: Path) -> Path:
    """The first name that is not taken: this one, or with -2, -3... behind it."""
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free
