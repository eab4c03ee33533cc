"""Arrays in a bundle: what numpy writes is read, and what is hostile is refused."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.bundle import Bundle, Part, arrays_to_bytes, write
from sightline.errors import ModelFileError
from small_bundle import ARRAYS, MANIFEST, PARTS, deflated_bomb, hand_made


def saved(*, packed: bool = False, **arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(stream, **arrays)
    return stream.getvalue()


def npy(header: bytes, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    """A ``.npz`` with one array whose header says anything."""
    header = header + b"\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + data)
    return stream.getvalue()


def arrays_of(folder: Path, data: bytes) -> dict[str, np.ndarray]:
    write(folder / "m.sight", MANIFEST, [PARTS[0], Part("reference.npz", "reference", data)])
    with Bundle.open(folder / "m.sight") as opened:
        return opened.arrays("reference")


@pytest.mark.parametrize("packed", [False, True])
def test_files_by_numpy_are_read(tmp_path, packed):
    read = arrays_of(tmp_path, saved(packed=packed, **ARRAYS))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array, strict=True)


def test_numpy_reads_what_is_written():
    with np.load(io.BytesIO(arrays_to_bytes(ARRAYS)), allow_pickle=False) as read:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(read[name], array, strict=True)


def test_pickled_arrays_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match="not a plain array"):
        arrays_of(tmp_path, saved(a=np.array([{"x": 1}], dtype=object)))


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }", b""),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", bytes(15)),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", bytes(17)),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 999999999999999999, 999999999999999999, 999999999999999999), }", b""),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"1, " * 70 + b"), }", bytes(8)),
        (b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\nsystem\n"),
        (b"{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }", bytes(8)),
        (b"{'descr': '<U0', 'fortran_order': False, 'shape': (999999999999,), }", b""),
        (b"{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }", b"\xff\xff\xff\xff"),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", b""),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"9" * 5000 + b"!), }", b""),
        (b"(" * 9000, b""),
        (b"", b""),
    ],
)
def test_hostile_array_headers_are_refused(tmp_path, header, data):
    with pytest.raises(ModelFileError, match="reference"):
        arrays_of(tmp_path, npy(header, data))
    with pytest.raises(ModelFileError, match="reference"):
        arrays_of(tmp_path, npy(header, data, version=b"\2\0"))


def test_names_of_arrays_are_not_ambiguous(tmp_path):
    stream = io.BytesIO(PARTS[2].data)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("mean", archive.read("mean.npy"))
    with pytest.raises(ModelFileError, match="'mean', which is not a plain array"):
        arrays_of(tmp_path, stream.getvalue())


def test_an_npz_bomb_is_refused(tmp_path):
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }\n" % (1 << 30)
    claimed = b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head
    data = hand_made([("a.npy", deflated_bomb(1 << 30), b"", (1 << 30) + len(claimed))])
    with pytest.raises(ModelFileError, match="unpacks to more than 256 MB"):
        arrays_of(tmp_path, data)


@settings(max_examples=100)
@given(st.binary(max_size=200), st.integers(0, 2000))
def test_a_broken_npz_gives_no_other_error(tmp_path_factory, noise, at):
    data = bytearray(PARTS[2].data)
    data[at : at + len(noise)] = noise
    with contextlib.suppress(ModelFileError):
        arrays_of(tmp_path_factory.mktemp("npz"), bytes(data))


@pytest.mark.parametrize(
    "arrays", [{"a": np.array([None])}, {"a": np.zeros(2, "i4,f4")}, {"../a": np.zeros(1)}, {"a": np.zeros(1, "M8[s]")}]
)
def test_arrays_that_would_not_be_read_are_not_written(arrays):
    with pytest.raises(ValueError):
        arrays_to_bytes(arrays)
