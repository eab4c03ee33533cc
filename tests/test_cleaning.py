"""A clean copy holds the same pictures under the same names; blurred faces are gone for good."""

from __future__ import annotations

import errno
import io
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import DATA, needs_data
from planted import SECRET, assert_clean, jpeg, picture, png, webp
from sightline.auditing.cleaning import blurred, write_clean
from sightline.auditing.faces import Detector, Face
from sightline.auditing.privacy import find_faces
from sightline.data.decode import decode, decode_with_header
from sightline.data.folder import read_folder
from sightline.errors import ResourceError, UsageError
from sightline.records import ImageRef


def write_set(folder) -> dict[str, ImageRef]:
    files = {
        "train/cat/a.jpg": jpeg(6), "train/cat/b.png": png(), "test/dog/c.webp": webp(), "test/dog/d.bmp": saved("BMP"),
        "test/dog/e.tif": saved("TIFF"), "test/dog/e.gif": saved("GIF"), "test/dog/f.jpg": b"\xff\xd8\xff broken",
    }  # fmt: skip
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return {name: ImageRef(str(folder / name)) for name in files}


def saved(kind: str, image: Image.Image | None = None) -> bytes:
    sink = io.BytesIO()
    (image or picture()).save(sink, kind)
    return sink.getvalue()


def test_a_copy_has_the_same_names_and_pictures(tmp_path, capsys):
    refs = write_set(tmp_path / "data")
    cleaned = write_clean(refs, tmp_path / "clean", strip_metadata=True, faces=None)
    assert cleaned.renamed == {
        "test/dog/d.bmp": "test/dog/d.png",
        "test/dog/e.tif": "test/dog/e.tif.png",
        "test/dog/e.gif": "test/dog/e.gif.png",
    }
    assert [name for name, _ in cleaned.left_out] == ["test/dog/f.jpg"]
    assert cleaned.images == 6
    copied = {path.relative_to(tmp_path / "clean").as_posix() for path in (tmp_path / "clean").rglob("*") if path.is_file()}
    assert copied == {cleaned.renamed.get(name, name) for name in refs} - {"test/dog/f.jpg"}
    for name in set(refs) - {"test/dog/f.jpg"}:
        data = (tmp_path / "clean" / cleaned.renamed.get(name, name)).read_bytes()
        np.testing.assert_array_equal(decode(data), decode(refs[name]))
        assert SECRET.encode() not in data
    assert read_folder(tmp_path / "clean").labels == ("cat", "dog")
    cleaned.announce()
    said = capsys.readouterr().err
    assert "test/dog/f.jpg: damaged JPEG data (no marker found); not in the clean copy." in said
    assert "3 images (test/dog/d.bmp, test/dog/e.tif, test/dog/e.gif) became PNG files of 8 bits" in said
    assert "holds a clean copy of 6 images." in said


def test_members_of_an_archive_become_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for name in ("cat/a.jpg", "dog/b.jpg"):
            archive.writestr(name, jpeg())
    refs = {name: ImageRef(str(tmp_path / "data.zip"), name) for name in ("cat/a.jpg", "dog/b.jpg")}
    assert write_clean(refs, tmp_path / "clean", strip_metadata=True, faces=None).images == 2
    assert_clean((tmp_path / "clean" / "dog" / "b.jpg").read_bytes())


@pytest.mark.parametrize(
    "name", ["../out.jpg", "/tmp/out.jpg", "cat/../../out.jpg", "C:\\out.jpg", "a\\..\\..\\out.jpg", "C:out.jpg", "", ".."]
)
def test_a_name_that_leads_out_of_the_folder_is_left_out(tmp_path, name):
    (tmp_path / "in.jpg").write_bytes(jpeg())
    ref = ImageRef(str(tmp_path / "in.jpg"))
    cleaned = write_clean({name: ref, "fine.jpg": ref}, tmp_path / "copy" / "clean", strip_metadata=True, faces=None)
    assert cleaned.left_out == [(name, "its name leads out of the folder of the copy")]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["fine.jpg", "in.jpg"]


def test_parts_of_files_and_names_that_cannot_be_are_left_out(tmp_path):
    (tmp_path / "in.jpg").write_bytes(jpeg())
    ref = ImageRef(str(tmp_path / "in.jpg"))
    refs = {"a": ref, "x" * 300 + ".jpg": ref, "b.jpg": ImageRef(ref.path, frame=1), "c.jpg": ImageRef(ref.path, window=(0, 0, 2, 2))}
    cleaned = write_clean(refs, tmp_path / "clean", strip_metadata=True, faces=None)
    assert [path.name for path in (tmp_path / "clean").iterdir()] == ["a"]
    assert [name for name, _ in cleaned.left_out] == ["x" * 300 + ".jpg", "b.jpg", "c.jpg"]
    (tmp_path / "second").mkdir()
    cleaned = write_clean({"a": ref, "a/b.jpg": ref}, tmp_path / "second", strip_metadata=True, faces=None)
    assert cleaned.images == 1


@pytest.mark.parametrize("what", ["a file", "a folder with something in it"])
def test_a_folder_that_is_not_empty_is_refused_before_anything_is_written(tmp_path, what):
    refs = write_set(tmp_path / "data")
    place = tmp_path / "clean"
    if what == "a file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="new or empty folder"):
        write_clean(refs, place, strip_metadata=True, faces=None)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_said_and_no_half_file_has_its_name(tmp_path, monkeypatch):
    refs = write_set(tmp_path / "data")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        write_clean(refs, tmp_path / "clean", strip_metadata=True, faces=None)
    assert not [path for path in (tmp_path / "clean").rglob("*") if path.is_file()]


# Faces.


@given(st.lists(st.tuples(*[st.floats(0, 60)] * 2, *[st.floats(1, 60)] * 2), max_size=3))
def test_blurring_changes_faces_and_their_surroundings_only(drawn):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    faces = [Face((x, y, min(64, x + width), min(64, y + height)), 0.9) for x, y, width, height in drawn]
    changed = (blurred(pixels, faces) != pixels).any(axis=2)
    allowed = np.zeros((64, 64), bool)
    for left, top, right, bottom in (face.box for face in faces):
        wide, high = 0.5 * (right - left) + 1, 0.5 * (bottom - top) + 1
        allowed[max(0, int(top - high)) : int(bottom + high) + 1, max(0, int(left - wide)) : int(right + wide) + 1] = True
    assert not (changed & ~allowed).any()


def test_of_a_face_no_more_than_a_few_colours_are_left():
    """Two pictures whose averages agree give the same, whatever is in them."""
    grain = np.random.default_rng(0).integers(0, 2, (16, 16, 1)) * 2 - 1
    balanced = np.kron(grain, np.array([[1, -1], [-1, 1]])[:, :, None]).repeat(3, axis=2)
    first, second = ((128 + 60 * sign * balanced).astype(np.uint8) for sign in (1, -1))
    face = [Face((0, 0, 32, 32), 0.9)]
    assert np.abs(first.astype(int) - second).mean() > 100
    np.testing.assert_array_equal(blurred(first, face), blurred(second, face))


def test_images_with_faces_keep_their_format_and_lose_their_metadata(tmp_path):
    refs = {name: ref for name, ref in write_set(tmp_path / "data").items() if name != "test/dog/f.jpg"}
    faces = {name: [Face((4, 4, 12, 12), 0.9)] for name in refs}
    cleaned = write_clean(refs, tmp_path / "clean", strip_metadata=False, faces=faces)
    assert cleaned.blurred == dict.fromkeys(refs, 1)
    for name, kind in (("train/cat/a.jpg", "JPEG"), ("train/cat/b.png", "PNG"), ("test/dog/c.webp", "WEBP"), ("test/dog/d.png", "PNG")):
        data = (tmp_path / "clean" / name).read_bytes()
        header, pixels = decode_with_header(data, name)
        assert header.format == kind
        assert_clean(data)
        original = decode(refs[{"test/dog/d.png": "test/dog/d.bmp"}.get(name, name)])
        assert pixels.shape == original.shape
        assert np.abs(pixels.astype(int) - original)[-4:, -4:].mean() < 25
        assert header.quality == (80 if kind == "JPEG" else 0)


def test_without_stripping_images_without_faces_are_copied_as_they_are(tmp_path):
    refs = write_set(tmp_path / "data")
    film = io.BytesIO()
    picture().save(film, "PNG", save_all=True, append_images=[picture().rotate(90)])
    (tmp_path / "film.png").write_bytes(film.getvalue())
    refs["film.png"] = ImageRef(str(tmp_path / "film.png"))
    faces = {name: [] for name in refs if name != "train/cat/b.png"}
    cleaned = write_clean(refs, tmp_path / "clean", strip_metadata=False, faces=faces)
    for name in ("train/cat/a.jpg", "test/dog/c.webp"):
        assert (tmp_path / "clean" / name).read_bytes() == (tmp_path / "data" / name).read_bytes()
    assert ("train/cat/b.png", "was not looked at for faces") in cleaned.left_out
    # Of films only the first picture was looked at, so the others are not copied.
    assert getattr(Image.open(tmp_path / "clean" / "film.png"), "n_frames", 1) == 1


def test_bands_that_a_png_cannot_hold_are_not_lost_in_silence(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "five.tif", np.zeros((8, 8, 5), np.uint16), photometric="minisblack", planarconfig="contig")
    cleaned = write_clean({"five.tif": ImageRef(str(tmp_path / "five.tif"))}, tmp_path / "clean", strip_metadata=True, faces=None)
    assert cleaned.left_out == [("five.tif", "has 5 bands, more than a PNG file holds")]


@needs_data
def test_the_detector_finds_no_blurred_face_again(tmp_path):
    detector = Detector.open(DATA / "weights" / "yunet_n_dynamic.onnx")
    paths = [
        *sorted((DATA / "pennfudan" / "images").iterdir())[:20],
        DATA / "hostile" / "hopper.jpg",
        DATA / "hostile" / "hopper_orientation_6.jpg",
    ]
    refs = {path.name: ImageRef(str(path)) for path in paths}
    faces = find_faces(detector, refs)
    cleaned = write_clean(refs, tmp_path / "clean", strip_metadata=True, faces=faces)
    assert sum(cleaned.blurred.values()) == sum(map(len, faces.values())) > 25
    again = find_faces(detector, {name: ImageRef(str(tmp_path / "clean" / name)) for name in refs})
    for name, found in again.items():
        for face in found:  # what was hidden beside another face may come to light, but none of those that were blurred
            across, down = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
            assert not any(box[0] <= across <= box[2] and box[1] <= down <= box[3] for box in (old.box for old in faces[name]))
