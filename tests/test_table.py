"""table: what columns and paths mean, in every format, and a sentence for whatever cannot be meant."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.data import cells
from sightline.data.table import GUESSES, is_table, read_table
from sightline.errors import UsageError
from written_tables import refusal, rows, writer_of_tables


@pytest.fixture
def table(tmp_path):
    return writer_of_tables(tmp_path)


# ---- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.csv", "T.CSV", "t.tsv", "t.jsonl", "a/t.NDJSON"])
def test_a_table_is_known_by_its_suffix(name):
    assert is_table(name)
    assert is_table(Path(name))


@pytest.mark.parametrize("name", ["t.json", "csv", "images", "t.csv.zip", "a.png"])
def test_other_files_are_no_tables(name):
    assert not is_table(name)


SAME = [
    ("t.csv", "path,label,note\na.png,cat,x\nb.png,dog,\n"),
    ("t.csv", "path,label,note\r\na.png,cat,x\r\nb.png,dog,\r\n"),
    ("t.csv", "path,label,note\ra.png,cat,x\rb.png,dog,"),
    ("t.csv", '"path","label","note"\n"a.png","cat","x"\n"b.png","dog",""\n'),
    ("t.csv", 'path, label, note\na.png, "cat", x\nb.png, dog, \n'),
    ("t.csv", "\n\npath,label,note\n\na.png,cat,x\n,,\nb.png,dog,\n\n"),
    ("t.csv", ",path,label,note\n0,a.png,cat,x\n1,b.png,dog,\n"),
    ("t.csv", "path;label;note\na.png;cat;x\nb.png;dog;\n"),
    ("t.csv", '"path";"label";"note"\n"a.png";"cat";"x"\n"b.png";"dog";""\n'),
    ("t.csv", "path\tlabel\tnote\na.png\tcat\tx\nb.png\tdog\t\n"),
    ("t.tsv", "path\tlabel\tnote\na.png\tcat\tx\nb.png\tdog\t\n"),
    ("t.TSV", "path,label,note\na.png,cat,x\nb.png,dog,\n"),
    ("t.jsonl", '{"path": "a.png", "label": "cat", "note": "x"}\n\n{"path": "b.png", "label": "dog"}\n'),
    ("t.ndjson", '{"Path": "a.png", "label": "cat", "note": "x"}\r\n{"path": "b.png", "Label ": "dog", "note": null}'),
]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize(("name", "content"), SAME)
def test_every_format_gives_the_same_data_set(table, name, content, mark):
    dataset = read_table(table(mark + content.encode(), name))
    assert (dataset.task, dataset.labels) == ("classify", ("cat", "dog"))
    assert rows(dataset) == [("a.png", "cat"), ("b.png", "dog")]
    assert dataset.targets.dtype == np.int64
    assert {name: column.tolist() for name, column in dataset.attributes.items()} == {"note": ["x", ""]}
    assert (dataset.splits, dataset.groups) == (None, None)


def test_a_tsv_may_have_commas_in_its_header(table):
    assert rows(read_table(table("path\tlabel, of, three, words\na.png\tcat\n", "t.tsv"), label_column="label, of, three, words")) == [
        ("a.png", "cat")
    ]


def test_quoted_cells_may_hold_separators_quotes_and_line_breaks(table):
    dataset = read_table(table('path,label,note\na.png,"big, ""bad"" cat","one\ntwo"\nb.png,dog,\n'))
    assert dataset.labels == ('big, "bad" cat', "dog")
    assert dataset.attributes["note"].tolist() == ["one\ntwo", ""]


def test_json_values_that_are_no_text(table):
    content = '{"path": "a.png", "label": 3, "x": true, "y": 1e-3}\n{"path": "b.png", "label": false, "x": {"k": [1]}, "y": NaN}\n'
    dataset = read_table(table(content, "t.jsonl"))
    assert rows(dataset) == [("a.png", "3"), ("b.png", "false")]
    assert dataset.attributes["x"].tolist() == ["true", '{"k": [1]}']
    np.testing.assert_array_equal(dataset.attributes["y"], [0.001, np.nan])


def test_columns_that_come_up_late_are_empty_before(table, monkeypatch):
    monkeypatch.setattr(cells, "CHUNK", 2)
    lines = [{"path": f"{n}.png", "label": "ab"[n % 2]} | ({"late": n} if n > 4 else {}) for n in range(7)]
    lines[0]["path"] = "a.png"
    dataset = read_table(table("\n".join(map(json.dumps, lines)), "t.jsonl"))
    np.testing.assert_array_equal(dataset.attributes["late"], [np.nan] * 5 + [5, 6])
    assert dataset.targets.tolist() == [0, 1, 0, 1, 0, 1, 0]


# ---- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "name"), [(role, name) for role, names in GUESSES.items() for name in names])
def test_columns_are_guessed_by_name_in_any_case(table, role, name):
    names = {"path": "path", "label": "label", "split": "split", "group": "group"} | {role: name.upper()}
    dataset = read_table(table(f"{','.join(names.values())},more\na.png,cat,val,p1,1\nb.png,dog,,,2\n"))
    assert rows(dataset) == [("a.png", "cat"), ("b.png", "dog")]
    assert dataset.splits.tolist() == ["validation", ""]
    assert dataset.groups.tolist() == ["p1", ""]
    assert list(dataset.attributes) == ["more"]


def test_of_two_that_could_be_meant_the_first_guess_is_taken_and_said(table, capsys):
    dataset = read_table(table("target,image,label\n0,a.png,cat\n1,b.png,dog\n"))
    assert dataset.labels == ("cat", "dog")
    assert dataset.attributes["target"].tolist() == [0, 1]
    assert "t.csv: takes path from 'image', label from 'label'." in capsys.readouterr().err


def test_columns_can_be_named(table):
    path = table("path,label,old,who,split,group\nx,y,a.png,cat,z,train\nx,y,b.png,dog,z,\n")
    dataset = read_table(path, path_column="OLD", label_column="who", split_column="group", group_column="label")
    assert rows(dataset) == [("a.png", "cat"), ("b.png", "dog")]
    assert dataset.splits.tolist() == ["train", ""]
    assert dataset.groups.tolist() == ["y", "y"]
    assert dataset.attributes["path"].tolist() == ["x", "x"]


def test_a_split_or_group_that_is_none_can_be_said(table):
    dataset = read_table(table("path,label,set,camera\na.png,cat,tea,1\nb.png,dog,coffee,1\n"), split_column="none", group_column="none")
    assert (dataset.splits, dataset.groups) == (None, None)
    assert dataset.attributes["set"].tolist() == ["tea", "coffee"]


def test_columns_that_are_not_there_are_usage_errors_with_what_is(table):
    path = table("path,label,colour\na.png,cat,red\n")
    with pytest.raises(UsageError) as caught:
        read_table(path, label_column="color", group_column="patient", path_column="none")
    text = str(caught.value)
    assert f"--label-column 'color': {path} has no such column, only 'path', 'label', 'colour'. Did you mean 'colour'?" in text
    assert "--group-column 'patient': " in text
    assert "--path-column 'none': " in text


def test_a_column_cannot_have_two_meanings(table):
    with pytest.raises(UsageError, match="--label-column 'PATH': that column is named for something else already"):
        read_table(table("path,label\na.png,cat\n"), path_column="path", label_column="PATH")


@pytest.mark.parametrize(
    ("content", "name", "named"),
    [
        ("where,label\na.png,cat\n", "t.csv", ["known to hold paths;", "and is 'where', 'label'", "name yours with --path-column"]),
        ("path,what\na.png,cat\n", "t.csv", ["known to hold labels;", "name yours with --label-column"]),
        ("a.png,cat\nb.png,dog\n", "t.csv", ["its first line must name the columns, and is 'a.png', 'cat'"]),
        ("a.png\nb.png\n", "t.csv", ["hold paths and labels;", "is 'a.png'", "--path-column and --label-column"]),
        ("{}\n", "t.jsonl", ["its keys are none"]),
        ('{"where": "a.png", "label": "cat"}\n', "t.jsonl", ["its keys are 'where', 'label'"]),
    ],
)
def test_a_table_whose_columns_cannot_be_guessed(table, content, name, named):
    text = refusal(table(content, name))
    assert all(words in text for words in named), text


def test_two_columns_of_one_name(table):
    assert refusal(table("path,label,Label,label\na.png,a,b,c\n")) == ("several columns of one name ('Label', 'label'); rename all but one")
    assert "broken JSON (a key is there twice) on line 1" in refusal(table('{"path": "a.png", "PATH": "b.png"}', "t.jsonl"))


# ---- attributes ------------------------------------------------------------------------------------------------------


def test_other_columns_are_numbers_where_all_cells_are_and_text_otherwise(table):
    dataset = read_table(table("path,label,n,some,none,inf,id,word\na.png,x,1,-2.5e3,,inf,2024_1,w\nb.png,y, 2 ,,,1,2024_2,3\n"))
    numbers = {"n": [1, 2], "some": [-2500, np.nan], "none": [np.nan, np.nan]}
    texts = {"inf": ["inf", "1"], "id": ["2024_1", "2024_2"], "word": ["w", "3"]}
    assert list(dataset.attributes) == [*numbers, *texts]
    for name, column in numbers.items():
        assert dataset.attributes[name].dtype == np.float64
        np.testing.assert_array_equal(dataset.attributes[name], column)
    assert {name: dataset.attributes[name].tolist() for name in texts} == texts


def test_one_long_cell_does_not_make_a_column_wide(table, monkeypatch):
    monkeypatch.setattr(cells, "CHUNK", 1)
    long = "very " * 1000
    dataset = read_table(table(f"path,label,note,camera\na.png,x,short,c1\nb.png,y,{long},{long}\nimages/c.png,y,,\n"))
    assert dataset.attributes["note"].tolist() == ["short", long, ""]
    assert dataset.attributes["note"].dtype == object
    assert dataset.groups.tolist() == ["c1", long.strip(), ""]


# ---- paths -----------------------------------------------------------------------------------------------------------


def test_paths_are_relative_to_the_table_may_leave_its_folder_and_may_be_those_of_windows(table, tmp_path, monkeypatch):
    outside = tmp_path / "pictures" / "d.png"
    content = f"path,label\n ./images/c.png ,x\n..\\pictures\\d.png,y\n{tmp_path}/e.png,y\n"
    dataset = read_table(table(content))
    assert dataset.root == tmp_path / "data"
    assert [ref.path for ref in dataset.refs] == [str(dataset.root / "images/c.png"), str(dataset.root / "../pictures/d.png"),
                                                  str(tmp_path / "e.png")]  # fmt: skip
    assert os.path.normpath(dataset.refs[1].path) == str(outside)
    monkeypatch.chdir(tmp_path / "data")
    here = read_table("t.csv")
    assert (here.root, here.refs[0].path) == (Path(), "images/c.png".replace("/", os.sep))


def test_files_that_are_missing_stay(table):
    assert rows(read_table(table("path,label\na.png,cat\nnowhere.png,dog\n"))) == [("a.png", "cat"), ("nowhere.png", "dog")]


def test_not_one_file_is_there(table, tmp_path):
    text = refusal(table("path,label\n1.png,cat\n2.png,dog\ndata/a.png,dog\n4.png,cat\n"))
    assert text == (
        "not one of its files is there ('1.png', '2.png', 'data/a.png' and 1 more); paths are relative to the table's folder, "
        f"{tmp_path / 'data'}"
    )


@pytest.mark.parametrize("address", ["http://host/a.png", "s3://bucket/a.png", "HTTPS://host/a.png", "data:image/png;base64"])
def test_an_address_is_refused(table, address):
    text = refusal(table(f'path,label\na.png,cat\n"{address}",cat\n'))
    assert text == f"'{address}' on line 3 is an address; download the images first"


def test_a_drive_of_windows_is_no_address(table):
    assert len(read_table(table("path,label\na.png,cat\nC:\\pictures\\b.png,dog\n"))) == 2


def test_an_empty_path(table):
    assert refusal(table("path,label\na.png,cat\n  ,cat\n,dog\n")) == "no path in column 'path' on lines 3 and 4"
    assert refusal(table('{"path": "a.png", "label": "x"}\n{"label": "x"}', "t.jsonl")) == "no path in column 'path' on line 2"


# ---- splits and groups -----------------------------------------------------------------------------------------------


def test_splits_have_the_names_that_folders_may_have(table):
    words = ["train", "Training", "VAL", "valid", " Validation", "test", "testing", ""]
    dataset = read_table(table("path,label,split\na.png,x,train\n" + "".join(f"{n}.png,x,{word}\n" for n, word in enumerate(words))))
    assert dataset.splits.tolist() == ["train"] * 3 + ["validation"] * 3 + ["test"] * 2 + [""]


def test_columns_that_are_empty_say_nothing(table):
    dataset = read_table(table("path,label,split,group\na.png,x,,\nb.png,y,, \n"))
    assert (dataset.splits, dataset.groups) == (None, None)


def test_a_split_of_an_unknown_name(table):
    text = refusal(table("path,label,set\na.png,x,dev\nb.png,y,train\n1.png,y,dev\n2.png,y,3\n"))
    assert text == (
        "no split is called '3' and 'dev' (column 'set', lines 2, 4 and 5); write train, validation, test or nothing, or choose the "
        "column with --split-column, or none"
    )


# ---- what is written is what is read ---------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def word(text: str) -> str:
    return " ".join(cells.tidy(text).lower().split())


@given(
    labels=st.lists(TEXT.filter(lambda text: text.strip()), min_size=1, max_size=5, unique_by=word),
    rows_written=st.lists(st.tuples(TEXT, st.integers(0, 4), TEXT, st.floats(allow_nan=False, allow_infinity=False)), max_size=8),
    separator=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_is_written_to_csv_is_what_is_read(tmp_path_factory, labels, rows_written, separator, quoting):
    root = tmp_path_factory.getbasetemp() / "written"
    root.mkdir(exist_ok=True)
    (root / "here.png").touch()
    written = [("here.png", labels[0], "x", 0.5)]
    for place, (name, label, note, number) in enumerate(rows_written):
        name = name.replace("/", "").replace("\\", "")
        written.append((f"{place}{name}.png", labels[label % len(labels)], f"x{note}", number))
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=separator, quoting=quoting).writerows([("path", "label", "note", "n"), *written])
    (root / "t.csv").write_bytes(stream.getvalue().encode())
    dataset = read_table(root / "t.csv", task="classify")
    assert rows(dataset) == [(path, cells.tidy(label)) for path, label, _, _ in written]
    assert dataset.attributes["note"].tolist() == [note for _, _, note, _ in written]
    assert dataset.attributes["n"].tolist() == [number for _, _, _, number in written]
