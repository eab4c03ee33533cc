"""Arrays in a bundle, as numpy's ``.npz``: plain ones alone, read without trust."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.archive import SAFE_NAME, Refused, add_entry

# The head of a plain array as numpy writes it; nothing else (objects, records, dates) is parsed.
_ARRAY_HEAD = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '(\|b1|[|<>][iu][1248]|[<>]f[248]|[<>]c(?:8|16)|\|S[1-9]\d{0,8}|[<>]U[1-9]\d{0,8})', "
    rb"'fortran_order': (?:True|False), 'shape': \(((?:\d{1,18}, ?){0,32}\d{0,18})\), \} *\n",
    re.DOTALL,
)


def plain_array(data: bytes, name: str) -> NDArray[Any]:
    """One ``.npy``, with its size compared to what its head states before numpy makes room for it. Raises Refused."""
    head = _ARRAY_HEAD.match(data)
    if head is None or not name.endswith(".npy") or int.from_bytes(head[1], "little") != head.end() - 10:
        raise Refused(f"holds {name!r}, which is not a plain array: do not use it")
    count = math.prod(int(size) for size in head[3].split(b",") if size.strip())
    if len(data) != head.end() + count * np.dtype(head[2].decode()).itemsize:
        raise Refused(f"holds {name!r}, whose data are not of the size it states: do not use it")
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if array.dtype.kind == "U" and np.frombuffer(data, f"{array.dtype.str[0]}u4", offset=head.end()).max(initial=0) > 0x10FFFF:
        raise Refused(f"holds {name!r}, whose text is not Unicode: do not use it")  # Python would fail on it much later
    return array


def arrays_to_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A ``.npz`` of plain arrays (numbers, booleans, fixed-length texts); equal arrays give equal bytes.

    Raises ValueError for a name or an array that ``Bundle.arrays`` would refuse.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            plain = io.BytesIO()
            np.lib.format.write_array(plain, np.asanyarray(arrays[name]), allow_pickle=False)
            if not SAFE_NAME.fullmatch(f"{name}.npy") or not _ARRAY_HEAD.match(plain.getbuffer()):
                raise ValueError(f"{name!r} is not a name for an array, or its type {arrays[name].dtype} is not a plain one")
            add_entry(archive, f"{name}.npy", plain, len(plain.getbuffer()), deflate=False)
    return buffer.getvalue()
