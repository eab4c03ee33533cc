"""table: what columns and cells mean, and a sentence, with its lines, for whatever cannot be meant."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.data import cells
from sightline.data.table import GUESSES, is_table, read_table
from sightline.errors import DataError, UsageError


@pytest.fixture
def table(tmp_path):
    """Writes a table beside a.png, b.png and images/c.png (empty: the reader opens none) and returns its path."""
    (tmp_path / "data" / "images").mkdir(parents=True)
    for name in ("a.png", "b.png", "images/c.png"):
        (tmp_path / "data" / name).touch()

    def write(content: str | bytes, name: str = "t.csv") -> Path:
        path = tmp_path / "data" / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows(dataset) -> list[tuple[str, str]]:
    """(path below the root, label) of each sample of a data set to classify."""
    return [(Path(s.ref.path).relative_to(dataset.root).as_posix(), dataset.labels[s.target]) for s in dataset]


def tags(dataset) -> list[tuple[str, set[str]]]:
    """(path below the root, labels) of each sample of a data set to tag."""
    return [(Path(s.ref.path).relative_to(dataset.root).as_posix(), {dataset.labels[i] for i in np.flatnonzero(s.target)}) for s in dataset]


def refusal(path: Path, **settings) -> str:
    """The one sentence with which a table is refused, without the table's path at its start."""
    with pytest.raises(DataError) as caught:
        read_table(path, **settings)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.endswith(".")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ").removesuffix(".")


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


# ---- labels to classify ----------------------------------------------------------------------------------------------


def test_rows_stay_in_order_and_labels_are_sorted(table):
    dataset = read_table(table("path,label\nb.png,dog\na.png,Bee\nimages/c.png,ant\n"))
    assert dataset.labels == ("Bee", "ant", "dog")
    assert rows(dataset) == [("b.png", "dog"), ("a.png", "Bee"), ("images/c.png", "ant")]


def test_rows_without_a_label_are_left_out_and_named(table, capsys):
    content = "path,label,n\na.png,cat,1\nb.png,,2\n1.png,  ,3\n2.png,,4\n3.png,,5\nimages/c.png,dog,6\n"
    dataset = read_table(table(content))
    assert rows(dataset) == [("a.png", "cat"), ("images/c.png", "dog")]
    assert dataset.attributes["n"].tolist() == [1, 6]
    assert "! " in (said := capsys.readouterr().err)
    assert "t.csv: 4 rows without a label (lines 3, 4, 5 and 1 more); left out." in said


def test_not_one_row_has_a_label(table):
    assert refusal(table("path,label\na.png,\nb.png,\n")) == (
        "no label in column 'label'; write some, or choose another column with --label-column"
    )


def test_spellings_that_differ_in_outer_blanks_or_unicode_form_are_one_label_and_said(table, capsys):
    both = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    dataset = read_table(table(f"path,label\na.png,{both[0]}\nb.png,{both[1]} \nimages/c.png,dog\n"))
    assert dataset.labels == (both[0], "dog")
    assert dataset.targets.tolist() == [0, 0, 1]
    assert f"labels that differ only in outer blanks or Unicode form are taken as one: '{both[0]}'." in capsys.readouterr().err


def test_nothing_is_said_of_blanks_that_every_label_has(table, capsys):
    assert read_table(table("path,label\na.png,cat \nb.png,dog \n")).labels == ("cat", "dog")
    assert "taken as one" not in capsys.readouterr().err


@pytest.mark.parametrize("other", ["Cat", "CAT", "hot cat", "HOT  cat"])
def test_spellings_that_differ_in_case_or_inner_blanks_are_refused_with_their_counts(table, other):
    one = "hot  cat" if " " in other else "cat"
    text = refusal(table(f"path,label\na.png,{one}\nb.png,{one}\nimages/c.png,{other}\n"))
    first, second = sorted([(one, 2), (other, 1)])
    assert (
        text
        == f"labels that differ only in case or blanks ({first[0]!r} in {first[1]} and {second[0]!r} in {second[1]} rows); make them one"
    )


def test_ss_is_not_sharp_s(table):
    assert read_table(table("path,label\na.png,Maße\nb.png,Masse\n")).labels == ("Masse", "Maße")


def test_a_bar_is_part_of_the_label_when_that_is_the_task(table):
    assert read_table(table("path,label\na.png,x|y\nb.png,x\n"), task="classify").labels == ("x", "x|y")


def test_a_list_is_not_one_label(table):
    path = table('{"path": "a.png", "label": ["x"]}\n{"path": "b.png", "label": "y"}\n', "t.jsonl")
    assert refusal(path, task="classify") == "a list where one label belongs on line 1; write one, or use --task tag"


def test_a_task_that_no_table_gives(table):
    with pytest.raises(UsageError, match=r"--task 'clasify': a table gives classify or tag\. Did you mean 'classify'\?"):
        read_table(table("path,label\na.png,x\n"), task="clasify")


# ---- tags ------------------------------------------------------------------------------------------------------------


def test_a_bar_makes_tags(table, capsys):
    dataset = read_table(table("path,tags\na.png,sun | sea\nb.png,\nimages/c.png,sea||\n"))
    assert (dataset.task, dataset.labels) == ("tag", ("sea", "sun"))
    assert dataset.targets.dtype == bool
    assert dataset.targets.tolist() == [[True, True], [False, False], [True, False]]
    assert "1 row without any label, taken to have none of them." in capsys.readouterr().err


def test_a_json_list_makes_tags(table):
    content = '{"path": "a.png", "tags": ["a|b", " c "]}\n{"path": "b.png", "tags": []}\n{"path": "images/c.png", "tags": "c"}\n'
    dataset = read_table(table(content, "t.jsonl"))
    assert dataset.task == "tag"
    assert tags(dataset) == [("a.png", {"a|b", "c"}), ("b.png", set()), ("images/c.png", {"c"})]
    numbers = read_table(table('{"path": "a.png", "y": [1, null]}\n{"path": "b.png", "y": null}', "t.jsonl"))
    assert tags(numbers) == [("a.png", {"1"}), ("b.png", set())]


def test_text_that_looks_like_a_list_is_none(table):
    content = '{"path": "a.png", "tags": ["x"]}\n{"path": "b.png", "tags": "[sic]"}\n'
    assert tags(read_table(table(content, "t.jsonl"))) == [("a.png", {"x"}), ("b.png", {"[sic]"})]
    assert read_table(table('path,label\na.png,"[""x""]"\n')).labels == ('["x"]',)


def test_single_words_are_tags_when_that_is_the_task(table):
    dataset = read_table(table("path,label\na.png,x\nb.png,\n"), task="tag")
    assert tags(dataset) == [("a.png", {"x"}), ("b.png", set())]


def test_a_tagged_file_has_the_labels_of_all_its_rows(table, capsys):
    dataset = read_table(table("path,tags\na.png,x|y\nb.png,\n./a.png,z\na.png,x\nb.png,\n"))
    assert tags(dataset) == [("a.png", {"x", "y", "z"}), ("b.png", set())]
    said = capsys.readouterr().err
    assert "3 rows for a file that is there already (lines 4, 5 and 6); it gets the labels of all its rows." in said
    assert "1 row without any label" in said


def test_more_tags_than_a_machine_can_hold(table, monkeypatch):
    monkeypatch.setattr("sightline.data.labels.MAX_TAG_BYTES", 5)
    assert refusal(table("path,tags\na.png,x|y\nb.png,z\n")) == ("3 different labels in column 'tags'; choose another with --label-column")


# ---- rows that are there again ---------------------------------------------------------------------------------------


def test_a_row_that_is_there_again_is_left_out_and_said_once(table, tmp_path, capsys):
    content = f"path,label\na.png,cat\n./a.png,cat\nb.png,dog\nimages/../a.png,cat \n{tmp_path}/data/a.png,cat\n"
    assert rows(read_table(table(content))) == [("a.png", "cat"), ("b.png", "dog")]
    assert "3 rows for a file that is there already (lines 3, 5 and 6) with the same label; left out." in capsys.readouterr().err


def test_a_file_with_several_labels(table):
    content = "path,label\n" + "".join(f"{name}.png,{label}\n" for label in ("cat", "dog") for name in "abcd")
    text = refusal(table(content))
    assert text == (
        "files with several labels ('a.png' is 'cat' on line 2 and 'dog' on line 6; 'b.png' is 'cat' on line 3 and 'dog' on line 7; "
        "'c.png' is 'cat' on line 4 and 'dog' on line 8 and 1 more); keep one of each, or use --task tag"
    )


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_a_file_in_several_splits(table, task):
    text = refusal(table("path,label,split\na.png,cat,train\nb.png,dog,test\na.png,cat,test\n"), task=task)
    assert text == "files in several splits ('a.png' is train on line 2 and test on line 4); keep one row of each"


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
