"""Bundles: what is written is read back, and what fails while it is written leaves nothing behind."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import stat
import subprocess
import sys
import tracemalloc
import zipfile
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
from sightline.manifest import ROLES, Manifest, Member
from small_bundle import ARRAYS, GRAPH, MANIFEST, PARTS, craft, entry, members_of, refused, written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "model.sight")


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


def test_a_member_is_put_into_an_open_bundle_which_is_the_new_file_then(path, no_open_file_is_replaced, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Bundle.open(path) as opened:
        opened.put(Part("card.md", "card", b"# Another card\n"))
        opened.put(Part("signature.json", "signature", b"{}"))
        assert [opened.read(role) for role in ("graph", "card", "signature")] == [GRAPH, b"# Another card\n", b"{}"]
        assert [member.role for member in opened.manifest.members] == ["graph", "reference", "card", "signature"]
        assert opened.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ResourceError, match="No space left"):
            opened.put(Part("card.md", "card", b"# A third"))
        assert opened.read("card") == b"# Another card\n"
    assert [found.name for found in path.parent.iterdir()] == [path.name]


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
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


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
    real, folders = os.fsync, []

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            folders.append(handle)
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(module.os, "fsync", fsync)
    write(tmp_path / "m.sight", MANIFEST, PARTS)
    assert len(folders) == 1
    with Bundle.open(tmp_path / "m.sight") as opened:
        assert opened.read("graph") == GRAPH


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
        (replace(MANIFEST, promises={"familiar_from": 0.5, "fades_over": 0.0}), PARTS, "fades_over"),
        (replace(MANIFEST, config={"path": Path("x")}), PARTS, "JSON"),
        (replace(MANIFEST, labels=("x" * (17 << 20),)), PARTS, "larger than 16 MB"),
        (MANIFEST, [*PARTS, *(Part(f"{row}", "other", b"") for row in range(1000))], "more than 1000"),
    ],
)
def test_what_could_not_be_opened_is_not_written(tmp_path, manifest, parts, words):
    with pytest.raises(ModelFileError, match=words):
        write(tmp_path / "m.sight", manifest, parts)
    assert list(tmp_path.iterdir()) == []
