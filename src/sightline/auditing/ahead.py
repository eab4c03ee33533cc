"""Work on many images in threads: in order, and never far ahead of whoever takes the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sightline.processor import processors

Item = TypeVar("Item")
Result = TypeVar("Result")


def worked(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The result for each item; at most two a processor are under way, and no more when the reader has enough or an item fails."""
    threads = processors()
    pool, under_way = ThreadPoolExecutor(threads), deque[Future[Result]]()
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) == 2 * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
