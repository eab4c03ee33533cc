"""Changes to bytes, as chance, broken disks and people with bad intent make them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence

from numpy.random import Generator

INTERESTING = (0, 1, 2, 7, 8, 127, 128, 255, 256, 1023, 4095, 32767, 32768, 65535, 65536, 10**6, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_PNG = b"\x89PNG\r\n\x1a\n"


def flip_bits(rng: Generator, data: bytearray) -> None:
    for at in rng.integers(len(data), size=rng.integers(1, 17)):
        data[at] ^= 1 << int(rng.integers(8))


def flip_a_bit(rng: Generator, data: bytearray) -> None:
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))


def change_head(rng: Generator, data: bytearray) -> None:
    """Random bytes among the first, where formats keep their fields."""
    for at in rng.integers(min(len(data), 160), size=rng.integers(1, 5)):
        data[at] = int(rng.integers(256))


def put_numbers(rng: Generator, data: bytearray) -> None:
    """Numbers at the edge of something, in either byte order."""
    for _ in range(rng.integers(1, 4)):
        size, order = (("B", "H", "I", "Q")[rng.integers(4)], "<>"[rng.integers(2)])
        width = struct.calcsize(size)
        at = int(rng.integers(max(1, min(len(data), (200, len(data))[rng.integers(2)]) - width)))
        data[at : at + width] = struct.pack(order + size, INTERESTING[rng.integers(len(INTERESTING))] % 256**width)


def truncate(rng: Generator, data: bytearray) -> None:
    del data[rng.integers(len(data)) :]


def cut_out(rng: Generator, data: bytearray) -> None:
    start = int(rng.integers(len(data)))
    del data[start : start + int(rng.integers(1, 65))]


def repeat(rng: Generator, data: bytearray) -> None:
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 257))
    data[start:start] = data[start : start + length] * int(rng.integers(1, 9))


def fill(rng: Generator, data: bytearray) -> None:
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 257))
    data[start : start + length] = bytes([(0, 255, int(rng.integers(256)))[rng.integers(3)]]) * len(data[start : start + length])


PLAIN: tuple[Callable[[Generator, bytearray], None], ...] = (
    flip_a_bit, flip_bits, change_head, put_numbers, truncate, cut_out, repeat, fill,
)  # fmt: skip


def splice(rng: Generator, data: bytearray, others: Sequence[bytes]) -> None:
    """The beginning of one file and the end of another."""
    other = others[rng.integers(len(others))]
    data[rng.integers(len(data)) :] = other[rng.integers(len(other)) :]


def inflate(rng: Generator, data: bytearray, sides: Sequence[int]) -> None:
    """Replace a place where one of these sides may be stated, as whatever number, by another size."""
    patterns = [(struct.pack(form, side - less), form) for side in sides for less in (0, 1) for form in ("<H", ">H", "<I", ">I")]
    found = [(at, form) for pattern, form in patterns for at in _places(data, pattern)]
    if not found:
        return put_numbers(rng, data)
    for _ in range(rng.integers(1, 3)):
        at, form = found[rng.integers(len(found))]
        size = struct.calcsize(form)
        data[at : at + size] = struct.pack(form, INTERESTING[rng.integers(len(INTERESTING))] % 256**size)
    return None


def _places(data: bytearray, pattern: bytes) -> list[int]:
    places, at = [], data.find(pattern)
    while at >= 0 and len(places) < 64:
        places.append(at)
        at = data.find(pattern, at + 1)
    return places


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums that belong to them, so that a change in them is read; other data as they are."""
    if not data.startswith(_PNG):
        return data
    made, at = bytearray(data), len(_PNG)
    while at + 12 <= len(made):
        length = int.from_bytes(made[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(made):
            break
        made[end : end + 4] = struct.pack(">I", zlib.crc32(made[at + 4 : end]))
        at = end + 4
    return bytes(made)
