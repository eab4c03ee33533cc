"""Bundles: what is written is read back, what is broken or hostile is refused with one sentence and exit code 4."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import json
import os
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline import bundle as module
from sightline.bundle import Bundle, Part, arrays_to_bytes, write
from sightline.errors import ModelFileError, ResourceError
from sightline.manifest import FORMAT_VERSION, ROLES, Manifest, Member

MANIFEST = Manifest(
    task="classify",
    labels=("healthy", "rust", "ruß"),
    prepare={"size": 32, "fit": "crop", "mean": [0.5, 0.5, 0.5]},
    thresholds={"abstain": 0.4},
    temperature=1.3,
    config={"training": {"epochs": 3, "lr": None}},
    seed=7,
    fingerprint="0" * 64,
    versions={"sightline": "0.1.0"},
    licences={"weights": "Apache-2.0"},
    created="2025-01-01T00:00:00+00:00",
    backbone={"name": "resnet18", "dropout": 0.2},
)
ARRAYS = {
    "mean": np.arange(12, dtype=np.float32).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 5), np.uint8),
    "names": np.array(["a", "ü", "日本"]),
    "flags": np.array([True, False]),
}
GRAPH = bytes(range(256)) * 8
PARTS = (
    Part("model.onnx", "graph", GRAPH),
    Part("card.md", "card", b"# A card\n" * 50),
    Part("reference.npz", "reference", arrays_to_bytes(ARRAYS)),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "model.sight"
    write(target, MANIFEST, PARTS)
    return target


def refused(path: Path, words: str = "") -> str:
    """The sentence with which a file is refused; ``words`` are looked for behind the path."""
    with pytest.raises(ModelFileError) as caught:
        Bundle.open(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} ")
    assert re.search(words, sentence.removeprefix(str(path)))
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


# ---------------------------------------------------------------- writing and reading


def test_what_was_written_is_read(path):
    with Bundle.open(path) as opened:
        assert replace(opened.manifest, members=()) == MANIFEST
        assert opened.path == path
        assert opened.read("graph") == GRAPH
        assert opened.read("card") == PARTS[1].data
        assert [opened.has(role) for role in ("graph", "card", "weights", "nonsense")] == [True, True, False, False]
        for name, array in opened.arrays("reference").items():
            np.testing.assert_array_equal(array, ARRAYS[name], strict=True)
            assert array.flags.writeable


def test_write_returns_the_manifest_that_is_read(path):
    written = write(path, MANIFEST, PARTS)
    with Bundle.open(path) as opened:
        assert opened.manifest == written
    assert written.members[0] == Member("model.onnx", "graph", len(GRAPH), hashlib.sha256(GRAPH).hexdigest(), False)


@settings(max_examples=40)
@given(
    labels=st.lists(st.text(st.characters()), max_size=5),
    thresholds=st.dictionaries(st.text(), st.floats(-1e9, 1e9)),
    config=st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)),
    card=st.binary(max_size=300),
)
def test_any_text_survives(tmp_path_factory, labels, thresholds, config, card):
    manifest = replace(MANIFEST, labels=tuple(labels), thresholds=thresholds, config=config)
    target = tmp_path_factory.mktemp("any") / "m.sight"
    write(target, manifest, [*PARTS[:1], Part("card.md", "card", card)])
    with Bundle.open(target) as opened:
        assert replace(opened.manifest, members=()) == manifest
        assert opened.read("card") == card
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_equal_inputs_give_equal_bytes(path, tmp_path):
    file = tmp_path / "graph"
    file.write_bytes(GRAPH)
    shuffled = replace(MANIFEST, config=dict(reversed(MANIFEST.config.items())))
    write(tmp_path / "again.sight", shuffled, [Part("model.onnx", "graph", file), *PARTS[1:]])
    assert (tmp_path / "again.sight").read_bytes() == path.read_bytes()
    assert arrays_to_bytes(dict(reversed(ARRAYS.items()))) == arrays_to_bytes(ARRAYS)


def test_the_manifest_comes_first_and_binaries_are_stored(path):
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        assert archive.testzip() is None
    assert [info.filename for info in infos] == ["manifest.json", "model.onnx", "card.md", "reference.npz"]
    assert [info.compress_type for info in infos] == [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED]
    assert {info.date_time[0] for info in infos} == {1980}


def test_the_file_mode_follows_the_umask(path):
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_large_members_are_streamed(tmp_path):
    large = tmp_path / "weights"
    large.write_bytes(bytes(24 << 20))
    target = tmp_path / "m.sight"
    tracemalloc.start()
    try:
        write(target, MANIFEST, [PARTS[0], Part("weights.safetensors", "weights", large)])
        Bundle.open(target).close()
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_bundle_above_the_zip64_limit_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    target = tmp_path / "m.sight"
    write(target, MANIFEST, PARTS)
    assert b"PK\6\6" in target.read_bytes()
    with Bundle.open(target) as opened:
        assert opened.read("graph") == GRAPH
        assert set(opened.arrays("reference")) == set(ARRAYS)
    target.write_bytes(target.read_bytes()[:-98])
    refused(target)


def test_unknown_roles_are_ignored_unless_required(tmp_path):
    target = tmp_path / "m.sight"
    write(target, MANIFEST, [*PARTS, Part("later/graph.bin", "hologram", b"1"), Part("later/more.bin", "hologram", b"2")])
    with Bundle.open(target) as opened:
        assert not opened.has("hologram")
        assert len(opened.manifest.members) == 5
    with pytest.raises(ModelFileError, match=r"'hologram', which Sightline .* does not know: upgrade"):
        write(target, MANIFEST, [*PARTS, Part("later.bin", "hologram", b"1", required=True)])
    craft(target, {**members_of(target), "x": b"1"}, lambda made: made["members"].append(entry("x", b"1", "hologram", required=True)))
    refused(target, "'hologram', which Sightline .* does not know: upgrade")


def test_reading_what_is_not_there(path):
    opened = Bundle.open(path)
    for role in ("weights", "nonsense"):
        with pytest.raises(ModelFileError, match=role):
            opened.read(role)
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        opened.read("graph")


def test_threads_may_share_a_bundle(tmp_path):
    rng = np.random.default_rng(0)
    blobs = {role: rng.bytes(300_000) for role in ("graph", "weights", "card", "report")}
    target = tmp_path / "m.sight"
    write(target, MANIFEST, [Part(ROLES[role], role, data) for role, data in blobs.items()])
    with Bundle.open(target) as opened, ThreadPoolExecutor(8) as pool:
        roles = list(itertools.islice(itertools.cycle(blobs), 120))
        assert all(data == blobs[role] for role, data in zip(roles, pool.map(opened.read, roles), strict=True))


def test_replacing_the_file_does_not_change_an_open_bundle(path):
    with Bundle.open(path) as opened:
        write(path, MANIFEST, [Part("model.onnx", "graph", b"another")])
        assert opened.read("graph") == GRAPH
    with Bundle.open(path) as opened:
        assert opened.read("graph") == b"another"


def test_altering_the_file_in_place_is_noticed(path):
    with Bundle.open(path) as opened:
        data = path.read_bytes()
        at = data.index(GRAPH)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"evil")
        with pytest.raises(ModelFileError, match="altered"):
            opened.read("graph")


def test_the_module_does_not_need_torch_or_onnx():
    code = "import sys; sys.modules.update(torch=None, onnx=None, safetensors=None); import sightline.bundle, sightline.onnx_check"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


# ---------------------------------------------------------------- failing while writing


def test_a_failed_write_leaves_everything_as_it_was(path, monkeypatch):
    before = path.read_bytes()
    for name in ("fsync", "replace"):

        def fail(*_: object) -> None:
            assert path.read_bytes() == before
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(module.os, name, fail)
            with pytest.raises(ResourceError, match=r"model\.sight could not be written \(No space left on device\)"):
                write(path, replace(MANIFEST, seed=8), PARTS)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
@pytest.mark.parametrize("limit", [0, 10, 700, 2000, 3000])
def test_a_disk_that_fills_up_is_reported(tmp_path, limit):
    import resource

    target = tmp_path / "m.sight"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(ResourceError, match="could not be written"):
            write(target, MANIFEST, PARTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "m.sight", MANIFEST, PARTS)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_synced_are_accepted(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(module.os, "fsync", fsync)
    write(tmp_path / "m.sight", MANIFEST, PARTS)
    Bundle.open(tmp_path / "m.sight").close()


def test_bad_places_and_bad_parts(tmp_path):
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "missing" / "m.sight", tmp_path / "folder"):
        with pytest.raises(ResourceError, match="could not be written"):
            write(place, MANIFEST, PARTS)
    with pytest.raises(ModelFileError, match="nowhere"):
        write(tmp_path / "m.sight", MANIFEST, [Part("model.onnx", "graph", tmp_path / "nowhere")])
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_part_that_changes_meanwhile_is_noticed(tmp_path, monkeypatch):
    file = tmp_path / "graph"
    file.write_bytes(GRAPH)
    real = module._write_zip

    def late(*arguments):
        file.write_bytes(GRAPH[::-1])
        real(*arguments)

    monkeypatch.setattr(module, "_write_zip", late)
    with pytest.raises(ModelFileError, match="changed while"):
        write(tmp_path / "m.sight", MANIFEST, [Part("model.onnx", "graph", file)])
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("manifest", "parts", "words"),
    [
        (MANIFEST, PARTS[1:], "no graph"),
        (MANIFEST, [*PARTS, PARTS[0]], "share a name.*share a role"),
        (MANIFEST, [*PARTS, Part("two.onnx", "graph", b"")], "share a role"),
        (MANIFEST, [*PARTS, Part("CARD.MD", "other", b"")], "share a name"),
        (MANIFEST, [*PARTS, Part("manifest.json", "other", b"")], "share a name"),
        (MANIFEST, [*PARTS, Part("../x", "other", b"")], "not allowed"),
        (replace(MANIFEST, temperature=float("nan")), PARTS, "JSON"),
        (replace(MANIFEST, temperature=0.0), PARTS, "temperature"),
        (replace(MANIFEST, config={"path": Path("x")}), PARTS, "JSON"),
        (replace(MANIFEST, labels=("x" * (17 << 20),)), PARTS, "larger than 16 MB"),
        (MANIFEST, [*PARTS, *(Part(f"{row}", "other", b"") for row in range(1000))], "more than 1000"),
    ],
)
def test_what_could_not_be_opened_is_not_written(tmp_path, manifest, parts, words):
    with pytest.raises(ModelFileError, match=words):
        write(tmp_path / "m.sight", manifest, parts)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- manifests


def entry(name: str, data: bytes, role: str = "other", required: bool = False) -> dict[str, object]:
    return {"name": name, "role": role, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "required": required}


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "manifest.json"}


def craft(path: Path, members: dict[str, bytes], change=lambda made: None, text: bytes | None = None) -> None:
    """Rewrite a bundle with other members, a changed manifest, or other text in its place, as another program would."""
    with zipfile.ZipFile(path) as archive:
        made = json.loads(archive.read("manifest.json"))
    change(made)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(made) if text is None else text)
        for name, data in members.items():
            archive.writestr(name, data)


def test_a_bundle_packed_by_another_tool_is_read(path):
    craft(path, members_of(path))
    with Bundle.open(path) as opened:
        assert opened.read("graph") == GRAPH


def test_a_newer_format_is_refused_before_anything_else(path):
    craft(path, members_of(path), text=json.dumps({"format_version": FORMAT_VERSION + 1, "task": 5}).encode())
    assert refused(path) == f"{path} was written by a newer Sightline (format 2, this one reads 1): upgrade."


def test_every_fault_of_a_manifest_is_named():
    made = MANIFEST.to_json() | {"labels": ["a", 1], "seed": True, "thresholds": {"x": float("inf")}, "versions": []}
    del made["task"]
    with pytest.raises(ModelFileError) as caught:
        Manifest.from_json(made)
    for words in ("'task' is missing", "'labels' must be a list of text", "'seed' must be a whole number",
                  "'thresholds' must be an object of a finite number", "'versions' must be an object of text"):  # fmt: skip
        assert words in str(caught.value)


@pytest.mark.parametrize("field", MANIFEST.to_json())
def test_wrong_types_and_missing_fields(field):
    for wrong in (None, object(), {1: 2}, [{}], [[1]], -1.5, True):
        with pytest.raises(ModelFileError, match=field.removesuffix("s")):
            Manifest.from_json(MANIFEST.to_json() | {field: wrong})
    with pytest.raises(ModelFileError, match=f"'{field}' is missing"):
        Manifest.from_json({name: value for name, value in MANIFEST.to_json().items() if name != field})


@pytest.mark.parametrize(
    "change", [{"name": "/etc/passwd"}, {"name": 3}, {"size": -1}, {"size": 9 << 30}, {"size": True}, {"required": 1}, {"sha256": None}]
)
def test_bad_members(change):
    with pytest.raises(ModelFileError, match="not valid"):
        Manifest.from_json(MANIFEST.to_json() | {"members": [entry("a", b"") | change]})


@pytest.mark.parametrize("data", [None, [], "text", 5, {}])
def test_manifests_that_are_none(data):
    with pytest.raises(ModelFileError):
        Manifest.from_json(data)


def test_unknown_keys_are_ignored():
    assert Manifest.from_json(MANIFEST.to_json() | {"later": 1}) == MANIFEST


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"seed": NaN}', b"1" * 10_000, b'{"format_version": 1e999}']
)
def test_text_that_is_no_manifest(path, text):
    craft(path, members_of(path), text=text)
    refused(path)


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


def deflated_bomb(size: int) -> bytes:
    """``size`` zeros, deflated: one megabyte's block, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (size >> 20) + packer.flush()


def hand_made(entries: list[tuple[str, bytes, bytes, int]]) -> bytes:
    """A ZIP of (name, packed bytes, bytes that it claims to hold, stated size), deflated; says whatever it is told."""
    body, directory = b"", b""
    for name, packed, claimed, size in entries:
        common = struct.pack("<HHHHIIIHH", 0, 8, 0, 33, zlib.crc32(claimed), len(packed), size, len(name), 0)
        directory += b"PK\1\2" + struct.pack("<HH", 20, 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\3\4" + struct.pack("<H", 20) + common + name.encode() + packed
    return body + directory + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, len(entries), len(entries), len(directory), len(body), 0)


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


# ---------------------------------------------------------------- arrays


def saved(*, packed: bool = False, **arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(stream, **arrays)
    return stream.getvalue()


def npy(header: bytes, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    """A ``.npz`` with one array whose header says anything."""
    header = header + b"\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + data)
    return stream.getvalue()


def arrays_of(folder: Path, data: bytes) -> dict[str, np.ndarray]:
    write(folder / "m.sight", MANIFEST, [PARTS[0], Part("reference.npz", "reference", data)])
    with Bundle.open(folder / "m.sight") as opened:
        return opened.arrays("reference")


@pytest.mark.parametrize("packed", [False, True])
def test_files_by_numpy_are_read(tmp_path, packed):
    read = arrays_of(tmp_path, saved(packed=packed, **ARRAYS))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array, strict=True)


def test_numpy_reads_what_is_written():
    with np.load(io.BytesIO(arrays_to_bytes(ARRAYS)), allow_pickle=False) as read:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(read[name], array, strict=True)


def test_pickled_arrays_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match="not a plain array"):
        arrays_of(tmp_path, saved(a=np.array([{"x": 1}], dtype=object)))


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }", b""),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", bytes(15)),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", bytes(17)),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 999999999999999999, 999999999999999999, 999999999999999999), }", b""),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"1, " * 70 + b"), }", bytes(8)),
        (b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\nsystem\n"),
        (b"{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }", bytes(8)),
        (b"{'descr': '<U0', 'fortran_order': False, 'shape': (999999999999,), }", b""),
        (b"{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }", b"\xff\xff\xff\xff"),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", b""),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"9" * 5000 + b"!), }", b""),
        (b"(" * 9000, b""),
        (b"", b""),
    ],
)
def test_hostile_array_headers_are_refused(tmp_path, header, data):
    with pytest.raises(ModelFileError, match="reference"):
        arrays_of(tmp_path, npy(header, data))
    with pytest.raises(ModelFileError, match="reference"):
        arrays_of(tmp_path, npy(header, data, version=b"\2\0"))


def test_names_of_arrays_are_not_ambiguous(tmp_path):
    stream = io.BytesIO(PARTS[2].data)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("mean", archive.read("mean.npy"))
    with pytest.raises(ModelFileError, match="'mean', which is not a plain array"):
        arrays_of(tmp_path, stream.getvalue())


def test_an_npz_bomb_is_refused(tmp_path):
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }\n" % (1 << 30)
    claimed = b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head
    data = hand_made([("a.npy", deflated_bomb(1 << 30), b"", (1 << 30) + len(claimed))])
    with pytest.raises(ModelFileError, match="unpacks to more than 256 MB"):
        arrays_of(tmp_path, data)


@settings(max_examples=100)
@given(st.binary(max_size=200), st.integers(0, 2000))
def test_a_broken_npz_gives_no_other_error(tmp_path_factory, noise, at):
    data = bytearray(PARTS[2].data)
    data[at : at + len(noise)] = noise
    with contextlib.suppress(ModelFileError):
        arrays_of(tmp_path_factory.mktemp("npz"), bytes(data))


@pytest.mark.parametrize(
    "arrays", [{"a": np.array([None])}, {"a": np.zeros(2, "i4,f4")}, {"../a": np.zeros(1)}, {"a": np.zeros(1, "M8[s]")}]
)
def test_arrays_that_would_not_be_read_are_not_written(arrays):
    with pytest.raises(ValueError):
        arrays_to_bytes(arrays)
