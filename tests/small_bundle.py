"""A small bundle for tests, the sentence with which one is refused, and bundles and ZIPs that another program has written."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from sightline.bundle import Bundle, Part, arrays_to_bytes, write
from sightline.errors import ModelFileError
from sightline.manifest import Manifest

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


def written(target: Path) -> Path:
    """A small bundle at this place."""
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
