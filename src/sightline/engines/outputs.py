"""What a graph gives, before anyone reads it: a graph from elsewhere may fail on an image, or give other things than its task takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import ModelFileError, ResourceError
from sightline.records import Infer

if TYPE_CHECKING:
    from sightline.engines.adapters import Work

_NO_MEMORY = ("bad_alloc", "Failed to allocate", "Available memory of", "not enough memory")


def checked(infer: Infer, work: Work) -> Infer:
    """``infer`` with every fault of the graph as one error: ModelFileError, or ResourceError where it asks for more memory than it may
    take. A ValueError, for images that the caller should not give, stays one."""

    def safely(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        try:
            raw = infer(batch)
        except ValueError:
            raise
        except Exception as error:  # each engine has types of its own
            said = " ".join(str(error).split())
            if isinstance(error, MemoryError) or any(words in said for words in _NO_MEMORY):
                text = f"{work.source}: its graph asks for more memory than it may take; try a smaller --batch-size or --threads."
                raise ResourceError(text) from error
            raise ModelFileError(f"{work.source}: its graph fails on an image ({said[:200]}); export the model again.") from error
        if fault := _fault(raw, work.shapes, len(batch)):
            raise ModelFileError(f"{work.source}: its graph gives {fault}; export the model again.")
        return raw

    return safely


def _fault(raw: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int | str, ...]], count: int) -> str | None:
    sizes: dict[str, int] = {}
    for name, values in raw.items():
        if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.shape[:1] != (count,):
            return f"no numbers in float32 for each image as {name}"
        if not np.isfinite(values).all():
            return f"{name} that are not finite"
        if (shape := shapes.get(name)) is None:
            continue
        wanted = [sizes.setdefault(size, found) if isinstance(size, str) else size for size, found in zip(shape, values.shape[1:])]  # noqa: B905
        if len(shape) + 1 != values.ndim or tuple(wanted) != values.shape[1:]:
            return f"{name} of {values.shape[1:]} for an image, where {shape} belong"
    return None
