"""Bundles that are signed: an Ed25519 signature (RFC 8032) of the whole file, in ``MODEL.sight.sig`` beside it.

openssl genpkey -algorithm ed25519 -out private.pem
openssl pkey -in private.pem -pubout -out public.pem
openssl pkeyutl -sign -inkey private.pem -rawin -in model.sight -out model.sight.sig
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sightline.bundle import Bundle
from sightline.errors import ModelFileError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SUFFIX, LENGTH = ".sig", 64


def signature_of(bundle: Path) -> Path:
    """Where a bundle's signature stands."""
    return bundle.with_name(bundle.name + SUFFIX)


def check_signature(bundle: Bundle, key: Path) -> None:
    """Raises ModelFileError where the open bundle is not signed with the key's private half, UsageError where the key is none."""
    from cryptography.exceptions import InvalidSignature

    public, place = _public_key(key), signature_of(bundle.path)
    try:
        with place.open("rb") as file:
            signature = file.read(LENGTH + 1)
    except OSError as error:
        raise ModelFileError(f"{bundle.path}: is not signed, as {place} cannot be read ({error.strerror}); do not serve it.") from error
    try:
        public.verify(signature, bundle.content())
    except InvalidSignature as error:
        raise ModelFileError(f"{bundle.path}: was not signed with the key of {key}, or was altered; do not serve it.") from error


def _public_key(path: Path) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        found = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--require-signature {path}: cannot be read ({error.strerror}); name the file of a public key.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"--require-signature {path}: holds no public key in PEM; 'openssl pkey -pubout' writes one.") from error
    if not isinstance(found, Ed25519PublicKey):
        raise UsageError(f"--require-signature {path}: is not an Ed25519 key; 'openssl genpkey -algorithm ed25519' makes one.")
    return found
