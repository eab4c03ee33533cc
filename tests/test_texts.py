"""Texts: a column in the memory of its bytes that behaves as numpy's own of texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline import texts
from sightline.texts import Texts

# Any text that Python can hold, odd bytes of file names among it; numpy's columns forget null characters at the end.
ANY = st.lists(st.text(st.characters(exclude_characters="\0")).map(lambda text: text + "\udcff" * (len(text) % 3 == 2)), max_size=12)


@given(ANY, st.integers(1, 5))
def test_a_column_gives_back_its_texts_in_blocks_of_any_size(words, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "BLOCK", block)
        column = Texts.of(iter(words))
        assert column.tolist() == list(column) == words
        assert [column[row] for row in range(len(words))] == words
        assert [column[row - len(words)] for row in range(len(words))] == words


@given(ANY, st.data())
def test_rows_are_those_of_an_array(words, data):
    column, array = Texts.of(words), np.array(words, np.str_)
    rows = np.array(data.draw(st.lists(st.integers(0, len(words) - 1), max_size=20)) if words else [], np.int64)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words))), bool)
    for place in (rows, mask, slice(1, None, 2), slice(None, None, -1)):
        assert column[place].tolist() == array[place].tolist()
        assert b"".join(word.encode("utf-8", "surrogatepass") for word in array[place].tolist()) == column[place].tobytes()
    assert column[rows][mask[rows]].tolist() == array[rows][mask[rows]].tolist()


@given(ANY, st.text(st.characters(exclude_characters="\0"), max_size=2))
def test_comparing_says_it_of_each(words, wanted):
    column, array = Texts.of(words), np.array(words, np.str_)
    for one in {wanted, "", *words}:
        np.testing.assert_array_equal(column == one, array == one)
        np.testing.assert_array_equal(column != one, array != one)
    np.testing.assert_array_equal(column == Texts.of(words[::-1]), array == array[::-1])


def test_numpy_takes_a_column_for_an_array():
    column = Texts.of(["b", "", "a", "b", "é"])
    found, counts = np.unique(column, return_counts=True)
    assert (found.tolist(), counts.tolist()) == (["", "a", "b", "é"], [1, 1, 2, 1])
    assert np.isin(column, ("a", "é")).tolist() == [False, False, True, False, True]
    assert np.asarray(Texts.of([])).dtype.kind == "U"


def test_a_million_texts_take_the_memory_of_their_bytes():
    column = Texts.of(f"{number:020d}" for number in range(10_000))
    assert column.data.nbytes + column.starts.base.nbytes <= 10_001 * 28
    assert column.starts.base is column.ends.base


def test_bytes_sort_as_texts_do():
    words = ["a", "ab", "b", "é", "\ud800", "\udcff", "￿", "\U0001f600"]
    coded = [word.encode(*texts.CODE) for word in words]
    assert (sorted(coded) == coded) == (sorted(words) == words) == True  # noqa: E712
