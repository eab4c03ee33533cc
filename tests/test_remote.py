"""Data by a URL: archives are copied once, again when they changed, and what is wrong with an address is said."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import sightline
from conftest import write_shapes
from sightline.data import room
from sightline.data.locks import is_locked, try_lock
from sightline.data.readers import read_dataset
from sightline.data.remote import keep, local, url_of
from sightline.errors import DataError, ResourceError, UsageError
from test_folder import packed
from test_webdataset import png, shapes_in_shards, shard

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed; the extra scale has it")
pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.fixture
def memory():
    """A file system in memory, with a count of the files that were opened."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@pytest.fixture
def opened(memory, monkeypatch):
    names, plain = [], type(memory).open
    monkeypatch.setattr(type(memory), "open", lambda self, path, *given, **named: names.append(path) or plain(self, path, *given, **named))
    return names


def put(memory, path: Path, name: str) -> None:
    memory.pipe(name, path.read_bytes())


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("s3://bucket/a.tar", "s3://bucket/a.tar"),
        (Path("s3://bucket/a.tar"), "s3://bucket/a.tar"),
        (Path("memory://a.tar"), "memory://a.tar"),
        ("/data/a.tar", None),
        ("photos", None),
        ("C:/photos", None),
        (r"C:\photos", None),
    ],
)
def test_a_url_is_known_even_as_a_path(given, url):
    assert url_of(given) == url
    if url is None:
        assert local(given) == Path(given)


def test_an_archive_is_copied_once_and_again_when_it_changed(tmp_path, memory, opened):
    folder = write_shapes(tmp_path / "data", per_class=2)
    put(memory, packed(folder, "stored.zip"), "/there/data.zip")
    opened.clear()
    first = local("memory://there/data.zip")
    assert len(read_dataset(first)[0]) == 6
    assert local("memory://there/data.zip") == first
    assert len(opened) == 1
    write_shapes(folder, per_class=3)
    put(memory, packed(folder, "stored.zip"), "/there/data.zip")
    assert len(read_dataset(local("memory://there/data.zip"))[0]) == 9
    assert [file.name for file in first.parent.iterdir() if file.suffix not in (".json", ".lock")] == ["data.zip"]


@pytest.mark.parametrize("pattern", ["shapes-{0000..0001}.tar", "shapes-*.tar"])
def test_a_pattern_gives_a_folder_of_its_shards(tmp_path, memory, opened, pattern):
    for path in sorted(shapes_in_shards(tmp_path / "shards", per_shard=3, shards=2).iterdir()):
        put(memory, path, f"/there/{path.name}")
    opened.clear()
    dataset, _ = read_dataset(local(f"memory://there/{pattern}"))
    assert (len(dataset), dataset.labels) == (6, ("0", "1", "2"))
    memory.rm("/there/shapes-0001.tar")
    if "*" in pattern:
        assert len(read_dataset(local(f"memory://there/{pattern}"))[0]) == 3
        assert len(opened) == 2
    else:
        with pytest.raises(DataError, match=r"memory://there/shapes-\{0000\.\.0001\}\.tar: cannot be read"):
            local(f"memory://there/{pattern}")


def test_a_copy_that_was_cut_short_is_made_again(tmp_path, memory):
    put(memory, shard(tmp_path / "a.tar", {"1.png": png(), "1.cls": "1"}), "/a.tar")
    copy = local("memory://a.tar")
    copy.write_bytes(copy.read_bytes()[:100])
    assert local("memory://a.tar").read_bytes() == (tmp_path / "a.tar").read_bytes()


def test_a_copy_that_is_stopped_leaves_nothing_half(tmp_path, memory, monkeypatch, empty_cache):
    put(memory, shard(tmp_path / "a.tar", {"1.png": png(), "1.cls": "1"}), "/a.tar")

    def stopped(source, sink, length):
        sink.write(b"half")
        raise ConnectionError("the line went dead")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", stopped)
        with pytest.raises(DataError, match="cannot be read \\(the line went dead\\)"):
            local("memory://a.tar")
    assert [file for file in empty_cache.rglob("*") if file.is_file()] == []
    assert local("memory://a.tar").exists()


def test_what_cannot_be_copied_is_said_in_one_sentence(tmp_path, memory, monkeypatch):
    with pytest.raises(DataError, match=r"memory://no\.tar: cannot be read"):
        local("memory://no.tar")
    with pytest.raises(DataError, match=r"there is no memory://no-\*\.tar"):
        local("memory://no-*.tar")
    with pytest.raises(UsageError, match="of a URL archives are read"):
        local("memory://photos")
    with pytest.raises(DataError, match="quantum"):
        local("quantum://photos.tar")
    put(memory, shard(tmp_path / "a.tar", {"1.png": os.urandom(30_000)}), "/a.tar")
    with pytest.raises(ResourceError, match=r"copy of memory://a\.tar would take .* raise --store-limit"):
        local("memory://a.tar", limit_gb=1e-5)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UsageError, match=r"pip install 'sightline\[scale\]'"):
        local("memory://a.tar")


def test_the_copy_used_longest_ago_makes_room(tmp_path, memory, empty_cache):
    for name in "abc":
        put(memory, shard(tmp_path / f"{name}.tar", {"1.png": os.urandom(30_000)}), f"/{name}.tar")
    first, second = local("memory://a.tar"), local("memory://b.tar")
    os.utime(first.parent, (1, 1))
    third = local("memory://c.tar", limit_gb=100_000 / 1e9)
    assert [copy.exists() for copy in (first, second, third)] == [False, True, True]


def test_a_copy_that_is_there_needs_no_more_room(tmp_path, memory, monkeypatch):
    put(memory, shard(tmp_path / "a.tar", {"1.png": png()}), "/a.tar")
    copy = local("memory://a.tar")
    usage = room.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: usage._replace(free=0))
    assert local("memory://a.tar") == copy
    put(memory, shard(tmp_path / "a.tar", {"1.png": os.urandom(30_000)}), "/a.tar")
    with pytest.raises(ResourceError, match=r"the copy of memory://a\.tar needs 4.* and 0 GB are free; make room"):
        local("memory://a.tar")


@pytest.fixture
def both(tmp_path, memory):
    """Two URLs, and gigabytes in which one of their copies has room."""
    for name in "ab":
        put(memory, shard(tmp_path / f"{name}.tar", {"1.png": os.urandom(30_000)}), f"/{name}.tar")
    return ("memory://a.tar", "memory://b.tar"), 50_000 / 1e9


def test_copies_given_together_do_not_make_room_for_each_other(both, run, empty_cache, monkeypatch):
    urls, room_for_one = both
    with pytest.raises(ResourceError, match=r"copy of memory://b\.tar would take .* beside .* in use, .*; raise --store-limit"):
        [local(url, room_for_one, beside=urls) for url in urls]
    assert len([*empty_cache.rglob("a.tar")]) == 1
    assert local(urls[1], room_for_one).exists()
    assert not [*empty_cache.rglob("a.tar")]
    monkeypatch.setattr("sightline.config.LookConfig.store_limit", room_for_one)
    with pytest.raises(ResourceError, match=r"copy of memory://a\.tar would take .* in use, .*; copy it .* by hand and give its path"):
        sightline.predict(run.model, urls[::-1])


def test_a_copy_that_another_process_reads_makes_no_room(both):
    urls, room_for_one = both
    first = local(urls[0])
    (held,) = first.parent.glob("*.lock")
    assert is_locked(held)
    with (first.parent / "other.lock").open("a") as file:
        assert try_lock(file.fileno())
        with pytest.raises(ResourceError, match="in use"):
            local(urls[1], room_for_one)
        assert first.exists()
        assert not held.exists(), "a process holds what its last call was given"
    assert local(urls[1], room_for_one).exists()
    assert not first.exists()


def test_a_run_that_goes_on_holds_the_copy_of_the_process_that_began_it(both, tmp_path):
    urls, room_for_one = both
    first = local(urls[0])
    local(urls[1])  # holds its own copy alone
    keep(tmp_path)
    keep(first)
    with pytest.raises(ResourceError, match="in use"):
        local(urls[1], room_for_one, beside=[urls[0]])
    assert first.exists()


def test_what_another_process_is_copying_is_left_alone(tmp_path, memory):
    put(memory, shard(tmp_path / "a.tar", {"1.png": png()}), "/a.tar")
    folder = local("memory://a.tar").parent
    live, dead = (folder / f"a.tar.0.{owner}.part" for owner in ("live", "dead"))
    for path in (live, dead, folder / "dead.lock"):
        path.touch()
        os.utime(path, (1, 1))
    with (folder / "live.lock").open("a") as file:
        assert try_lock(file.fileno())
        local("memory://a.tar")
        assert [live.exists(), dead.exists(), (folder / "dead.lock").exists()] == [True, False, False]
    local("memory://a.tar")
    assert not live.exists()


def test_images_by_url_are_explained(tmp_path, memory, run):
    for name in ("one", "two"):
        put(memory, packed(write_shapes(tmp_path / name, per_class=1), "stored.zip"), f"/there/{name}.zip")
    given = ["memory://there/one.zip", "memory://there/two.zip"]
    found = list(sightline.explain(run.model, given, out=str(tmp_path / "why"), random_maps=0))
    assert [type(answer).__name__ for _, answer in found] == ["Explained"] * 6


def test_an_audit_of_a_url_is_one_of_its_archive(tmp_path, memory):
    put(memory, packed(write_shapes(tmp_path / "data", per_class=2), "stored.zip"), "/there/photos.zip")
    numbers = sightline.audit("memory://there/photos.zip", out=str(tmp_path / "audit"), weights="none").numbers
    assert (numbers["title"], numbers["n"]) == ("photos", 6)
