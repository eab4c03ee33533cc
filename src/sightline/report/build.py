"""From what a run found to ``report.json`` and ``report.html``."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.decode import Limits, decode
from sightline.data.reading import Reading
from sightline.processor import processor_name
from sightline.records import ImageRef
from sightline.report.html import render
from sightline.report.pictures import layered, marked, thumbnail
from sightline.tasks import Task
from sightline.tasks.blocks import Gallery, Picture

FORMAT = 1
# Twice the side of a thumbnail: decoding may stop there.
THUMBNAIL_DECODE_SIDE = 448
LIBRARIES = (
    "numpy",
    "Pillow",
    "onnxruntime",
    "torch",
    "torchvision",
    "timm",
    "scikit-learn",
    "scikit-image",
    "onnx",
    "tifffile",
    "pydicom",
)


def now() -> str:
    """The present moment in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def library_versions() -> dict[str, str]:
    """Versions of Sightline and of the libraries that are installed and can change a result."""
    found = {"sightline": importlib.metadata.version("sightline"), "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment(seed: int) -> dict[str, Any]:
    """The report's ``environment`` section."""
    return {"python": platform.python_version(), "platform": platform.platform(), "processor": processor_name(), "seed": seed,
            "versions": library_versions()}  # fmt: skip


def html(
    report: Mapping[str, Any],
    task: Task,
    refs: Mapping[str, ImageRef],
    reading: Reading = Reading(),
    limits: Limits = Limits(),
    pictures: Mapping[str, bytes] = MappingProxyType({}),
) -> str:
    """The report as one page; its pictures are the original images as the network sees them, found by ``refs`` by their names, and
    ``pictures`` that were made, JPEG or PNG bytes by key."""
    blocks = task.blocks(report["test"])
    wanted = [picture for block in blocks if isinstance(block, Gallery) for picture in block.pictures]
    drawn: dict[str, bytes] = {}
    for key in sorted({picture.key for picture in wanted}):
        shown = {picture.shown: picture for picture in wanted if picture.key == key}
        whole = any(picture.marks for picture in shown.values())  # marks are in pixels of the original
        image = decode(refs[key], min_side=None if whole else THUMBNAIL_DECODE_SIDE, reading=reading, limits=limits)
        drawn.update({name: _drawn(image, picture) for name, picture in shown.items()})
    return render(report, blocks, {**pictures, **drawn})


def _drawn(image: NDArray[np.uint8], picture: Picture) -> bytes:
    if picture.marks:
        return marked(image, picture.marks)
    return layered(image, picture.layers) if picture.layers else thumbnail(image)
