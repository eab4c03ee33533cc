"""The processes that train together under ``torchrun`` or Ray Train, and how they agree; a single process is a group of one.

Each takes its share of every batch. Whatever is decided by a clock or measured, and all that is validated, written or said, is the first
process's doing, and the others are told.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline import console
from sightline.errors import DeviceError, Interrupted, UsageError
from sightline.processor import end_undisturbed, launched

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

Value = TypeVar("Value")
# How long one process waits for another, which may be writing a report or decoding a million images. What ends is noticed at once.
PATIENCE = timedelta(days=30)
# How long they may take to come together at first.
MEETING = timedelta(minutes=10)
# Words of gloo's and NCCL's errors when a process at the other end is no longer there.
LOST = ("gloo", "nccl", "by peer")
TOLD = "told"
JOINED = itertools.count()


@dataclass(eq=False)
class Ranks:
    """The processes of a training.

    rank    the number of this one, from 0; the first is the one that decides
    size    how many there are
    local   the number of this one on its machine
    store   where the launcher lets processes leave words for each other; None where the group was there before us
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    store: Store | None = None
    _talk: dist.ProcessGroup | None = None
    _alone: bool = False

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """The group that a launcher started this process for, or that it is in already; one of its own where there is none.

        Raises DeviceError where there are more processes than GPUs, or the device cannot be shared.
        """
        met = dist.is_available() and dist.is_initialized()
        if launched() is None and (not met or dist.get_world_size() == 1):
            return cls()
        if device.type not in ("cpu", "cuda"):
            raise DeviceError(f"--device {device.type}: several processes cannot train on it together; give --device cpu or one process.")
        local, store = int(os.environ.get("LOCAL_RANK", "0")), None
        if not dist.is_initialized():
            if device.type == "cuda":
                _take_gpu(local)
            from torch.distributed.distributed_c10d import PrefixStore

            shared, rank, size = _meet()
            # What an earlier training of these processes has left there is not ours.
            store = PrefixStore(f"sightline/{next(JOINED)}", shared)
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)
        # Words go by gloo also between GPUs: NCCL's waiting keeps a GPU busy.
        talk = dist.new_group(timeout=PATIENCE, backend="gloo")
        assert isinstance(talk, dist.ProcessGroup), "every process is in the group of all"
        ranks = cls(dist.get_rank(), dist.get_world_size(), local, store, talk)
        if ranks.is_first:
            console.say(f"{ranks.size} processes train together, each on its share of every batch.")
        else:
            console.hush()
        return ranks

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def together(self) -> bool:
        """Whether there are others, and they are doing the same as this one at the moment."""
        return self.size > 1 and not self._alone

    def device(self, device: torch.device) -> torch.device:
        """This process's own of several GPUs; any other device as it is."""
        return torch.device("cuda", torch.cuda.current_device()) if self.size > 1 and device.type == "cuda" else device

    def of_first(self, make: Callable[[], Value]) -> Value:
        """What ``make`` gives in the first process, told to all, or the error that it raises there.

        Meanwhile the first one is by itself: what would ask the others does not, as they are waiting.
        """
        if not self.together:
            return make()
        told: list[Any] = [None, None]
        if self.is_first:
            self._alone = True
            try:
                told[0] = make()
            except Exception as error:
                told[1] = error
            finally:
                self._alone = False
        dist.broadcast_object_list(told, src=0, group=self._talk)
        if told[1] is not None:
            raise told[1]
        return told[0]  # type: ignore[no-any-return]

    def agree(self, number: float) -> float:
        """The first process's number, in all of them."""
        if not self.together:
            return number
        told = torch.tensor([number], dtype=torch.float64)
        dist.broadcast(told, src=0, group=self._talk)
        return float(told)

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes, in their order."""
        found = [value] * (self.size if self.together else 1)
        if self.together:
            dist.all_gather_object(found, value, group=self._talk)
        return found

    def wait(self) -> None:
        """Until all have come here."""
        if self.together:
            dist.barrier(group=self._talk)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """First one process of each machine, then its others, for which lies on the disk what it has made."""
        if self.local:
            self.wait()
        yield
        if not self.local:
            self.wait()

    def share(self, n: int) -> tuple[NDArray[np.int64], int]:
        """The places in a batch of n that are this process's, and how many of them count.

        The places are as a mirror would have them: with each the one that stands as far from the batch's end as it does from its start,
        which it is mixed with. A process that would have none shows the batch's first image, which does not count.
        """
        pairs = n // 2
        ends = [-(-pairs * number // self.size) for number in (self.rank, self.rank + 1)]
        lower = np.arange(*ends)
        middle = [pairs] if n % 2 and self.rank == self.size - 1 else []
        places = np.concatenate([lower, middle, n - 1 - lower[::-1]]).astype(np.int64)
        return (places, len(places)) if len(places) else (np.zeros(1, np.int64), 0)

    def parts(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, which are of the same type and may be of any sizes."""
        shapes = self.stacked(torch.tensor(tensor.shape), self._talk).tolist()
        counts = [math.prod(shape) * tensor.element_size() for shape in shapes]
        own = torch.zeros(max(counts), dtype=torch.uint8, device=tensor.device)
        own[: counts[self.rank]] = tensor.detach().contiguous().flatten().view(torch.uint8)
        found = zip(self.stacked(own), counts, shapes, strict=True)
        return [each[:count].view(tensor.dtype).reshape(shape) for each, count, shape in found]

    def stacked(self, tensor: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
        """(size, ...) the tensors of all processes, which are of one shape and type."""
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(found, tensor, group=group)
        return torch.stack(found)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors, which are changed."""
        dist.all_reduce(tensor)
        return tensor

    def copy(self, network: nn.Module) -> None:
        """The first process's weights and statistics, in all of them."""
        if self.together:
            for tensor in network.state_dict().values():
                dist.broadcast(tensor, src=0)

    def part_ways(self, seed: int) -> None:
        """Let torch draw other random numbers in each process from here on; those of the first stay as they are."""
        if self.rank:
            torch.manual_seed(int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0]))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """KeyboardInterrupt, as if all had been stopped, when another process is no longer there."""
        try:
            yield
        except RuntimeError as error:
            if not self._is_lost(error):
                raise
            end_undisturbed()
            console.warn("Another process of this training has ended.")
            raise KeyboardInterrupt from error

    def _is_lost(self, error: BaseException) -> bool:
        if self.size == 1 or not isinstance(error, RuntimeError):
            return False
        return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in LOST)

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the group. Of processes that end by an error, one is to tell of it: the others' have ``told_elsewhere`` set."""
        if self.size == 1:
            return
        if error is None:
            if self.store is not None:
                self.wait()
                dist.destroy_process_group()
            return
        told = self._told_elsewhere()
        if self._is_lost(error):
            stopped = Interrupted("Another process of this training has ended, so it was stopped.")
            stopped.told_elsewhere = told  # type: ignore[attr-defined]
            raise stopped from error
        error.told_elsewhere = told  # type: ignore[attr-defined]

    def _told_elsewhere(self) -> bool:
        """Whether another process was quicker to claim that it tells."""
        if self.store is None:
            return not self.is_first
        try:
            return bool(self.store.add(TOLD, 1) > 1)
        except RuntimeError:  # it went with the first process
            return not self.is_first


ALONE = Ranks()


def _meet() -> tuple[Store, int, int]:
    """Where the launcher lets its processes leave words for each other, this one's number, and how many there are."""
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, size = next(rendezvous("env://", timeout=MEETING))
    except RuntimeError as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise UsageError(
            f"The {os.environ['WORLD_SIZE']} processes of this training did not meet at {where}; start all, by torchrun."
        ) from error
    return store, rank, size


def _take_gpu(local: int) -> None:
    """Compute on the GPU of this number from here on; DeviceError, in every process, where the machine has fewer than processes."""
    there, needed = torch.cuda.device_count(), max(local + 1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if needed > there:
        raise DeviceError(f"--device cuda: {needed} processes were started here and there are {there} GPUs; give --nproc-per-node {there}.")
    torch.cuda.set_device(local)
