"""table: what cells with labels mean, one or several, and rows that are there again."""

from __future__ import annotations

import unicodedata

import pytest

from sightline.data.table import read_table
from sightline.errors import UsageError
from written_tables import refusal, rows, tags, writer_of_tables


@pytest.fixture
def table(tmp_path):
    return writer_of_tables(tmp_path)


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
    with pytest.raises(UsageError, match=r"--task clasify: .* is a table, which gives classify or tag\. Did you mean 'classify'\?"):
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
