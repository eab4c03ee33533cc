"""Images as a user names them: files, folders and archives of them, files of several pages."""

from __future__ import annotations

from collections.abc import Sequence
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
    refs: list[ImageRef] = []
    for image in map(Path, images):
        found = read_unlabelled(image).refs if image.is_dir() or is_archive(image) else [ImageRef(str(image))]
        refs += [page for ref in found for page in _pages(ref, limits)]
    return refs


def _pages(ref: ImageRef, limits: Limits) -> list[ImageRef]:
    """The image's pages; only files whose name says that there may be several are opened for it."""
    if not str(ref).lower().endswith(PAGED):
        return [ref]
    try:
        return [replace(ref, frame=frame) for frame in range(pages(ref, limits))]
    except ImageError:
        return [ref]
