"""Tables: what is written in pieces is mapped as a whole, and what is damaged is known to be."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sightline.data.tables import DamagedTable, open_table, write_table
from sightline.texts import Texts


def piece(start: int, stop: int):
    numbers = np.arange(start, stop)
    thumbs = np.repeat(numbers, 6).reshape(-1, 2, 3).astype(np.uint8)
    return {
        "number": numbers, "shares": numbers / 7, "odd": numbers % 2 == 1, "thumb": thumbs,
        "word": Texts.of("x" * (number % 4) + "é" for number in numbers), "none": Texts.of("" for _ in numbers),
    }  # fmt: skip


@pytest.mark.parametrize("bounds", [(0, 10), (0, 3, 3, 10), (0, 0), (0, 0, 10)], ids=str)
def test_pieces_are_one_table(tmp_path, bounds):
    path = tmp_path / "a.table"
    write_table(path, lambda: (piece(*ends) for ends in pairwise(bounds)), files=[["x", 3]])
    table, whole = open_table(path), piece(0, bounds[-1])
    assert (len(table), table.said) == (bounds[-1], {"files": [["x", 3]]})
    assert list(table.columns) == list(whole)
    for name, column in whole.items():
        assert table.columns[name].tolist() == column.tolist()
        assert getattr(table.columns[name], "dtype", None) == getattr(column, "dtype", None)
    assert [file.name for file in tmp_path.iterdir()] == ["a.table"]


def test_what_is_mapped_cannot_be_written(tmp_path):
    write_table(tmp_path / "a.table", lambda: [piece(0, 4)])
    with pytest.raises(ValueError, match="read-only"):
        open_table(tmp_path / "a.table").columns["number"][0] = 1


def test_rows_of_another_table_are_written_in_their_order(tmp_path):
    write_table(tmp_path / "a.table", lambda: [piece(0, 10)])
    columns = open_table(tmp_path / "a.table").columns
    rows = np.array([7, 2, 2, 9])
    write_table(tmp_path / "b.table", lambda: [{name: column[rows] for name, column in columns.items()}])
    found = open_table(tmp_path / "b.table").columns
    assert all(found[name].tolist() == column[rows].tolist() for name, column in columns.items())


def test_every_byte_of_a_column_is_checked(tmp_path):
    path = tmp_path / "a.table"
    write_table(path, lambda: [{"word": Texts.of(["left", "right"]), "number": np.arange(2)}])
    whole = path.read_bytes()
    for place in (whole.index(b"left"), whole.index(b"right") + 4, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedTable):
            open_table(path)
    for length in range(0, len(whole), 9):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedTable):
            open_table(path)


def test_a_table_that_cannot_be_finished_leaves_the_one_there_was(tmp_path):
    path = tmp_path / "a.table"
    write_table(path, lambda: [piece(0, 3)])

    def stopped():
        yield piece(0, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_table(path, stopped)
    assert len(open_table(path)) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["a.table"]
