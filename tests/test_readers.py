"""The same images give the same data set and the same weights, whether they come as folders, as an archive or as a table."""

from __future__ import annotations

import csv
import pickle
import shutil
from pathlib import Path

import pytest

import sightline
from conftest import QUICK, write_shapes
from sightline.bundle import Bundle
from sightline.config import ReadConfig
from sightline.data.readers import read_dataset
from sightline.errors import DataError, TaskError, UsageError


@pytest.fixture(scope="module")
def forms(tmp_path_factory) -> dict[str, Path]:
    """One set of shapes as class folders, zip, tar and a table in another order."""
    folder = tmp_path_factory.mktemp("forms")
    shapes = write_shapes(folder / "shapes", per_class=8)
    found = {"folder": shapes}
    for form in ("zip", "tar"):
        found[form] = Path(shutil.make_archive(str(folder / "packed"), form, shapes))
    found["table"] = folder / "shapes.csv"
    with found["table"].open("w", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(["label", "path"])
        writer.writerows([path.parent.name, path.relative_to(folder)] for path in sorted(shapes.rglob("*.png"), reverse=True))
    return found


@pytest.fixture(scope="module")
def trained(forms, tmp_path_factory) -> dict[str, tuple[Path, str, bytes]]:
    """The bundle of a short run on each, with its fingerprint and weights."""
    out = tmp_path_factory.mktemp("runs")
    found = {}
    for form, data in forms.items():
        run = sightline.train(data, out=str(out / form), **{**QUICK, "epochs": 1})
        with Bundle.open(run.model) as bundle:
            found[form] = run.model, bundle.manifest.fingerprint, bundle.read("weights")
    return found


@pytest.mark.parametrize("form", ["zip", "tar", "table"])
def test_every_form_gives_the_same_fingerprint_and_byte_identical_weights(trained, form):
    assert trained[form][1:] == trained["folder"][1:]


@pytest.mark.parametrize("form", ["folder", "zip", "table"])
def test_what_was_found_is_said_with_the_task_it_makes(forms, form):
    dataset, sentence = read_dataset(forms[form])
    assert sentence.startswith(f"{forms[form]}: 24 ")
    assert sentence.endswith("so the task is classify.")
    assert [str(ref) for ref in dataset.refs] == sorted(str(ref) for ref in dataset.refs)


def test_every_form_can_be_evaluated(forms, trained):
    figures = {form: sightline.evaluate(trained["folder"][0], data) for form, data in forms.items()}
    assert all(found == figures["folder"] for found in figures.values())


def test_columns_of_what_has_none_are_refused(forms):
    with pytest.raises(UsageError, match=r"is no table .* leave out --label-column, --group-column"):
        read_dataset(forms["zip"], ReadConfig(label_column="x", group_column="y"))
    with pytest.raises(UsageError, match=r"--task tag: .*shapes is read as class folders, which have one label an image"):
        read_dataset(forms["folder"], task="tag")
    with pytest.raises(DataError, match="there is no such folder"):
        read_dataset(forms["folder"] / "nowhere", task="tag")


def test_an_error_about_the_task_comes_whole_from_another_process():
    error = pickle.loads(pickle.dumps(TaskError("tag", "photos holds masks.")))
    assert (error.task, error.reason, str(error)) == ("tag", "photos holds masks.", "--task tag: photos holds masks.")
