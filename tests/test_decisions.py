"""decisions: written for a person to edit, read with every mistake named, and applied."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from sightline.auditing.decisions import decisions_text, read_decisions
from sightline.auditing.finding import DROP, RELABEL, WARNING, Finding, Item
from sightline.errors import DataError
from sightline.records import Dataset, ImageRef

NAMES = ["cat/a.png", "cat/b.png", "dog/c.png", "dog/d, e.png"]


def dataset(targets=(0, 0, 1, 1), task: str = "classify") -> Dataset:
    return Dataset(Path("data"), task, ("cat", "dog"), [ImageRef(f"data/{name}") for name in NAMES], np.array(targets))


def written(folder: Path, *rows: str, header: str = "path,verb,label") -> Path:
    path = folder / "decisions.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def finding(*items: Item, title: str = "Odd") -> Finding:
    return Finding("odd", WARNING, title, "", "", items)


def test_what_is_written_keeps_everything_until_someone_decides(tmp_path):
    items = Item((NAMES[0],), "looks like dog", RELABEL, "dog"), Item((NAMES[3], NAMES[2]), "the same file", DROP)
    text = decisions_text([finding(*items), finding(Item((NAMES[0],), "dark"), title="Dark")], dataset(), NAMES)
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["path"], row["verb"], row["suggestion"], row["suggested_label"], row["present_label"]) for row in rows] == [
        (NAMES[0], "keep", "relabel", "dog", "cat"), (NAMES[3], "keep", "drop", "", "dog"),
    ]  # fmt: skip
    assert rows[0]["why"] == "Odd: looks like dog; Dark: dark"
    assert rows[1]["why"] == "Odd: the same file (dog/c.png)"
    path = tmp_path / "decisions.csv"
    path.write_text(text, encoding="utf-8")
    decisions = read_decisions(path, dataset(), NAMES)
    assert (decisions.dropped, dict(decisions.relabelled), decisions.gone) == ((), {}, ())


def test_what_a_person_decides_is_done(tmp_path):
    path = written(tmp_path, "cat/a.png,relabel,dog", "cat/b.png,DROP,", '"dog/d, e.png",keep,')
    decisions = read_decisions(path, dataset(), NAMES)
    cleaned = decisions.applied(dataset())
    assert [str(ref) for ref in cleaned.refs] == ["data/cat/a.png", "data/dog/c.png", "data/dog/d, e.png"]
    assert cleaned.targets.tolist() == [1, 1, 1]
    assert decisions.kept(dataset()).tolist() == [0, 2, 3]


def test_tags_are_relabelled_by_several(tmp_path):
    tags = dataset(np.array([[True, False], [True, True], [False, True], [False, False]]), "tag")
    decisions = read_decisions(written(tmp_path, "dog/c.png,relabel,cat|dog"), tags, NAMES)
    assert decisions.applied(tags).targets[2].tolist() == [True, True]


def test_a_table_as_a_spreadsheet_saves_it_is_read(tmp_path):
    path = tmp_path / "decisions.csv"
    path.write_bytes("\ufeffPath;Verb;Label\r\ncat/a.png;drop;\r\n".encode())
    assert read_decisions(path, dataset(), NAMES).dropped == (0,)


def test_every_mistake_is_named_at_once(tmp_path):
    rows = ["cat/a.png,dorp,", "cat/b.png,relabel,", "dog/c.png,relabel,dgo", '"dog/d, e.png",drop,', '"dog/d, e.png",keep,']
    with pytest.raises(DataError) as error:
        read_decisions(written(tmp_path, *rows), dataset(), NAMES)
    text = str(error.value)
    assert "the verb 'dorp' on line 2 is none of keep, drop, relabel" in text
    assert "line 3 relabels without a label" in text
    assert "the label 'dgo' on line 4 is none of the data's (Did you mean 'dog'?)" in text
    assert "line 6 decides otherwise than a line above about the same image" in text


def test_two_labels_for_an_image_that_has_one_are_refused(tmp_path):
    with pytest.raises(DataError, match="line 2 gives 2 labels, and an image has one"):
        read_decisions(written(tmp_path, "cat/a.png,relabel,cat|dog"), dataset(), NAMES)


def test_images_that_are_no_longer_there_are_passed_over_and_said(tmp_path, capsys):
    decisions = read_decisions(written(tmp_path, "cat/old.png,drop,", "cat/a.png,drop,"), dataset(), NAMES)
    assert (decisions.dropped, decisions.gone) == ((0,), ("cat/old.png",))
    decisions.say()
    assert "No longer in the data, and their decisions passed over: 'cat/old.png'." in capsys.readouterr().err


def test_decisions_on_other_data_are_refused(tmp_path):
    with pytest.raises(DataError, match="none of its 2 images is in data"):
        read_decisions(written(tmp_path, "x/1.png,drop,", "x/2.png,keep,"), dataset(), NAMES)


def test_a_file_without_verbs_is_refused(tmp_path):
    with pytest.raises(DataError, match="has no column 'verb'; it needs path, verb and label"):
        read_decisions(written(tmp_path, "cat/a.png,", header="path,label"), dataset(), NAMES)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv"):
        read_decisions(tmp_path / "none.csv", dataset(), NAMES)


def in_parts(text: str) -> str:
    """As macOS hands names over: letters and their accents apart."""
    return unicodedata.normalize("NFD", text)


def test_names_and_labels_with_accents_apart_or_blanks_around_are_obeyed_as_they_were_written(tmp_path):
    names, labels = [in_parts("café/1.png"), in_parts("café/2.png"), " thé/3.png"], (" thé", in_parts("café"))
    data = Dataset(Path("data"), "classify", labels, [ImageRef(f"data/{name}") for name in names], np.array([1, 1, 0]))
    items = Item((names[0],), "odd", RELABEL, labels[0]), Item((names[1],), "odd", DROP), Item((names[2],), "odd", RELABEL, labels[1])
    with io.StringIO(decisions_text([finding(*items)], data, names), newline="") as text:
        rows = [(row["path"], row["suggestion"], row["suggested_label"]) for row in csv.DictReader(text)]
    decisions = read_decisions(written(tmp_path, *map(",".join, rows)), data, names)
    assert (decisions.dropped, dict(decisions.relabelled), decisions.gone) == ((1,), {0: (labels[0],), 2: (labels[1],)}, ())
    assert decisions.applied(data).targets.tolist() == [0, 1]


def test_what_an_editor_composes_is_still_the_same_image(tmp_path):
    names = [in_parts("dog/é.png"), "dog/c.png"]
    data = Dataset(Path("data"), "classify", ("cat", "dog"), [ImageRef(f"data/{name}") for name in names], np.array([0, 1]))
    assert read_decisions(written(tmp_path, "dog/é.png,drop,"), data, names).dropped == (0,)
    both = [*names, "dog/é.png"]  # two files of names that look the same
    data = Dataset(Path("data"), "classify", ("cat", "dog"), [ImageRef(f"data/{name}") for name in both], np.array([0, 1, 0]))
    assert read_decisions(written(tmp_path, "dog/é.png,drop,", f"{names[0]},keep,"), data, both).dropped == (2,)
