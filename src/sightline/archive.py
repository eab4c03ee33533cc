"""The ZIP under a bundle, read without trust: every entry's place, name, kind and size is checked before its content is used.

Entries must fill the file without gap or overlap, so that nothing is hidden and other ZIP tools see the same members.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from sightline.errors import ModelFileError

MAX_MEMBERS, MAX_BYTES, MAX_INFLATED = 1000, 8 << 30, 256 << 20
SAFE_NAME = re.compile(r"(?=.{1,100}\Z)[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
CHUNK, _MAX_DIRECTORY = 1 << 20, 256 << 10
_ENCRYPTED_OR_PATCHED = 0x1 | 0x20 | 0x40 | 0x2000  # bits of an entry's flags


class Refused(Exception):
    """What is wrong with a file; the text continues a sentence that begins with its path."""


@contextlib.contextmanager
def refusing(source: str) -> Iterator[None]:
    """Turn every way in which a ZIP, its text or its arrays can be broken into one ModelFileError."""
    try:
        yield
    except Refused as error:
        raise ModelFileError(f"{source} {error}.") from error
    except OSError as error:
        raise ModelFileError(f"{source} cannot be read ({error.strerror or error}): check the path and its permissions.") from error
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, NotImplementedError, RecursionError) as error:
        raise ModelFileError(f"{source} is damaged ({str(error)[:200]}): copy or download it again.") from error


class Entry(NamedTuple):
    """Where an entry's bytes are: ``packed`` bytes at ``start`` give ``size`` bytes."""

    start: int
    packed: int
    size: int
    deflated: bool
    crc: int


def _directory_start(file: BinaryIO) -> int:
    """Offset of the central directory, which must end the file; bounds it before ``zipfile`` reads it into memory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 98))
    tail = file.read().rjust(98, b"\0")
    signature, count, length, start, comment = struct.unpack("<4s6xHIIH", tail[76:])
    end = 22
    if tail[56:60] == b"PK\6\7":  # ZIP64, which zipfile writes above 2 GB: the record, its locator, then the short record
        count, length, start = struct.unpack("<32xQQQ", tail[:56])
        end = 98
    if signature != b"PK\5\6" or comment or start + length + end != size:
        raise Refused("is cut short or has something added at its end: copy or download it again")
    if count > MAX_MEMBERS + 1 or length > _MAX_DIRECTORY:
        raise Refused(f"lists more than {MAX_MEMBERS} members: do not use it")
    return int(start)


def read_entries(file: BinaryIO) -> dict[str, Entry]:
    """The entries of a ZIP by name; refuses one that is not a plain, gapless list of plain files.

    Raises Refused, or what ``refusing`` turns into an error.
    """
    file.seek(0)
    if not (head := file.read(4)).startswith(b"PK\3\4"):
        raise Refused("is not a Sightline bundle: name a .sight file" if head else "is empty: copy or download it again")
    directory = _directory_start(file)
    infos = sorted(zipfile.ZipFile(file).infolist(), key=lambda info: info.header_offset)
    position, entries = 0, {}
    for info in infos:
        name, mode = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
        if not SAFE_NAME.fullmatch(name) or mode not in (0, stat.S_IFREG):
            raise Refused(f"holds {name[:100]!r}, which is not a plain file inside it: do not use it")
        deflated = info.compress_type == zipfile.ZIP_DEFLATED
        if info.flag_bits & _ENCRYPTED_OR_PATCHED or not (deflated or info.compress_type == zipfile.ZIP_STORED):
            raise Refused(f"holds {name!r} encrypted or packed in a way that bundles do not use: do not use it")
        start = _data_start(file, name, position)
        position, wanted = start + info.compress_size, info.header_offset == position
        if not wanted or position > directory or not (deflated or info.compress_size == info.file_size):
            raise Refused("has members that overlap, or data hidden between them: do not use it")
        entries[name] = Entry(start, info.compress_size, info.file_size, deflated, info.CRC)
    if position != directory:
        raise Refused("has data hidden behind its members: do not use it")
    if len({name.casefold() for name in entries}) != len(infos):
        raise Refused("holds two members of one name: do not use it")
    if sum(max(entry.size, entry.packed) for entry in entries.values() if entry.deflated) > MAX_INFLATED:
        raise Refused(f"unpacks to more than {MAX_INFLATED >> 20} MB: do not use it")
    return entries


def _data_start(file: BinaryIO, name: str, position: int) -> int:
    """Where the data behind the local header at ``position`` begin; the header must have the name that the directory has."""
    file.seek(position)
    header = file.read(30 + len(name))
    named, extra = struct.unpack("<HH", header[26:30])
    if not header.startswith(b"PK\3\4") or named != len(name) or header[30:] != name.encode():
        raise Refused(f"has no header for {name!r} where one belongs: do not use it")
    return position + len(header) + int(extra)


def unpacked(file: BinaryIO, entry: Entry, step: int = CHUNK) -> Iterator[bytes]:
    """The bytes of an entry in pieces, of at most ``step`` where they were stored."""
    file.seek(entry.start)
    return _inflated(file, entry) if entry.deflated else _pieces(file, entry.packed, step)


def _pieces(file: BinaryIO, size: int, step: int) -> Iterator[bytes]:
    while size:
        if not (data := file.read(min(step, size))):
            raise Refused("is cut short: copy or download it again")
        size -= len(data)
        yield data


def _inflated(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """Inflates step by step and never past the stated size; the stream must end exactly there."""
    inflate, left = zlib.decompressobj(-zlib.MAX_WBITS), entry.size
    for piece in _pieces(file, entry.packed, CHUNK):
        raw, data = piece, b""
        while left >= 0 and (raw or data):
            data = inflate.decompress(raw, CHUNK)
            raw = inflate.unconsumed_tail
            left -= len(data)
            yield data
    if left or not inflate.eof or inflate.unused_data:
        raise Refused("has a member that does not unpack to the size it states: do not use it")


def add_entry(archive: zipfile.ZipFile, name: str, source: BinaryIO, size: int, deflate: bool) -> str:
    """Copy ``size`` bytes into a ZIP and give their sha256."""
    info = zipfile.ZipInfo(name)  # with its fixed date, 1980
    info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
    info.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    info.file_size = size  # tells zipfile whether it needs ZIP64
    digest = hashlib.sha256()
    source.seek(0)
    with archive.open(info, "w") as target:
        while size and (data := source.read(min(CHUNK, size))):
            size -= len(data)
            digest.update(data)
            target.write(data)
    return digest.hexdigest()
