"""What ``sightline sign`` does: make a pair of keys, and put a signature into a bundle."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sightline.bundle import Bundle, Part
from sightline.config import SignConfig
from sightline.errors import UsageError
from sightline.settings import make
from sightline.signature import MEMBER, ROLE, new_key, public_path, signed


@dataclass(frozen=True)
class Signed:
    """What was done: ``model`` is the bundle that was signed, ``public_key`` the file that was made; None for what was not asked for."""

    model: str | None
    fingerprint: str
    public_key: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        made = f"Public key  {self.public_key}\n" if self.public_key else ""
        signed = f"Signed      {self.model}\n" if self.model else ""
        return f"{made}{signed}Key         {self.fingerprint}"


def sign(model: str | Path | None = None, **settings: Any) -> Signed:
    """Sign a bundle in its place, instead of whoever signed it before; all else in it stays as it is.

    settings  fields of ``config.SignConfig`` by name: ``key``, or ``new_key`` to make a pair, alone or to sign with

    Raises UsageError for what does not go together, a key that would be overwritten or a missing library, ModelFileError for a bundle
    or a key that is not sound, ResourceError where a file cannot be written.
    """
    config: SignConfig = make(SignConfig, settings)
    if config.key and config.new_key:
        raise UsageError("--key, --new-key: sign with a key that there is or with a new one; give one of them.")
    if not config.new_key and not (config.key and model):
        raise UsageError("--key: name the bundle and the private key to sign it with, or make a pair of keys with --new-key KEY.pem.")
    made = Path(config.new_key) if config.new_key else None
    with nullcontext() if model is None else Bundle.open(Path(model)) as bundle:  # keys are made for a bundle that can be signed
        fingerprint = new_key(made) if made else ""
        if bundle is not None:
            content, fingerprint = signed(bundle.text, made or Path(str(config.key)))
            bundle.put(Part(MEMBER, ROLE, content))
    return Signed(None if model is None else str(model), fingerprint, str(public_path(made)) if made else None)
