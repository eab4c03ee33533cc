"""What workers are to do next when some of them die: an order is given again, then in pieces, so that only the image at fault is lost.

A worker may die of what it reads (a crash in a decoder, memory that runs out) or for reasons of its own (its machine is switched off).
Which it was cannot be told, so a chunk is first given again as it is. Whoever it kills then is looked for in pieces of ``PIECE`` images,
then one by one; rows of pieces come back and are put together here, a chunk at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from sightline.bulk.parts import Row, refused
from sightline.bulk.plan import Chunk

PIECE = 16
# Times that an order is given whole, be it a chunk or a single image.
TRIES = 2
CRASHED = "each worker that read it died: it crashes the decoder or takes more memory than there is"


@dataclass
class Order:
    """Images start..stop of a chunk. ``whole`` ones are written as the chunk's part by the worker, others come back as rows."""

    chunk: Chunk
    start: int
    stop: int
    whole: bool
    failed: int = 0

    @property
    def wanted(self) -> Chunk:
        return self.chunk.part(self.start, self.stop)


@dataclass
class Broken:
    """A chunk that is done in pieces: the rows that are there, by their place in it."""

    chunk: Chunk
    rows: dict[int, Row] = field(default_factory=dict)


class Orders:
    """Orders for the chunks, taken from ``chunks`` one by one as they are asked for."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._ahead = next(chunks, None)
        self._again: deque[Order] = deque()
        self._broken: dict[int, Broken] = {}
        self.crashed: list[str] = []

    def next(self) -> Order | None:
        """The next order to be given, those that failed first; None when there is none to give now."""
        if self._again:
            return self._again.popleft()
        chunk, self._ahead = self._ahead, next(self._chunks, None)
        return None if chunk is None else Order(chunk, 0, chunk.size, whole=True)

    @property
    def waiting(self) -> bool:
        """Whether there is one to be given."""
        return bool(self._again) or self._ahead is not None

    def failed(self, order: Order) -> list[Row] | None:
        """The worker died. All rows of the chunk, when that was the last that was missing of it."""
        order.failed += 1
        length, single = order.stop - order.start, order.stop - order.start == 1
        if (order.whole or single) and order.failed < TRIES:
            self._again.append(order)
            return None
        if single and not order.whole:
            row = refused(order.wanted.refs[0], CRASHED)
            self.crashed.append(row["key"])
            return self.done(order, [row])
        if order.whole:
            self._broken[order.chunk.number] = Broken(order.chunk)
        step = PIECE if length > PIECE else 1
        for start in range(order.start, order.stop, step):
            self._again.append(Order(order.chunk, start, min(start + step, order.stop), whole=False))
        return None

    def done(self, order: Order, rows: list[Row]) -> list[Row] | None:
        """Rows of a piece came back. All rows of the chunk, in order, when that was the last that was missing of it."""
        broken = self._broken[order.chunk.number]
        broken.rows.update(zip(range(order.start, order.stop), rows, strict=True))
        if len(broken.rows) < order.chunk.size:
            return None
        del self._broken[order.chunk.number]
        return [broken.rows[place] for place in range(order.chunk.size)]
