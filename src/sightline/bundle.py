"""Read and write ``*.sight``: a ZIP of graphs, arrays and pages by role, with a manifest; where training and product meet.

Opening trusts nothing: names, sizes and places of all entries are checked, then the sha256 of every member, before anything
but the manifest is parsed. Entries fill the file without gap or overlap, so that nothing hides before, between or behind them.
What was deflated may not unpack to more than ``MAX_INFLATED`` bytes, so that no small file fills the memory.

The file stays open, so that a bundle replaced by renaming does not change under its reader. One altered in place is caught:
``read`` hashes the very bytes it returns.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import io
import json
import math
import os
import re
import secrets
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.errors import ModelFileError, ResourceError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
# Every role this version knows, with the usual name of its member.
ROLES = {"graph": "model.onnx", "weights": "weights.safetensors", "card": "card.md", "report": "report.html",
         "report_data": "report.json", "reference": "reference.npz", "replay": "replay.npz"}  # fmt: skip
MAX_MEMBERS, MAX_BYTES, MAX_INFLATED, MAX_MANIFEST = 1000, 8 << 30, 256 << 20, 16 << 20
_CHUNK, _MAX_DIRECTORY = 1 << 20, 256 << 10
_ENCRYPTED_OR_PATCHED = 0x1 | 0x20 | 0x40 | 0x2000  # bits of an entry's flags
_DEFLATED_SUFFIXES = (".json", ".md")  # the rest is dense already: weights, compressed images
_SAFE_NAME = re.compile(r"(?=.{1,100}\Z)[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
# The head of a plain array as numpy writes it; nothing else (objects, records, dates) is parsed.
_ARRAY_HEAD = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '(\|b1|[|<>][iu][1248]|[<>]f[248]|[<>]c(?:8|16)|\|S[1-9]\d{0,8}|[<>]U[1-9]\d{0,8})', "
    rb"'fortran_order': (?:True|False), 'shape': \(((?:\d{1,18}, ?){0,32}\d{0,18})\), \} *\n",
    re.DOTALL,
)


@dataclass(frozen=True)
class Member:
    """A file in the bundle. A reader that does not know its role ignores it, unless it is ``required``."""

    name: str
    role: str
    size: int
    sha256: str
    required: bool


@dataclass(frozen=True)
class Part:
    """A member to be written: its bytes, or the file that has them."""

    name: str
    role: str
    data: bytes | Path
    required: bool = False


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself: ``prepare`` is ``Prepare.to_json()``, ``backbone`` rebuilds the network for the weights,
    ``fingerprint`` is the data set's, ``licences`` those of code and weights; ``members`` are filled in by ``write``."""

    task: str
    labels: tuple[str, ...]
    prepare: dict[str, Any]
    thresholds: dict[str, float]
    temperature: float
    config: dict[str, Any]
    seed: int
    fingerprint: str
    versions: dict[str, str]
    licences: dict[str, str]
    created: str
    backbone: dict[str, Any]
    members: tuple[Member, ...] = ()
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        plain = asdict(self)
        return plain | {"labels": list(plain["labels"]), "members": list(plain["members"])}

    @classmethod
    def from_json(cls, data: Any, source: str = "The bundle") -> Manifest:
        """The inverse of ``to_json``; unknown keys are ignored. ``source`` begins the message of a ModelFileError, raised
        for a newer format before looking at anything else, or for every fault together."""
        version = data.get("format_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ModelFileError(f"{source} was written by a newer Sightline (format {version}, this one reads {FORMAT_VERSION}): upgrade.")
        if problems := _problems(data):
            raise ModelFileError(f"{source} has a manifest that is not valid ({'; '.join(problems[:20])}): make the bundle again.")
        values = {name: data[name] for name in _KINDS}
        values["labels"] = tuple(values["labels"])
        values["members"] = tuple(Member(**{name: member[name] for name in _MEMBER_KINDS}) for member in values["members"])
        return cls(**values)


# What each value must be: a type, [kind] for a list, {str: kind} for an object with any names.
_MEMBER_KINDS = {"name": str, "role": str, "size": int, "sha256": str, "required": bool}
_KINDS: dict[str, Any] = {
    "task": str, "labels": [str], "prepare": {str: object}, "thresholds": {str: float}, "temperature": float,
    "config": {str: object}, "seed": int, "fingerprint": str, "versions": {str: str}, "licences": {str: str},
    "created": str, "backbone": {str: object}, "members": [{str: object}], "format_version": int,
}  # fmt: skip
_WORDS = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false", object: "anything"}


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, list):
        return isinstance(value, list) and all(_fits(entry, kind[0]) for entry in value)
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(isinstance(name, str) and _fits(entry, kind[str]) for name, entry in value.items())
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300
    return isinstance(value, kind) and (kind is not int or not isinstance(value, bool))


def _words(kind: Any) -> str:
    if isinstance(kind, list):
        return f"a list of {_words(kind[0])}"
    return f"an object of {_words(kind[str])}" if isinstance(kind, dict) else _WORDS[kind]


def _type_problems(data: Any, kinds: Mapping[str, Any]) -> list[str]:
    if not isinstance(data, dict):
        return ["it must be an object"]
    missing = [f"{name!r} is missing" for name in kinds if name not in data]
    return missing + [f"{name!r} must be {_words(kind)}" for name, kind in kinds.items() if name in data and not _fits(data[name], kind)]


def _problems(data: Any) -> list[str]:
    """Everything wrong with a manifest, in words."""
    if problems := _type_problems(data, _KINDS):
        return problems
    members = data["members"]
    if len(members) > MAX_MEMBERS:
        return [f"it lists more than {MAX_MEMBERS} members"]
    if problems := [f"member {row}: {problem}" for row, entry in enumerate(members) for problem in _type_problems(entry, _MEMBER_KINDS)]:
        return problems
    names = [MANIFEST, *(member["name"] for member in members)]
    sizes = [member["size"] for member in members]
    roles = [member["role"] for member in members if member["role"] in ROLES]
    faults = {
        "'format_version' must be at least 1": data["format_version"] < 1,
        "'task' is empty": not data["task"],
        "'temperature' must be above 0": data["temperature"] <= 0,
        "two members share a name": len({name.casefold() for name in names}) != len(names),
        "two members share a role": len(set(roles)) != len(roles),
        f"the members' sizes must be 0 to {MAX_BYTES >> 30} GB altogether": min(sizes, default=0) < 0 or sum(sizes) > MAX_BYTES,
    }
    faults |= {f"the name {name[:100]!r} is not allowed": not _SAFE_NAME.fullmatch(name) for name in names}
    return [fault for fault, holds in faults.items() if holds]


def _check_roles(manifest: Manifest, source: Path) -> None:
    for member in manifest.members:
        if member.required and member.role not in ROLES:
            version = "as installed"  # said of a checkout
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                version = importlib.metadata.version("sightline")
            raise ModelFileError(f"{source} needs the role {member.role[:100]!r}, which Sightline {version} does not know: upgrade.")
    if not any(member.role == "graph" for member in manifest.members):
        raise ModelFileError(f"{source} has no graph ({ROLES['graph']}), so that it cannot predict: make the bundle again.")


class _Refused(Exception):
    """What is wrong with a file; the text continues a sentence that begins with its path."""


@contextlib.contextmanager
def _refusing(source: str) -> Iterator[None]:
    """Turn every way in which a ZIP, its text or its arrays can be broken into one ModelFileError."""
    try:
        yield
    except _Refused as error:
        raise ModelFileError(f"{source} {error}.") from error
    except OSError as error:
        raise ModelFileError(f"{source} cannot be read ({error.strerror or error}): check the path and its permissions.") from error
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, NotImplementedError, RecursionError) as error:
        raise ModelFileError(f"{source} is damaged ({str(error)[:200]}): copy or download it again.") from error


class _Entry(NamedTuple):
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
        raise _Refused("is cut short or has something added at its end: copy or download it again")
    if count > MAX_MEMBERS + 1 or length > _MAX_DIRECTORY:
        raise _Refused(f"lists more than {MAX_MEMBERS} members: do not use it")
    return int(start)


def _entries(file: BinaryIO) -> dict[str, _Entry]:
    """The entries of a ZIP by name; refuses one that is not a plain, gapless list of plain files.

    Raises _Refused, or what ``_refusing`` turns into an error.
    """
    file.seek(0)
    if not (head := file.read(4)).startswith(b"PK\3\4"):
        raise _Refused("is not a Sightline bundle: name a .sight file" if head else "is empty: copy or download it again")
    directory = _directory_start(file)
    infos = sorted(zipfile.ZipFile(file).infolist(), key=lambda info: info.header_offset)
    position, entries = 0, {}
    for info in infos:
        name, mode = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
        if not _SAFE_NAME.fullmatch(name) or mode not in (0, stat.S_IFREG):
            raise _Refused(f"holds {name[:100]!r}, which is not a plain file inside it: do not use it")
        deflated = info.compress_type == zipfile.ZIP_DEFLATED
        if info.flag_bits & _ENCRYPTED_OR_PATCHED or not (deflated or info.compress_type == zipfile.ZIP_STORED):
            raise _Refused(f"holds {name!r} encrypted or packed in a way that bundles do not use: do not use it")
        start = _data_start(file, name, position)
        position, wanted = start + info.compress_size, info.header_offset == position
        if not wanted or position > directory or not (deflated or info.compress_size == info.file_size):
            raise _Refused("has members that overlap, or data hidden between them: do not use it")
        entries[name] = _Entry(start, info.compress_size, info.file_size, deflated, info.CRC)
    if position != directory:
        raise _Refused("has data hidden behind its members: do not use it")
    if len({name.casefold() for name in entries}) != len(infos):
        raise _Refused("holds two members of one name: do not use it")
    if sum(max(entry.size, entry.packed) for entry in entries.values() if entry.deflated) > MAX_INFLATED:
        raise _Refused(f"unpacks to more than {MAX_INFLATED >> 20} MB: do not use it")
    return entries


def _data_start(file: BinaryIO, name: str, position: int) -> int:
    """Where the data behind the local header at ``position`` begin; the header must have the name that the directory has."""
    file.seek(position)
    header = file.read(30 + len(name))
    named, extra = struct.unpack("<HH", header[26:30])
    if not header.startswith(b"PK\3\4") or named != len(name) or header[30:] != name.encode():
        raise _Refused(f"has no header for {name!r} where one belongs: do not use it")
    return position + len(header) + int(extra)


def _unpacked(file: BinaryIO, entry: _Entry, step: int = _CHUNK) -> Iterator[bytes]:
    """The bytes of an entry in pieces, of at most ``step`` where they were stored."""
    file.seek(entry.start)
    return _inflated(file, entry) if entry.deflated else _pieces(file, entry.packed, step)


def _pieces(file: BinaryIO, size: int, step: int) -> Iterator[bytes]:
    while size:
        if not (data := file.read(min(step, size))):
            raise _Refused("is cut short: copy or download it again")
        size -= len(data)
        yield data


def _inflated(file: BinaryIO, entry: _Entry) -> Iterator[bytes]:
    """Inflates step by step and never past the stated size; the stream must end exactly there."""
    inflate, left = zlib.decompressobj(-zlib.MAX_WBITS), entry.size
    for piece in _pieces(file, entry.packed, _CHUNK):
        raw, data = piece, b""
        while left >= 0 and (raw or data):
            data = inflate.decompress(raw, _CHUNK)
            raw = inflate.unconsumed_tail
            left -= len(data)
            yield data
    if left or not inflate.eof or inflate.unused_data:
        raise _Refused("has a member that does not unpack to the size it states: do not use it")


def _add(archive: zipfile.ZipFile, name: str, source: BinaryIO, size: int, deflate: bool) -> str:
    """Copy ``size`` bytes into a ZIP and give their sha256."""
    info = zipfile.ZipInfo(name)  # with its fixed date, 1980
    info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
    info.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    info.file_size = size  # tells zipfile whether it needs ZIP64
    digest = hashlib.sha256()
    source.seek(0)
    with archive.open(info, "w") as target:
        while size and (data := source.read(min(_CHUNK, size))):
            size -= len(data)
            digest.update(data)
            target.write(data)
    return digest.hexdigest()


def _read_manifest(file: BinaryIO, entries: Mapping[str, _Entry], source: Path) -> Manifest:
    """The manifest, after comparing it with the entries. Raises _Refused or ModelFileError."""
    entry = entries.get(MANIFEST)
    if entry is None or entry.size > MAX_MANIFEST:
        raise _Refused(f"has no {MANIFEST} of at most {MAX_MANIFEST >> 20} MB, so it is no Sightline bundle: name a .sight file")
    text = b"".join(_unpacked(file, entry))
    if zlib.crc32(text) != entry.crc:
        raise _Refused("is damaged (its manifest does not match its checksum): copy or download it again")
    manifest = Manifest.from_json(json.loads(str(text, "utf-8"), parse_constant=_no_constant), str(source))
    stated = {member.name: member.size for member in manifest.members}
    for name in sorted(stated.keys() | entries.keys() - {MANIFEST}):
        if name not in entries:
            raise _Refused(f"lacks {name!r}, which its manifest lists: copy or download it again")
        if name not in stated:
            raise _Refused(f"holds {name!r}, which its manifest does not list: do not use it")
        if stated[name] != entries[name].size:
            raise _Refused(f"holds {name!r} in another size than its manifest states: copy or download it again")
    _check_roles(manifest, source)
    return manifest


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class Bundle:
    """An open bundle whose members have all been checked. Close it, or use it in a ``with``; threads may share it.

    Roles that this version does not know are left out.
    """

    def __init__(self, path: Path, manifest: Manifest, file: BinaryIO, entries: Mapping[str, _Entry]) -> None:
        self.path = path
        self.manifest = manifest
        self._file = file
        self._entries = entries
        self._lock = threading.Lock()
        self._members = {member.role: member for member in manifest.members if member.role in ROLES}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Open and check a file. Raises ModelFileError for every fault in it; memory stays flat however large it is."""
        path = Path(path)
        with _refusing(str(path)), contextlib.ExitStack() as undo:
            kind = path.stat().st_mode  # before opening: opening a named pipe would wait for its writer
            if not stat.S_ISREG(kind):
                raise _Refused(f"is {'a folder' if stat.S_ISDIR(kind) else 'not a file'}: name a .sight file")
            file = undo.enter_context(path.open("rb"))
            entries = _entries(file)
            bundle = cls(path, _read_manifest(file, entries, path), file, entries)
            for member in bundle.manifest.members:
                for _ in bundle._checked(member):
                    pass
            undo.pop_all()
            return bundle

    def has(self, role: str) -> bool:
        return role in self._members

    def read(self, role: str) -> bytes:
        """The bytes of the member with a role. Raises ModelFileError if there is none or if it has changed since opening."""
        if role not in self._members:
            raise ModelFileError(f"{self.path} has no {role} ({ROLES.get(role, 'an unknown role')}): make the bundle again with it.")
        member = self._members[role]
        with self._lock:
            if self._file.closed:
                raise ValueError(f"{self.path} was closed")
            with _refusing(str(self.path)):
                return b"".join(self._checked(member, max(_CHUNK, member.size)))  # one piece, so that joining does not copy

    def arrays(self, role: str) -> dict[str, NDArray[Any]]:
        """The arrays of a ``.npz`` member by name. Raises ModelFileError if it is anything but plain arrays of the stated size."""
        stream = io.BytesIO(self.read(role))
        with _refusing(f"{self.path}: its {self._members[role].name}"):
            entries = _entries(stream)
            return {name.removesuffix(".npy"): _array(b"".join(_unpacked(stream, entry)), name) for name, entry in entries.items()}

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _checked(self, member: Member, step: int = _CHUNK) -> Iterator[bytes]:
        """The bytes of a member; the last step raises _Refused if they are not those that the manifest means."""
        digest = hashlib.sha256()
        for data in _unpacked(self._file, self._entries[member.name], step):
            digest.update(data)
            yield data
        if digest.hexdigest() != member.sha256:
            raise _Refused(f"is damaged or was altered ({member.name} does not match its sha256): copy or download it again")


def _array(data: bytes, name: str) -> NDArray[Any]:
    """One ``.npy``, with its size compared to what its head states before numpy makes room for it. Raises _Refused."""
    head = _ARRAY_HEAD.match(data)
    if head is None or not name.endswith(".npy") or int.from_bytes(head[1], "little") != head.end() - 10:
        raise _Refused(f"holds {name!r}, which is not a plain array: do not use it")
    count = math.prod(int(size) for size in head[3].split(b",") if size.strip())
    if len(data) != head.end() + count * np.dtype(head[2].decode()).itemsize:
        raise _Refused(f"holds {name!r}, whose data are not of the size it states: do not use it")
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if array.dtype.kind == "U" and np.frombuffer(data, f"{array.dtype.str[0]}u4", offset=head.end()).max(initial=0) > 0x10FFFF:
        raise _Refused(f"holds {name!r}, whose text is not Unicode: do not use it")  # Python would fail on it much later
    return array


def arrays_to_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A ``.npz`` of plain arrays (numbers, booleans, fixed-length texts); equal arrays give equal bytes.

    Raises ValueError for a name or an array that ``Bundle.arrays`` would refuse.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            plain = io.BytesIO()
            np.lib.format.write_array(plain, np.asanyarray(arrays[name]), allow_pickle=False)
            if not _SAFE_NAME.fullmatch(f"{name}.npy") or not _ARRAY_HEAD.match(plain.getbuffer()):
                raise ValueError(f"{name!r} is not a name for an array, or its type {arrays[name].dtype} is not a plain one")
            _add(archive, f"{name}.npy", plain, len(plain.getbuffer()), deflate=False)
    return buffer.getvalue()


def write(path: str | os.PathLike[str], manifest: Manifest, parts: Sequence[Part]) -> Manifest:
    """Write a bundle and return its manifest with the members; equal inputs give equal bytes.

    The file appears under its name only when it is complete and on the disk; a failure leaves everything as it was.
    Raises ModelFileError for what ``Bundle.open`` would refuse, ResourceError when the disk does not take it.
    """
    path = Path(path)
    members = tuple(_measured(part) for part in parts)
    try:
        text = json.dumps(replace(manifest, members=members).to_json(), indent=1, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be written, because its manifest holds what JSON cannot: {error}.") from error
    if len(text) > MAX_MANIFEST:
        raise ModelFileError(f"{path} cannot be written, because its manifest is larger than {MAX_MANIFEST >> 20} MB: shorten it.")
    manifest = Manifest.from_json(json.loads(text), str(path))
    _check_roles(manifest, path)
    temporary = path.parent / f".{secrets.token_hex(8)}.sight.part"
    try:
        with temporary.open("xb") as file:
            _write_zip(file, text, parts, members)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or error
        raise ResourceError(f"{path} could not be written ({reason}): check that its folder exists and has free space.") from error
    finally:
        with contextlib.suppress(OSError):  # what went wrong first is what the user must hear of
            temporary.unlink(missing_ok=True)
    return manifest


def _write_zip(file: BinaryIO, text: bytes, parts: Sequence[Part], members: Sequence[Member]) -> None:
    may_deflate = MAX_INFLATED // 2  # half of what a reader takes, because what does not compress grows
    with zipfile.ZipFile(file, "w") as archive:
        _add(archive, MANIFEST, io.BytesIO(text), len(text), deflate=True)
        for part, member in zip(parts, members, strict=True):
            deflate = member.name.endswith(_DEFLATED_SUFFIXES) and member.size <= may_deflate
            may_deflate -= member.size if deflate else 0
            with _source(part) as source:
                if _add(archive, member.name, source, member.size, deflate) != member.sha256:
                    raise ModelFileError(f"{part.data!s:.200} changed while it was being written into a bundle: write the bundle again.")


def _measured(part: Part) -> Member:
    """Raises ModelFileError when the part's file cannot be read."""
    digest, size = hashlib.sha256(), 0
    with _refusing(str(part.data) if isinstance(part.data, Path) else part.name), _source(part) as source:
        while data := source.read(_CHUNK):
            digest.update(data)
            size += len(data)
    return Member(part.name, part.role, size, digest.hexdigest(), part.required)


def _source(part: Part) -> BinaryIO:
    return part.data.open("rb") if isinstance(part.data, Path) else io.BytesIO(part.data)


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where folders can be synced: not on Windows, not on some network disks."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
