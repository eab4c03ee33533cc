"""store: each image is decoded once, what is on disk is whole, and the disk is not filled."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
from PIL import Image

from conftest import write_shapes
from sightline.data import building, look, room, store
from sightline.data.decode import Limits
from sightline.data.folder import read_folder
from sightline.data.look import Look, look_at
from sightline.data.store import look_once
from sightline.errors import ResourceError
from sightline.records import ImageRef

SIDE = 24


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path):
    return write_shapes(tmp_path / "data", per_class=4)


@pytest.fixture
def decoded(monkeypatch):
    """Images are looked at in this process, and the names of those that had to be decoded are collected here."""
    names = []

    def counted(jobs, workers):
        for job in jobs:
            seen = look_at(*job)
            names.extend([os.path.basename(job[0].path)] if seen is not None else [])
            yield seen

    monkeypatch.setattr(store, "looked_at", counted)
    return names


def build(root, *, side=SIDE, limit_bytes=1e9):
    dataset = root if not isinstance(root, os.PathLike) else read_folder(root)
    return look_once(dataset, side, limits=Limits(), workers=2, limit_bytes=limit_bytes)


def assert_is_store_of(built, root):
    refs = read_folder(root).refs
    assert built.facts.path.tolist() == [str(ref) for ref in refs]
    for row, ref in enumerate(refs):
        np.testing.assert_array_equal(built[row], look_at(ref, SIDE, Limits()).pixels)


def pixel_files(cache):
    return sorted(cache.glob("stores/*/pixels-*.bin"))


# ---- what a store holds ----------------------------------------------------------------------------------------------


def test_the_pool_gives_the_pixels_and_facts_of_each_image_in_order(shapes):
    built = build(shapes)
    assert_is_store_of(built, shapes)
    for row, ref in enumerate(read_folder(shapes).refs):
        alone = look_at(ref, SIDE, Limits())
        for name in store.LOOKED_FACTS:
            np.testing.assert_array_equal(getattr(built.facts, name)[row], getattr(alone, name), err_msg=name)


def test_pixels_are_a_memory_map_of_uint8_that_cannot_be_written(data, decoded):
    built = build(data)
    assert isinstance(built.pixels, np.memmap)
    assert built[0].dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        built[0][0] = 0


def test_rows_selected_keep_facts_and_pixels_together(data, decoded):
    built = build(data)
    part = built.select(np.array([7, 2]))
    assert part.facts.path.tolist() == built.facts.path[[7, 2]].tolist()
    np.testing.assert_array_equal(part[0], built[7])
    masked = built.select(np.arange(len(built)) == 2)
    assert len(masked) == 1
    np.testing.assert_array_equal(masked[0], built[2])


def test_an_unreadable_image_has_its_reason_and_an_empty_image(data, decoded):
    (data / "cross" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (data / "disc" / "gone.png").symlink_to(data / "nowhere.png")
    built = build(data)
    refused = np.flatnonzero(~built.facts.readable)
    assert [os.path.basename(built.facts.path[row]) for row in refused] == ["000.png", "gone.png"]
    assert "PNG" in built.facts.error[refused[0]]
    assert built.facts.error[refused[1]] == "no such file"
    assert all(built[row].shape == (0, 0, 3) for row in refused)
    assert np.array_equal(built[refused[0] + 1], look_at(read_folder(data).refs[1], SIDE, Limits()).pixels)


def test_a_data_set_without_a_readable_image_has_a_store(tmp_path, decoded):
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "1.png").write_bytes(b"nothing")
    built = build(tmp_path / "data")
    assert not built.facts.readable.any()
    assert built[0].shape == (0, 0, 3)


def test_odd_shapes_are_stored_as_they_are(tmp_path, decoded):
    (tmp_path / "data" / "a").mkdir(parents=True)
    for name, size in (("1", (1, 1)), ("2", (1, 1000)), ("3", (3000, 20))):
        Image.new("RGB", size, "red").save(tmp_path / "data" / "a" / f"{name}.png")
    built = build(tmp_path / "data")
    assert built.shapes.tolist() == [[1, 1], [4 * SIDE, 1], [1, 4 * SIDE]]
    assert all((built[row] == (255, 0, 0)).all() for row in range(3))


# ---- once ------------------------------------------------------------------------------------------------------------


def test_files_that_did_not_change_are_not_looked_at_again(data, decoded, cache):
    build(data)
    files = pixel_files(cache)
    decoded.clear()
    again = build(data)
    assert decoded == []
    assert pixel_files(cache) == files
    assert_is_store_of(again, data)


def test_a_file_with_another_time_and_the_same_bytes_is_not_decoded_again(data, decoded):
    build(data)
    decoded.clear()
    os.utime(data / "disc" / "001.png", ns=(1, 1))
    again = build(data)
    assert decoded == []
    assert 1 in again.facts.mtime_ns
    assert_is_store_of(again, data)


def test_only_what_changed_or_is_new_is_decoded(data, decoded):
    before = build(data).facts.sha256.tolist()
    decoded.clear()
    Image.new("RGB", (50, 30), "blue").save(data / "disc" / "001.png")
    Image.new("RGB", (20, 20), "green").save(data / "disc" / "0005.png")
    (data / "cross" / "003.png").unlink()
    again = build(data)
    assert sorted(decoded) == ["0005.png", "001.png"]
    assert_is_store_of(again, data)
    assert len(set(again.facts.sha256.tolist()) - set(before)) == 2


def test_a_file_that_may_be_read_at_last_is_looked_at_again(data, decoded, monkeypatch):
    closed = str(data / "disc" / "001.png")
    read, access = look.read_bytes, os.access

    def refuse(ref, limits):
        if ref.path == closed:
            raise look.ImageError(closed, "permission denied")
        return read(ref, limits)

    os.chmod(closed, 0)  # which its owner may still read here, if it is the superuser
    monkeypatch.setattr(look, "read_bytes", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and access(path, mode))
    assert [str(path) for path in build(data).facts.path[~build(data).facts.readable]] == [closed]
    monkeypatch.setattr(look, "read_bytes", read)
    monkeypatch.setattr(os, "access", access)
    os.chmod(closed, 0o644)
    assert build(data).facts.readable.all()


def test_data_sets_and_sizes_do_not_share_a_store(tmp_path, data, decoded, cache):
    other = write_shapes(tmp_path / "other", per_class=4, seed=5)
    build(data)
    build(other)
    build(data, side=16)
    assert len(pixel_files(cache)) == 3
    decoded.clear()
    assert_is_store_of(build(data), data)
    assert_is_store_of(build(other), other)
    assert build(data, side=16)[0].shape == (16, 16, 3)
    assert decoded == []


# ---- what can go wrong -----------------------------------------------------------------------------------------------


def table_of(cache):
    (table,) = cache.glob("stores/*/index-*.table")
    return table


def damage(kind, cache):
    table, (pixels,) = table_of(cache), pixel_files(cache)
    index = table.with_name("index.json")
    if kind == "no index":
        index.unlink()
    elif kind == "no table":
        table.unlink()
    elif kind == "empty index":
        index.write_bytes(b"")
    elif kind == "empty table":
        table.write_bytes(b"")
    elif kind == "half a table":
        table.write_bytes(table.read_bytes()[: table.stat().st_size // 2])
    elif kind == "not a table":
        table.write_bytes(b"hello")
    elif kind == "not an index":
        index.write_text("[]")
    elif kind == "no pixels":
        pixels.unlink()
    else:
        pixels.write_bytes(pixels.read_bytes()[:-1])
        os.utime(pixels, (1, 1))


DAMAGES = [
    "no index",
    "no table",
    "empty index",
    "empty table",
    "half a table",
    "not a table",
    "not an index",
    "no pixels",
    "half the pixels",
]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_store_is_built_again(data, decoded, cache, kind, capsys):
    build(data)
    damage(kind, cache)
    decoded.clear()
    assert_is_store_of(build(data), data)
    assert len(decoded) == 12
    assert ("is damaged" in capsys.readouterr().err) == (not kind.startswith("no "))
    assert len(pixel_files(cache)) == 1


def test_a_table_with_any_byte_altered_is_never_believed_wrongly(data, decoded, cache):
    build(data)
    table = table_of(cache)
    whole = table.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 60):
        altered = bytearray(whole)
        altered[place] ^= 0xFF
        table.write_bytes(altered)
        opened = store._open(table.parent, SIDE)
        if opened is not None:
            assert_is_store_of(opened, data)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("worker")], ids=lambda error: type(error).__name__)
def test_a_build_that_is_stopped_leaves_the_store_there_was(data, decoded, cache, monkeypatch, error):
    build(data)
    files = [*cache.glob("stores/*/*")]
    Image.new("RGB", (20, 20)).save(data / "disc" / "new.png")

    def stopped(jobs, workers):
        yield look_at(*next(jobs))
        raise error

    (data / "disc" / "newer.png").write_bytes((data / "disc" / "new.png").read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(store, "looked_at", stopped)
        with pytest.raises(type(error)):
            build(data)
    assert [*cache.glob("stores/*/*")] == files
    for name in ("new.png", "newer.png"):
        (data / "disc" / name).unlink()
    decoded.clear()
    build(data)
    assert decoded == []


def test_what_a_killed_build_left_is_removed_by_the_next(data, decoded, cache):
    build(data)
    left = pixel_files(cache)[0].parent / "pixels-dead.bin"
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    (data / "disc" / "000.png").unlink()
    build(data)
    assert len(pixel_files(cache)) == 1
    assert not left.exists()


def stopped_after(count, error):
    def looks(jobs, workers):
        for number, job in enumerate(jobs):
            if number == count:
                raise error
            yield look_at(*job)

    return looks


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")], ids=lambda error: type(error).__name__)
def test_a_stopped_build_goes_on_behind_its_last_whole_shard(data, decoded, cache, monkeypatch, error):
    monkeypatch.setattr(building, "SHARD_ROWS", 3)
    for count in (8, 4):
        with monkeypatch.context() as patch:
            patch.setattr(store, "looked_at", stopped_after(count, error))
            with pytest.raises((KeyboardInterrupt, ResourceError)):
                build(data)
    assert_is_store_of(build(data), data)
    assert decoded == [f"{number:03d}.png" for number in (1, 2, 3)]
    assert sorted(file.name.split("-")[0] for file in cache.glob("stores/*/*")) == ["index", "index.json", "pixels", "pixels", "pixels"]


CHILD = """
import sys
from sightline.data import building, store
from sightline.data.decode import Limits
from sightline.data.folder import read_folder
from sightline.data.look import look_at
building.SHARD_ROWS = 3
def looks(jobs, workers):
    for number, job in enumerate(jobs):
        if number == 8:
            print("eight", flush=True)
            sys.stdin.read()
        yield look_at(*job)
store.looked_at = looks
store.look_once(read_folder(sys.argv[1]), int(sys.argv[2]), limits=Limits(), workers=1, limit_bytes=1e9)
"""


def test_of_a_build_that_was_killed_only_what_was_left_is_decoded(data, decoded, cache):
    words = [sys.executable, "-c", CHILD, str(data), str(SIDE)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "eight\n"
        other = build(data)  # what belongs to a build that goes on is neither used nor removed
        assert len(decoded) == 12
        assert len([*cache.glob("stores/*/part-*.table")]) == 2
        child.kill()
    for file in cache.glob("stores/*/index*"):
        file.unlink()
    decoded.clear()
    assert_is_store_of(build(data), data)
    assert sorted(decoded) == sorted(["000.png", "001.png", "002.png", "003.png", "002.png", "003.png"])
    assert_is_store_of(other, data)


def test_a_shard_that_the_machine_left_damaged_is_looked_at_again(data, decoded, cache, monkeypatch):
    monkeypatch.setattr(building, "SHARD_ROWS", 3)
    with monkeypatch.context() as patch:
        patch.setattr(store, "looked_at", stopped_after(8, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            build(data)
    _, second = sorted(cache.glob("stores/*/part-*.table"))
    second.write_bytes(bytes(second.stat().st_size))
    assert_is_store_of(build(data), data)
    assert len(decoded) == 9


def test_pixels_stay_where_they_are_until_little_of_a_file_is_wanted(data, decoded, cache):
    build(data)
    (first,) = pixel_files(cache)
    for number in range(24):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(data / "disc" / f"new{number:02d}.png")
        built = build(data)
        assert len(pixel_files(cache)) <= 18
        held = sum(file.stat().st_size for file in pixel_files(cache))
        assert held <= 2 * sum(built[row].size for row in range(len(built)))
    assert len(decoded) == 12 + 24
    assert first in pixel_files(cache)
    for folder in ("cross", "square"):
        for number in range(4):
            (data / folder / f"{number:03d}.png").unlink()
    built = build(data)
    assert first not in pixel_files(cache)
    assert_is_store_of(built, data)
    assert len(decoded) == 12 + 24


READER = """
import hashlib, sys
from sightline.data import store
from sightline.data.decode import Limits
from sightline.data.folder import read_folder
def looks(jobs, workers):
    raise SystemExit("looked again")
store.looked_at = looks
opened = store.look_once(read_folder(sys.argv[1]), int(sys.argv[2]), limits=Limits(), workers=1, limit_bytes=1e9)
print(hashlib.sha256(b"".join(opened[row].tobytes() for row in range(len(opened)))).hexdigest(), *opened.facts.sha256)
"""


def test_several_processes_read_one_store(data, decoded):
    built = build(data)
    words = [sys.executable, "-c", READER, str(data), str(SIDE)]
    readers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [reader.communicate()[0].split() for reader in readers]
    pixels = hashlib.sha256(b"".join(built[row].tobytes() for row in range(12))).hexdigest()
    assert said == [[pixels, *built.facts.sha256]] * 2


def test_two_builds_of_one_store_at_once_both_end_well(data, decoded, monkeypatch):
    dataset, inner, counted = read_folder(data), [], store.looked_at

    def interrupted(jobs, workers):
        for row, job in enumerate(jobs):
            if row == 5:
                monkeypatch.setattr(store, "looked_at", counted)
                inner.append(build(dataset))
            yield look_at(*job)

    monkeypatch.setattr(store, "looked_at", interrupted)
    outer = build(dataset)
    assert_is_store_of(inner[0], data)
    assert_is_store_of(outer, data)
    decoded.clear()
    build(dataset)
    assert decoded == []


def test_a_process_that_dies_loses_only_the_image_at_fault(shapes):
    class Deadly(ImageRef):
        __slots__ = ()

        def __reduce__(self):
            return os._exit, (1,)

    dataset = read_folder(shapes)
    refs = [Deadly(ref.path) if row == 20 else ref for row, ref in enumerate(dataset.refs)]
    built = build(dataset.replace(refs=refs))
    assert np.flatnonzero(~built.facts.readable).tolist() == [20]
    assert built.facts.error[20] == "the image decoder crashed on it"
    np.testing.assert_array_equal(built[59], look_at(dataset.refs[59], SIDE, Limits()).pixels)


def test_pixels_are_let_go_of_once_they_are_written(data, monkeypatch):
    alive = []

    def looks(jobs, workers):
        for _ in jobs:
            pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
            alive.append(weakref.ref(pixels))
            yield Look(pixels)
            del pixels
            assert sum(reference() is not None for reference in alive) <= 2

    monkeypatch.setattr(store, "looked_at", looks)
    assert len(build(data)) == len(alive) == 12


# ---- the disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_no_more_is_said_in_one_sentence_and_nothing_is_left(data, decoded, cache, monkeypatch, code):
    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=rf"stores/\w+: cannot write .*{os.strerror(code)}.*SIGHTLINE_CACHE"):
        build(data)
    assert [*cache.glob("stores/*/*")] == []


def test_a_cache_that_is_a_file_is_said_in_one_sentence(data, decoded, cache):
    cache.write_text("in the way")
    with pytest.raises(ResourceError, match="cannot write the store"):
        build(data)


def test_a_store_over_the_limit_is_refused_before_anything_is_decoded(data, decoded):
    with pytest.raises(ResourceError, match=r"over the limit of 1e-05; raise --store-limit"):
        build(data, limit_bytes=10_000)
    assert decoded == []


def test_panoramas_that_outgrow_the_estimate_are_stopped_at_the_limit(tmp_path, decoded, cache):
    (tmp_path / "data" / "a").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (4 * SIDE, SIDE)).save(tmp_path / "data" / "a" / f"{number}.png")
    with pytest.raises(ResourceError, match="over the limit"):
        build(tmp_path / "data", limit_bytes=4 * SIDE * SIDE * 3 * 2)
    assert pixel_files(cache) == []


def test_too_little_space_on_the_disk_is_refused(data, decoded, monkeypatch):
    usage = room.shutil.disk_usage(data)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ResourceError, match="GB are free; make room or set SIGHTLINE_CACHE"):
        build(data)
    assert decoded == []


def test_the_store_used_longest_ago_makes_room(tmp_path, decoded, cache):
    roots = [write_shapes(tmp_path / name, per_class=4, seed=seed) for seed, name in enumerate("abc")]
    need = 12 * SIDE * SIDE * 3 * store.ASPECT
    for age, root in enumerate(roots[:2]):
        build(root)
        for folder in (cache / "stores").iterdir():
            os.utime(folder, (1000 + age, 1000 + age))
    (cache / "stores" / "note.txt").write_text("not a store")
    build(roots[0])  # used again, so that b is the one used longest ago
    used = sum(path.stat().st_size for path in cache.glob("stores/*/*"))
    build(roots[2], limit_bytes=used / 2 + need + 100)
    decoded.clear()
    build(roots[0])
    build(roots[2])
    assert decoded == []
    build(roots[1])
    assert len(decoded) == 12
