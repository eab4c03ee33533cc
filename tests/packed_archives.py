"""ZIP and tar files for tests, sound and not, and why one is refused."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from sightline.data.container import members, read_member
from sightline.errors import DataError, ImageError

MANY = 1_000_000
PACKINGS = {
    "stored.zip": zipfile.ZIP_STORED, "deflated.zip": zipfile.ZIP_DEFLATED, "bzip2.zip": zipfile.ZIP_BZIP2, "plain.tar": None,
}  # fmt: skip


def write_zip(path: Path, content: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, data in content.items():
            info = zipfile.ZipInfo(name)  # with a name that ``zipfile`` does not mend
            info.filename = info.orig_filename = name
            info.compress_type = packing
            archive.writestr(info, data)
    return path


def write_tar(path: Path, content: dict[str, bytes | tarfile.TarInfo], mode: str = "w", **options) -> Path:
    with tarfile.open(path, mode, **options) as archive:
        for name, data in content.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = 0 if isinstance(data, tarfile.TarInfo) else len(data)
            archive.addfile(info, io.BytesIO(b"" if isinstance(data, tarfile.TarInfo) else data))
    return path


def write(path: Path, content: dict[str, bytes]) -> Path:
    packing = PACKINGS[path.name]
    return write_tar(path, content) if packing is None else write_zip(path, content, packing)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def refusal(path: Path) -> str:
    """Why an archive is refused, without its path."""
    with pytest.raises(DataError) as caught:
        members(path)
    text = str(caught.value)
    assert not isinstance(caught.value, ImageError)
    assert text.startswith(f"{path}: ")
    assert text.endswith(".")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


def fault(path: Path, member: str, max_bytes: int = MANY) -> str:
    """Why a member is refused, without its name."""
    with pytest.raises(ImageError) as caught:
        read_member(str(path), member, max_bytes)
    assert caught.value.path == f"{path}!{member}"
    return caught.value.reason
