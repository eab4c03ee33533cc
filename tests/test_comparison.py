"""Comparing runs: what is joined, what is said of it, the page, and what cannot be compared."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import browser
import sightline
from conftest import QUICK, write_shapes
from sightline.cli import _exit_code
from sightline.comparison.page import image_at
from sightline.comparison.pairs import compare
from sightline.comparison.tables import terminal_lines
from sightline.errors import DataError, ResourceError, UsageError
from sightline.evaluation.paired import mcnemar_exact, tango_interval
from sightline.records import ImageRef
from test_architecture import TRAIN_ONLY
from test_report import Page


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Shapes that come split, so that every run has the same 30 test images."""
    folder = tmp_path_factory.mktemp("split") / "shapes"
    for seed, (split, per_class) in enumerate({"train": 8, "validation": 4, "test": 10}.items()):
        write_shapes(folder / split, per_class=per_class, seed=seed)
    return folder


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """Two runs that differ in their seeds. Tests must not write there."""
    folder = tmp_path_factory.mktemp("compared")
    return [sightline.train(data, out=str(folder / name), seed=seed, **QUICK).folder for seed, name in enumerate(("first", "second"))]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def altered(run: Path, folder: Path, change) -> Path:
    """A copy of a run whose rows and report ``change(rows, report)`` may rewrite; returns its folder."""
    shutil.copytree(run, folder)
    rows, report = rows_of(run), json.loads((run / "report.json").read_text())
    rows = change(rows, report) or rows
    report["test"]["n"] = len(rows)
    (folder / "report.json").write_text(json.dumps(report))
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def with_right(run: Path, folder: Path, values: list[float]) -> Path:
    """A copy of a run that is right, wrong or partly right as told, image by image; the rest is right."""

    def change(rows, report):
        for place, row in enumerate(rows):
            row["right"] = values[place] if place < len(values) else 1.0
            row["predicted"] = row["truth"] if float(row["right"]) else "nonsense"
            row["score"] = 0.5 + place / 100

    return altered(run, folder, change)


# ---- what is compared ------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_runs(runs):
    found = compare(runs)
    first, second = (rows_of(run) for run in runs)
    rights = [[float(row["right"]) for row in rows] for rows in (first, second)]
    gained = sum(b > a for a, b in zip(*rights, strict=True))
    lost = sum(b < a for a, b in zip(*rights, strict=True))
    (pair,) = found.to_json()["pairs"]
    assert (pair["n"], pair["only_reference"], pair["only_run"], pair["relabelled"]) == (30, 0, 0, 0)
    assert pair["right"] == pytest.approx([sum(right) / 30 for right in rights])
    assert (pair["gained"], pair["lost"], pair["difference"]) == (gained, lost, pytest.approx((gained - lost) / 30))
    assert pair["interval"] == list(tango_interval(gained, lost, 30))
    assert pair["p"] == pair["p_corrected"] == mcnemar_exact(gained, lost)
    for run, folder in zip(found.runs, runs, strict=True):
        report = json.loads((folder / "report.json").read_text())
        assert run.metrics == report["test"]["metrics"]
        assert (run.name, run.n, run.size, run.parameters) == (folder.name, 30, 32, report["network"]["parameters"])


def test_only_what_differs_is_listed_and_where_runs_went_does_not_count(runs):
    found = compare(runs)
    assert found.differing == {("run", "seed"): [0, 1]}


def test_bundles_name_their_runs(runs):
    assert compare([run / "model.sight" for run in runs]).to_json() == compare(runs).to_json()


def test_runs_of_one_name_are_told_apart(runs, tmp_path):
    again = tmp_path / "other" / runs[0].name
    shutil.copytree(runs[0], again)
    assert [run.name for run in compare([runs[0], again]).runs] == [f"{runs[0].parent.name}/first", "other/first"]


def test_images_are_joined_by_content_whatever_their_names_and_order(runs, tmp_path):
    def change(rows, report):
        for row in rows:
            row["path"] = "moved/" + row["path"]
        return rows[::-1]

    moved = altered(runs[1], tmp_path / "moved", change)
    pair, same = compare([runs[0], moved]).pairs[0], compare(runs).pairs[0]
    assert pair.paired == same.paired
    assert [ours.path for ours, _ in pair.common] == [ours.path for ours, _ in same.common]


def test_images_of_one_run_only_are_counted_and_left_out(runs, tmp_path):
    part = altered(runs[1], tmp_path / "part", lambda rows, report: rows[4:])
    rest = altered(runs[0], tmp_path / "rest", lambda rows, report: rows[:-1])
    pair = compare([rest, part]).pairs[0]
    assert (pair.paired.n, pair.only_reference, pair.only_run) == (25, 4, 1)
    assert "25 in both, 4 only in rest, 1 only in part" in "\n".join(terminal_lines(compare([rest, part])))


def test_copies_count_once_and_other_truths_not_at_all(runs, tmp_path):
    def change(rows, report):
        rows[3]["truth"] = "square"
        return [*rows, rows[0] | {"path": "copy.png"}]

    pair = compare([runs[0], altered(runs[1], tmp_path / "changed", change)]).pairs[0]
    assert rows_of(runs[0])[3]["truth"] == "cross"
    assert (pair.paired.n, pair.relabelled, pair.only_run) == (29, 1, 0)


# ---- what is said of it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second", "says"), [
    ([0] * 2, [0] * 1, "b is right on 3.3% more of the same 30 images than a (95% interval -8.4 to 16.7%): that may be chance."),
    ([0] * 1, [0] * 2, "b is right on 3.3% fewer of the same 30 images than a (95% interval -8.4 to 16.7%): that may be chance."),
    ([0] * 12, [0] * 2, "33.3% more of the same 30 images than a (95% interval 18.2 to 51.2%): that is more than chance."),
    ([0] * 6, [0] * 6, "b and a are right equally often on the same 30 images (95% interval of the difference -11.4 to 11.4%)."),
    ([0] * 9, [*[1] * 9, 0, 0], "that may be chance (McNemar's exact test: p = 0.065)."),
    ([0.5] * 9, [0.75] * 9, "On the same 30 images, the mean share that b has right is 7.5% above that of a"),
    ([0.5] * 9, [0.25] * 9, "On the same 30 images, the mean share that b has right is 7.5% below that of a"),
])  # fmt: skip
def test_a_sentence_says_what_the_numbers_do(runs, tmp_path, first, second, says):
    found = compare([with_right(runs[0], tmp_path / "a", first), with_right(runs[0], tmp_path / "b", second)])
    assert says in found.sentence
    assert found.sentence.endswith("With only 30 in common this is a rough figure.")


def test_fractions_are_compared_by_resampling_which_is_repeatable(runs, tmp_path):
    folders = [with_right(runs[0], tmp_path / "a", [0.5] * 9), with_right(runs[0], tmp_path / "b", [0.75] * 9)]
    found = compare(folders)
    assert (found.pairs[0].paired.method, found.pairs[0].clear) == ("paired bootstrap", True)
    assert found.to_json() == compare(folders).to_json()


def test_several_runs_are_corrected_for_their_number(runs, tmp_path):
    folders = [with_right(runs[0], tmp_path / name, [0] * wrong) for name, wrong in (("base", 12), ("good", 0), ("small", 6), ("bad", 30))]
    found = compare(folders)
    good, small, bad = found.pairs
    assert small.paired.p == pytest.approx(2 / 64)
    assert (small.p_corrected, good.clear, bad.clear) == (small.paired.p, True, True)
    assert found.sentence == ("Compared with base on the same test images, good (+40.0%) and small (+20.0%) are better; "
                              "bad (-60.0%) is worse. Holm's correction allows for the 3 comparisons.")  # fmt: skip
    eight_to_one = with_right(runs[0], tmp_path / "eight", [*[1] * 8, *[0] * 5])
    corrected = compare([folders[0], eight_to_one, with_right(runs[0], tmp_path / "alike", [0] * 12)]).pairs[0]
    assert corrected.p_corrected == pytest.approx(2 * 2 * 10 / 512)
    assert "may be chance (McNemar's exact test: p = 0.078, after Holm's correction for 2 comparisons)" in corrected.sentence


# ---- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture
def disagreeing(runs, tmp_path):
    """Two runs that are right on 20 images together, each alone on 2 and 3, and wrong together on 5."""
    first = with_right(runs[0], tmp_path / "one", [1, 1, 0, 0, 0, *[0] * 5])
    second = with_right(runs[0], tmp_path / "two", [0, 0, 1, 1, 1, *[0] * 5])
    return [first, second]


def page_of(folders, out: Path) -> Page:
    return Page(sightline.compare(folders, out=out).page.read_text(encoding="utf-8"))


def test_the_page_has_sentence_table_differences_and_pictures_in_order(disagreeing, tmp_path):
    found = sightline.compare(disagreeing, out=tmp_path / "page.html")
    page = Page(found.page.read_text(encoding="utf-8"))
    body = page.text[page.text.rindex("Comparison of one and two") :]
    places = [body.index(words) for words in (found.sentence, "training time", "accuracy", "Share right, less that of one",
                                              "Only one is right", "Only two is right", "Neither is right")]  # fmt: skip
    assert places == sorted(places)
    images = page.all("img")
    assert [image["alt"] for image in images] == [rows_of(disagreeing[0])[place]["path"] for place in (1, 0, 4, 3, 2, 9, 8, 7, 6, 5)]
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert "truth: cross one: cross, 50% sure two: nonsense, 50% sure" in page.text
    assert "cannot be shown" not in page.text


def test_the_page_is_whole_and_loads_nothing(disagreeing, tmp_path):
    page = page_of(disagreeing, tmp_path / "page.html")
    assert not page.all("script")
    assert {link["href"] for link in page.all("link")} == {"data:,"}
    assert len(page.all("caption")) == len(page.all("table"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= set(ids)


def test_many_disagreements_are_cut_to_the_most_confident(runs, tmp_path):
    folders = [with_right(runs[0], tmp_path / "one", [1] * 30), with_right(runs[0], tmp_path / "two", [0] * 30)]
    page = page_of(folders, tmp_path / "page.html")
    assert "30 images, of which the 24 with the gravest and most confident mistakes are shown." in page.text
    assert [image["alt"] for image in page.all("img")] == [row["path"] for row in rows_of(folders[0])[:5:-1]]


def test_runs_that_agree_have_no_pictures(runs, tmp_path):
    page = page_of([with_right(runs[0], tmp_path / name, []) for name in ("one", "two")], tmp_path / "page.html")
    assert not page.all("img")
    assert "Neither" not in page.text


def test_partly_right_images_are_shown_with_how_far(runs, tmp_path):
    page = page_of([with_right(runs[0], tmp_path / "one", [0.5]), with_right(runs[0], tmp_path / "two", [0.25])], tmp_path / "page.html")
    assert "one is more right" in page.text
    assert "Neither is wholly right" in page.text
    assert "one: cross, 50% sure, 50% right two: cross, 50% sure, 25% right" in page.text


def placed(run: Path, data: Path, root: Path | None) -> None:
    """Writes into a run which data it was given, and the root of its images, or as older versions did, without a root."""
    config = json.loads((run / "config.json").read_text()) | {"data": str(data), "root": str(root)}
    (run / "config.json").write_text(json.dumps({name: value for name, value in config.items() if name != "root" or root is not None}))


def test_pictures_that_are_gone_or_changed_are_said_to_be(disagreeing, data, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    names = [row["path"] for row in rows_of(disagreeing[0])]
    (moved / names[0]).unlink()
    shutil.copy(moved / names[9], moved / names[1])
    for folder in disagreeing:
        placed(folder, moved, moved)
    page = page_of(disagreeing, tmp_path / "page.html")
    assert f"2 pictures of 10 cannot be shown: the files are gone from {moved}, or were changed." in page.text
    assert page.text.count("The picture is not here") == 2
    assert len(page.all("img")) == 8


def test_pictures_come_from_where_either_run_had_them(disagreeing, tmp_path):
    placed(disagreeing[0], tmp_path / "gone", tmp_path / "gone")
    assert len(page_of(disagreeing, tmp_path / "page.html").all("img")) == 10


@pytest.mark.parametrize(
    ("file", "recorded"), [("annotations/instances.json", True), ("instances.json", False), ("data.yaml", False), ("table.csv", False)]
)
def test_pictures_of_data_that_a_file_names_are_found_from_its_folder(disagreeing, data, tmp_path, file, recorded):
    shutil.copytree(data, tmp_path / "set")
    (tmp_path / "set" / file).parent.mkdir(exist_ok=True)
    (tmp_path / "set" / file).touch()
    for folder in disagreeing:
        placed(folder, tmp_path / "set" / file, tmp_path / "set" if recorded else None)
    page = page_of(disagreeing, tmp_path / "page.html")
    assert len(page.all("img")) == 10
    assert "cannot be shown" not in page.text


def test_a_folder_may_be_called_as_an_archive_is(tmp_path):
    (tmp_path / "a.zip").mkdir()
    assert image_at(tmp_path / "a.zip", "1.png") == ImageRef(str(tmp_path / "a.zip" / "1.png"))


def levels(run: Path, folder: Path, images: Path, **settings) -> Path:
    """A copy of a run that is wrong on images of 12 bits, half of them light, which it read with these settings."""
    images.mkdir(exist_ok=True)

    def change(rows, report):
        for place, row in enumerate(rows):
            row["path"], row["right"] = f"{place}.png", float(place > 2)
            Image.fromarray(np.full((32, 32), 4095 - place if place % 2 else place, np.uint16)).save(images / row["path"])
            row["content_id"] = hashlib.sha256((images / row["path"]).read_bytes()).hexdigest()
        report["settings"]["data"] |= settings

    placed(altered(run, folder, change), images, images)
    return folder


def test_pictures_are_shown_as_the_first_run_saw_them(runs, tmp_path):
    for window, light in (("0,4095", 255), (None, 15)):
        name = str(light)
        first = levels(runs[0], tmp_path / f"first{name}", tmp_path / "images", window=window)
        second = levels(runs[1], tmp_path / f"second{name}", tmp_path / "images")
        pictures = {image["alt"]: image["src"] for image in page_of([first, second], tmp_path / f"{name}.html").all("img")}
        shown = Image.open(io.BytesIO(base64.b64decode(pictures["1.png"].partition(",")[2])))
        assert set(pictures) == {"0.png", "1.png", "2.png"}
        assert np.asarray(shown.convert("L")).mean() == pytest.approx(light, abs=2)


def test_pictures_larger_than_the_first_run_allowed_are_not_opened(runs, tmp_path):
    first = levels(runs[0], tmp_path / "first", tmp_path / "images", max_pixels=1000)
    page = page_of([first, levels(runs[1], tmp_path / "second", tmp_path / "images")], tmp_path / "page.html")
    assert "3 pictures of 3 cannot be shown" in page.text
    damaged = levels(runs[0], tmp_path / "damaged", tmp_path / "images", window="wide")
    with pytest.raises(DataError, match=r"report.json: cannot be read \(window must be two numbers"):
        compare([damaged, runs[1]])


def test_words_from_outside_stay_words(disagreeing, tmp_path):
    def change(rows, report):
        rows[0] |= {"path": "../../etc/<b>passwd</b>", "predicted": "<script>alert(1)</script>"}
        report["network"]["weights"] = "{{ 7 * 7 }}<img src=x>"

    hostile = altered(disagreeing[0], tmp_path / "hostile", change)
    found = sightline.compare([hostile, disagreeing[1]], out=tmp_path / "page.html")
    text = found.page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "{{ 7 * 7 }}<img src=x>" in Page(text).text


def test_nothing_is_overwritten(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(sightline.compare(runs).page) for _ in range(3)] == ["compare.html", "compare-2.html", "compare-3.html"]
    assert sightline.compare(runs, out=tmp_path).page == tmp_path / "compare-4.html"
    assert sightline.compare(runs, out="new/folder/page.html").page.exists()
    with pytest.raises(ResourceError, match=r"compare.html.*give another --out"):
        sightline.compare(runs, out="compare.html/page.html")


@pytest.mark.skipif(bool(browser.why_missing()), reason=browser.why_missing() or "chromium is there")
def test_the_page_fits_a_phone_and_a_desk(disagreeing, runs, tmp_path):
    from playwright.sync_api import sync_playwright

    path = sightline.compare([*disagreeing, runs[1]], out=tmp_path / "page.html").page
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser.CHROMIUM, args=options)
        for width in (360, 800, 1200):
            page = chromium.new_page(viewport={"width": width, "height": 900})
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator(".spread u").count() == 2
        chromium.close()


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Runs a command in an empty working folder and returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        code = _exit_code([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_the_command_prints_the_table_and_where_the_page_is(command, runs, tmp_path):
    code, out, err = command("compare", *runs)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["first", "second"]
    for name in ("task", "backbone", "weights", "input size", "parameters", "seed", "training time", "test images", "accuracy", "f1"):
        assert any(line.startswith(f"{name}  ") for line in lines), name
    assert compare(runs).sentence in lines
    assert lines[-1] == "Page  compare.html"
    assert (tmp_path / "compare.html").exists()


def test_the_command_as_json_is_one_object(command, runs):
    code, out, _ = command("compare", *runs, "--json", "--out", "page.html")
    found = json.loads(out)
    assert code == 0
    assert found == compare(runs).to_json() | {"page": "page.html"}
    assert [run["run"] for run in found["runs"]] == list(map(str, runs))


def test_without_training_libraries_the_table_is_printed_and_the_page_is_missed(runs, tmp_path):
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {TRAIN_ONLY!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
sys.meta_path.insert(0, Blocked())
from sightline.cli import _exit_code
assert _exit_code(["compare", *{list(map(str, runs))!r}]) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert "Page" not in done.stdout
    assert done.stderr == "! No page was written, as jinja2 is not installed: pip install 'sightline[train]'.\n"
    assert not list(tmp_path.iterdir())


# ---- what cannot be compared -----------------------------------------------------------------------------------------


def test_one_run_is_not_a_comparison(command, runs):
    for words in ([runs[0]], [str(runs[0])]):
        code, _, err = command("compare", *words)
        assert code == 2
        assert "at least two runs" in err
    with pytest.raises(UsageError, match="at least two runs"):
        sightline.compare(str(runs[0]))


def test_the_same_run_twice_is_told(runs):
    with pytest.raises(UsageError, match="first: this run is given twice"):
        compare([runs[0], runs[1], runs[0] / "model.sight"])


def test_everything_that_is_wrong_is_told_at_once(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    started = shutil.copytree(runs[0], tmp_path / "started")
    (started / "report.json").unlink()
    old = shutil.copytree(runs[0], tmp_path / "old")
    (old / "predictions.csv").unlink()
    with pytest.raises(UsageError) as caught:
        compare([runs[0], tmp_path / "nowhere", tmp_path / "empty", started, old])
    for words in (f"{tmp_path / 'nowhere'}: there is no such run", f"{tmp_path / 'empty'}: is no run", "started: this run is not finished",
                  f"train --resume {started}", "old: this run has no predictions.csv", "train it again"):  # fmt: skip
        assert words in str(caught.value)
    with pytest.raises(DataError, match="train it again"):
        compare([runs[0], old])


@pytest.mark.parametrize(("name", "content", "says"), [
    ("predictions.csv", b"", "has no column path, content_id"),
    ("predictions.csv", b"path,content_id,truth,predicted,score,right\n", "holds 0 images where report.json counts 30"),
    ("predictions.csv", b"path,content_id,truth,predicted,score,right\na,b,c", "is cut short in line 2"),
    ("predictions.csv", b"path,content_id,truth,predicted,score,right\na,b,c,d,much,1\n", "could not convert"),
    ("predictions.csv", b"path,content_id,truth,predicted,score,right\na,b,c,d,0.5,2\n", "line 2 that cannot be"),
    ("predictions.csv", b"path,content_id,truth,predicted,score,right\na,b,c,d,nan,1\n", "line 2 that cannot be"),
    ("predictions.csv", b"\x89PNG\xff\xfe", "cannot be read"),
    ("report.json", b"{", "cannot be read"),
    ("report.json", b"[" * 100_000, "cannot be read"),
    ("report.json", b"[1]", "cannot be read"),
    ("report.json", b"{}", "has no settings"),
    ("report.json", b'{"settings": 7}', "has '7' for settings"),
    ("config.json", b"{}", "has no data"),
])  # fmt: skip
def test_damaged_files_are_named(runs, tmp_path, name, content, says):
    damaged = shutil.copytree(runs[1], tmp_path / "damaged")
    (damaged / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        compare([runs[0], damaged])
    assert str(caught.value).startswith(f"{damaged / name}: ")
    assert says in str(caught.value)
    assert "train again" in str(caught.value)


def test_other_tasks_and_classes_are_named(runs, tmp_path):
    other = altered(runs[1], tmp_path / "other", lambda rows, report: report.update(task="tag"))
    with pytest.raises(DataError, match="other learned the task 'tag' and first 'classify'"):
        compare([runs[0], other])
    more = altered(runs[1], tmp_path / "more", lambda rows, report: report["data"].update(labels=["cross", "disc", "star"]))
    with pytest.raises(DataError, match=r"only first has 'square'; only more has 'star'"):
        compare([runs[0], more])


def test_the_order_of_classes_does_not_matter(runs, tmp_path):
    turned = altered(runs[1], tmp_path / "turned", lambda rows, report: report["data"]["labels"].reverse())
    assert compare([runs[0], turned]).pairs[0].paired.n == 30


def test_no_image_in_common_is_told(runs, tmp_path):
    half = altered(runs[0], tmp_path / "half", lambda rows, report: rows[:15])
    rest = altered(runs[1], tmp_path / "rest", lambda rows, report: rows[15:])
    with pytest.raises(DataError, match="rest: no test image in common with half"):
        compare([half, rest])
