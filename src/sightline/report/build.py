"""From what a run found to ``report.json`` and ``report.html``."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from sightline.data.decode import Limits, decode
from sightline.data.reading import Reading
from sightline.processor import processor_name
from sightline.records import ImageRef
from sightline.report.html import render
from sightline.report.pictures import thumbnail
from sightline.tasks import Task
from sightline.tasks.blocks import Gallery

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
    keys = {picture.key for block in blocks if isinstance(block, Gallery) for picture in block.pictures}
    pixels = {key: decode(refs[key], min_side=THUMBNAIL_DECODE_SIDE, reading=reading, limits=limits) for key in sorted(keys)}
    return render(report, blocks, {**pictures, **{key: thumbnail(image) for key, image in pixels.items()}})
