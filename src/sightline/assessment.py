"""A bundle on labelled data: its figures, which images they are of, and how many of those it had learned from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.bundle import Bundle
from sightline.config import EngineConfig, ReadConfig, RuntimeConfig
from sightline.data.chosen import read_for, rows_for, targets_for
from sightline.data.content import content_key
from sightline.data.decode import Limits
from sightline.data.windows import cut, is_cut
from sightline.errors import DataError, UsageError, did_you_mean
from sightline.records import SPLITS, Dataset
from sightline.reference import seen_by
from sightline.runtime import Model, batch_share


def assessed(
    path: Path, data: str | Path, split: str | None, reading: ReadConfig, config: RuntimeConfig, engine: EngineConfig
) -> dict[str, Any]:
    """What ``sightline.evaluate`` gives. Raises UsageError for a split that there is none of, DataError where no image could be
    read and for data of another task."""
    if split is not None and split not in (*SPLITS, "all"):
        raise UsageError(f"--split {split}: must be one of {', '.join(SPLITS)} or all.{did_you_mean(split, (*SPLITS, 'all'))}")
    with Bundle.open(path, require_signature=config.require_signature) as bundle:
        model = Model.of(bundle, **config.opening(engine.engine), many=True)
        seen = seen_by(bundle)
    limits = Limits(config.max_pixels, config.max_bytes)
    dataset = cut(read_for(bundle.path, model.manifest.task, data, reading, limits), model.tiling, limits)
    if model.tiling is not None and is_cut(dataset):
        console.say(f"The figures are of tiles of {model.tiling.side} pixels, which the model was trained on, not of whole pictures.")
    targets = targets_for(model.labels, dataset, bundle.path)

    @cache
    def is_seen(row: int) -> bool:
        return bool(seen) and content_key(dataset.refs[row], limits) in seen

    rows, name = rows_for(dataset, split, is_seen if seen else None)
    found = _computed(model, dataset, rows, targets, config.batch_size, limits)
    if not found.rows:
        raise DataError(f"{data}: none of its {len(rows)} images of the {name} split could be read.")
    keys = [str(dataset.refs[row]) for row in found.rows]
    result = model.task.evaluate(found.raw, targets[found.rows], model.labels, model.manifest.decision, keys)
    known = sum(map(is_seen, found.rows))
    if known and name != "train":
        console.warn(f"{known} of these {len(found.rows)} images were used in training, so these figures flatter the model.")
    for entry in found.refused:
        console.warn(f"{entry['path']}: {entry['reason']}; left out.")
    return {"task": model.manifest.task, "split": name, "n": result["n"], "metrics": result["metrics"],
            "intervals": result["intervals"], "answered": _answered(model, found.raw, targets[found.rows]),
            "refused": found.refused, "seen": known, "engine": model.engine}  # fmt: skip


@dataclass(frozen=True)
class _Computed:
    """The rows that could be read, what is kept of the raw outputs for each, and why the others could not."""

    rows: list[int]
    raw: dict[str, NDArray[Any]]
    refused: list[dict[str, str]]


def _computed(model: Model, dataset: Dataset, rows: NDArray[np.int64], targets: NDArray[Any], batch_size: int, limits: Limits) -> _Computed:
    raws: list[dict[str, NDArray[Any]]] = []
    used: list[int] = []
    refused: list[dict[str, str]] = []
    stream = model.raw([dataset.refs[row] for row in rows], batch_size=batch_size, limits=limits)
    for batch in console.track(stream, -(-len(rows) // batch_share(batch_size, model.streams)), "Evaluating"):
        refused += [{"path": error.path, "reason": error.reason} for _, error in batch.errors]
        used += [rows[position] for position in batch.positions]
        if batch.positions:
            raws.append(model.kept(batch.raw, targets[rows[batch.positions]]))
    return _Computed(used, {output: np.concatenate([raw[output] for raw in raws]) for output in (raws[0] if raws else ())}, refused)


def _answered(model: Model, raw: dict[str, NDArray[Any]], targets: NDArray[Any]) -> dict[str, float]:
    """``coverage``, the share of the images that are answered, and their ``accuracy``; nothing for a bundle that makes no promises."""
    cautions = model.cautions(raw)
    answered = np.array([caution is None or not caution.abstained for caution in cautions])
    if None in cautions or not answered.any():
        return {} if None in cautions else {"coverage": 0.0}
    right = np.array([outcome["right"] for outcome in model.task.outcomes(raw, targets, model.labels, model.manifest.decision)])
    return {"coverage": float(answered.mean()), "accuracy": float(right[answered].mean())}
