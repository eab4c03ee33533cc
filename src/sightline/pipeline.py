"""The verbs, each a short list of stages: what ``train``, ``evaluate``, ``predict``, ``verify``, ``backbones`` and ``doctor`` do, in order.

Only ``train`` and ``backbones`` need torch, and their rooms are imported when they are called.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.bundle import Bundle
from sightline.config import CatalogueConfig, RuntimeConfig, TrainSettings, make
from sightline.data.decode import Limits, read_size
from sightline.data.folder import read_folder, read_unlabelled
from sightline.errors import DataError, ImageError, Interrupted, RequirementNotMet, UsageError, did_you_mean
from sightline.processor import processors, share_processors
from sightline.records import SPLITS, Dataset, ImageRef, Prediction
from sightline.runtime import Model

if TYPE_CHECKING:
    from sightline.model.catalogue import Catalogue
    from sightline.training.run import Run

PEEKED_IMAGES = 64


@dataclass(frozen=True)
class Trained:
    """What ``train`` leaves: its folder, the bundle, the report page, and the report's numbers (``report.json``)."""

    folder: Path
    model: Path
    report: Path
    numbers: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        test = self.numbers["test"]
        return {"run": str(self.folder), "model": str(self.model), "report": str(self.report), "task": self.numbers["task"],
                "verdict": self.numbers["verdict"]["sentence"],
                "test": {"split": "test", "n": test["n"], "metrics": test["metrics"]}}  # fmt: skip


def train(data: str | Path | None = None, *, resume: str | Path | None = None, **settings: Any) -> Trained:
    """Train a network on a folder of images; the run's folder gets the bundle and the report.

    data      the folder; not needed with ``resume``
    resume    a run's folder: it goes on after its last finished epoch, as it was started
    settings  fields of the stages in ``config.TrainSettings`` by name, such as ``epochs=5``

    Raises the errors of ``errors.py``; Interrupted, when stopped by Ctrl-C or SIGTERM, says how to go on.
    """
    run, record, chosen, root = _start(data, resume, settings)
    from sightline.auditing.gate import gate
    from sightline.data.store import look_once
    from sightline.model.choose import Choice, choose
    from sightline.model.device import torch_device
    from sightline.package import ship
    from sightline.training.plan import Plan, make_plan
    from sightline.training.run import Clock, begin
    from sightline.training.session import train_network

    clock = Clock()
    device = torch_device(chosen.run.device)
    with clock("reading and looking"):
        dataset = read_dataset(root, chosen.data.task)
        limits = Limits(chosen.data.max_pixels, chosen.data.max_bytes)
        begun = run is not None and run.has_checkpoint
        choice = Choice.from_json(record["choice"]) if begun else choose(chosen.network, median_side(dataset, limits))
        looking = {"workers": chosen.data.workers or processors(), "limit_bytes": chosen.data.store_limit * 1e9}
        gated = gate(dataset, look_once(dataset, choice.store_side, limits=limits, **looking), chosen.data, chosen.run.seed)
        gated.announce()
    plan = Plan.from_json(record["plan"]) if record else make_plan(chosen.training, gated.n_train, pretrained=choice.pretrained)
    for sentence in (*choice.reasons, *plan.reasons):
        console.say(sentence)
    run = run or begin(root, gated.dataset, chosen, choice, plan)
    run.check_unchanged(gated.dataset)
    try:
        with clock("training"):
            trained = train_network(gated.dataset, gated.store, choice, plan, chosen, device, run.folder, resume=begun)
        numbers = ship(trained, gated, choice, plan, chosen, run, clock)
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped. What was trained is kept: sightline train --resume {run.folder} goes on.") from None
    return Trained(run.folder, run.model, run.report, numbers)


def backbones(pattern: str | None = None, **settings: Any) -> Catalogue:
    """Backbones whose name matches a shell pattern or holds the text, in any case; without a pattern, a few well-known ones.

    settings  fields of ``config.CatalogueConfig`` by name, such as ``limit=500``

    Raises UsageError where none matches.
    """
    config = make(CatalogueConfig, settings)
    _check_installed("Listing backbones", "sightline.model.catalogue")
    from sightline.model.catalogue import catalogue

    return catalogue(pattern, config)


def _check_installed(what: str = "Training", *modules: str) -> None:
    """UsageError where libraries that the modules, by default those of training, import are missing; has to come first, as it
    sets what torch reads when imported."""
    share_processors()
    try:
        # The first two are otherwise imported only when a backbone is built, after the data was read.
        for module in ("torchvision", "timm", *(modules or ("sightline.package", "sightline.training.session"))):
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(f"{what} needs {error.name}, which is not installed: pip install 'sightline[train]'.") from error


def _start(
    data: str | Path | None, resume: str | Path | None, settings: dict[str, Any]
) -> tuple[Run | None, dict[str, Any], TrainSettings, Path]:
    """The run to go on with and its record, or None and nothing; the settings; the data's folder."""
    if resume is None and data is None:
        raise UsageError("Give the folder of images to train on, or --resume RUN.")
    chosen = TrainSettings.of(**settings)  # mistakes in settings are told before seconds are spent on importing torch
    _check_installed()
    if resume is None:
        return None, {}, chosen, Path(str(data)).resolve()
    from sightline.training.run import reopen

    run, record = reopen(Path(resume), data, settings)
    return run, record, TrainSettings.from_json(record["settings"]), Path(record["data"])


def read_dataset(root: Path, task: str | None) -> Dataset:
    """The data set at a path, its task said aloud; raises DataError, and UsageError for a task that is not there."""
    from sightline.tasks import TASKS

    if task is not None and task not in TASKS:
        raise UsageError(f"--task {task}: there is no such task, only {', '.join(TASKS)}.{did_you_mean(task, TASKS)}")
    dataset = read_folder(root)
    console.say(f"{root}: {len(dataset)} files in {len(dataset.labels)} class folders, so the task is {dataset.task}.")
    return dataset


def median_side(dataset: Dataset, limits: Limits) -> int:
    """Median shorter side in pixels of some images, from their headers; files without a sound one are passed over here
    and named when they are looked at."""
    places = np.unique(np.linspace(0, len(dataset) - 1, PEEKED_IMAGES).astype(int))
    sides = []
    for place in places:
        try:
            sides.append(min(read_size(dataset.refs[place], limits)))
        except ImageError:
            continue
    return int(np.median(sides)) if sides else 0


def evaluate(model: str | Path, data: str | Path, *, split: str | None = None, **settings: Any) -> dict[str, Any]:
    """Metrics of a bundle on a labelled folder, as ``{"task", "split", "n", "metrics", "intervals", "refused", "seen"}``.

    split   train, validation, test, or "all". By default the test images, where the data came split; where it did not, the
            images that the model was not trained or validated on, which it knows by their content
    """
    config = make(RuntimeConfig, settings)
    if split is not None and split not in (*SPLITS, "all"):
        raise UsageError(f"--split {split}: must be one of {', '.join(SPLITS)} or all.{did_you_mean(split, (*SPLITS, 'all'))}")
    with Bundle.open(Path(model)) as bundle:
        opened = Model.of(bundle, threads=config.threads)
        seen = set(bundle.arrays("reference")["seen"].tolist()) if bundle.has("reference") else set()
    dataset = read_folder(data)
    targets = _targets_for(opened, dataset, bundle.path)
    rows, name = _rows_for(dataset, split, seen)
    refused, raws, used = [], [], []
    limits = Limits(config.max_pixels, config.max_bytes)
    stream = opened.raw([dataset.refs[row] for row in rows], batch_size=config.batch_size, limits=limits)
    for batch in console.track(stream, -(-len(rows) // config.batch_size), "Evaluating"):
        refused += [{"path": error.path, "reason": error.reason} for _, error in batch.errors]
        used += [rows[position] for position in batch.positions]
        raws.append(batch.raw)
    if not used:
        raise DataError(f"{data}: none of its {len(rows)} images of the {name} split could be read.")
    raw = {output: np.concatenate([batch[output] for batch in raws if batch]) for output in opened.task.OUTPUTS}
    keys = [str(dataset.refs[row]) for row in used]
    result = opened.task.evaluate(raw, targets[used], opened.labels, opened.manifest.temperature, keys)
    known = sum(content_key(dataset.refs[row]) in seen for row in used) if seen else 0
    if known and name != "train":
        console.warn(f"{known} of these {len(used)} images were used in training, so these figures flatter the model.")
    for entry in refused:
        console.warn(f"{entry['path']}: {entry['reason']}; left out.")
    return {"task": opened.manifest.task, "split": name, "n": result["n"], "metrics": result["metrics"],
            "intervals": result["intervals"], "refused": refused, "seen": known}  # fmt: skip


def _targets_for(model: Model, dataset: Dataset, path: Path) -> NDArray[np.int64]:
    """The data's targets as indices into the model's labels; DataError naming every class the model does not know."""
    unknown = [label for label in dataset.labels if label not in model.labels]
    if unknown:
        hints = "".join(did_you_mean(label, model.labels) for label in unknown[:1])
        raise DataError(f"{dataset.root}: {path} does not know the class {', '.join(map(repr, unknown))}.{hints}")
    index = np.array([model.labels.index(label) for label in dataset.labels], np.int64)
    assert dataset.targets is not None
    return index[dataset.targets]


def _rows_for(dataset: Dataset, split: str | None, seen: set[int]) -> tuple[NDArray[np.int64], str]:
    everything = np.arange(len(dataset))
    if split == "all":
        return everything, "all"
    if dataset.splits is not None:
        rows = dataset.rows_of(split or "test")
        if not len(rows):
            found = ", ".join(name for name in SPLITS if len(dataset.rows_of(name)))
            raise DataError(f"{dataset.root}: has no {split or 'test'} images, only {found}; choose with --split.")
        return rows, split or "test"
    if split in ("train", "validation"):
        raise DataError(f"{dataset.root}: did not come split, so there are no {split} images to choose; use --split all.")
    rows = np.array([row for row in everything if content_key(dataset.refs[row]) not in seen], np.int64)
    if not len(rows):
        raise DataError(f"{dataset.root}: the model was trained on all of these images; give it new ones, or --split all.")
    if seen:
        console.say(f"The data did not come split: evaluating the {len(rows)} of {len(dataset)} images not used in training.")
    return rows, "test" if seen else "all"


def predict(model: str | Path, images: Sequence[str | Path], **settings: Any) -> Iterator[tuple[str, Prediction | ImageError]]:
    """(path, prediction or error) for each image in order, with a folder standing for the images below it.

    Opens the model before the first is asked for, so that what is wrong with it is raised here.
    """
    config = make(RuntimeConfig, settings)
    opened = Model.open(model, threads=config.threads)
    paths: list[str] = []
    for image in map(Path, images):
        paths += [ref.path for ref in read_unlabelled(image).refs] if image.is_dir() else [str(image)]
    limits = Limits(config.max_pixels, config.max_bytes)
    found = opened.stream((ImageRef(path) for path in paths), batch_size=config.batch_size, limits=limits)
    return zip(paths, console.track(found, len(paths), "Predicting"), strict=True)


def verify(model: str | Path, *, threads: int | None = None) -> dict[str, Any]:
    """Replay the images a bundle carries, as ``{"model", "n", "max_difference", "tolerance"}``.

    Raises ModelFileError when the file is not sound, RequirementNotMet when this machine computes something else.
    """
    from sightline import replay

    with Bundle.open(Path(model)) as bundle:
        count, difference = replay.largest_difference(bundle, Model.of(bundle, threads=threads))
    if not difference <= replay.TOLERANCE:
        raise RequirementNotMet(
            f"{model}: its predictions on this machine differ by up to {difference:.3g} from what was recorded, more than "
            f"{replay.TOLERANCE:g}; do not use it here, and compare the versions that 'sightline doctor' lists."
        )
    return {"model": str(model), "n": count, "max_difference": difference, "tolerance": replay.TOLERANCE}


def content_key(ref: ImageRef) -> int:
    """The first eight bytes of the sha256 of a file's content, by which a bundle knows what it was trained on; -1 if unreadable."""
    import hashlib

    try:
        return int.from_bytes(hashlib.sha256(Path(ref.path).read_bytes()).digest()[:8], "big")
    except OSError:
        return -1
