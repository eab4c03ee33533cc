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
import io
import json
import os
import secrets
import stat
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from sightline.archive import CHUNK, MAX_INFLATED, Entry, Refused, add_entry, read_entries, refusing, unpacked
from sightline.errors import ModelFileError, ResourceError
from sightline.manifest import MANIFEST, ROLES, Manifest, Member, check_roles
from sightline.npz import arrays_to_bytes as arrays_to_bytes
from sightline.npz import plain_array
from sightline.signature import check_signature

MAX_MANIFEST = 16 << 20
_DEFLATED_SUFFIXES = (".json", ".md")  # the rest is dense already: weights, compressed images


@dataclass(frozen=True)
class Part:
    """A member to be written: its bytes, or the file that has them."""

    name: str
    role: str
    data: bytes | Path
    required: bool = False


def _read_manifest(file: BinaryIO, entries: Mapping[str, Entry], source: Path) -> tuple[Manifest, bytes]:
    """The manifest and its text, after comparing it with the entries. Raises Refused or ModelFileError."""
    entry = entries.get(MANIFEST)
    if entry is None or entry.size > MAX_MANIFEST:
        raise Refused(f"has no {MANIFEST} of at most {MAX_MANIFEST >> 20} MB, so it is no Sightline bundle: name a .sight file")
    text = b"".join(unpacked(file, entry))
    if zlib.crc32(text) != entry.crc:
        raise Refused("is damaged (its manifest does not match its checksum): copy or download it again")
    manifest = Manifest.from_json(json.loads(str(text, "utf-8"), parse_constant=_no_constant), str(source))
    stated = {member.name: member.size for member in manifest.members}
    for name in sorted(stated.keys() | entries.keys() - {MANIFEST}):
        if name not in entries:
            raise Refused(f"lacks {name!r}, which its manifest lists: copy or download it again")
        if name not in stated:
            raise Refused(f"holds {name!r}, which its manifest does not list: do not use it")
        if stated[name] != entries[name].size:
            raise Refused(f"holds {name!r} in another size than its manifest states: copy or download it again")
    check_roles(manifest, source)
    return manifest, text


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class Bundle:
    """An open bundle whose members have all been checked. Close it, or use it in a ``with``; threads may share it.

    Roles that this version does not know are left out.
    """

    def __init__(self, path: Path, manifest: Manifest, text: bytes, file: BinaryIO, entries: Mapping[str, Entry]) -> None:
        self.path = path
        self.manifest = manifest
        self.text = text
        self._file = file
        self._entries = entries
        self._lock = threading.Lock()
        self._members = _by_role(manifest)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, require_signature: str | os.PathLike[str] | None = None) -> Bundle:
        """Open and check a file. Raises ModelFileError for every fault in it; memory stays flat however large it is.

        require_signature  a file with the public key (PEM, Ed25519) that the bundle must be signed with; UsageError where the
                           ``cryptography`` package is missing
        """
        path = Path(path)
        with refusing(str(path)), contextlib.ExitStack() as undo:
            kind = path.stat().st_mode  # before opening: opening a named pipe would wait for its writer
            if not stat.S_ISREG(kind):
                raise Refused(f"is {'a folder' if stat.S_ISDIR(kind) else 'not a file'}: name a .sight file")
            file = undo.enter_context(path.open("rb"))
            entries = read_entries(file)
            bundle = cls(path, *_read_manifest(file, entries, path), file, entries)
            for member in bundle.manifest.members:
                for _ in bundle._checked(member):
                    pass
            if require_signature is not None:
                signature = bundle.read("signature") if bundle.has("signature") else None
                check_signature(bundle.text, signature, Path(require_signature), str(path))
            undo.pop_all()
            return bundle

    def has(self, role: str) -> bool:
        return role in self._members

    def sha256(self) -> str:
        """Of the whole file that is open, as hexadecimal digits."""
        with self._lock:
            self._file.seek(0)
            return hashlib.file_digest(self._file, "sha256").hexdigest()

    def read(self, role: str) -> bytes:
        """The bytes of the member with a role. Raises ModelFileError if there is none or if it has changed since opening."""
        if role not in self._members:
            raise ModelFileError(f"{self.path} has no {role} ({ROLES.get(role, 'an unknown role')}): make the bundle again with it.")
        member = self._members[role]
        with self._lock:
            if self._file.closed:
                raise ValueError(f"{self.path} was closed")
            with refusing(str(self.path)):
                return b"".join(self._checked(member, max(CHUNK, member.size)))  # one piece, so that joining does not copy

    def arrays(self, role: str) -> dict[str, NDArray[Any]]:
        """The arrays of a ``.npz`` member by name. Raises ModelFileError if it is anything but plain arrays of the stated size."""
        stream = io.BytesIO(self.read(role))
        with refusing(f"{self.path}: its {self._members[role].name}"):
            entries = read_entries(stream)
            return {name.removesuffix(".npy"): plain_array(b"".join(unpacked(stream, entry)), name) for name, entry in entries.items()}

    def numbers(self) -> dict[str, Any]:
        """The numbers of the report; empty for a bundle without. Raises ModelFileError where they are no object in JSON."""
        if not self.has("report_data"):
            return {}
        with refusing(f"{self.path}: its {self._members['report_data'].name}"):
            found = json.loads(str(self.read("report_data"), "utf-8"), parse_constant=_no_constant)
            if not isinstance(found, dict):
                raise Refused("is not an object in JSON: copy or train it again")
            return found

    def put(self, part: Part) -> None:
        """Write the file anew with a member more, in the place of the one of its role; the manifest and all else stay as they are.

        This bundle is the new file from then on. Raises ModelFileError and ResourceError as ``write`` does.
        """
        path, added, stated = self.path.resolve(), _measured(part), json.loads(str(self.text, "utf-8"))
        stays = [member for member in self.manifest.members if member.role != part.role]
        names = {member.name for member in stays}
        stated["members"] = [*(member for member in stated["members"] if member["name"] in names), asdict(added)]
        text = _json(stated, path)
        Manifest.from_json(stated, str(path))

        def fill(file: BinaryIO) -> None:
            with zipfile.ZipFile(file, "w") as archive, zipfile.ZipFile(self._file) as ours, _source(part) as source:
                add_entry(archive, MANIFEST, io.BytesIO(text), len(text), deflate=True)
                for member in stays:
                    with ours.open(member.name) as kept:
                        if add_entry(archive, member.name, kept, member.size, self._entries[member.name].deflated) != member.sha256:
                            raise Refused(f"was altered while it was read ({member.name}): copy or download it again")
                add_entry(archive, part.name, source, added.size, deflate=part.name.endswith(_DEFLATED_SUFFIXES))
            self._file.close()  # Windows replaces no file that is open

        with self._lock, refusing(str(self.path)):
            try:
                _publish(path, fill)
            finally:
                self._open_anew(path)

    def _open_anew(self, path: Path) -> None:
        """Read the file that has the name now."""
        self._file.close()
        self._file = path.open("rb")
        self._entries = read_entries(self._file)
        self.manifest, self.text = _read_manifest(self._file, self._entries, path)
        self._members = _by_role(self.manifest)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _checked(self, member: Member, step: int = CHUNK) -> Iterator[bytes]:
        """The bytes of a member; the last step raises Refused if they are not those that the manifest means."""
        digest = hashlib.sha256()
        for data in unpacked(self._file, self._entries[member.name], step):
            digest.update(data)
            yield data
        if digest.hexdigest() != member.sha256:
            raise Refused(f"is damaged or was altered ({member.name} does not match its sha256): copy or download it again")


def _by_role(manifest: Manifest) -> dict[str, Member]:
    """The members whose roles this version knows."""
    return {member.role: member for member in manifest.members if member.role in ROLES}


def write(path: str | os.PathLike[str], manifest: Manifest, parts: Sequence[Part]) -> Manifest:
    """Write a bundle and return its manifest with the members; equal inputs give equal bytes.

    The file appears under its name only when it is complete and on the disk; a failure leaves everything as it was.
    Raises ModelFileError for what ``Bundle.open`` would refuse, ResourceError when the disk does not take it.
    """
    path = Path(path)
    members = tuple(_measured(part) for part in parts)
    text = _json(replace(manifest, members=members).to_json(), path)
    manifest = Manifest.from_json(json.loads(text), str(path))
    check_roles(manifest, path)
    _publish(path, lambda file: _write_zip(file, text, parts, members))
    return manifest


def _json(stated: Mapping[str, Any], path: Path) -> bytes:
    """A manifest as text; raises ModelFileError for what cannot be one."""
    try:
        text = json.dumps(stated, indent=1, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be written, because its manifest holds what JSON cannot: {error}.") from error
    if len(text) > MAX_MANIFEST:
        raise ModelFileError(f"{path} cannot be written, because its manifest is larger than {MAX_MANIFEST >> 20} MB: shorten it.")
    return text


def _publish(path: Path, fill: Callable[[BinaryIO], None]) -> None:
    """A file that appears under its name only when it is complete and on the disk; raises ResourceError."""
    temporary = path.parent / f".{secrets.token_hex(8)}.sight.part"
    try:
        with temporary.open("xb") as file:
            fill(file)
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


def _write_zip(file: BinaryIO, text: bytes, parts: Sequence[Part], members: Sequence[Member]) -> None:
    may_deflate = MAX_INFLATED // 2  # half of what a reader takes, because what does not compress grows
    with zipfile.ZipFile(file, "w") as archive:
        add_entry(archive, MANIFEST, io.BytesIO(text), len(text), deflate=True)
        for part, member in zip(parts, members, strict=True):
            deflate = member.name.endswith(_DEFLATED_SUFFIXES) and member.size <= may_deflate
            may_deflate -= member.size if deflate else 0
            with _source(part) as source:
                if add_entry(archive, member.name, source, member.size, deflate) != member.sha256:
                    raise ModelFileError(f"{part.data!s:.200} changed while it was being written into a bundle: write the bundle again.")


def _measured(part: Part) -> Member:
    """Raises ModelFileError when the part's file cannot be read."""
    digest, size = hashlib.sha256(), 0
    with refusing(str(part.data) if isinstance(part.data, Path) else part.name), _source(part) as source:
        while data := source.read(CHUNK):
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
