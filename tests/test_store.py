"""store: each image is decoded once, and the disk is not filled."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from PIL import Image

from built_stores import SIDE, assert_is_store_of, build, pixel_files
from conftest import write_shapes
from sightline.data import look, room, store
from sightline.data.decode import Limits
from sightline.data.folder import read_folder
from sightline.data.locks import try_lock
from sightline.data.look import look_at
from sightline.errors import ResourceError

pytestmark = pytest.mark.usefixtures("empty_cache")


# ---- what a store holds ----------------------------------------------------------------------------------------------


def test_the_pool_gives_the_pixels_and_facts_of_each_image_in_order(shapes):
    built = build(shapes)
    assert_is_store_of(built, shapes)
    for row, ref in enumerate(read_folder(shapes).refs):
        alone = look_at(ref, SIDE, Limits())
        for name in store.LOOKED_FACTS:
            np.testing.assert_array_equal(getattr(built.facts, name)[row], getattr(alone, name), err_msg=name)


def test_pixels_are_a_memory_map_of_uint8_that_cannot_be_written(own_shapes, decoded):
    built = build(own_shapes)
    assert isinstance(built.pixels, np.memmap)
    assert built[0].dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        built[0][0] = 0


def test_rows_selected_keep_facts_and_pixels_together(own_shapes, decoded):
    built = build(own_shapes)
    part = built.select(np.array([7, 2]))
    assert part.facts.path.tolist() == built.facts.path[[7, 2]].tolist()
    np.testing.assert_array_equal(part[0], built[7])
    masked = built.select(np.arange(len(built)) == 2)
    assert len(masked) == 1
    np.testing.assert_array_equal(masked[0], built[2])


def test_an_unreadable_image_has_its_reason_and_an_empty_image(own_shapes, decoded):
    (own_shapes / "cross" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (own_shapes / "disc" / "gone.png").symlink_to(own_shapes / "nowhere.png")
    built = build(own_shapes)
    refused = np.flatnonzero(~built.facts.readable)
    assert [os.path.basename(built.facts.path[row]) for row in refused] == ["000.png", "gone.png"]
    assert "PNG" in built.facts.error[refused[0]]
    assert built.facts.error[refused[1]] == "no such file"
    assert all(built[row].shape == (0, 0, 3) for row in refused)
    assert np.array_equal(built[refused[0] + 1], look_at(read_folder(own_shapes).refs[1], SIDE, Limits()).pixels)


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


def test_files_that_did_not_change_are_not_looked_at_again(own_shapes, decoded, empty_cache):
    build(own_shapes)
    files = pixel_files(empty_cache)
    decoded.clear()
    again = build(own_shapes)
    assert decoded == []
    assert pixel_files(empty_cache) == files
    assert_is_store_of(again, own_shapes)


def test_a_file_with_another_time_and_the_same_bytes_is_not_decoded_again(own_shapes, decoded):
    build(own_shapes)
    decoded.clear()
    os.utime(own_shapes / "disc" / "001.png", ns=(1, 1))
    again = build(own_shapes)
    assert decoded == []
    assert 1 in again.facts.mtime_ns
    assert_is_store_of(again, own_shapes)


def test_only_what_changed_or_is_new_is_decoded(own_shapes, decoded):
    before = build(own_shapes).facts.sha256.tolist()
    decoded.clear()
    Image.new("RGB", (50, 30), "blue").save(own_shapes / "disc" / "001.png")
    Image.new("RGB", (20, 20), "green").save(own_shapes / "disc" / "0005.png")
    (own_shapes / "cross" / "003.png").unlink()
    again = build(own_shapes)
    assert sorted(decoded) == ["0005.png", "001.png"]
    assert_is_store_of(again, own_shapes)
    assert len(set(again.facts.sha256.tolist()) - set(before)) == 2


def test_a_file_that_may_be_read_at_last_is_looked_at_again(own_shapes, decoded, monkeypatch):
    closed = str(own_shapes / "disc" / "001.png")
    read, access = look.read_bytes, os.access

    def refuse(ref, limits):
        if ref.path == closed:
            raise look.ImageError(closed, "permission denied")
        return read(ref, limits)

    os.chmod(closed, 0)  # which its owner may still read here, if it is the superuser
    monkeypatch.setattr(look, "read_bytes", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and access(path, mode))
    assert [str(path) for path in build(own_shapes).facts.path[~build(own_shapes).facts.readable]] == [closed]
    monkeypatch.setattr(look, "read_bytes", read)
    monkeypatch.setattr(os, "access", access)
    os.chmod(closed, 0o644)
    assert build(own_shapes).facts.readable.all()


@pytest.mark.parametrize("meanwhile", ["nothing", "another file is new", "its time is another"])
def test_a_file_that_was_refused_for_want_of_a_library_is_read_once_that_is_there(own_shapes, decoded, monkeypatch, meanwhile):
    decode = look.picture_with_header

    def refuse(data, name, **how):
        if name.endswith("disc/001.png"):
            raise look.ImageError(name, "needs a library")
        return decode(data, name, **how)

    monkeypatch.setattr(look, "picture_with_header", refuse)
    facts = build(own_shapes).facts
    assert facts.error[~facts.readable].tolist() == ["needs a library"]
    monkeypatch.setattr(look, "picture_with_header", decode)
    assert (build(own_shapes, retry=False).facts.error == facts.error).all()
    if meanwhile == "another file is new":
        Image.new("RGB", (20, 20), "green").save(own_shapes / "disc" / "new.png")
    elif meanwhile == "its time is another":
        os.utime(own_shapes / "disc" / "001.png", ns=(1, 1))
    again = build(own_shapes)
    assert again.facts.readable.all()
    assert_is_store_of(again, own_shapes)


def test_a_damaged_file_costs_a_look_at_itself_alone_and_a_new_reason_is_told(own_shapes, decoded, empty_cache, monkeypatch):
    (own_shapes / "disc" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    build(own_shapes)
    files = {file: file.stat().st_mtime_ns for file in empty_cache.glob("stores/*/*")}
    decoded.clear()
    assert ["PNG" in error for error in build(own_shapes).facts.error if error] == [True]
    assert decoded == ["bad.png"]
    assert {file: file.stat().st_mtime_ns for file in empty_cache.glob("stores/*/*")} == files

    def refuse(data, name, **how):
        raise look.ImageError(name, "needs a library")

    monkeypatch.setattr(look, "picture_with_header", refuse)
    assert [error for error in build(own_shapes).facts.error if error] == ["needs a library"]


def test_data_sets_and_sizes_do_not_share_a_store(tmp_path, own_shapes, decoded, empty_cache):
    other = write_shapes(tmp_path / "other", per_class=4, seed=5)
    build(own_shapes)
    build(other)
    build(own_shapes, side=16)
    assert len(pixel_files(empty_cache)) == 3
    decoded.clear()
    assert_is_store_of(build(own_shapes), own_shapes)
    assert_is_store_of(build(other), other)
    assert build(own_shapes, side=16)[0].shape == (16, 16, 3)
    assert decoded == []


# ---- the disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_no_more_is_said_in_one_sentence_and_nothing_is_left(own_shapes, decoded, empty_cache, monkeypatch, code):
    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=rf"stores/\w+: cannot write .*{os.strerror(code)}.*SIGHTLINE_CACHE"):
        build(own_shapes)
    assert [*empty_cache.glob("stores/*/*")] == []


def test_a_cache_that_is_a_file_is_said_in_one_sentence(own_shapes, decoded, empty_cache):
    empty_cache.write_text("in the way")
    with pytest.raises(ResourceError, match="cannot write the store"):
        build(own_shapes)


def test_a_store_over_the_limit_is_refused_before_anything_is_decoded(own_shapes, decoded):
    with pytest.raises(ResourceError, match=r"over the limit of 1e-05; raise --store-limit"):
        build(own_shapes, limit_bytes=10_000)
    assert decoded == []


def test_panoramas_that_outgrow_the_estimate_are_stopped_at_the_limit(tmp_path, decoded, empty_cache):
    (tmp_path / "data" / "a").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (4 * SIDE, SIDE)).save(tmp_path / "data" / "a" / f"{number}.png")
    with pytest.raises(ResourceError, match="over the limit"):
        build(tmp_path / "data", limit_bytes=4 * SIDE * SIDE * 3 * 2)
    assert pixel_files(empty_cache) == []


def test_too_little_space_on_the_disk_is_refused(own_shapes, decoded, monkeypatch):
    usage = room.shutil.disk_usage(own_shapes)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ResourceError, match="GB are free; make room or set SIGHTLINE_CACHE"):
        build(own_shapes)
    assert decoded == []


def test_only_what_is_still_to_be_written_has_to_fit_on_the_disk(own_shapes, decoded, monkeypatch):
    build(own_shapes)
    decoded.clear()
    Image.new("RGB", (20, 20), "green").save(own_shapes / "disc" / "new.png")
    usage = room.shutil.disk_usage(own_shapes)
    free = round(room.KEEP_FREE * usage.total + 2 * SIDE * SIDE * 3 * store.ASPECT)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: usage._replace(free=free))
    assert_is_store_of(build(own_shapes), own_shapes)
    assert decoded == ["new.png"]


def test_a_store_that_is_being_built_makes_no_room(tmp_path, decoded, empty_cache):
    first, second = (write_shapes(tmp_path / name, per_class=4, seed=seed) for seed, name in enumerate("ab"))
    build(first)
    (folder,) = (empty_cache / "stores").iterdir()
    limit = 12 * SIDE * SIDE * 3 * store.ASPECT + 100
    with (folder / "other.lock").open("a") as file:
        assert try_lock(file.fileno())
        with pytest.raises(ResourceError, match=r"would take .* GB beside .* GB in use, over the limit .*; raise --store-limit"):
            build(second, limit_bytes=limit)
        assert folder.exists()
    build(second, limit_bytes=limit)
    assert not folder.exists()


def test_the_store_used_longest_ago_makes_room(tmp_path, decoded, empty_cache):
    roots = [write_shapes(tmp_path / name, per_class=4, seed=seed) for seed, name in enumerate("abc")]
    need = 12 * SIDE * SIDE * 3 * store.ASPECT
    for age, root in enumerate(roots[:2]):
        build(root)
        for folder in (empty_cache / "stores").iterdir():
            os.utime(folder, (1000 + age, 1000 + age))
    (empty_cache / "stores" / "note.txt").write_text("not a store")
    build(roots[0])  # used again, so that b is the one used longest ago
    used = sum(path.stat().st_size for path in empty_cache.glob("stores/*/*"))
    build(roots[2], limit_bytes=used / 2 + need + 100)
    decoded.clear()
    build(roots[0])
    build(roots[2])
    assert decoded == []
    build(roots[1])
    assert len(decoded) == 12
