"""What bulk work may be given: images, folders and archives of them, parquet tables, lists of any of these."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sightline import console
from sightline.bulk.tables import TABLE, is_table, table_refs
from sightline.data.container import is_archive
from sightline.data.decode import Limits
from sightline.data.given import images_at
from sightline.data.listing import names_on_disk, shown_names
from sightline.data.remote import url_of
from sightline.errors import DataError, UsageError
from sightline.records import ImageRef

LIST = ".txt"


def listed(words: Sequence[str | Path], column: str | None = None, limits: Limits = Limits()) -> Iterator[ImageRef]:
    """Every image that is meant, in order, one place after the other, so that only one place's names are in memory.

    words   image files; folders and archives of images; folders of archives or tables; parquet tables; text files (.txt) that name one
            of these on each line, from where the text lies; and patterns such as ``shards/*.tar``
    column  of tables, the one that holds images; found by its name when not given

    Of several places, one that cannot be listed is a single image, whose row will have the reason. Raises UsageError where nothing is
    named, a list names itself or something is named by a URL, DataError where the only place cannot be listed.
    """
    if not words:
        raise UsageError("Give at least one image or folder after the model.")
    places = [place for word in words for place in _places(Path(word), ())]
    for place in places:
        try:
            yield from table_refs(place, column) if is_table(place) else images_at(Path(place), limits)
        except DataError as error:
            if len(places) == 1:
                raise
            console.warn(f"{error} It is one row of the output, with that as its error.")
            yield ImageRef(str(place))


def _places(word: Path, lists: tuple[Path, ...]) -> Iterator[Path]:
    """The files and folders that a word stands for; ``lists`` are those it came from."""
    url = url_of(word)
    if url is not None and not os.path.lexists(word):
        # Keys are paths as they were given, which those of a copy are not, and workers on other machines would not see it.
        raise UsageError(f"{url}: is named by a URL, which bulk work does not read; copy it to where all workers see it and give its path.")
    if word.is_dir() and not is_archive(word):
        yield from _containers(word)
    elif word.suffix.lower() == LIST and word.is_file():
        if word in lists:
            raise UsageError(f"{word}: this list names itself; take that line out.")
        for line in _lines(word):
            yield from _places(Path(line if url_of(line) else os.path.join(word.parent, line)), (*lists, word))
    elif not os.path.lexists(word) and glob.has_magic(str(word)):
        found = sorted(glob.glob(str(word), recursive=True))
        if not found:
            raise DataError(f"{word}: no file has such a name.")
        for each in found:
            yield from _places(Path(each), lists)
    else:
        yield word


def _containers(folder: Path) -> list[Path]:
    """The folder itself; or, where it holds no images but archives or tables of them, those."""
    if next(iter(names_on_disk(folder)), None) is not None:
        return [folder]
    return [folder / name for name in names_on_disk(folder, wanted=_container_names)] or [folder]


def _container_names(names: list[str]) -> list[str]:
    return [name for name in shown_names(names) if name.lower().endswith(TABLE) or is_archive(name)]


def _lines(path: Path) -> list[str]:
    """The lines of a list, without empty ones and remarks behind #."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: this list cannot be read ({error}); it must be text in UTF-8.") from error
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise DataError(f"{path}: this list names no file.")
    return found
