"""Looking at images over Ray: the audit's pool of processes, on other machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from sightline import console
from sightline.bulk.ray_start import connected
from sightline.data.look import BATCH, ELSEWHERE, MAX_ASPECT, Job, Look, look_at_all
from sightline.processor import processors

Looks = list[Look | None]
# Of a batch's pixels in Ray's store of objects; what does not fit is put on the disk.
STORE_SIDE = 256


@contextmanager
def looking_over_ray(address: str | None, workers: int | None) -> Iterator[int]:
    """While images are looked at by Ray workers, each on a processor: how many of them there are at once.

    A worker that dies breaks its own batch only, and ``looked_at`` repeats that as it does after a crash in a pool here.
    """
    pixels = 2 * (workers or processors()) * BATCH * 3 * MAX_ASPECT * STORE_SIDE**2
    with connected(address, pixels) as ray:
        look = ray.remote(num_cpus=1, max_retries=0)(look_at_all)

        def submit(batch: Sequence[Job]) -> Future[Looks]:
            return _settled(look.remote(batch).future())

        count = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        console.say(f"Images are looked at by {count} worker{'s'[: count != 1]}.")
        token = ELSEWHERE.set(submit)
        try:
            yield count
        finally:
            ELSEWHERE.reset(token)


def _settled(under_way: Future[Looks]) -> Future[Looks]:
    """The same, with the death of a worker told as a pool of processes tells it."""
    from ray.exceptions import RayError, RayTaskError

    told: Future[Looks] = Future()

    def settle(done: Future[Looks]) -> None:
        error = done.exception()
        if error is None:
            told.set_result(done.result())
        elif isinstance(error, RayError) and not isinstance(error, RayTaskError):
            told.set_exception(BrokenProcessPool(str(error)))
        else:
            told.set_exception(error)

    under_way.add_done_callback(settle)
    return told
