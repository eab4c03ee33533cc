"""Manifests of bundles: every fault is named, and what a newer version adds is let be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.bundle import Bundle
from sightline.errors import ModelFileError
from sightline.manifest import FORMAT_VERSION, Manifest
from small_bundle import GRAPH, MANIFEST, craft, entry, members_of, refused, written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "model.sight")


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
