"""store: what is on disk is whole, whatever is damaged, stopped or killed, and whoever reads it meanwhile."""

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

from built_stores import SIDE, assert_is_store_of, build, pixel_files
from sightline.data import building, store
from sightline.data.decode import Limits
from sightline.data.folder import read_folder
from sightline.data.look import Look, look_at
from sightline.errors import ResourceError
from sightline.records import ImageRef

pytestmark = pytest.mark.usefixtures("empty_cache")


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
def test_a_damaged_store_is_built_again(own_shapes, decoded, empty_cache, kind, capsys):
    build(own_shapes)
    damage(kind, empty_cache)
    decoded.clear()
    assert_is_store_of(build(own_shapes), own_shapes)
    assert len(decoded) == 12
    assert ("is damaged" in capsys.readouterr().err) == (not kind.startswith("no "))
    assert len(pixel_files(empty_cache)) == 1


def test_a_table_with_any_byte_altered_is_never_believed_wrongly(own_shapes, decoded, empty_cache):
    build(own_shapes)
    table = table_of(empty_cache)
    whole = table.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 60):
        altered = bytearray(whole)
        altered[place] ^= 0xFF
        table.write_bytes(altered)
        opened = store._open(table.parent, SIDE)
        if opened is not None:
            assert_is_store_of(opened, own_shapes)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("worker")], ids=lambda error: type(error).__name__)
def test_a_build_that_is_stopped_leaves_the_store_there_was(own_shapes, decoded, empty_cache, monkeypatch, error):
    build(own_shapes)
    files = [*empty_cache.glob("stores/*/*")]
    Image.new("RGB", (20, 20)).save(own_shapes / "disc" / "new.png")

    def stopped(jobs, workers, pixel_file=None):
        yield look_at(*next(jobs))
        raise error

    (own_shapes / "disc" / "newer.png").write_bytes((own_shapes / "disc" / "new.png").read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(store, "looked_at", stopped)
        with pytest.raises(type(error)):
            build(own_shapes)
    assert [*empty_cache.glob("stores/*/*")] == files
    for name in ("new.png", "newer.png"):
        (own_shapes / "disc" / name).unlink()
    decoded.clear()
    build(own_shapes)
    assert decoded == []


def test_what_a_killed_build_left_is_removed_by_the_next(own_shapes, decoded, empty_cache):
    build(own_shapes)
    left = pixel_files(empty_cache)[0].parent / "pixels-dead.bin"
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    (own_shapes / "disc" / "000.png").unlink()
    build(own_shapes)
    assert len(pixel_files(empty_cache)) == 1
    assert not left.exists()


def stopped_after(count, error):
    def looks(jobs, workers, pixel_file=None):
        for number, job in enumerate(jobs):
            if number == count:
                raise error
            yield look_at(*job)

    return looks


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")], ids=lambda error: type(error).__name__)
def test_a_stopped_build_goes_on_behind_its_last_whole_shard(own_shapes, decoded, empty_cache, monkeypatch, error):
    monkeypatch.setattr(building, "SHARD_ROWS", 3)
    for count in (8, 4):
        with monkeypatch.context() as patch:
            patch.setattr(store, "looked_at", stopped_after(count, error))
            with pytest.raises((KeyboardInterrupt, ResourceError)):
                build(own_shapes)
    assert_is_store_of(build(own_shapes), own_shapes)
    assert decoded == [f"{number:03d}.png" for number in (1, 2, 3)]
    kinds = sorted(file.name.split("-")[0] for file in empty_cache.glob("stores/*/*"))
    assert kinds == ["index", "index.json", "pixels", "pixels", "pixels"]


CHILD = """
import sys
from sightline.data import building, store
from sightline.data.decode import Limits
from sightline.data.folder import read_folder
from sightline.data.look import look_at
building.SHARD_ROWS = 3
def looks(jobs, workers, pixel_file=None):
    for number, job in enumerate(jobs):
        if number == 8:
            print("eight", flush=True)
            sys.stdin.read()
        yield look_at(*job)
store.looked_at = looks
store.look_once(read_folder(sys.argv[1]), int(sys.argv[2]), limits=Limits(), workers=1, limit_bytes=1e9)
"""


def test_of_a_build_that_was_killed_only_what_was_left_is_decoded(own_shapes, decoded, empty_cache):
    words = [sys.executable, "-c", CHILD, str(own_shapes), str(SIDE)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "eight\n"
        other = build(own_shapes)  # what belongs to a build that goes on is neither used nor removed
        assert len(decoded) == 12
        assert len([*empty_cache.glob("stores/*/part-*.table")]) == 2
        child.kill()
    for file in empty_cache.glob("stores/*/index*"):
        file.unlink()
    decoded.clear()
    assert_is_store_of(build(own_shapes), own_shapes)
    assert sorted(decoded) == sorted(["000.png", "001.png", "002.png", "003.png", "002.png", "003.png"])
    assert_is_store_of(other, own_shapes)


def test_a_shard_that_the_machine_left_damaged_is_looked_at_again(own_shapes, decoded, empty_cache, monkeypatch):
    monkeypatch.setattr(building, "SHARD_ROWS", 3)
    with monkeypatch.context() as patch:
        patch.setattr(store, "looked_at", stopped_after(8, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            build(own_shapes)
    _, second = sorted(empty_cache.glob("stores/*/part-*.table"))
    second.write_bytes(bytes(second.stat().st_size))
    assert_is_store_of(build(own_shapes), own_shapes)
    assert len(decoded) == 9


def test_pixels_stay_where_they_are_until_little_of_a_file_is_wanted(own_shapes, decoded, empty_cache):
    build(own_shapes)
    (first,) = pixel_files(empty_cache)
    for number in range(24):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(own_shapes / "disc" / f"new{number:02d}.png")
        built = build(own_shapes)
        assert len(pixel_files(empty_cache)) <= 18
        held = sum(file.stat().st_size for file in pixel_files(empty_cache))
        assert held <= 2 * sum(built[row].size for row in range(len(built)))
    assert len(decoded) == 12 + 24
    assert first in pixel_files(empty_cache)
    for folder in ("cross", "square"):
        for number in range(4):
            (own_shapes / folder / f"{number:03d}.png").unlink()
    built = build(own_shapes)
    assert first not in pixel_files(empty_cache)
    assert_is_store_of(built, own_shapes)
    assert len(decoded) == 12 + 24


READER = """
import hashlib, sys
from sightline.data import store
from sightline.data.decode import Limits
from sightline.data.folder import read_folder
def looks(jobs, workers, pixel_file=None):
    raise SystemExit("looked again")
store.looked_at = looks
opened = store.look_once(read_folder(sys.argv[1]), int(sys.argv[2]), limits=Limits(), workers=1, limit_bytes=1e9)
print(hashlib.sha256(b"".join(opened[row].tobytes() for row in range(len(opened)))).hexdigest(), *opened.facts.sha256)
"""


def test_several_processes_read_one_store(own_shapes, decoded):
    built = build(own_shapes)
    words = [sys.executable, "-c", READER, str(own_shapes), str(SIDE)]
    readers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [reader.communicate()[0].split() for reader in readers]
    pixels = hashlib.sha256(b"".join(built[row].tobytes() for row in range(12))).hexdigest()
    assert said == [[pixels, *built.facts.sha256]] * 2


def test_two_builds_of_one_store_at_once_both_end_well(own_shapes, decoded, monkeypatch):
    dataset, inner, counted = read_folder(own_shapes), [], store.looked_at

    def interrupted(jobs, workers, pixel_file=None):
        for row, job in enumerate(jobs):
            if row == 5:
                monkeypatch.setattr(store, "looked_at", counted)
                inner.append(build(dataset))
            yield look_at(*job)

    monkeypatch.setattr(store, "looked_at", interrupted)
    outer = build(dataset)
    assert_is_store_of(inner[0], own_shapes)
    assert_is_store_of(outer, own_shapes)
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


def test_pixels_are_let_go_of_once_they_are_written(own_shapes, monkeypatch):
    alive = []

    def looks(jobs, workers, pixel_file=None):
        for _ in jobs:
            pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
            alive.append(weakref.ref(pixels))
            yield Look(pixels)
            del pixels
            assert sum(reference() is not None for reference in alive) <= 2

    monkeypatch.setattr(store, "looked_at", looks)
    assert len(build(own_shapes)) == len(alive) == 12
