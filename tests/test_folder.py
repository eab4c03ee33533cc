"""folder: what class folders mean, and one sentence for whatever is not laid out as such."""

from __future__ import annotations

import os
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

import sightline
from conftest import QUICK, write_shapes
from sightline.data import store
from sightline.data.decode import Limits
from sightline.data.folder import SPLIT_NAMES, read_folder, read_unlabelled
from sightline.data.look import look_at
from sightline.data.store import look_once
from sightline.errors import DataError, ImageError


@pytest.fixture
def tree(tmp_path):
    """Writes files (empty: the reader opens none) and folders (names ending in a slash) and returns their root."""

    def write(*names: str) -> Path:
        for name in names:
            path = tmp_path / "data" / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.touch()
        return tmp_path / "data"

    return write


def rows(dataset) -> list[tuple[str, str, str]]:
    """(path below the root, label, split) of each sample."""
    return [(Path(s.ref.path).relative_to(dataset.root).as_posix(), dataset.labels[s.target], s.split or "") for s in dataset]


def refusal(root: Path) -> str:
    """The one sentence with which a folder is refused, without the folder's path at its start."""
    with pytest.raises(DataError) as caught:
        read_folder(root)
    text = str(caught.value)
    assert text.startswith(f"{root}: ")
    assert text.endswith(".")
    assert "\n" not in text
    return text.removeprefix(f"{root}: ")


# ---- layouts ---------------------------------------------------------------------------------------------------------


def test_class_folders_give_sorted_labels_and_no_splits(tree):
    dataset = read_folder(tree("cat/2.png", "ant/1.png", "cat/1.png", "Bee/1.png"))
    assert dataset.labels == ("Bee", "ant", "cat")
    assert rows(dataset) == [("Bee/1.png", "Bee", ""), ("ant/1.png", "ant", ""), ("cat/1.png", "cat", ""), ("cat/2.png", "cat", "")]
    assert dataset.splits is None
    assert dataset.task == "classify"


@pytest.mark.parametrize("name", [variant for name in SPLIT_NAMES for variant in (name, name.upper(), name.capitalize())])
def test_a_split_folder_is_known_by_any_of_its_names(tree, name):
    other = "test" if SPLIT_NAMES[name.lower()] == "train" else "train"
    dataset = read_folder(tree(f"{name}/a/1.png", f"{name}/b/1.png", f"{other}/a/1.png"))
    assert dataset.labels == ("a", "b")
    assert Counter(split for _, _, split in rows(dataset)) == {SPLIT_NAMES[name.lower()]: 2, other: 1}


def test_labels_are_those_of_all_splits_together(tree):
    dataset = read_folder(tree("train/b/1.png", "val/c/1.png", "test/a/1.png"))
    assert dataset.labels == ("a", "b", "c")
    assert sorted(rows(dataset)) == [("test/a/1.png", "a", "test"), ("train/b/1.png", "b", "train"), ("val/c/1.png", "c", "validation")]


def test_train_and_test_can_be_plain_classes(tree):
    dataset = read_folder(tree("train/1.png", "test/1.png", "bus/1.png"))
    assert dataset.labels == ("bus", "test", "train")
    assert dataset.splits is None


def test_a_folder_without_images_makes_no_class_and_no_split(tree):
    dataset = read_folder(tree("train/a/1.png", "train/b/1.png", "train/c/", "train/d/notes.json", "test/", "val/a/", "annotations/a.json"))
    assert dataset.labels == ("a", "b")
    assert set(dataset.splits) == {"train"}


def test_images_may_lie_deeper_in_a_class_folder(tree):
    dataset = read_folder(tree("a/2024/may/1.png", "a/1.png", "b/x/1.png"))
    assert rows(dataset) == [("a/1.png", "a", ""), ("a/2024/may/1.png", "a", ""), ("b/x/1.png", "b", "")]


def test_what_is_plainly_no_image_is_passed_over_and_what_may_be_one_is_kept(tree):
    plain = ("a/.hidden.png", "a/Thumbs.db", "a/desktop.ini", "a/labels.json", "a/list.CSV", "a/README.md", ".git/x/1.png",
             "a/.cache/1.png", "__MACOSX/._1.png", "classes.json")  # fmt: skip
    dataset = read_folder(tree("a/1.png", "b/1.JPG", "b/no_suffix", "b/raw.dng", *plain))
    assert [path for path, _, _ in rows(dataset)] == ["a/1.png", "b/1.JPG", "b/no_suffix", "b/raw.dng"]


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (("a/1.png", "b/1.png", "x.png"), "1 file (x.png)"),
        (("a/1.png", "b/1.png", "1.png", "2.png", "3.png", "4.png"), "4 files (1.png, 2.png, 3.png, ...)"),
        (("train/a/1.png", "train/x.png", "test/a/1.png", "y.png"), "2 files (y.png, train/x.png)"),
    ],
)
def test_files_beside_the_class_folders_are_left_out_and_named(tree, capsys, files, named):
    dataset = read_folder(tree(*files))
    assert len(dataset) == 2
    assert f"{named} in no class folder; left out." in capsys.readouterr().err


def test_nothing_is_said_where_all_is_well(tree, capsys):
    read_folder(tree("a/1.png", "b/1.png", "classes.json"))
    assert capsys.readouterr().err == ""


def test_a_link_to_a_class_folder_is_followed_and_a_loop_ends(tree, tmp_path):
    root = tree("a/1.png", "b/1.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").touch()
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "loop").symlink_to(root)
    (root / "b" / "me").symlink_to(root / "b" / "me")
    assert rows(read_folder(root)) == [("a/1.png", "a", ""), ("b/1.png", "b", ""), ("b/me", "b", ""), ("c/1.png", "c", "")]


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path):
    assert refusal(tmp_path / "nowhere") == "there is no such folder."


def test_a_file(tmp_path):
    (tmp_path / "a.png").touch()
    assert refusal(tmp_path / "a.png") == "is a file; give the folder that holds one folder for each class, or a .zip or .tar of it."


@pytest.mark.parametrize("names", [("x/",), ("train/", "test/"), ("train/a/", "test/a/"), ("a/labels.json",)])
def test_a_folder_without_images(tree, names):
    assert refusal(tree(*names)) == "holds no images; expected one folder for each class, with its images inside."


def test_loose_images_only(tree):
    assert refusal(tree("1.png", "2.png", "empty/")) == (
        "holds 2 files (1.png, 2.png) but no class folders; put the images of each class into a folder of its name."
    )


def test_a_stray_folder_beside_splits(tree):
    files = ("train/a/1.png", "test/a/1.png", "extra/1.png")
    assert refusal(tree(*files)) == "holds both split folders and 'extra'; move it into a split folder, or out of the way."
    assert "'extra', 'more'; move them" in refusal(tree(*files, "more/a/1.png"))


def test_two_folders_that_name_one_split(tree):
    assert refusal(tree("train/a/1.png", "val/a/1.png", "Valid/a/1.png")) == (
        "'Valid' and 'val' name the same split, validation; keep one."
    )


def test_a_test_folder_without_class_folders_is_not_taken_for_a_class(tree):
    assert refusal(tree("train/a/1.png", "train/b/1.png", "test/1.png", "test/2.png")) == (
        "'test' holds no class folders; sort its files into some, or move it out of the way."
    )


def test_several_mistakes_are_reported_together(tree):
    text = refusal(tree("train/a/1.png", "training/a/1.png", "test/1.png", "extra/1.png"))
    assert "'extra'" in text
    assert "'test' holds no class folders" in text
    assert "'train' and 'training' name the same split" in text


def test_a_folder_that_cannot_be_listed_is_named(tree, monkeypatch):
    root, listed = tree("a/1.png", "b/1.png"), os.scandir

    def scandir(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"data/b: cannot be listed \(Permission denied\); make it readable"):
        read_folder(root)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names of any bytes")
def test_a_class_name_that_is_not_utf8(tree):
    root = tree("a/1.png")
    os.makedirs(os.fsencode(root) + b"/b\xff")
    Path(os.fsdecode(os.fsencode(root) + b"/b\xff/1.png")).touch()
    assert refusal(root) == r"the name of its class folder 'b\udcff' is not valid UTF-8; rename it."


# ---- unlabelled ------------------------------------------------------------------------------------------------------


def test_unlabelled_images_are_found_at_any_depth(tree):
    dataset = read_unlabelled(tree("1.png", "a/2.png", "a/b/3.png", "a/notes.txt"))
    assert [Path(ref.path).name for ref in dataset.refs] == ["1.png", "2.png", "3.png"]
    assert dataset.targets.tolist() == [-1] * 3
    assert dataset[0].split is None


def test_a_folder_without_images_to_predict(tree):
    with pytest.raises(DataError, match="data: holds no image files"):
        read_unlabelled(tree("a/notes.txt"))


# ---- archives --------------------------------------------------------------------------------------------------------

PACKINGS = {"stored.zip": zipfile.ZIP_STORED, "deflated.ZIP": zipfile.ZIP_DEFLATED, "plain.tar": None}
MESSAGES = [  # trees that are refused, or used with a word on what is left out
    ("1.png", "2.png"),
    ("a/labels.json",),
    ("train/a/1.png", "test/a/1.png", "extra/1.png"),
    ("train/a/1.png", "val/a/1.png", "Valid/a/1.png"),
    ("train/a/1.png", "train/b/1.png", "test/1.png"),
    ("a/1.png", "b/1.png", "x.png"),
    ("train/a/1.png", "train/x.png", "test/a/1.png", "y.png"),
]


def packed(folder: Path, name: str, top: str = "") -> Path:
    """An archive of what is in a folder, in an order of its own."""
    path = folder.parent / name
    files = sorted((file for file in folder.rglob("*") if file.is_file()), reverse=True)
    places = {file: str(top / file.relative_to(folder)) for file in files}
    if PACKINGS[name] is None:
        with tarfile.open(path, "w") as tar:
            for file, place in places.items():
                tar.add(file, place)
    else:
        with zipfile.ZipFile(path, "w", PACKINGS[name]) as archive:
            for file, place in places.items():
                archive.write(file, place)
    return path


def told(root: Path, capsys) -> tuple[list[tuple[str, str, str]], str]:
    """The rows of what can be read, and all that is said of it, without the root's name."""
    try:
        dataset = read_folder(root)
        found = [(s.ref.member or Path(s.ref.path).relative_to(root).as_posix(), dataset.labels[s.target], s.split or "") for s in dataset]
        return found, capsys.readouterr().err.replace(str(root), "")
    except DataError as error:
        return [], str(error).replace(str(root), "")


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("top", ["", "shapes", "home/me/shapes"])
@pytest.mark.parametrize("came_split", [False, True])
def test_a_tree_gives_the_same_data_set_packed_and_unpacked(tmp_path, name, top, came_split):
    folder = tmp_path / "data"
    for seed, split in enumerate(("train", "val", "test") if came_split else ("",)):
        write_shapes(folder / split, per_class=2, seed=seed)
        write_shapes(folder / split / "cross" / "deeper", per_class=1, kinds=("disc",), seed=seed + 9)
    path = packed(folder, name, Path(top))
    expected, found = read_folder(folder), read_folder(path)
    assert found.root == path
    assert (found.task, found.labels) == (expected.task, expected.labels)
    assert found.targets.tolist() == expected.targets.tolist()
    assert (found.splits is None) == (expected.splits is None) == (not came_split)
    assert not came_split or found.splits.tolist() == expected.splits.tolist()
    assert {ref.path for ref in found.refs} == {str(path)}
    below = [Path(ref.path).relative_to(folder).as_posix() for ref in expected.refs]
    assert [ref.member for ref in found.refs] == [f"{top}/{place}" if top else place for place in below]
    looked = [look_once(dataset, 32, limits=Limits(), workers=2, limit_bytes=1e9).facts for dataset in (expected, found)]
    assert looked[1].readable.all()
    assert looked[1].sha256.tolist() == looked[0].sha256.tolist()


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("files", MESSAGES, ids=", ".join)
def test_the_same_is_said_of_a_tree_packed_and_unpacked(tree, capsys, name, files):
    folder = tree(*files)
    assert told(packed(folder, name), capsys) == told(folder, capsys)


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (("cat/1.png",), ("cat",)),
        (("train/cat/1.png", "train/dog/1.png"), ("cat", "dog")),
        (("Test/cat/1.png",), ("cat",)),
        (("data/train/cat/1.png", "data/test/dog/1.png"), ("cat", "dog")),
        (("data/1.png", "data/cat/1.png"), ("cat",)),
        (("data/cat/1.png", "1.png"), ("data",)),
        (("cat/a/1.png", "dog/a/1.png"), ("cat", "dog")),
        (("data/cat/1.png", "__MACOSX/data/cat/._1.png"), ("cat",)),
    ],
)
def test_only_a_folder_around_everything_is_looked_through(tree, files, labels):
    assert read_folder(packed(tree(*files), "plain.tar")).labels == labels


def test_files_left_out_of_an_archive_are_named_by_their_whole_name(tree, capsys):
    read_folder(packed(tree("top/a/1.png", "top/b/1.png", "top/x.png"), "stored.zip"))
    assert "1 file (top/x.png) in no class folder; left out." in capsys.readouterr().err


def test_a_folder_with_an_archives_name_is_a_folder(tmp_path):
    write_shapes(tmp_path / "shapes.zip", per_class=1)
    assert len(read_folder(tmp_path / "shapes.zip")) == len(read_unlabelled(tmp_path / "shapes.zip")) == 3


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_an_archive_that_cannot_be_used(tmp_path, name):
    assert refusal(tmp_path / name) == "there is no such archive."
    (tmp_path / name).write_bytes(b"something else")
    assert "archive, whatever its name says" in refusal(tmp_path / name)
    with pytest.raises(DataError, match="archive, whatever its name says"):
        read_unlabelled(tmp_path / name)


@pytest.mark.parametrize("name", PACKINGS)
def test_unlabelled_images_in_an_archive(tree, name):
    path = packed(tree("1.png", "a/2.png", "a/b/3.png", "a/notes.txt"), name)
    assert [str(ref) for ref in read_unlabelled(path).refs] == [f"{path}!{member}" for member in ("1.png", "a/2.png", "a/b/3.png")]


def test_of_a_changed_archive_only_what_is_new_is_decoded(tmp_path, monkeypatch):
    decoded = []

    def counted(jobs, workers, pixel_file=None):
        for job in jobs:
            seen = look_at(*job)
            decoded.extend([job[0].member] if seen is not None else [])
            yield seen

    monkeypatch.setattr(store, "looked_at", counted)
    looking = {"limits": Limits(), "workers": 1, "limit_bytes": 1e9}
    folder = write_shapes(tmp_path / "data", per_class=2)
    path = packed(folder, "stored.zip")
    look_once(read_folder(path), 32, **looking)
    decoded.clear()
    look_once(read_folder(path), 32, **looking)
    assert decoded == []
    write_shapes(folder, per_class=1, kinds=("star",))
    (folder / "disc" / "001.png").write_bytes((folder / "disc" / "000.png").read_bytes())
    os.utime(packed(folder, "stored.zip"), ns=(0, 0))
    facts = look_once(read_folder(path), 32, **looking).facts
    assert decoded == ["disc/001.png", "star/000.png"]
    assert facts.sha256[2] == facts.sha256[3]
    assert facts.readable.all()


@pytest.fixture(scope="module")
def archived(tmp_path_factory):
    """A finished run on a ZIP of shapes, of which one is broken."""
    folder = write_shapes(tmp_path_factory.mktemp("archived") / "shapes", per_class=12)
    (folder / "disc" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    path = packed(folder, "deflated.ZIP", Path("shapes"))
    return path, sightline.train(path, out=str(folder.parent / "run"), **QUICK)


def test_an_archive_is_trained_on_and_its_report_has_pictures(archived):
    path, run = archived
    data = run.numbers["data"]
    assert (data["root"], data["n"], data["labels"]) == (path.name, 36, ["cross", "disc", "square"])
    assert [entry["path"] for entry in data["refused"]] == ["shapes/disc/broken.png"]
    page = run.report.read_text(encoding="utf-8")
    assert 'src="data:image/jpeg' in page
    assert "The picture is not here" not in page
    assert "shapes/disc/" in page


def test_an_archive_stands_for_the_images_in_it_when_predicting(archived, tmp_path):
    path, run = archived
    loose = write_shapes(tmp_path, per_class=1, kinds=("disc",)) / "disc" / "000.png"
    found = dict(sightline.predict(run.model, [path, loose]))
    assert next(iter(found)) == f"{path}!shapes/cross/000.png"
    assert len(found) == 38
    assert isinstance(found[f"{path}!shapes/disc/broken.png"], ImageError)
    # The same bytes, packed and not.
    assert found[str(loose)] == found[f"{path}!shapes/disc/000.png"]


def test_images_in_an_archive_are_known_from_training(archived):
    path, run = archived
    unseen = sightline.evaluate(run.model, path)
    assert (unseen["n"], unseen["seen"]) == (run.numbers["test"]["n"], 0)
    assert sightline.evaluate(run.model, path, split="all")["seen"] == 36 - unseen["n"]
