"""Settings: a dataclass field with its help, bounds and choices, and settings made from flat names with every mistake named."""

from __future__ import annotations

import math
import os
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, field, fields
from typing import Any, TypeVar

from sightline.errors import ConfigError, did_you_mean

Settings = TypeVar("Settings")

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with its help, its inclusive bounds and the words it accepts."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


def make_all(stages: Sequence[type], flat: Mapping[str, Any]) -> list[Any]:
    """Several stages' settings from flat names; raises ConfigError naming every mistake."""
    flat = _plain(flat)
    check(flat, stages)
    return [stage(**{name: value for name, value in flat.items() if name in names_of(stage)}) for stage in stages]


def make(stage: type[Settings], flat: Mapping[str, Any]) -> Settings:
    """One stage's settings from flat names; raises ConfigError naming every mistake."""
    made: Settings = make_all([stage], flat)[0]
    return made


def _plain(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with numpy's numbers and paths as Python's own numbers and text, as JSON needs them."""

    def plain(value: Any) -> Any:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        return value.item() if getattr(value, "ndim", None) == 0 else value

    return {name: plain(value) for name, value in flat.items()}


def names_of(stage: type) -> set[str]:
    return {entry.name for entry in fields(stage)}


def check(flat: Mapping[str, Any], stages: Iterable[type]) -> None:
    """Raise one ConfigError that lists every unknown name, wrong type and value out of bounds."""
    entries: dict[str, tuple[Field[Any], Any]] = {}
    for stage in stages:
        hints = typing.get_type_hints(stage)
        entries.update({entry.name: (entry, hints[entry.name]) for entry in fields(stage)})
    problems = []
    for name, value in flat.items():
        if name not in entries:
            problems.append(f"There is no setting {name!r}.{did_you_mean(name, entries)}")
        elif problem := _problem_with(value, *entries[name]):
            problems.append(f"{name} {problem}, not {value!r}.")
    if problems:
        raise ConfigError(problems)


def _problem_with(value: Any, entry: Field[Any], hint: Any) -> str | None:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        return "must be " + " or ".join(KINDS[kind] for kind in kinds if kind is not type(None))
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    low, high, choices = (entry.metadata[key] for key in ("low", "high", "choices"))
    if choices and value not in choices:
        return f"must be one of {', '.join(choices)}"
    if low is not None and not value >= low:
        return f"must be at least {low}"
    if high is not None and not value <= high:
        return f"must be at most {high}"
    return None
