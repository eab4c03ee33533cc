"""What a bundle says of itself, and the checks that a manifest from elsewhere has to pass."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sightline.archive import MAX_BYTES, MAX_MEMBERS, SAFE_NAME
from sightline.errors import ModelFileError
from sightline.predictions import Decision

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
# What a decision holds beyond temperature and thresholds.
PROMISES = tuple(entry.name for entry in fields(Decision))[2:]
# Every role this version knows, with the usual name of its member.
ROLES = {"graph": "model.onnx", "weights": "weights.safetensors", "card": "card.md", "report": "report.html",
         "report_data": "report.json", "reference": "reference.npz", "replay": "replay.npz", "signature": "signature.json"}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A file in the bundle. A reader that does not know its role ignores it, unless it is ``required``."""

    name: str
    role: str
    size: int
    sha256: str
    required: bool


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself: ``prepare`` is ``Prepare.to_json()``, ``backbone`` rebuilds the network for the weights,
    ``fingerprint`` is the data set's, ``licences`` those of code and weights; ``members`` are filled in by ``write``. ``variant``
    says of a bundle that was made from another what it is and how it was measured; empty for all others, earlier versions ignore it.
    ``promises`` are the fields of ``Decision`` from ``promise`` on, those that are known; earlier versions ignore them and answer always.
    ``unfit`` are sentences on what was required of the model and is not met; empty for a model that is fit. ``tiles`` are the ``side`` in
    pixels and the ``overlap`` of the parts of pictures that it was trained on; empty for whole pictures, earlier versions ignore it."""

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
    variant: dict[str, Any] = field(default_factory=dict)
    promises: dict[str, float] = field(default_factory=dict)
    unfit: tuple[str, ...] = ()
    tiles: dict[str, float] = field(default_factory=dict)

    @property
    def is_int8(self) -> bool:
        return self.variant.get("precision") == "int8"

    @property
    def decision(self) -> Decision:
        return Decision(self.temperature, self.thresholds, **{name: self.promises.get(name) for name in PROMISES})

    def deciding(self, decision: Decision) -> Manifest:
        """The manifest of a bundle that answers so."""
        known = {name: value for name in PROMISES if (value := getattr(decision, name)) is not None}
        return replace(self, temperature=decision.temperature, thresholds=dict(decision.thresholds), promises=known)

    def to_json(self) -> dict[str, Any]:
        plain = {name: value for name, value in asdict(self).items() if value or name not in _OPTIONAL_KINDS}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

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
        optional = {name: data[name] for name in _OPTIONAL_KINDS if name in data}
        return cls(**values, **optional | {"unfit": tuple(data.get("unfit", ()))})


# What each value must be: a type, [kind] for a list, {str: kind} for an object with any names.
_MEMBER_KINDS = {"name": str, "role": str, "size": int, "sha256": str, "required": bool}
_KINDS: dict[str, Any] = {
    "task": str, "labels": [str], "prepare": {str: object}, "thresholds": {str: float}, "temperature": float,
    "config": {str: object}, "seed": int, "fingerprint": str, "versions": {str: str}, "licences": {str: str},
    "created": str, "backbone": {str: object}, "members": [{str: object}], "format_version": int,
}  # fmt: skip
_OPTIONAL_KINDS: dict[str, Any] = {"variant": {str: object}, "promises": {str: float}, "unfit": [str], "tiles": {str: float}}
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
    if problems := _type_problems(data, _KINDS) or _type_problems(data, {k: kind for k, kind in _OPTIONAL_KINDS.items() if k in data}):
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
        "'fades_over' must be above 0": data.get("promises", {}).get("fades_over", 1) <= 0,
        "two members share a name": len({name.casefold() for name in names}) != len(names),
        "two members share a role": len(set(roles)) != len(roles),
        f"the members' sizes must be 0 to {MAX_BYTES >> 30} GB altogether": min(sizes, default=0) < 0 or sum(sizes) > MAX_BYTES,
    }
    faults |= {f"the name {name[:100]!r} is not allowed": not SAFE_NAME.fullmatch(name) for name in names}
    return [fault for fault, holds in faults.items() if holds]


def check_roles(manifest: Manifest, source: Path) -> None:
    for member in manifest.members:
        if member.required and member.role not in ROLES:
            version = "as installed"  # said of a checkout
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                version = importlib.metadata.version("sightline")
            raise ModelFileError(f"{source} needs the role {member.role[:100]!r}, which Sightline {version} does not know: upgrade.")
    if not any(member.role == "graph" for member in manifest.members):
        raise ModelFileError(f"{source} has no graph ({ROLES['graph']}), so that it cannot predict: make the bundle again.")
