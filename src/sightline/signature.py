"""Who says that a bundle is theirs: Ed25519 (RFC 8032) over its manifest, which holds the sha256 of every member, and so over all of it.

The signature is a member like any other, with a role of its own, so that readers which do not know it open the bundle too. What is signed
is the manifest without that member: as JSON with sorted names, from what was read of it, so that what is signed is what is used.

    {"algorithm": "Ed25519", "public_key": base64 of 32 bytes, "signature": base64 of 64 bytes}

The public key in it only tells whose signature it is not: it is never trusted. The ``cryptography`` package is imported where it is needed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import ModelFileError, ResourceError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ROLE, MEMBER = "signature", "signature.json"
ALGORITHM = "Ed25519"
# In front of what is signed, so that a signature of a bundle is never one of anything else.
PURPOSE = b"Sightline bundle, manifest without signature, 1\n"
_MAX_KEY, _MAX_SIGNATURE = 64 << 10, 4096
_FLAG = "--require-signature"


def new_key(path: Path) -> str:
    """Make a pair of keys: the private one in ``path``, for its owner's eyes alone, the public one beside it, ``key.pub.pem`` of
    ``key.pem``.

    Returns the public key's fingerprint. Raises UsageError where either is there already, ResourceError where they cannot be written.
    """
    _need_cryptography("--new-key")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, public = Ed25519PrivateKey.generate(), public_path(path)
    if taken := [str(each) for each in (path, public) if each.exists()]:
        raise UsageError(f"--new-key {path}: {' and '.join(taken)} would be overwritten, and what it signed lost; give another name.")
    private_text = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public_text = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    try:
        for each, text, mode in ((path, private_text, 0o600), (public, public_text, 0o644)):
            with os.fdopen(os.open(each, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(text)
    except OSError as error:
        reason = error.strerror or error
        raise ResourceError(f"{path}: the key could not be written ({reason}); give --new-key a file in a folder that is there.") from error
    return fingerprint(key.public_key())


def public_path(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix('.pem')}.pub.pem")


def signed(manifest: bytes, key: Path) -> tuple[bytes, str]:
    """The member that signs a manifest's text with the private key in a PEM file, and the key's fingerprint; raises ModelFileError."""
    _need_cryptography("--key")
    private = _private_key(key)
    public = private.public_key()
    content = {"algorithm": ALGORITHM, "public_key": _text(public.public_bytes_raw()), "signature": _text(private.sign(_message(manifest)))}
    return json.dumps(content, indent=1).encode(), fingerprint(public)


def check_signature(manifest: bytes, signature: bytes | None, key: Path, source: str) -> None:
    """Raises ModelFileError unless ``signature``, the member's bytes, signs the manifest's text with the public key in a PEM file.

    ``source`` begins the sentence. Raises UsageError where the ``cryptography`` package is missing.
    """
    _need_cryptography(_FLAG)
    from cryptography.exceptions import InvalidSignature

    public = _public_key(key)
    if signature is None:
        raise ModelFileError(f"{source} is not signed, and {_FLAG} asks for it: have it signed with 'sightline sign', or do not use it.")
    try:
        content = json.loads(signature) if len(signature) <= _MAX_SIGNATURE else None
        named, given = (base64.b64decode(content[name], validate=True) for name in ("public_key", "signature"))
        if content["algorithm"] != ALGORITHM:
            raise ValueError("another algorithm")
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error) as error:
        raise ModelFileError(f"{source} has a signature that is not one of {ALGORITHM} ({_reason(error)}): do not use it.") from error
    try:
        public.verify(given, _message(manifest))
    except InvalidSignature as error:
        other = named != public.public_bytes_raw()
        why = f"is signed with another key than {key}" if other else f"was altered after it was signed with the key in {key}"
        raise ModelFileError(f"{source} {why}: do not use it.") from error


def fingerprint(key: Ed25519PublicKey) -> str:
    """What two people compare over the telephone: the first half of the sha256 of the public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:32]


def _message(manifest: bytes) -> bytes:
    content = json.loads(str(manifest, "utf-8"))
    content["members"] = [member for member in content["members"] if member["role"] != ROLE]
    return PURPOSE + json.dumps(content, sort_keys=True).encode()


def _private_key(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = _loaded(path, "--key", "private", lambda text: load_pem_private_key(text, password=None))
    if not isinstance(key, Ed25519PrivateKey):
        raise ModelFileError(f"--key {path}: holds a key of another kind than {ALGORITHM}; make one with 'sightline sign --new-key'.")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = _loaded(path, _FLAG, "public", load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise ModelFileError(f"{_FLAG} {path}: holds a key of another kind than {ALGORITHM}; ask for the public key it was signed with.")
    return key


def _loaded(path: Path, flag: str, kind: str, load: Any) -> Any:
    """The key in a PEM file; ModelFileError for a file that is not there, or holds none or the other of the pair."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        with path.open("rb") as file:
            text = file.read(_MAX_KEY)
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{flag} {path}: cannot be read ({_reason(error)}); name a file with a {kind} key in PEM.") from error
    try:
        return load(text)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        other = "public" if kind == "private" else "private"
        found = f"a {other} key" if f"{other.upper()} KEY".encode() in text else f"no {kind} key in PEM that can be read without a password"
        raise ModelFileError(f"{flag} {path}: holds {found}; name the file with the {kind} one of the pair.") from error


def _need_cryptography(flag: str) -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{flag}: signatures need cryptography, which is not installed: pip install 'sightline[sign]'.") from error


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:100]
