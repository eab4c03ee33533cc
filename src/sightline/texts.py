"""A column of texts in little memory: a million paths take as many bytes as they have, not a Python object each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

# Texts that are made into Python's own at a time.
BLOCK = 4096
# File names on Linux need not be UTF-8: what stands for their odd bytes goes through, and bytes sort as the texts do.
CODE = ("utf-8", "surrogatepass")


class Texts(Sequence[str]):
    """An immutable column of n texts: their UTF-8 bytes, and where in these each of them begins and ends.

    It behaves as an array of texts: a number gives a text, rows (indices, a mask, a slice) another column over the same bytes, ``==``
    says it of each, and numpy's functions take it, which makes it into an array of Python's width.

    data          (m,) uint8
    starts, ends  (n,) int64
    """

    __slots__ = ("data", "ends", "starts")

    def __init__(self, data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        self.data, self.starts, self.ends = data, starts, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """A column of texts, which are looked at block by block."""
        data, lengths = bytearray(), array("q")
        rest = iter(texts)
        while block := list(islice(rest, BLOCK)):
            joined = "".join(block)
            if joined.isascii():
                data += joined.encode()
                lengths.extend(map(len, block))
            else:
                coded = [text.encode(*CODE) for text in block]
                data += b"".join(coded)
                lengths.extend(map(len, coded))
        return cls.joined(np.frombuffer(data, np.uint8), np.frombuffer(lengths, np.int64))

    @classmethod
    def joined(cls, data: NDArray[np.uint8], lengths: NDArray[np.int64]) -> Texts:
        """A column of texts that lie one behind the other."""
        bounds = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=bounds[1:])
        return cls(data, bounds[:-1], bounds[1:])

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice | NDArray[Any] | Sequence[Any]) -> Texts: ...
    def __getitem__(self, place: Any) -> str | Texts:
        if isinstance(place, int | np.integer):
            return self.data[self.starts[place] : self.ends[place]].tobytes().decode(*CODE)
        rows = place if isinstance(place, slice) else np.asarray(place)
        return Texts(self.data, self.starts[rows], self.ends[rows])

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK):
            yield from self._block(start, start + BLOCK)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.str_]:
        return np.array(list(self), np.str_ if dtype is None else dtype)

    def __eq__(self, other: object) -> Any:
        """(n,) bool, as of an array."""
        if not isinstance(other, str):
            return np.asarray(self) == np.asarray(other)
        same = self.lengths == len(other.encode(*CODE))
        if other:
            for row in np.flatnonzero(same).tolist():
                same[row] = self[row] == other
        return same

    def __ne__(self, other: object) -> Any:
        return ~(self == other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Texts({list(self[:3])}{', ...' if len(self) > 3 else ''})"

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) bytes of each."""
        return self.ends - self.starts

    def tolist(self) -> list[str]:
        return list(self)

    def tobytes(self) -> bytes:
        """The bytes of all, one behind the other."""
        if self._is_whole(self.starts, self.ends):
            return self.data[self.starts[0] : self.ends[-1]].tobytes() if len(self) else b""
        return b"".join(self.data[start:end].tobytes() for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True))

    @staticmethod
    def _is_whole(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> bool:
        return bool((starts[1:] == ends[:-1]).all())

    def _block(self, start: int, stop: int) -> list[str]:
        starts, ends = self.starts[start:stop], self.ends[start:stop]
        if not self._is_whole(starts, ends):
            return [self.data[low:high].tobytes().decode(*CODE) for low, high in zip(starts.tolist(), ends.tolist(), strict=True)]
        first = starts[0]
        data = self.data[first : ends[-1]].tobytes()
        places = zip((starts - first).tolist(), (ends - first).tolist(), strict=True)
        if data.isascii():
            text = data.decode("ascii")
            return [text[low:high] for low, high in places]
        return [data[low:high].decode(*CODE) for low, high in places]
