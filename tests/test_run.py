"""The run's folder: a name of its own, files written whole, and what is needed to go on."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from sightline.config import TrainConfig, TrainSettings
from sightline.data.prepare import Prepare
from sightline.errors import DataError, ResourceError, UsageError
from sightline.model.backbone import BackboneSpec
from sightline.model.choose import Choice
from sightline.records import Dataset, ImageRef
from sightline.training.plan import Plan, make_plan
from sightline.training.run import CONFIG, Clock, Run, begin, check_outside, new_run, reopen

CHOICE = Choice(BackboneSpec("test_resnet", 32), None, Prepare(32), ("as asked",))
PLAN = make_plan(TrainConfig(), 100, pretrained=False)


def dataset(root: Path = Path("data"), targets: tuple[int, ...] = (0, 1, 1)) -> Dataset:
    refs = [ImageRef(f"{number}.png") for number in range(len(targets))]
    return Dataset(root, "classify", ("a", "b"), refs, np.array(targets), np.array(["train"] * len(targets)))


@pytest.fixture
def started(tmp_path) -> Run:
    return begin(tmp_path / "data", dataset(), TrainSettings.of(out=str(tmp_path / "run"), epochs=3), CHOICE, PLAN)


def test_a_run_records_where_its_images_are_beside_the_file_that_names_them(tmp_path):
    file = tmp_path / "set" / "annotations" / "instances.json"
    record = begin(file, dataset(tmp_path / "set"), TrainSettings.of(out=str(tmp_path / "run")), CHOICE, PLAN).read_config()
    assert (record["data"], record["root"]) == (str(file), str(tmp_path / "set"))


def test_a_taken_name_gets_the_next_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(new_run(None, "classify", "shapes").folder) for _ in range(3)] == [
        "runs/classify/shapes", "runs/classify/shapes-2", "runs/classify/shapes-3",
    ]  # fmt: skip


def test_a_given_folder_is_taken_when_it_is_new_or_empty(tmp_path):
    wanted = tmp_path / "a" / "run"
    assert new_run(str(wanted), "classify", "x").folder == wanted
    assert new_run(str(wanted), "classify", "x").folder == wanted
    (wanted / "note.txt").write_text("mine")
    assert new_run(str(wanted), "classify", "x").folder == tmp_path / "a" / "run-2"
    assert [path.name for path in wanted.iterdir()] == ["note.txt"]


def test_a_file_of_the_name_is_left_alone(tmp_path):
    (tmp_path / "run").write_text("mine")
    assert new_run(str(tmp_path / "run"), "classify", "x").folder == tmp_path / "run-2"
    assert (tmp_path / "run").read_text() == "mine"


def test_the_current_folder_may_be_given_though_it_is_not_empty(tmp_path, monkeypatch):
    home = tmp_path / "work"
    home.mkdir()
    (home / "note.txt").touch()
    monkeypatch.chdir(home)
    assert new_run(".", "classify", "x").folder == tmp_path / "work-2"


def test_a_folder_that_cannot_be_made_is_an_error_in_words(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=r"file/run: the run's folder cannot be made \(Not a directory\); give another --out"):
        new_run(str(tmp_path / "file" / "run"), "classify", "x")


def test_what_a_run_was_started_with_is_read_back(started, tmp_path):
    run, record = reopen(started.folder, None, {})
    assert run == started
    assert record["data"] == str(tmp_path / "data")
    assert TrainSettings.from_json(record["settings"]) == TrainSettings.of(out=str(tmp_path / "run"), epochs=3)
    assert Plan.from_json(record["plan"]) == PLAN


def test_data_in_a_folder_whose_name_is_no_text_are_taken_up_again(tmp_path):
    data = tmp_path / os.fsdecode(b"b\xe4ume \xff")
    run = begin(data, dataset(data), TrainSettings.of(out=str(tmp_path / "run")), CHOICE, PLAN)
    _, record = reopen(run.folder, None, {})
    assert record["data"] == str(data)
    run.write_json("readable.json", {"data": "bäume"})
    assert "bäume" in (run.folder / "readable.json").read_text(encoding="utf-8")


def test_changed_data_is_noticed(started):
    started.check_unchanged(dataset(Path("elsewhere")))
    with pytest.raises(DataError, match=r"data: the images, labels or splits changed since .*run was started; restore them"):
        started.check_unchanged(dataset(targets=(0, 0, 1)))


def test_a_resumed_run_takes_no_settings_and_no_data(started):
    with pytest.raises(UsageError, match="goes on as the run was started; leave out DATA, epochs, lr"):
        reopen(started.folder, "data", {"lr": 1.0, "epochs": 5})


def test_a_finished_run_is_not_resumed(started):
    started.model.touch()
    with pytest.raises(UsageError, match=r"this run is finished, its model is .*model\.sight"):
        reopen(started.folder, None, {})


def test_a_folder_without_a_run_is_none(tmp_path):
    with pytest.raises(UsageError, match=r"holds no run that was started \(no config\.json\)"):
        reopen(tmp_path, None, {})


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "7", "\ud800"])
def test_a_broken_record_is_an_error_in_words(tmp_path, content):
    (tmp_path / CONFIG).write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(UsageError, match=r"its config\.json cannot be read"):
        reopen(tmp_path, None, {})


def test_a_record_that_lacks_something_names_it(started):
    record = started.read_config()
    del record["plan"], record["data"]
    started.write_json(CONFIG, record)
    with pytest.raises(UsageError, match=r"its config\.json lacks data, plan; start a new run"):
        reopen(started.folder, None, {})


def test_files_are_written_whole_or_not_at_all(started, monkeypatch):
    started.write_text("note.txt", "first – ü")
    assert (started.folder / "note.txt").read_text(encoding="utf-8") == "first – ü"

    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ResourceError, match=r"note\.txt: could not be written \(No space left on device\)"):
        started.write_text("note.txt", "second")
    monkeypatch.undo()
    assert (started.folder / "note.txt").read_text(encoding="utf-8") == "first – ü"
    assert sorted(path.name for path in started.folder.iterdir()) == [CONFIG, "note.txt"]


def test_json_is_strict(started):
    with pytest.raises(ValueError, match="not JSON compliant"):
        started.write_json("report.json", {"loss": float("nan")})
    started.write_json("report.json", {"name": "Müller"})
    assert json.loads((started.folder / "report.json").read_text(encoding="utf-8")) == {"name": "Müller"}


def test_a_checkpoint_is_seen(started):
    assert not started.has_checkpoint
    (started.folder / "checkpoint").mkdir()
    (started.folder / "checkpoint" / "last.pt").touch()
    assert started.has_checkpoint


def test_the_clock_adds_up_each_stage_in_order_even_when_it_fails():
    clock = Clock()
    with clock("reading"):
        time.sleep(0.01)
    with pytest.raises(KeyError), clock("training"):
        raise KeyError
    first = clock.seconds["reading"]
    with clock("reading"):
        time.sleep(0.01)
    assert list(clock.seconds) == ["reading", "training"]
    assert clock.seconds["reading"] > first > 0


def test_the_choice_of_a_network_comes_back_as_it_was_recorded(started):
    choice = Choice.from_json(started.read_config()["choice"])
    assert choice == CHOICE
    assert not choice.pretrained


@pytest.mark.parametrize("folder", ["data", "data/run", "data/../data/a/b", "away/run", "."])
def test_a_folder_inside_the_data_is_refused(tmp_path, monkeypatch, folder):
    (tmp_path / "data").mkdir()
    (tmp_path / "away").symlink_to("data")
    monkeypatch.chdir(tmp_path / "data" if folder == "." else tmp_path)
    data = tmp_path / "data"
    with pytest.raises(UsageError, match=rf"^--out {folder}: lies inside the data, {data}; name a folder elsewhere\.$"):
        check_outside("--out", folder, data)


@pytest.mark.parametrize("folder", ["run", "data-2", "data/../run", "."])
def test_a_folder_beside_or_around_the_data_is_not(tmp_path, monkeypatch, folder):
    (tmp_path / "data").mkdir()
    (tmp_path / "table.csv").touch()
    monkeypatch.chdir(tmp_path)
    for data in ("data", "table.csv", "nowhere"):
        check_outside("--out", folder, tmp_path / data)
