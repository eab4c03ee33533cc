"""Bulk work from beginning to end: check what is asked, plan, have what is missing done, count what is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from sightline import console
from sightline.bulk.inputs import listed
from sightline.bulk.orders import Orders
from sightline.bulk.parts import EMBED, PREDICT, counted, write_file
from sightline.bulk.plan import CHUNK, Plan, begin, missing, parts_done, tidy
from sightline.bulk.ray_engine import carry_out, crew_of
from sightline.bulk.ray_start import connected, load_ray
from sightline.bulk.tables import check_library
from sightline.bulk.work import Job, Work
from sightline.bundle import Bundle
from sightline.config import PARQUET, RAY, BulkConfig, EmbedConfig, PredictConfig, RuntimeConfig
from sightline.data.decode import Limits
from sightline.data.windows import Tiling
from sightline.errors import ConfigError, DataError, Interrupted
from sightline.manifest import Manifest
from sightline.records import ImageRef
from sightline.saving.names import free_name, writing
from sightline.saving.predict import check_wanted, tell_tiles
from sightline.settings import make_all
from sightline.tasks import load_task

FILES = (".parquet", ".npz")
DOING = {PREDICT: "Predicting", EMBED: "Embedding"}
Words = Sequence[str | Path]


@dataclass(frozen=True)
class Processed:
    """What bulk work came to: ``images`` in all, ``refused`` that could not be read, ``done`` now and ``before``, at so many ``seconds``;
    ``crashed``, the keys of images of which every worker died."""

    out: str
    images: int
    refused: int
    done: int
    before: int
    seconds: float
    crashed: tuple[str, ...] = ()

    @property
    def images_per_second(self) -> float:
        return round(self.done / self.seconds, 2) if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        figures = {"seconds": round(self.seconds, 3), "images_per_second": self.images_per_second}
        return {**asdict(self), "crashed": list(self.crashed), **figures}

    def __str__(self) -> str:
        earlier = f", {self.before:,} of them before" if self.before else ""
        bad = f" {self.refused:,} could not be read; their rows have the reason." if self.refused else ""
        return f"{self.images:,} images in {self.out}{earlier}: {self.images_per_second:,.1f} a second.{bad}"


def is_bulk(config: PredictConfig, bulk: BulkConfig) -> bool:
    """Whether ``predict`` is to fill a folder rather than answer image by image; ConfigError for flags that need that where it is not."""
    if bulk.engine == RAY or config.format == PARQUET:
        return True
    given = {"--workers": bulk.workers, "--address": bulk.address, "--chunk": bulk.chunk, "--column": bulk.column}
    _refuse([f"{flag} {value}: is for --engine ray or --format parquet." for flag, value in given.items() if value is not None])
    return False


def _refuse(problems: Sequence[str]) -> None:
    """Raise one ConfigError for all problems, if there are any."""
    if problems:
        raise ConfigError(problems)


def _check_ray(bulk: BulkConfig) -> None:
    given = {"--workers": bulk.workers, "--address": bulk.address}
    _refuse([f"{flag} {value}: is for --engine ray." for flag, value in given.items() if value is not None and bulk.engine != RAY])


def predict_in_bulk(
    model: Path, images: Words, config: PredictConfig, using: RuntimeConfig, bulk: BulkConfig, top: int | None
) -> Processed:
    """Predictions of many images as a folder of parquet files; raises ConfigError for what does not go together."""
    problems = []
    if config.format not in (None, PARQUET):
        problems.append(f"--format {config.format}: --engine ray writes {PARQUET} only; leave it out.")
    if config.save is not None:
        problems.append("--save: no pictures are drawn of many images; leave it out.")
    if config.out is None:
        problems.append(f"--{'engine ray' if bulk.engine == RAY else 'format parquet'}: say where to write with --out FOLDER.")
    _refuse(problems)
    _check_ray(bulk)
    tiles = {"tile": config.tile, "overlap": config.overlap}
    job = _job(PREDICT, Path(str(config.out)), using, bulk, top=top, tiles=tiles, full_size=config.full_size)
    settings = {"top": top, **tiles, "full_size": config.full_size}

    def check(manifest: Manifest) -> None:
        tiling = Tiling.from_json(manifest.tiles)
        check_wanted(replace(config, format=PARQUET), manifest.task, load_task(manifest.task).SCENES, tiled=tiling is not None)
        tell_tiles(tiling, config)

    return _into_folder(model, images, job, settings, using, bulk, check)


def embed(model: str | Path, images: Words, **settings: Any) -> Processed:
    """Write the embedding of each image to ``out``: a single file or, for many images, a folder of parquet files (docs/bulk.md).

    settings  fields of ``config.EmbedConfig``, ``config.RuntimeConfig`` and ``config.BulkConfig`` by name, such as ``out="e.npz"``

    Raises ConfigError for what does not go together, ModelFileError for a model that gives no embedding.
    """
    config, using, bulk = make_all((EmbedConfig, RuntimeConfig, BulkConfig), settings)
    if config.out is None:
        raise ConfigError(["Say where the embeddings go with --out: FILE.parquet, FILE.npz or, for many images, a folder."])
    _check_ray(bulk)
    out = Path(config.out)
    job = _job(EMBED, out, using, bulk)
    if out.suffix.lower() not in FILES:
        return _into_folder(Path(model), images, job, {}, using, bulk)
    if bulk.engine == RAY:
        raise ConfigError([f"--out {out}: several workers write a folder; give --out a name without {out.suffix}."])
    return _into_file(Path(model), images, job, using, bulk)


def _job(verb: str, folder: Path, using: RuntimeConfig, bulk: BulkConfig, **settings: Any) -> Job:
    opening = using.opening("auto" if bulk.engine == RAY else bulk.engine)
    limits = Limits(using.max_pixels, using.max_bytes)
    return Job(verb, folder, Path.cwd(), opening, limits, column=bulk.column, **settings)


def _into_folder(
    model: Path,
    images: Words,
    job: Job,
    settings: Mapping[str, Any],
    using: RuntimeConfig,
    bulk: BulkConfig,
    check: Callable[[Manifest], None] = lambda manifest: None,
) -> Processed:
    check_library()
    if bulk.engine == RAY:
        load_ray()
    started = time.monotonic()
    with Bundle.open(model, require_signature=using.require_signature) as bundle:
        check(bundle.manifest)
        limits = {"max_pixels": using.max_pixels, "max_bytes": using.max_bytes}
        kept = {**settings, **limits, "precision": using.precision, "column": bulk.column}
        with writing("--out", job.folder):
            plan = begin(job.folder, job.verb, bundle.sha256(), kept, listed(images, bulk.column, job.limits), bulk.chunk)
        before = _images_in(plan, parts_done(job.folder))
        orders = Orders(missing(job.folder, plan))
        if before:
            console.say(f"{job.folder}: {before:,} of {plan.images:,} images are done already.")
        if orders.waiting:
            _carry_out(bundle, job, orders, plan, before, bulk)
    tidy(job.folder)
    rows, errors = counted(job.folder, plan)
    if rows == errors:
        raise DataError(f"{job.folder}: none of the {rows:,} images could be read; its rows have the reasons.")
    crashed = tuple(orders.crashed)
    return Processed(str(job.folder), rows, errors, plan.images - before, before, time.monotonic() - started, crashed)


def _carry_out(bundle: Bundle, job: Job, orders: Orders, plan: Plan, before: int, bulk: BulkConfig) -> None:
    """Have all orders done, with a bar."""
    done, images = 0, plan.images - before
    try:
        steps = _by_ray(bundle, job, orders, bulk, plan, images) if bulk.engine == RAY else _here(Work.of(job, bundle), orders)
        for _ in console.track(chain.from_iterable(map(range, steps)), images, DOING[job.verb]):
            done += 1
    except KeyboardInterrupt as error:
        raise Interrupted(f"Stopped after {done:,} of {images:,} images; the same command goes on from there.") from error


def _here(work: Work, orders: Orders) -> Iterator[int]:
    while (order := orders.next()) is not None:
        yield work.write(order.wanted)


def _by_ray(bundle: Bundle, job: Job, orders: Orders, bulk: BulkConfig, plan: Plan, images: int) -> Iterator[int]:
    data = bundle.path.read_bytes()
    with connected(bulk.address, 2 * len(data)) as ray:
        crew = crew_of(ray, bulk.workers, job.opening["threads"])
        crew = replace(crew, workers=min(crew.workers, -(-images // plan.chunk)))
        threads = f"{crew.threads} thread{'s'[: crew.threads != 1]}"
        console.say(f"{images:,} images for {crew.workers} worker{'s'[: crew.workers != 1]} of {threads} each.")
        yield from carry_out(ray, job, data, orders, crew)


def _images_in(plan: Plan, numbers: set[int]) -> int:
    return sum(plan.size(number) for number in numbers if number < plan.chunks)


def _into_file(model: Path, images: Words, job: Job, using: RuntimeConfig, bulk: BulkConfig) -> Processed:
    """Embeddings as one file, chunk by chunk; a name that is taken gets -2."""
    started, path, size = time.monotonic(), free_name(job.folder), bulk.chunk or CHUNK
    if path.suffix.lower() != ".npz":
        check_library()
    with Bundle.open(model, require_signature=using.require_signature) as bundle:
        work = Work.of(job, bundle)
    refs: list[ImageRef] = list(dict.fromkeys(listed(images, job.column, job.limits)))
    chunks = (work.rows(refs[start : start + size]) for start in range(0, len(refs), size))
    with writing("--out", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        count, errors = write_file(path, console.track(chunks, -(-len(refs) // size), DOING[EMBED]))
    if count == errors:
        raise DataError("None of the images could be read.")
    return Processed(str(path), count, errors, count, 0, time.monotonic() - started)
