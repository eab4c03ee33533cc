"""table: files that are no sound tables are refused in a sentence, with its lines."""

from __future__ import annotations

import os
import sys

import pytest

from sightline.data import cells
from sightline.data.table import read_table
from written_tables import refusal, writer_of_tables


@pytest.fixture
def table(tmp_path):
    return writer_of_tables(tmp_path)


# ---- files that are no sound tables ----------------------------------------------------------------------------------


def test_rows_with_too_few_or_too_many_cells(table):
    content = 'path,label,note\na.png,cat\n"b\nb.png",dog,x,y\nb.png,dog,x\n1.png\n2.png\n3.png\n'
    assert refusal(table(content)) == "too few cells for 3 columns on lines 2, 6, 7 and 1 more; too many cells for 3 columns on line 3"


@pytest.mark.parametrize("content", ["", "\n \n", ",,\n,,\n", b"\xef\xbb\xbf\n"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
def test_an_empty_table(table, content, name):
    assert "is empty; a table needs a first line" in refusal(table(content, name))


@pytest.mark.parametrize("content", ["path,label\n", "path,label", "path,label\n,\n\n"])
def test_a_table_with_only_a_header(table, content):
    assert refusal(table(content)) == "names columns but has no rows; write one for each image"


def test_a_quote_that_is_not_closed(table):
    text = refusal(table('path,label\na.png,cat\n"b.png,dog\nimages/c.png,dog\n'))
    assert text.startswith("something that is no row (")
    assert text.endswith("is a quote not closed?) on line 3")
    assert refusal(table('"path,label\na.png,cat\n')).startswith("its first line names no columns (")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"path": "b.png", "label"', "broken JSON (Expecting ':' delimiter) on line 2"),
        ("b.png,dog", "broken JSON (Expecting value) on line 2"),
        ('["b.png", "dog"]', "something other than a JSON object on line 2"),
        ('{"path": "b.png", "label": "\\ud800"}', "characters that are no text on line 2"),
        ('{"path": "b\\u0000.png", "label": "x"}', "characters that are no text on line 2"),
        ('{"path": "b.png", "label": ' + "[" * 100_000, "broken JSON (maximum recursion depth exceeded"),
        ('{"path": "b.png", "label": ' + "9" * 5000 + "}", "broken JSON (Exceeds the limit"),
    ],
)
def test_a_line_that_is_no_json_object(table, line, said):
    assert refusal(table(f'{{"path": "a.png", "label": "x"}}\n{line}\n', "t.jsonl")).startswith(said)


def test_escapes_and_line_separators_in_json_are_text(table):
    content = '{"path": "a.png", "label": "\\u00e9\u2028\\ud83d\\ude00"}\n{"path": "b.png", "label": "x"}\n'
    assert read_table(table(content, "t.jsonl")).labels == ("x", "é\u2028😀")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not a text file"),
        (b"PK\x03\x04\x14\0\x06\0", "is not a text file"),
        ("path,label\na.png,x\n".encode("utf-16"), "is text in UTF-16; save it again in UTF-8"),
        ("path,label\na.png,x\nb.png,café\n".encode("latin-1"), "is not text in UTF-8 (byte 0xe9 on line 3)"),
        (b"\xef\xbb\xbf" + "path,label\r\na.png,café\r\n".encode("latin-1"), "is not text in UTF-8 (byte 0xe9 on line 2)"),
    ],
)
def test_what_is_not_text_in_utf_8(table, content, said):
    assert refusal(table(content)).startswith(said)


def test_no_such_file_and_a_folder(tmp_path):
    assert refusal(tmp_path / "t.csv") == "there is no such file"
    (tmp_path / "f.csv").mkdir()
    assert refusal(tmp_path / "f.csv") == "is a folder, not a table"


@pytest.mark.skipif(sys.platform == "win32" or (hasattr(os, "getuid") and os.getuid() == 0), reason="root may read every file")
def test_a_file_that_may_not_be_read(table):
    path = table("path,label\na.png,x\n")
    path.chmod(0)
    assert refusal(path) == "cannot be read (Permission denied); make it readable"


def test_too_many_columns(table, monkeypatch):
    monkeypatch.setattr(cells, "MAX_COLUMNS", 3)
    assert "more than 3 columns" in refusal(table("path,label,a,b\na.png,x,1,2\n"))


def test_several_mistakes_are_told_together(table):
    content = "path,label,split\na.png\n,cat,train\nhttp://h/x.png,Cat,dev\nb.png,dog,\nb.png,cat,a,b\nb.png,cat,\n"
    text = refusal(table(content))
    assert text.count("; ") >= 5
    for said in ("too few cells", "too many cells", "differ only in case", "no path", "is an address"):
        assert said in text
    # The split and the file with several labels are beyond the fifth.
    assert text.endswith("; and 2 more")


def test_a_long_cell_is_cut_in_a_message(table):
    text = refusal(table(f"path,label,split\na.png,x,{'long' * 1000}\n"))
    assert len(text) < 400
    assert "..." in text
