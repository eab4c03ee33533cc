"""Images as a user names them: files, folders and archives of them, files of several pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sightline.data.container import is_archive
from sightline.data.decode import Limits, pages
from sightline.data.folder import read_unlabelled
from sightline.errors import ImageError, UsageError
from sightline.records import ImageRef

# Suffixes of formats that hold several images.
PAGED = (".tif", ".tiff", ".dcm", ".dicom")


def given_images(images: Sequence[str | Path], limits: Limits = Limits()) -> list[ImageRef]:
    """Every image that is meant, in order; a file that is none is among them, to be named when its turn comes.

    Raises UsageError where nothing is named, DataError for a folder or an archive without images.
    """
    if not images:
        raise UsageError("Give at least one image or folder after the model.")
    return [page for image in images for page in images_at(Path(image), limits)]


def images_at(place: Path, limits: Limits = Limits()) -> Iterator[ImageRef]:
    """The images that one file, folder or archive stands for; raises DataError for a folder or an archive without any."""
    found = read_unlabelled(place).refs if place.is_dir() or is_archive(place) else [ImageRef(str(place))]
    return (page for ref in found for page in _pages(ref, limits))


def _pages(ref: ImageRef, limits: Limits) -> list[ImageRef]:
    """The image's pages; only files whose name says that there may be several are opened for it."""
    if not str(ref).lower().endswith(PAGED):
        return [ref]
    try:
        return [replace(ref, frame=frame) for frame in range(pages(ref, limits))]
    except ImageError:
        return [ref]
