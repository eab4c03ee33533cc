"""Keeping a device busy: the next batch is made and copied while it computes on this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.processor import processors

# More threads than this only take turns at what of Python each of them needs.
MOST_MAKERS = 16
Batch = tuple[Tensor, Tensor]


def makers(device: torch.device) -> int:
    """How many threads make batches: one where the processor computes the steps as well, or all but the one that starts them."""
    return 1 if device.type == "cpu" else max(1, min(MOST_MAKERS, processors() - 1))


def copied(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """The array on the device; to CUDA it goes from pinned memory, so that nobody waits for the copy."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def one_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches, each asked for before the one in front of it is used; on CUDA copied and changed in a stream of its own.

    So the copy of the next batch runs beside the step that learns from this one, as the hardware has engines for both.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    if stream:  # images that lie on the device may have been put there a moment ago
        stream.wait_stream(torch.cuda.current_stream(device))

    def take() -> Batch | None:
        with torch.cuda.stream(stream) if stream else nullcontext():
            return next(batches, None)

    upcoming = take()
    while upcoming is not None:
        batch = upcoming
        if stream:
            current = torch.cuda.current_stream(device)
            current.wait_stream(stream)
            for tensor in batch:  # their memory is not used again before this step is done with it
                tensor.record_stream(current)
        upcoming = take()
        yield batch
