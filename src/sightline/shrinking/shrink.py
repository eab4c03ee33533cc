"""A smaller, faster model on purpose: try what is cheapest first, measure each, take what is asked for with the least lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sightline import console
from sightline.bundle import Bundle
from sightline.config import ExportConfig, ReadConfig
from sightline.data.chosen import read_for, targets_for
from sightline.data.decode import Limits
from sightline.errors import ModelFileError, RequirementNotMet, UsageError
from sightline.exporting.wanted import place_for
from sightline.model.backbone import MODULE
from sightline.model.export import export_graph
from sightline.model.network import Network
from sightline.model.rebuild import network_of
from sightline.processor import processors
from sightline.runtime import Model
from sightline.shrinking.asked import Asked, spoken_size, spoken_time
from sightline.shrinking.candidates import (
    Foreseen,
    Shape,
    families,
    foreseen,
    foreseen_in_int8,
    harsh_families,
    picked,
    shape_of,
    untrained,
)
from sightline.shrinking.curve import Curve, lines
from sightline.shrinking.lesson import Lesson
from sightline.shrinking.measuring import Bench, Made, Point
from sightline.shrinking.release import Base, first_free, written
from sightline.tasks import load_task


@dataclass(frozen=True)
class Shrunk:
    """The variant that was written, or the source where that is what is asked for already, and all that were measured."""

    model: Path
    asked: Asked
    chosen: Point
    points: tuple[Point, ...]
    max_loss: float
    curve: Curve | None

    @property
    def variants(self) -> tuple[Shrunk, ...]:
        """What was written: itself alone."""
        return (self,)

    def to_json(self) -> dict[str, Any]:
        loss, curve = self.chosen.loss, self.curve
        return {"model": str(self.model), "asked": self.asked.to_json(), "chosen": self.chosen.name, "max_loss": self.max_loss,
                "loss": loss.points, "changed": loss.share, "n": loss.n, "variants": [point.to_json() for point in self.points],
                "curve": None if curve is None else {"picture": str(curve.picture), "figures": str(curve.figures)}}  # fmt: skip

    def lines(self) -> list[str]:
        """The table, a row for each variant, and where the curve is drawn."""
        drawn = [] if self.curve is None else [f"The curve is drawn in {self.curve.picture}, its figures stand in {self.curve.figures}."]
        return [*lines(self.points, self.chosen), *drawn]


@dataclass
class Trials:
    """What was made of a bundle up to now: graphs by name, the trained networks behind some of them, and what was measured of each.

    network  the bundle's own; None where only its owner can build it
    """

    source: Bundle
    lesson: Lesson
    bench: Bench
    network: Network | None
    max_loss: float
    points: list[Point] = field(default_factory=list)
    made: dict[str, Made] = field(default_factory=dict)
    trained: dict[str, tuple[Made, Network]] = field(default_factory=dict)

    def measure(self, made: Made) -> Point:
        point = self.bench.point(made)
        self.made[made.name] = made
        self.points.append(point)
        console.say(_said(point))
        return point

    def quantise(self, made: Made) -> Point | None:
        """The point of a variant in INT8; None where its graph cannot be."""
        try:
            smaller = self.bench.in_int8(made, self.max_loss)
        except ModelFileError as error:
            console.say(f"{made.name} stays in float: {error}")
            return None
        if made.name in self.trained:
            self.trained[smaller.name] = self.trained[made.name]
        return self.measure(smaller)

    def train(self, shape: Shape) -> None:
        """Train a shape and measure it, in INT8 too where it has to be that small or fast."""
        console.say(f"Training: {shape.name}, taught by the model itself.")
        network = untrained(shape, self.network, self.source.manifest, self.lesson.settings.network.dropout)
        network = self.lesson.teach(network, shape).cpu()
        told = self.source.manifest
        licences = {**told.licences, "backbone": shape.weights.contract.licence or "not stated"} if shape.weights else told.licences
        manifest = replace(
            told, variant={"precision": "fp32"}, members=(), licences=licences, prepare=network.prepare.to_json(),
            backbone=shape.spec.to_json(),
        )  # fmt: skip
        made = Made(shape.name, export_graph(network, network.prepare.shape), manifest)
        self.trained[made.name] = made, network
        if not self.measure(made).fits and self.bench.asked.int8:
            self.quantise(made)

    def release(self, path: Path) -> tuple[Path, Point]:
        """Write that which loses least on validation images, of those that fit and hold on the test images; RequirementNotMet for none."""
        fitting = sorted((point for point in self.points[1:] if point.fits), key=lambda point: point.validation.points)
        chosen = next((point for point in fitting if point.loss.points <= self.max_loss + 1e-9), None)
        if chosen is None:
            raise self._refusal(fitting)
        base = Base.of_source(self.source)
        if chosen.name in self.trained:
            base = Base.of_network(*self.trained[chosen.name], self.source, self.lesson)
        path = first_free(path)
        written(path, self.made[chosen.name], base, self.bench, chosen, self.points, self.max_loss)
        return path, chosen

    def _refusal(self, fitting: Sequence[Point]) -> RequirementNotMet:
        asked, what = self.bench.asked, f"{self.source.path}: nothing that was made"
        if fitting:
            nearest = min(fitting, key=lambda point: point.loss.points)
            return RequirementNotMet(
                f"{what} for {asked} loses at most {self.max_loss:g} points of {nearest.metric} on the {nearest.loss.n} test images; "
                f"nearest is {_said(nearest)}: allow more with --max-loss, or more time or room."
            )
        nearest = min(self.points, key=lambda point: asked.excess(point.speed.latency_ms, point.size))
        return RequirementNotMet(f"{what} meets {asked}; nearest is {_said(nearest)}: allow more time or room.")


def shrunk(model: Path, asked: Asked, reading: ReadConfig, config: ExportConfig) -> Shrunk:
    """A variant of a bundle as small and fast as asked for, which loses at most ``config.max_loss`` points, written beside it.

    Raises ModelFileError for a variant, UsageError for a task that this is not made for, DataError for other data than the bundle was
    trained on, RequirementNotMet, which names what comes nearest, where nothing meets what is asked for.
    """
    limits = Limits(config.max_pixels, config.max_bytes)
    with Bundle.open(model) as source:
        manifest = source.manifest
        if manifest.variant:
            raise ModelFileError(f"{model}: is a variant already ({manifest.variant.get('precision')}); name the bundle it is of.")
        if load_task(manifest.task).SCENES:
            raise UsageError(f"{model}: smaller models for the task {manifest.task} are not made yet; train one with a smaller --backbone.")
        path = place_for(config.out, model.with_name(f"{model.stem}-small.sight"))
        trials = _begun(source, asked, reading, config, limits)
        itself = trials.measure(trials.bench.itself)
        if itself.fits:
            console.say(f"{model} meets {asked} as it is, so nothing is written.")
            return Shrunk(model, asked, itself, (itself,), config.max_loss, None)
        for pick in _picks(trials, itself):
            trials.train(pick.shape)
        curve = Curve.beside(path)
        try:
            written_to, chosen = trials.release(path)
        except RequirementNotMet as refusal:
            curve.write(trials.points, asked, None, config.max_loss)
            raise RequirementNotMet(f"{refusal} What was measured is drawn in {curve.picture}.") from None
        curve.write(trials.points, asked, chosen, config.max_loss)
        return Shrunk(written_to, asked, chosen, tuple(trials.points), config.max_loss, curve)


def _begun(source: Bundle, asked: Asked, reading: ReadConfig, config: ExportConfig, limits: Limits) -> Trials:
    """The data read and split as the bundle knows them, and the bench on which everything will be measured."""
    manifest, threads = source.manifest, config.threads or processors()
    dataset = read_for(source.path, manifest.task, str(config.data), reading, limits)
    dataset = dataset.replace(labels=manifest.labels, targets=targets_for(manifest.labels, dataset, source.path))
    infer = Model.of(source, threads=threads, engine="onnxruntime", precision="fp32").infer
    lesson = Lesson.of(source, dataset, infer, config.epochs, config.calibration_images, limits)
    own = manifest.backbone.get("name", "").startswith(MODULE)
    bench = Bench(source, lesson.material, asked, limits, threads, config.engine)
    return Trials(source, lesson, bench, None if own else network_of(source), config.max_loss)


def _picks(trials: Trials, itself: Point) -> list[Foreseen]:
    """What is worth being trained: nothing where less in the file, or INT8, will do. Raises RequirementNotMet where no shape is small and
    fast enough."""
    bench, asked, manifest = trials.bench, trials.bench.asked, trials.source.manifest
    if asked.met(itself.speed.latency_ms, bench.size(bench.alone)) and trials.measure(bench.alone).fits:
        return []
    hope, int8 = _in_int8(trials), None
    if hope is not None and asked.met(hope.latency_ms, hope.size):
        int8 = trials.quantise(bench.itself)
    if int8 is not None and int8.fits and int8.loss.points <= trials.max_loss:
        return []
    reached = [(_excess(point, asked), f"{point.name}: {_amounts(point)}") for point in trials.points]

    least = hope.size if hope else bench.size(bench.alone)

    def look(shape: Shape) -> list[Foreseen]:
        if shape.family == "input" and asked.bytes is not None and least > asked.bytes:
            return []  # a network takes as much room whatever the size of its input
        found = foreseen(shape, trials.network, manifest, bench.untrained, asked)
        smaller = bool(found) and asked.excess(found[0].latency_ms, found[0].size) < reached[0][0]
        return found if smaller else []

    picks, seen = picked(families(manifest, asked), look, asked)
    if not picks:
        picks, harsher = picked(harsh_families(manifest, asked), look, asked)
        seen += harsher
    if picks or any(point.fits for point in trials.points):
        return picks
    seen += [hope] if hope else []
    reached += [(asked.excess(one.latency_ms, one.size), f"{one} (as timed before it is made)") for one in seen]
    raise RequirementNotMet(
        f"{trials.source.path}: no model that is known here meets {asked}; nearest of {len(reached)} that were measured is "
        f"{min(reached)[1]}. Allow more, or train one with a smaller --size or --backbone."
    )


def _in_int8(trials: Trials) -> Foreseen | None:
    """What the model itself would take in INT8 at best; None where it is not asked for or cannot be."""
    if not trials.bench.asked.int8:
        return None
    try:
        return foreseen_in_int8(shape_of(trials.source.manifest), trials.bench.itself.graph, trials.bench.untrained)
    except ModelFileError as error:
        console.say(str(error))
        return None


def _excess(point: Point, asked: Asked) -> float:
    return asked.excess(point.speed.latency_ms, point.size)


def _amounts(point: Point) -> str:
    return f"{spoken_time(point.speed.latency_ms)}, {spoken_size(point.size)}"


def _said(point: Point) -> str:
    low, high = point.interval
    return (
        f"{point.name}: {_amounts(point)}, {point.metric} {point.value:.4f} ({low:.4f} to {high:.4f}), {point.loss.points:.2f} points lost"
    )
