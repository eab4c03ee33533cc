"""Bundles that are broken or hostile are refused with one sentence and exit code 4."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import struct
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from sightline.bundle import Bundle
from sightline.errors import ModelFileError
from small_bundle import GRAPH, MANIFEST, PARTS, craft, deflated_bomb, entry, hand_made, members_of, refused, written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "model.sight")


# ---------------------------------------------------------------- broken files


def test_not_a_file(tmp_path):
    refused(tmp_path / "none.sight", "No such file")
    refused(tmp_path, "is a folder")
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", "is empty")
    (tmp_path / "text").write_text("hello " * 100)
    refused(tmp_path / "text", "is not a Sightline bundle")
    (tmp_path / "none").touch()
    refused(tmp_path / "none" / "m.sight")
    with pytest.raises(ModelFileError):
        Bundle.open("a\0b")


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is not a file")


def test_another_zip_is_not_a_bundle(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.txt", "hello")
    refused(tmp_path / "a.zip", r"has no manifest\.json")


def test_every_truncation_is_refused(path):
    data = path.read_bytes()
    for end in itertools.chain(range(0, len(data), 7), range(len(data) - 400, len(data))):
        path.write_bytes(data[:end])
        refused(path)


def test_every_changed_byte_is_refused_or_harmless(path):
    data = path.read_bytes()
    manifest = Bundle.open(path).manifest
    rng = np.random.default_rng(0)
    directory = data.index(b"PK\1\2")
    for at in itertools.chain(range(0, directory, 5), range(directory, len(data))):
        changed = bytearray(data)
        changed[at] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        with contextlib.suppress(ModelFileError), Bundle.open(path) as opened:
            assert opened.manifest == manifest
            assert opened.read("graph") == GRAPH
            assert opened.read("card") == PARTS[1].data
            assert opened.read("reference") == PARTS[2].data


@pytest.mark.parametrize("extra", [b"x", b"PK\5\6" + bytes(18), b"\0" * 70_000])
def test_added_data_are_refused(path, extra):
    data = path.read_bytes()
    path.write_bytes(data + extra)
    refused(path)
    path.write_bytes(extra + data)
    refused(path)
    path.write_bytes(data[:-2] + b"\1\0")
    refused(path, "added at its end")
    path.write_bytes(data[:-2] + struct.pack("<H", len(extra)) + extra if len(extra) < 65536 else data + extra)
    refused(path, "added at its end")


# ---------------------------------------------------------------- hostile files


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "C:\\evil",
        "C:evil",
        "a\\b",
        "a/../b",
        "a//b",
        "./a",
        "folder/",
        "a\0b",
        "é",
        "x" * 101,
        ".hidden",
        "a\nb",
        "a b",
    ],
)
def test_names_that_leave_the_folder_or_mislead(path, name):
    change = lambda made: made["members"].append(entry(name, b"x"))  # noqa: E731
    craft(path, {**members_of(path), name: b"x"}, change)
    refused(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["model.onnx", "MODEL.onnx"])
def test_names_that_come_twice(path, second):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(second, b"evil")
    refused(path, "two members of one name")


def test_members_must_match_the_manifest(path):
    members = members_of(path)
    craft(path, {**members, "extra.bin": b"x"})
    refused(path, r"holds 'extra\.bin', which its manifest does not list")
    craft(path, {name: data for name, data in members.items() if name != "card.md"})
    refused(path, r"lacks 'card\.md'")
    craft(path, {**members, "card.md": b"longer" * 100})
    refused(path, "another size")
    craft(path, {**members, "card.md": members["card.md"][::-1]})
    refused(path, "does not match its sha256")
    craft(path, {"card.md": members["card.md"]}, lambda made: made.update(members=[entry("card.md", members["card.md"], "card")]))
    refused(path, "has no graph")


def with_info(path: Path, **attributes: object) -> None:
    """Add a member whose directory entry has unusual attributes."""
    info = zipfile.ZipInfo("link")
    for name, value in attributes.items():
        setattr(info, name, value)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, b"/etc/passwd")


@pytest.mark.parametrize("mode", [0o120777, 0o040755, 0o010644, 0o020644])
def test_links_folders_and_devices_are_refused(path, mode):
    with_info(path, external_attr=mode << 16)
    refused(path, "'link', which is not a plain file")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_refused(path, method):
    with_info(path, compress_type=method)
    refused(path, "packed in a way")


@pytest.mark.parametrize("bit", [0x1, 0x20, 0x40, 0x2000])
def test_encrypted_members_are_refused(path, bit):
    patch_directory(path, b"model.onnx", 8, struct.pack("<H", bit))
    refused(path, "encrypted")


def patch_directory(path: Path, name: bytes, offset: int, value: bytes) -> None:
    """Overwrite bytes of one entry of the central directory, counted from its start."""
    data = bytearray(path.read_bytes())
    at = data.rindex(name) - 46 + offset
    data[at : at + len(value)] = value
    path.write_bytes(data)


def test_overlapping_members_are_refused(path):
    data = path.read_bytes()
    patch_directory(path, b"card.md", 42, struct.pack("<I", data.index(b"PK\3\4", 10)))
    refused(path)
    path.write_bytes(data)
    patch_directory(path, b"model.onnx", 20, struct.pack("<II", len(GRAPH) + 50, len(GRAPH) + 50))
    refused(path)
    path.write_bytes(data)
    patch_directory(path, b"reference.npz", 20, struct.pack("<II", 1 << 30, 1 << 30))
    refused(path, "overlap")


@pytest.mark.parametrize(("offset", "value"), [(0, b"XX"), (26, b"\x09\0\1\0"), (30, b"n")])
def test_local_headers_must_agree_with_the_directory(path, offset, value):
    """Tools that read the members one after the other would otherwise see another name."""
    data = bytearray(path.read_bytes())
    at = data.index(b"model.onnx") - 30 + offset
    data[at : at + len(value)] = value
    path.write_bytes(data)
    refused(path, "has no header for 'model.onnx'")


@pytest.mark.parametrize(("hidden", "words"), [("card.md", "hidden|no header"), ("reference.npz", "hidden behind")])
def test_hidden_members_are_refused(path, hidden, words):
    """A member that is in the file but not in the directory."""
    data = path.read_bytes()
    (start,) = struct.unpack("<I", data[-6:-2])
    entries = [b"PK\1\2" + rest for rest in data[start:-22].split(b"PK\1\2")[1:]]
    directory = b"".join(made for made in entries if not made.endswith(hidden.encode()))
    path.write_bytes(data[:start] + directory + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 3, 3, len(directory), start, 0))
    with zipfile.ZipFile(path) as archive:
        assert hidden not in archive.namelist()
    refused(path, words)


def test_a_huge_directory_is_refused_before_it_is_read(tmp_path):
    target = tmp_path / "m.sight"
    with target.open("wb") as file:
        file.write(b"PK\3\4")
        file.seek(300 << 20)  # a hole in the file
        file.write(struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 5, 5, (300 << 20) - 4, 4, 0))
    tracemalloc.start()
    try:
        refused(target, "lists more than")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def bomb(path: Path, member: tuple[str, bytes, bytes, int], stated: dict[str, object], text: bytes | None = None) -> None:
    made = MANIFEST.to_json() | {"members": [stated]}
    text = json.dumps(made).encode() if text is None else text
    path.write_bytes(hand_made([("manifest.json", zlib.compress(text, wbits=-15), text, len(text)), member]))


@pytest.mark.parametrize("claimed", [1000, 64 << 20, 250 << 20, 2 << 30])
def test_a_member_that_inflates_beyond_its_stated_size_is_refused(tmp_path, claimed):
    """4 GB in 4 MB, stated as less, with the right hash of that less; or stated as so much that it is refused unread."""
    target, prefix = tmp_path / "m.sight", bytes(min(claimed, 64 << 20))
    bomb(target, ("model.onnx", deflated_bomb(4 << 30), prefix, claimed), entry("model.onnx", prefix, "graph") | {"size": claimed})
    del prefix
    tracemalloc.start()
    try:
        refused(target, "do not use it")
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "packed", [zlib.compress(b"abc", wbits=-15) + b"tail", zlib.compress(b"abc", 0, wbits=-15)[:-1] + b"", b"", b"\xff"]
)
def test_deflated_data_must_end_where_they_say(tmp_path, packed):
    target = tmp_path / "m.sight"
    bomb(target, ("model.onnx", packed, b"abc", 3), entry("model.onnx", b"abc", "graph"))
    refused(target)
    unfinished = b"\0\3\0\xfc\xffabc"  # a block that is not the last one
    bomb(target, ("model.onnx", unfinished, b"abc", 3), entry("model.onnx", b"abc", "graph"))
    refused(target, "does not unpack to the size")


def test_hand_made_files_are_otherwise_fine(tmp_path):
    target = tmp_path / "m.sight"
    bomb(target, ("model.onnx", zlib.compress(b"abc", wbits=-15), b"abc", 3), entry("model.onnx", b"abc", "graph"))
    with Bundle.open(target) as opened:
        assert opened.read("graph") == b"abc"


def test_a_large_manifest_is_refused_unread(tmp_path):
    target = tmp_path / "m.sight"
    bomb(target, ("model.onnx", zlib.compress(b"", wbits=-15), b"", 0), entry("model.onnx", b"", "graph"), b" " * (17 << 20))
    refused(target, "16 MB")


def test_many_members_are_refused(path):
    with zipfile.ZipFile(path, "a") as archive:
        for row in range(1000):
            archive.writestr(f"x{row}", b"")
    refused(path, "more than 1000")
