"""Reader of WebDataset's shards: tar archives in which what belongs to one sample has one name: ``0001.jpg`` and ``0001.cls``.

The images are read where they lie in the shards. What an image shows is said by ``.cls`` (a class, mostly its number), ``.json`` (under
one of LABEL_KEYS, a text, a number or a list of them) or ``.txt`` (a text) of the same name.
"""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.container import all_members, is_archive, read_members
from sightline.data.findings import Faults
from sightline.data.formats import FORMATS
from sightline.data.listing import names_on_disk
from sightline.errors import DataError, ImageError, TaskError
from sightline.records import NO_TARGET, Dataset, Refs
from sightline.texts import Texts

SUFFIX = ".tar"
LABEL_KEYS = ("label", "labels", "class", "cls", "category", "class_name", "tags")
# What says the label, the surest first.
SAYING = ("cls", "json", "txt")
IMAGES = frozenset(suffix[1:] for known in FORMATS.values() for suffix in known.suffixes.split())
MAX_BYTES = 1_000_000
# More than this share of different texts are captions, and no labels; of so few images nothing is said.
CAPTIONS, FEW = 0.5, 20
_PATTERN = re.compile(r"[*?\[{]")
_BRACES = re.compile(r"\{([^{}]*)\}")

Labels = tuple[str, ...]


def is_pattern(path: Path) -> bool:
    """Whether a name stands for several shards, such as ``train-{0000..0009}.tar`` or ``*.tar``."""
    return str(path).endswith(SUFFIX) and _PATTERN.search(str(path)) is not None and not path.exists()


def shards_of(path: Path) -> tuple[Path, ...]:
    """The shards that a place is, in order: those of a pattern, those in a folder without other images, or one with labels beside
    its images. None for any other place; raises DataError for a pattern that means a file that is not there, or nothing."""
    if is_pattern(path):
        return _matching(path)
    if path.is_dir():
        with suppress(OSError):  # said by who lists it as a folder of images
            found = sorted(name for name in os.listdir(path) if name.lower().endswith(SUFFIX) and not name.startswith("."))
            return () if not found or any(True for _ in names_on_disk(path)) else tuple(path / name for name in found)
        return ()
    return (path,) if path.suffix.lower() == SUFFIX and path.is_file() and _says_labels(path) else ()


def _matching(path: Path) -> tuple[Path, ...]:
    found: list[str] = []
    for name in expanded(str(path)):
        matches = sorted(glob.glob(name)) if glob.has_magic(name) else [name]
        if not matches or not Path(matches[0]).exists():
            raise DataError(f"{path}: there is no {name}; write a pattern of shards that are there, such as train-{{0000..0009}}.tar.")
        found += matches
    return tuple(map(Path, sorted(set(found))))


def expanded(text: str) -> Iterator[str]:
    """What a shell makes of braces: ``{a,b}`` and ``{000..010}``."""
    braces = _BRACES.search(text)
    if braces is None:
        yield text
        return
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", braces[1])
    if ends:
        first, last = int(ends[1]), int(ends[2])
        words: Iterable[str] = (f"{number:0{len(ends[1])}d}" for number in range(first, last + 1))
    else:
        words = braces[1].split(",")
    for word in words:
        yield from expanded(f"{text[: braces.start()]}{word}{text[braces.end() :]}")


def _says_labels(path: Path) -> bool:
    """Whether a tar holds classes beside its images; one of class folders is read by these, whatever lies beside its images."""
    kinds = {name.rpartition("/")[2].partition(".")[2].lower() for name in all_members(path)}
    return "cls" in kinds and not kinds.isdisjoint(IMAGES)


@dataclass
class _Gathering:
    """What the shards give together: images by their names and shards, and what each of them shows, by its place in ``known``."""

    faults: Faults
    names: list[Texts] = field(default_factory=list)
    which: array[int] = field(default_factory=lambda: array("q"))
    said: array[int] = field(default_factory=lambda: array("q"))
    known: dict[Labels, int] = field(default_factory=dict)
    by_text: int = 0

    @property
    def amount(self) -> str:
        return "one label" if all(len(labels) == 1 for labels in self.known) else "several labels"

    def add(self, number: int, shard: Path) -> None:
        images, saying = _samples(shard, self.faults)
        found: dict[str, Labels | None] = {}
        for key, data in zip(saying, read_members(str(shard), saying.values(), MAX_BYTES), strict=True):
            found[key] = self._labels(f"{shard.name}!{saying[key]}", data)
        kept = [(name, found.get(key, ())) for key, name in images.items()]
        self.names.append(Texts.of(name for name, labels in kept if labels is not None))
        for _, labels in kept:
            if labels is not None:
                self.which.append(number)
                self.said.append(self.known.setdefault(labels, len(self.known)) if labels else NO_TARGET)

    def _labels(self, name: str, data: bytes | ImageError) -> Labels | None:
        """What a member says, nothing where it has no label; None, and a fault, for one that cannot be understood."""
        try:
            if isinstance(data, ImageError):
                raise data
            text = data.decode("utf-8-sig").strip()
            if name.lower().endswith(".json"):
                return _in_json(text)
        except (ImageError, ValueError, RecursionError) as error:
            self.faults.add("samples whose label cannot be read, left out", f"{name}: {getattr(error, 'reason', error)}")
            return None
        self.by_text += name.lower().endswith(".txt")
        return (text,) if text else ()


def _samples(shard: Path, faults: Faults) -> tuple[dict[str, str], dict[str, str]]:
    """A shard's images, and the members that say what is on them, by the name that is the sample's."""
    images: dict[str, str] = {}
    saying: dict[str, str] = {}
    for name in all_members(shard):
        folder, slash, last = name.rpartition("/")
        stem, _, kind = last.partition(".")
        key, kind = f"{folder}{slash}{stem}", kind.lower()
        if kind.rpartition(".")[2] in IMAGES:
            if key in images:
                faults.add("samples with several images, of which the first is taken", f"{shard.name}!{name}")
            else:
                images[key] = name
        elif kind in SAYING and (key not in saying or SAYING.index(kind) < SAYING.index(saying[key].rpartition(".")[2].lower())):
            saying[key] = name
    return images, {key: name for key, name in saying.items() if key in images}


def _in_json(text: str) -> Labels:
    said = json.loads(text)
    if isinstance(said, dict):
        said = next((said[key] for key in LABEL_KEYS if said.get(key) is not None), ())
    said = said if isinstance(said, list | tuple) else (said,)
    if not all(isinstance(one, str | int) and not isinstance(one, bool) for one in said):
        raise ValueError("its label is neither a text nor a number")
    return tuple(dict.fromkeys(str(one).strip() for one in said))


def read_webdataset(root: Path, shards: tuple[Path, ...], task: str | None = None) -> tuple[Dataset, str]:
    """The images of shards with their labels, for ``classify`` where each has at most one and for ``tag`` else; and what was found.

    The splits are those that the shards' names say. Raises DataError where nothing is labelled, TaskError for another task.
    """
    from sightline.data.tree import stem_split  # stands on the reader of folders, and that on this

    gathering = _Gathering(Faults(root))
    for number, shard in enumerate(shards):
        gathering.add(number, shard)
    n = len(gathering.which)
    if not gathering.known:
        gathering.faults.refuse("its shards do not say what images show; put NAME.cls, NAME.json with a label or NAME.txt beside NAME.jpg")
    if gathering.by_text > FEW and len(gathering.known) > CAPTIONS * n:
        raise DataError(f"{root}: the texts beside its images are captions, not labels; put the classes into NAME.cls or NAME.json.")
    gives = "classify" if all(len(labels) == 1 for labels in gathering.known) else "tag"
    if task is not None and task not in (gives, "tag"):
        raise TaskError(task, f"the shards of {root} say {gathering.amount} an image, which gives {gives}.")
    labels = _sorted({label for known in gathering.known for label in known})
    which, splits = np.frombuffer(gathering.which, np.int64), np.array([stem_split(shard.name) for shard in shards])
    names = Texts.of(itertools.chain.from_iterable(gathering.names))
    dataset = Dataset(
        root=root, task=task or gives, labels=labels, refs=Refs(names, tuple(map(str, shards)), which, packed=True),
        targets=_targets(gathering, labels, task or gives), splits=splits[which] if splits.astype(bool).any() else None,
    )  # fmt: skip
    if dataset.task == "classify" and len(bare := np.flatnonzero(dataset.targets == NO_TARGET)):
        for row in bare.tolist():
            gathering.faults.add("images without a label, left out", str(dataset.refs[row]))
        dataset = dataset.select(np.flatnonzero(dataset.targets != NO_TARGET))
    gathering.faults.tell()
    return dataset, f"{len(dataset)} images in {len(shards)} shard{'s' * (len(shards) != 1)} with {len(labels)} labels"


def _sorted(labels: set[str]) -> Labels:
    """By number where all are numbers."""
    return tuple(sorted(labels, key=int if all(label.isdecimal() for label in labels) else str))


def _targets(gathering: _Gathering, labels: Labels, task: str) -> NDArray[Any]:
    index, said = {label: place for place, label in enumerate(labels)}, np.frombuffer(gathering.said, np.int64)
    if task == "classify":
        places = np.array([*(index[known[0]] for known in gathering.known), NO_TARGET])
        return places[said]
    held = np.zeros((len(gathering.known) + 1, len(labels)), bool)
    for row, known in enumerate(gathering.known):
        held[row, [index[label] for label in known]] = True
    return held[said]


def unlabelled_refs(shards: tuple[Path, ...]) -> Refs:
    """All images of shards."""
    found = [[name for name in all_members(shard) if name.rpartition(".")[2].lower() in IMAGES] for shard in shards]
    which = np.repeat(np.arange(len(shards)), list(map(len, found)))
    return Refs(Texts.of(itertools.chain.from_iterable(found)), tuple(map(str, shards)), which, packed=True)


def member_of(name: str) -> tuple[str, str] | None:
    """The shard and the member that a name such as ``train-0.tar!0001.jpg`` means; None for any other."""
    shard, _, member = name.partition("!")
    return (shard, member) if member and is_archive(shard) else None
