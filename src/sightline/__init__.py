"""From a folder of images to a recogniser you can trust, ship and keep up to date.

>>> import sightline
>>> run = sightline.train("photos/")                       # doctest: +SKIP
>>> model = sightline.Model.open(run.model)                # doctest: +SKIP
>>> model.predict("photo.jpg").label                       # doctest: +SKIP
'cat'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Public names and where they live. They are imported when first used, so that importing the package costs nothing.
_PUBLIC = {
    "train": "pipeline", "audit": "pipeline", "evaluate": "pipeline", "predict": "pipeline", "verify": "pipeline", "compare": "pipeline",
    "backbones": "pipeline", "embed": "bulk.run", "explain": "pipeline", "export": "pipeline", "sign": "signing",
    "Model": "runtime", "Bundle": "bundle", "Prepare": "data.prepare",
    "Dataset": "records", "ImageRef": "records", "Sample": "records", "Classification": "predictions", "Tags": "predictions",
    "Detections": "scenes", "Segmentation": "scenes", "Objects": "scenes", "LabelMap": "scenes",
    "Infer": "records",
    "SightlineError": "errors", "UsageError": "errors", "DataError": "errors", "ImageError": "errors", "ModelFileError": "errors",
    "DeviceError": "errors", "ResourceError": "errors", "RequirementNotMet": "errors",
}  # fmt: skip

if TYPE_CHECKING:
    from sightline.bulk.run import embed
    from sightline.bundle import Bundle
    from sightline.data.prepare import Prepare
    from sightline.errors import (
        DataError,
        DeviceError,
        ImageError,
        ModelFileError,
        RequirementNotMet,
        ResourceError,
        SightlineError,
        UsageError,
    )
    from sightline.pipeline import audit, backbones, compare, evaluate, explain, export, predict, train, verify
    from sightline.predictions import Classification, Tags
    from sightline.records import Dataset, ImageRef, Infer, Sample
    from sightline.runtime import Model
    from sightline.scenes import Detections, LabelMap, Objects, Segmentation
    from sightline.signing import sign


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("sightline")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sightline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sightline.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*_PUBLIC, "__version__"])


__all__ = [
    "Bundle", "Classification", "DataError", "Dataset", "Detections", "DeviceError", "ImageError", "ImageRef", "Infer", "LabelMap", "Model",
    "ModelFileError", "Objects", "Prepare", "RequirementNotMet", "ResourceError", "Sample", "Segmentation", "SightlineError", "Tags",
    "UsageError", "audit", "backbones", "compare", "embed", "evaluate", "explain", "export", "predict", "sign", "train",
    "verify",
]  # fmt: skip
