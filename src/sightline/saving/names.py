"""Names for files about images, none of which is taken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sightline.errors import ResourceError
from sightline.records import ImageRef


def stem_of(ref: ImageRef) -> str:
    """An image's name without folders and suffix, with the number of its page from the second on."""
    return Path(ref.member or ref.path).stem + (f"-{ref.frame}" if ref.frame else "")


def free_name(wanted: Path, *also: str) -> Path:
    """The first name that is not taken, neither as it is nor with one of the other endings: this one, or with -2, -3... behind it."""
    number, path = 1, wanted
    while any(os.path.lexists(each) for each in (path, *(path.with_name(path.stem + ending) for ending in also))):
        number += 1
        path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
    return path


@contextmanager
def writing(flag: str, place: Path) -> Iterator[None]:
    """Raises ResourceError, which names the flag, for what cannot be written."""
    try:
        yield
    except OSError as error:
        where = error.filename or place
        raise ResourceError(f"{where}: could not be written ({error.strerror}); make room or give another {flag}.") from error
