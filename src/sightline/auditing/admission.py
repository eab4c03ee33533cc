"""How data come to a training: read, cut into tiles, a network chosen for them, looked at, decided on, and past the gate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightline import console
from sightline.auditing.decisions import Decisions, read_decisions
from sightline.auditing.gate import Gated, gate, relative_name
from sightline.config import NetworkConfig, TrainSettings
from sightline.data.decode import Limits
from sightline.data.look import median_size
from sightline.data.part import Part
from sightline.data.readers import read_dataset
from sightline.data.reading import Reading
from sightline.data.store import Store, look_once
from sightline.data.windows import Tiling, cut, is_cut, surplus
from sightline.model.choose import Choice, choose
from sightline.model.rfdetr import check_asked
from sightline.processor import processors
from sightline.records import Dataset
from sightline.requirements import check_task, parse
from sightline.tasks import known_task, load_task
from sightline.training.plan import check_scenes
from sightline.training.presets import network_for, settled

# The longest side of a network's input for tiles that nobody asked for otherwise.
MOST_TILE = 1024


@dataclass(frozen=True)
class Admitted:
    """The data as they came, with all their images, what of them passed the gate, and the network that was chosen for them.

    ``settings`` are those asked for, with what the data decide of them; ``whole`` is what passed, with what training then leaves out.
    """

    settings: TrainSettings
    dataset: Dataset
    store: Store
    gated: Gated
    choice: Choice
    whole: Dataset


def admit(
    root: Path, chosen: TrainSettings, *, choice: Choice | None = None, module: Any = None, fold: int | None = None, retry: bool = True
) -> Admitted:
    """The data at ``root``, looked at and split as the settings say.

    ``choice`` is the network of a training that goes on; without one, it is chosen here. ``module`` is a user's own backbone, ``fold`` the
    number, from 1, of the fold that is the test set. ``retry`` says whether files that were refused are looked at again.
    """
    limits, reading = Limits(chosen.data.max_pixels, chosen.data.max_bytes), Reading.of(chosen.data.window, chosen.data.bands)
    dataset, decisions = _read(root, chosen, limits)
    if choice is None:
        typical = median_size(dataset, limits)
        chosen = settled(chosen, dataset, typical)
        wanted = network_for(chosen, dataset, typical, _of_tiles(chosen, dataset))
        choice = choose(wanted, typical, reading, module, scenes=dataset.is_scenes)
    looking = {"workers": chosen.data.workers or processors(), "limit_bytes": chosen.data.store_limit * 1e9, "retry": retry}
    store = look_once(dataset, choice.store_side, limits=limits, reading=reading, **looking)
    rows, said = Part.asked(chosen.data.where, chosen.data.limit).rows(dataset, store.facts, chosen.run.seed)
    if said:
        dataset, store, decisions = dataset.select(rows), store.select(rows), decisions.among(rows)
    passed = gate(decisions.applied(dataset), store.select(decisions.kept(dataset)), chosen.data, chosen.run.seed, fold)
    gated = _without_bare_tiles(replace(passed, origin=f"{said} {passed.origin}".strip()), chosen.run.seed)
    gated.announce()
    return Admitted(chosen, dataset, store, gated, choice, passed.dataset)


def _read(root: Path, chosen: TrainSettings, limits: Limits) -> tuple[Dataset, Decisions]:
    """The data, cut into tiles where that is asked for, and what a person decided about them that is not done yet."""
    tiling, asked = Tiling.asked(chosen.data.tile, chosen.data.overlap), known_task(chosen.data.task)
    if asked is not None:  # label maps take a while to read
        check_scenes(chosen.training, chosen.augment, load_task(asked).SCENES)
        check_asked(chosen, asked)
    dataset, found = read_dataset(root, chosen.reading, asked, limits)
    console.say(found)
    check_scenes(chosen.training, chosen.augment, load_task(dataset.task).SCENES)
    check_asked(chosen, dataset.task)
    if chosen.trial.require is not None:
        check_task(parse(chosen.trial.require), dataset.task, len(dataset.labels))
    decisions = _decided(dataset, chosen.data.decisions)
    if tiling is None:
        return dataset, decisions
    # Decisions are about whole pictures, so they come first.
    dataset = cut(decisions.applied(dataset), tiling, limits)
    if is_cut(dataset):
        Part.asked(chosen.data.where, chosen.data.limit).check_cut()
    return dataset, Decisions()


def _decided(dataset: Dataset, path: str | None) -> Decisions:
    """What a person decided about the images; nothing where no file is given."""
    if path is None:
        return Decisions()
    decisions = read_decisions(Path(path), dataset, [relative_name(ref, dataset.root) for ref in dataset.refs])
    decisions.say()
    return decisions


def _of_tiles(chosen: TrainSettings, dataset: Dataset) -> NetworkConfig:
    """The network's settings; where tiles are learned, they are seen at full size, as far as the processor can bear."""
    asked = chosen.network
    if asked.size is not None or chosen.data.tile is None or not is_cut(dataset):
        return asked
    return replace(asked, size=min(chosen.data.tile, MOST_TILE))


def _without_bare_tiles(gated: Gated, seed: int) -> Gated:
    """The same without the tiles that show nothing and of which there are more than of others."""
    bare = surplus(gated.dataset, seed)
    if not len(bare):
        return gated
    why = f"{len(bare)} tiles that show nothing were left out of training, so that no more of them are there than of others."
    return gated.without(bare, why)
