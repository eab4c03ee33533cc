"""Bulk work without Ray: what is listed, planned, given again and written; each image is one row, whatever happens and how often."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline
from conftest import write_shapes
from sightline.bulk.inputs import listed
from sightline.bulk.lines import Lines, leave_out
from sightline.bulk.orders import CRASHED, Orders
from sightline.bulk.parts import key_of
from sightline.bulk.plan import PART, Chunk, Plan, begin, chunk_of, missing, parts_done
from sightline.cli import _exit_code
from sightline.errors import ConfigError, DataError, ResourceError, UsageError
from sightline.records import ImageRef
from sightline.runtime import Model

REFS = [ImageRef(f"{number}.png") for number in range(10)]


def keys(*words, **how) -> list[str]:
    return [str(ref) for ref in listed(words, **how)]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """``photos/`` with two shapes of each kind and a text that pretends to be an image, in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_shapes(tmp_path / "photos", per_class=2)
    (tmp_path / "photos" / "disc" / "bad.png").write_text("not an image")
    return tmp_path


GOOD = [f"photos/{kind}/{number:03d}.png" for kind in ("cross", "disc", "square") for number in range(2)]
ALL = sorted([*GOOD, "photos/disc/bad.png"])


# ---- inputs ----------------------------------------------------------------------------------------------------------


def test_folders_archives_lists_and_patterns_stand_for_their_images(photos):
    (photos / "shards").mkdir()
    for number, names in enumerate((GOOD[:2], GOOD[2:])):
        with tarfile.open(photos / "shards" / f"{number}.tar", "w") as file:
            for name in names:
                file.add(name)
                file.addfile(tarfile.TarInfo(f"{name[:-4]}.json"))
    with zipfile.ZipFile("all.zip", "w") as file:
        for name in GOOD:
            file.write(name)
    in_shards = [*(f"shards/0.tar!{name}" for name in GOOD[:2]), *(f"shards/1.tar!{name}" for name in GOOD[2:])]
    (photos / "shards" / "some.txt").write_text("# of today\n1.tar\n\n../photos/disc/000.png\n")
    assert sorted(keys("photos")) == ALL
    assert keys("all.zip") == [f"all.zip!{name}" for name in GOOD]
    assert keys("shards") == keys("shards/*.tar") == in_shards
    assert keys("shards/some.txt", GOOD[0]) == [*in_shards[2:], "shards/../photos/disc/000.png", GOOD[0]]


def test_what_cannot_be_listed_is_one_image_among_others_and_an_error_alone(photos, capsys):
    (photos / "broken.tar").write_bytes(b"no archive")
    assert keys("broken.tar", GOOD[0]) == ["broken.tar", GOOD[0]]
    assert "broken.tar: is not a tar archive" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"broken\.tar"):
        keys("broken.tar")
    with pytest.raises(DataError, match=r"photos/\*\.tiff: no file has such a name"):
        keys("photos/*.tiff")
    (photos / "round.txt").write_text("round.txt\n")
    with pytest.raises(UsageError, match="names itself"):
        keys("round.txt")


def test_a_list_may_begin_with_a_byte_order_mark(photos):
    (photos / "some.txt").write_text("\n".join(GOOD[:2]), "utf-8-sig")
    assert keys("some.txt") == GOOD[:2]


@pytest.mark.parametrize("word", ["s3://bucket/a.tar", Path("s3://bucket/a.tar"), "urls.txt"])
def test_what_is_named_by_a_url_is_to_be_copied_first(photos, word):
    (photos / "urls.txt").write_text("photos/disc/000.png\ns3://bucket/a.tar\n")
    with pytest.raises(UsageError, match=r"^s3://bucket/a\.tar: is named by a URL, .* copy it to where all workers see it"):
        keys(GOOD[0], word)


def table(place, **columns):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: sightline[scale]")
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), place, row_group_size=2)


def test_a_table_names_files_or_holds_their_bytes(photos):
    (photos / "tables").mkdir()
    table(photos / "tables" / "paths.parquet", label=["a", "b"], path=["../photos/disc/000.png", None])
    table(photos / "tables" / "bytes.parquet", picture=[(photos / name).read_bytes() for name in GOOD[:3]])
    assert keys("tables/paths.parquet") == ["tables/../photos/disc/000.png", "tables/paths.parquet!1"]
    assert keys("tables") == [*(f"tables/bytes.parquet!{row}" for row in range(3)), *keys("tables/paths.parquet")]
    with pytest.raises(UsageError, match=r"--column lable: .* Did you mean 'label'\?"):
        keys("tables/paths.parquet", column="lable")
    table(photos / "none.parquet", number=[1])
    with pytest.raises(UsageError, match=r"\(number\) is known to hold images; name it with --column"):
        keys("none.parquet")


# ---- the plan --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 12))
def test_each_image_is_in_exactly_one_chunk(images, size):
    plan = Plan("predict", "", {}, images, "", size)
    assert sum(plan.size(number) for number in range(plan.chunks)) == images
    assert all(0 < plan.size(number) <= size for number in range(plan.chunks))


@given(st.lists(st.integers(0, 12)))
def test_what_is_named_again_is_left_out_and_the_order_stays(numbers):
    refs = [REFS[number % 10] if number < 10 else ImageRef("shard.tar", member=str(number)) for number in numbers]
    with TemporaryDirectory() as folder:
        path = Path(folder, "lines")
        path.write_text("".join(f"{ref}\n" for ref in refs))
        with Lines(Path(folder)) as lines:
            for line in path.read_bytes().splitlines(keepends=True):
                lines.add(line)
            again = lines.repeated()
        leave_out(path, again)
        assert path.read_text().splitlines() == list(dict.fromkeys(map(str, refs)))
        assert [file.name for file in Path(folder).iterdir()] == ["lines"]


def test_what_is_missing_is_what_has_no_part(tmp_path):
    plan = begin(tmp_path, "predict", "m", {}, [*REFS, REFS[0]], 4)
    assert plan.images == 10
    (tmp_path / PART.format(1)).touch()
    (tmp_path / ".part-00000000.parquet.x.begun").touch()
    assert parts_done(tmp_path) == {1}
    assert list(missing(tmp_path, plan)) == [Chunk.of(0, REFS[:4]), Chunk.of(2, REFS[8:])]


def test_a_name_that_is_not_utf8_comes_through(tmp_path):
    odd = ImageRef(os.fsdecode(b"caf\xe9.png"), member="b", frame=2)
    (chunk,) = missing(tmp_path, begin(tmp_path, "predict", "m", {}, [odd], 4))
    assert chunk.refs == (odd,)
    assert key_of(odd) == "caf\\udce9.png!b#2"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"model": "n"}, "was begun with another model;"),
        ({"settings": {"top": 3}}, "was begun with top 5, not 3;"),
        ({"refs": REFS[:9]}, "was begun with 10 images, not 9;"),
        ({"refs": REFS[::-1]}, "was begun with other images;"),
        ({"chunk": 5, "verb": "embed"}, "was begun with the verb predict, not embed and --chunk 4, not 5;"),
    ],
)
def test_a_folder_goes_on_only_with_the_same_plan(tmp_path, changed, says):
    same = {"verb": "predict", "model": "m", "settings": {"top": 5}, "refs": REFS, "chunk": 4}
    before = begin(tmp_path, **same)
    with pytest.raises(UsageError, match=says):
        begin(tmp_path, **{**same, **changed})
    assert begin(tmp_path, **same) == before
    assert {path.name for path in tmp_path.iterdir()} == {"_plan.json", "_images.jsonl"}


@pytest.mark.parametrize(("images", "size"), [(1, 256), (25_600_000, 256), (25_600_001, 512), (10**8, 1024), (10**9, 4096), (10**10, 4096)])
def test_chunks_are_larger_where_there_would_be_too_many(images, size):
    assert chunk_of(images) == size


def test_a_folder_goes_on_with_the_chunks_that_it_has(tmp_path):
    assert begin(tmp_path / "default", "predict", "m", {}, REFS, None).chunk == 256
    given = begin(tmp_path / "given", "predict", "m", {}, REFS, 4)
    assert begin(tmp_path / "given", "predict", "m", {}, REFS, None) == given


def test_a_folder_among_the_images_goes_on(photos, monkeypatch):
    monkeypatch.chdir(photos / "photos")
    first, again = (begin(Path("answers"), "predict", "m", {}, listed(["."]), None) for _ in range(2))
    assert first == again
    assert first.images == len(ALL)


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "diary.txt").touch()
    with pytest.raises(UsageError, match=r"holds 1 other file \(diary\.txt\); give a new or empty folder"):
        begin(tmp_path, "predict", "m", {}, REFS, 4)
    with pytest.raises(UsageError, match="is a file"):
        begin(tmp_path / "diary.txt", "predict", "m", {}, REFS, 4)
    with pytest.raises(DataError, match="no images"):
        begin(tmp_path / "new", "predict", "m", {}, [], 4)


# ---- orders ----------------------------------------------------------------------------------------------------------


def carried_out(chunks, dies) -> tuple[dict[int, list[str]], Orders, int]:
    """Rows by chunk of workers that die where ``dies(places of the order)``; the orders, and how many died."""
    orders, written, deaths = Orders(iter(chunks)), {}, 0
    while orders.waiting:
        order = orders.next()
        rows = [{"key": key_of(ref)} for ref in order.wanted.refs]
        if dies([row["key"] for row in rows]):
            deaths += 1
            rows = orders.failed(order)
        elif not order.whole:
            rows = orders.done(order, rows)
        if rows is not None:
            assert order.chunk.number not in written
            written[order.chunk.number] = [(row["key"], row.get("error")) for row in rows]
    assert orders.next() is None
    return written, orders, deaths


def test_only_the_images_at_fault_are_lost():
    refs = tuple(ImageRef(f"{number}.png") for number in range(100))
    chunks = [Chunk.of(0, refs[:70]), Chunk.of(1, refs[70:])]
    poison = {"3.png", "5.png", "69.png"}
    written, orders, deaths = carried_out(chunks, lambda names: not poison.isdisjoint(names))
    assert [row for number in (0, 1) for row in written[number]] == [
        (str(ref), CRASHED if str(ref) in poison else None) for ref in refs
    ]  # fmt: skip
    assert set(orders.crashed) == poison
    # Twice the chunk, once each of two pieces of sixteen, twice each of three images.
    assert deaths == 2 + 2 + 6


@settings(max_examples=50)
@given(st.lists(st.booleans(), max_size=40), st.integers(1, 50))
def test_workers_that_die_for_reasons_of_their_own_cost_no_more_than_their_order(deaths, size):
    """However they die, each image has one row; and an image is blamed only when it was alone with two workers that died."""
    refs = tuple(ImageRef(f"{number}.png") for number in range(40))
    chunks = [Chunk.of(number, refs[start : start + size]) for number, start in enumerate(range(0, 40, size))]
    alone, fate = {}, iter(deaths)

    def dies(names):
        dead = next(fate, False)
        if dead and len(names) == 1:
            alone[names[0]] = alone.get(names[0], 0) + 1
        return dead

    written, orders, _ = carried_out(chunks, dies)
    assert [key for number in sorted(written) for key, _ in written[number]] == [str(ref) for ref in refs]
    assert all(alone[name] >= 2 for name in orders.crashed)


# ---- from beginning to end -------------------------------------------------------------------------------------------


def rows_of(folder) -> dict[str, dict]:
    """All rows of a folder by key, as a reader of parquet folders sees them; no key is there twice."""
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: sightline[scale]")
    rows = pq.read_table(folder).to_pylist()
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: row for row in rows}


# Engines are chosen by measuring them, and one of fewer bits is not the same to the fifth digit.
SAME = {"engine": "onnxruntime", "precision": "fp32"}
SAME_FLAGS = ("--engine", "onnxruntime", "--precision", "fp32")


def command(*words) -> int:
    return _exit_code([str(word) for word in words])


def test_rows_say_what_predict_says_and_one_bad_file_costs_one(run, photos, capsys):
    assert command("predict", run.model, "photos", "--json", "--top", "2", *SAME_FLAGS) == 0
    told = {entry["path"]: entry for entry in map(json.loads, capsys.readouterr().out.splitlines())}
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: sightline[scale]")
    into = ("--format", "parquet", "--out", "found", "--chunk", "3", "--json")
    assert command("predict", run.model, "photos", "--top", "2", *into, *SAME_FLAGS) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["images"], summary["refused"], summary["done"], summary["before"]) == (7, 1, 7, 0)
    rows = rows_of("found")
    assert sorted(rows) == ALL
    for key, row in rows.items():
        entry = told[key]
        assert row["error"] == entry.get("error")
        if row["error"] is None:
            found = json.loads(row["predictions"])
            assert [each["label"] for each in found] == [each["label"] for each in entry["predictions"]]
            assert np.allclose([each["score"] for each in found], [each["score"] for each in entry["predictions"]], atol=1e-5)
            assert (row["label"], row["score"]) == (found[0]["label"], found[0]["score"])
            assert (row["abstained"], row["candidates"]) == (entry.get("abstained"), entry.get("candidates"))


def test_a_second_start_does_only_what_is_missing(run, photos, capsys):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: sightline[scale]")
    words = ("predict", run.model, "photos", "--format", "parquet", "--out", "found", "--chunk", "2")
    assert command(*words) == 0
    before = rows_of("found")
    parts = sorted((photos / "found").glob("part-*"))
    assert len(parts) == 4
    parts[1].unlink()
    (photos / "found" / ".part-00000001.parquet.abc.begun").write_text("half")
    times = [part.stat().st_mtime_ns for part in (parts[0], *parts[2:])]
    capsys.readouterr()
    assert command(*words, "--json") == 0
    said = capsys.readouterr()
    assert "5 of 7 images are done already" in said.err
    assert (json.loads(said.out)["done"], json.loads(said.out)["before"]) == (2, 5)
    assert rows_of("found") == before
    assert [part.stat().st_mtime_ns for part in (parts[0], *parts[2:])] == times
    assert not list((photos / "found").glob(".*"))
    shutil.copy(parts[0], parts[3])
    with pytest.raises(ResourceError, match=r"part-00000003\.parquet: is not what was written there; delete it"):
        sightline.predict(run.model, ["photos"], format="parquet", out="found", chunk=2, top=5)
    assert command(*words, "--tile", "64") == 2
    assert "takes no tiles" in (said := capsys.readouterr().err) or "answers for whole images" in said


def test_tables_and_shards_are_read_where_they_are(run, photos):
    data = [(photos / name).read_bytes() for name in GOOD]
    table(photos / "bytes.parquet", image=[{"bytes": each, "path": "x"} for each in data[:4]] + [{"bytes": b"no", "path": "y"}, None])
    with tarfile.open("shard.tar", "w") as file:
        file.add(GOOD[4])
    (photos / "broken.zip").write_bytes(b"PK")
    done = sightline.predict(run.model, ["bytes.parquet", "shard.tar", "broken.zip"], format="parquet", out="found", chunk=3, **SAME)
    rows, wanted = rows_of("found"), Model.open(run.model, **SAME).predict([*GOOD[:4], GOOD[4]])
    assert (done.images, done.refused) == (8, 3)
    good = [*(f"bytes.parquet!{row}" for row in range(4)), f"shard.tar!{GOOD[4]}"]
    assert [rows[key]["label"] for key in good] == [found.label for found in wanted]
    assert {key: row["error"] for key, row in rows.items() if row["error"]}.keys() == {
        "bytes.parquet!4", "bytes.parquet!5", "broken.zip",
    }  # fmt: skip
    assert rows["bytes.parquet!5"]["error"] == "the table holds nothing here"
    assert "broken.zip: is damaged or cut short" in rows["broken.zip"]["error"]


def test_embeddings_are_the_networks_own_in_every_form(run, photos):
    done = sightline.embed(run.model, ["photos"], out="found.npz", chunk=3, **SAME)
    assert (done.images, done.refused) == (7, 1)
    arrays = np.load("found.npz")
    model = Model.open(run.model, outputs=("embedding",), **SAME)
    wanted = np.concatenate([batch.raw["embedding"] for batch in model.raw(arrays["keys"].tolist())])
    assert sorted(arrays["keys"]) == GOOD
    assert arrays["refused"].tolist() == ["photos/disc/bad.png"]
    assert np.allclose(arrays["embeddings"], wanted, atol=1e-5)
    assert sightline.embed(run.model, ["photos"], out="found.npz").out == "found-2.npz"
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: sightline[scale]")
    for out in ("found.parquet", "folder"):
        sightline.embed(run.model, ["photos"], out=out, chunk=4, **SAME)
        rows = rows_of(out)
        assert sorted(rows) == ALL
        assert np.allclose([rows[key]["embedding"] for key in arrays["keys"]], arrays["embeddings"], atol=1e-5)
        assert rows["photos/disc/bad.png"]["embedding"] is None


@pytest.mark.parametrize(
    ("verb", "flags", "says"),
    [
        ("predict", ("--engine", "ray"), "--engine ray: say where to write with --out FOLDER"),
        ("predict", ("--format", "parquet"), "--format parquet: say where to write with --out FOLDER"),
        (
            "predict",
            ("--engine", "ray", "--out", "x", "--format", "coco", "--save", "y"),
            "--format coco: --engine ray writes parquet only",
        ),
        ("predict", ("--engine", "ray", "--out", "x", "--save", "y"), "--save: no pictures"),
        ("predict", ("--workers", "2", "--column", "a"), "--workers 2: is for --engine ray or --format parquet. --column a"),
        ("predict", ("--format", "parquet", "--out", "x", "--workers", "2"), "--workers 2: is for --engine ray."),
        ("embed", ("--out", "x.npz", "--address", "auto"), "--address auto: is for --engine ray."),
        ("embed", ("--out", "x.npz", "--engine", "ray"), "give --out a name without .npz"),
        ("embed", (), "Say where the embeddings go with --out"),
        ("evaluate", ("--engine", "ray"), "--engine"),
    ],
)
def test_flags_that_do_not_go_together_are_refused_before_anything_is_read(photos, capsys, verb, flags, says):
    assert command(verb, "no.sight", "photos", *flags) == 2
    assert says in capsys.readouterr().err
    assert not (photos / "x").exists()


@pytest.mark.parametrize(("library", "says"), [("ray", "--engine ray: Ray is not installed"), ("pyarrow", "Parquet files need pyarrow")])
def test_a_library_that_is_missing_is_named_before_anything_is_done(photos, monkeypatch, capsys, library, says):
    if library == "ray":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed: sightline[scale]")
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.parquet", None)
    assert command("predict", "no.sight", "photos", "--engine", "ray", "--out", "x") == 2
    said = capsys.readouterr().err
    assert says in said
    assert "pip install 'sightline[scale]'" in said
    assert not (photos / "x").exists()


def test_an_audit_takes_an_address_with_ray_only(photos):
    with pytest.raises(ConfigError, match="--address auto: is for --engine ray"):
        sightline.audit("photos", address="auto", weights="none")


def test_a_cluster_that_does_not_answer_is_named_at_once(run, photos):
    pytest.importorskip("ray", reason="Ray is not installed: sightline[scale]")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(UsageError, match=f"--address {address}: no Ray cluster answers there"):
        sightline.predict(run.model, ["photos"], engine="ray", address=address, out="x")


def test_a_folder_where_nothing_can_be_read_is_an_error_and_its_rows_say_why(run, photos):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: sightline[scale]")
    with pytest.raises(DataError, match="none of the 1 images could be read; its rows have the reasons"):
        sightline.predict(run.model, ["photos/disc/bad.png"], format="parquet", out="found")
    assert "not an image" in rows_of("found")["photos/disc/bad.png"]["error"] or rows_of("found")
    with pytest.raises(ConfigError, match=r"--overlap 0\.2: is what tiles share"):
        sightline.predict(run.model, ["photos"], format="parquet", out="other", overlap=0.2)
