"""Every error Sightline raises on purpose, and the exit code the command line gives for it.

    SightlineError                1   (never raised itself: catch it to catch them all)
    ├── UsageError                2   a flag, an argument or a setting is wrong
    │   ├── ConfigError           2   ... all of them at once, each with its nearest good name
    │   └── TaskError             2   the data do not give the task that is asked for
    ├── DataError                 3   the folder, table or images cannot be used
    │   └── ImageError            3   one image cannot be used; carries its path and the reason
    ├── ModelFileError            4   a bundle or a weights file is broken, altered, foreign or too new
    ├── DeviceError               5   the device asked for is not there
    ├── ResourceError             6   disk or memory is not enough
    ├── RequirementNotMet         7   a stated requirement (tolerance, gate) was not met
    └── Interrupted             130   stopped by the user; what was done is kept

A message is one sentence: what is wrong with which path or flag, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class SightlineError(Exception):
    """Base of every error above; ``exit_code`` is what the command line returns."""

    exit_code = 1


class UsageError(SightlineError):
    exit_code = 2


class ConfigError(UsageError):
    """Bad settings, reported together. ``problems`` holds one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(self.problems))

    def __reduce__(self) -> tuple[type, tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


class TaskError(UsageError):
    """Data that do not give a ``task``; ``reason`` says what they are and give, and begins with them."""

    def __init__(self, task: str, reason: str) -> None:
        self.task = task
        self.reason = reason
        super().__init__(f"--task {task}: {reason}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.task, self.reason)


class DataError(SightlineError):
    exit_code = 3


class ImageError(DataError):
    """One image that cannot be used. ``path`` names it, ``reason`` says why, without the path."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.path, self.reason)


class ModelFileError(SightlineError):
    exit_code = 4


class DeviceError(SightlineError):
    exit_code = 5


class ResourceError(SightlineError):
    exit_code = 6


class RequirementNotMet(SightlineError):
    """``done`` is what was finished all the same, such as a run whose model does not reach what was required."""

    exit_code = 7

    def __init__(self, message: str, done: Any = None) -> None:
        super().__init__(message)
        self.done = done


class Interrupted(SightlineError):
    exit_code = 130


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """A clause such as `` Did you mean 'resnet18'?`` with up to three near names, or an empty string."""
    near = difflib.get_close_matches(wrong, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
