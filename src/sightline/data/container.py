"""ZIP and tar archives of images, read in place: nothing in them is ever written to disk.

What an archive says is not trusted. A name that leads outside, a link or a device is left out and named; a member that is encrypted,
damaged, or not of the size it states is refused when it is read, and the others go on being read. Of members with one name the
last counts, as it does for programs that unpack.

An archive's index is kept in memory by path, size and time, so that only the first image of a process pays for reading it.
"""

from __future__ import annotations

import bz2
import os
import re
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sightline import console
from sightline.data.listing import amount, is_image_name, is_shown, walk_order
from sightline.errors import DataError, ImageError

SUFFIX = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.[a-z0-9]+)\Z", re.IGNORECASE)
# A million members take some 300 MB.
KEPT_INDICES = 8
_ENCRYPTED_OR_PATCHED = 0x1 | 0x20 | 0x40 | 0x2000  # bits of a ZIP entry's flags
_UTF8 = 0x800
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x1f\x9d", b"LZIP")
_LOCAL_HEADER, _BLOCK = 30, 512
_AGAIN = "copy or download it again"
_LINK = "left out: a link or device, not a file"
_TWICE = "stored more than once, the last of which is used"
_PARSING = threading.Lock()


class _Refused(Exception):
    """What is wrong with an archive or a member; the text follows its name and a colon."""


class Member(NamedTuple):
    """Where a member's bytes are: ``packed`` bytes at ``start``, or in a ZIP behind the header there, give ``size`` bytes."""

    start: int
    packed: int
    size: int
    method: int = zipfile.ZIP_STORED
    crc: int | None = None  # None in a tar, which keeps none
    fault: str = ""  # why it cannot be read


class Contents(NamedTuple):
    """An archive's members by safe name, and those that are odd: what is odd -> their names as they may be printed."""

    members: dict[str, Member]
    odd: dict[str, list[str]]


def is_archive(path: str | Path) -> bool:
    """Whether a name has an archive's suffix: .zip, .tar, .tgz, .tar.gz and so on. A folder may have such a name too."""
    return SUFFIX.search(str(path)) is not None


def stem(path: str | Path) -> str:
    """A folder's name, or an archive's without its suffix."""
    return SUFFIX.sub("", Path(path).name) or Path(path).name


def members(path: str | Path) -> list[str]:
    """Names of the image files in an archive, as a walk through a folder would list them; warns of what is left out.

    Raises DataError when it is not an archive, is damaged or cut short, or is a compressed tar.
    """
    tell_odd(path)
    return list(filter(is_image_name, all_members(path)))


def all_members(path: str | Path) -> list[str]:
    """Names of all files in an archive that are not hidden, in the same order; raises DataError as ``members`` does."""
    return sorted(filter(is_shown, _listed(path).members), key=walk_order)


def tell_odd(path: str | Path) -> None:
    """Warn of the members that are left out."""
    for what, names in _listed(path).odd.items():
        console.warn(f"{path}: {amount(names, 'member')} {what}.")


def _listed(path: str | Path) -> Contents:
    try:
        return _contents(str(path))
    except _Refused as error:
        raise DataError(f"{path}: {error}.") from error


def read_member(path: str, member: str, max_bytes: int) -> bytes:
    """The bytes of one member, of at most ``max_bytes``; raises ImageError."""
    try:
        found = _member(path, member)
        if found.fault:
            raise _Refused(found.fault)
        if (most := max(found.size, found.packed)) > max_bytes:
            raise _Refused(f"holds {most / 1e6:,.10g} megabytes, the limit is {max_bytes / 1e6:,.10g}")
        with _refusing(), open(path, "rb") as file:
            return _unpacked(file, found)
    except _Refused as error:
        raise ImageError(f"{path}!{member}", str(error)) from error


def read_members(path: str, names: Iterable[str], max_bytes: int) -> Iterator[bytes | ImageError]:
    """What ``read_member`` gives for small members of one archive, which is opened once; or why one cannot be read."""
    with open(path, "rb") as file:
        for name in names:
            try:
                found = _member(path, name)
                if found.fault or max(found.size, found.packed) > max_bytes:
                    raise _Refused(found.fault or f"holds more than {max_bytes:,} bytes")
                yield _unpacked(file, found)
            except _Refused as error:
                yield ImageError(f"{path}!{name}", str(error))


def member_size(path: str, member: str) -> int:
    """The size in bytes that a member states; raises ImageError where there is no such member."""
    try:
        return _member(path, member).size
    except _Refused as error:
        raise ImageError(f"{path}!{member}", str(error)) from error


def _member(path: str, name: str) -> Member:
    found = _contents(path).members.get(name)
    if found is None:
        raise _Refused("the archive has no such member")
    return found


def _contents(path: str) -> Contents:
    with _refusing():
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            raise _Refused("is not a file, so it cannot be read as an archive")
        with _PARSING:  # threads that start together wait for one index instead of reading one each
            return _parsed(path, found.st_size, found.st_mtime_ns)


@lru_cache(KEPT_INDICES)
def _parsed(path: str, size: int, mtime_ns: int) -> Contents:
    with open(path, "rb") as file:
        if not size:
            raise _Refused(f"is empty: {_AGAIN}")
        head = file.read(8)
        return _collected(_zip_entries(file, head, size) if path.lower().endswith(".zip") else _tar_entries(file, head))


@contextmanager
def _refusing() -> Iterator[None]:
    """Turns every way in which reading an archive can fail into one _Refused."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _Refused("there is no such archive") from error
    except OSError as error:
        raise _Refused(f"the archive cannot be read ({error.strerror or error}): check it and its permissions") from error
    # UnicodeDecodeError is a ValueError.
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, ValueError, OverflowError, EOFError, NotImplementedError,
            RecursionError) as error:  # fmt: skip
        raise _Refused(f"the archive is damaged ({str(error)[:100]}): {_AGAIN}") from error


def _collected(entries: Iterable[tuple[str, Member | None]]) -> Contents:
    """Members by safe name; those without a Member are links and the like."""
    found: dict[str, Member] = {}
    odd: defaultdict[str, list[str]] = defaultdict(list)
    for given, member in entries:
        if reason := _name_fault(given):
            odd[reason].append(repr(given[:100]))  # whatever its letters are, they can be printed
            continue
        name = "/".join(part for part in given.split("/") if part not in ("", "."))
        if is_image_name(name) and (member is None or name in found):
            odd[_LINK if member is None else _TWICE].append(repr(name[:100]))
        if member is not None:
            found[name] = member
    return Contents(found, {reason: list(dict.fromkeys(names)) for reason, names in odd.items()})


def _name_fault(name: str) -> str:
    steps = name.split("/")
    if name.startswith("/") or ".." in steps or not name.strip("./") or re.search(r"[\\\0]|\A[A-Za-z]:", name):
        return "left out: the name could lead outside the archive"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "left out: the name is not valid UTF-8"
    return ""


def _zip_entries(file: BinaryIO, head: bytes, size: int) -> Iterator[tuple[str, Member | None]]:
    try:
        infos = zipfile.ZipFile(file).infolist()
    except zipfile.BadZipFile as error:
        is_zip = head.startswith(b"PK")
        raise _Refused(f"is damaged or cut short: {_AGAIN}" if is_zip else "is not a ZIP archive, whatever its name says") from error
    for info in infos:
        if info.orig_filename.endswith("/"):
            continue
        plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
        member = Member(info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC, _zip_fault(info, size))
        yield _zip_name(info), member if plain else None


def _zip_name(info: zipfile.ZipInfo) -> str:
    """macOS writes UTF-8 without saying so; what is not UTF-8 is in the code page that the format began with."""
    name = info.orig_filename
    if info.flag_bits & _UTF8:
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeDecodeError:
        return name


def _zip_fault(info: zipfile.ZipInfo, size: int) -> str:
    if info.flag_bits & _ENCRYPTED_OR_PATCHED:
        return "is encrypted: pack it without a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        return f"is packed by method {info.compress_type}, which is not supported: pack it again, stored or deflated"
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        return f"states two sizes: {_AGAIN}"
    return f"lies outside the archive: {_AGAIN}" if info.header_offset + info.compress_size > size else ""


def _tar_entries(file: BinaryIO, head: bytes) -> Iterator[tuple[str, Member | None]]:
    file.seek(0)
    try:
        tar = tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape")
    except tarfile.ReadError as error:
        if head.startswith(_COMPRESSED):
            raise _Refused("is a compressed tar, which cannot be read in place; decompress it to .tar, or make it a .zip") from error
        raise _Refused("is not a tar archive, whatever its name says") from error
    position = -1
    while (info := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
        if info.size < 0 or tar.offset <= position:  # a size below zero would lead back to this header for ever
            raise _Refused(f"is damaged: {_AGAIN}")
        position = tar.offset
        fault = "is stored as a sparse file: pack it again without that" if info.issparse() else ""
        if not info.isdir():
            yield info.name, Member(info.offset_data, info.size, info.size, fault=fault) if info.isreg() else None
    file.seek(tar.offset)
    # tarfile takes a broken header for the end.
    if file.read(_BLOCK) != bytes(_BLOCK):
        raise _Refused(f"is damaged or cut short after {tar.offset:,} bytes: {_AGAIN}")


def _unpacked(file: BinaryIO, member: Member) -> bytes:
    """A member's bytes, unpacked no further than a byte past the size it states."""
    file.seek(member.start)
    if member.crc is not None:
        header = file.read(_LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER or not header.startswith(b"PK\3\4"):
            raise _Refused(f"has no header where the archive says: {_AGAIN}")
        file.seek(sum(struct.unpack("<HH", header[26:])), os.SEEK_CUR)
    data = file.read(member.packed)
    if len(data) < member.packed:
        raise _Refused(f"the archive is cut short: {_AGAIN}")
    try:
        if member.method == zipfile.ZIP_DEFLATED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
        elif member.method == zipfile.ZIP_BZIP2:
            data = bz2.BZ2Decompressor().decompress(data, member.size + 1)
    except (zlib.error, OSError) as error:
        raise _Refused(f"is damaged ({error}): {_AGAIN}") from error
    if len(data) != member.size:
        found = "more" if len(data) > member.size else "less"
        raise _Refused(f"is damaged (it unpacks to {found} than the {member.size:,} bytes it states): {_AGAIN}")
    if member.crc is not None and zlib.crc32(data) != member.crc:
        raise _Refused(f"is damaged (its checksum is another): {_AGAIN}")
    return data
