"""The time a training may take, from the start of the process to the finished report, and what is left of it."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sightline.errors import UsageError

UNITS = {"s": 1, "m": 60, "h": 3600}
SHORTEST = 10.0
# Estimates of what follows training are taken this many times over, as another process may have come to this machine by then.
CAUTION = 1.3


def parse_budget(text: str) -> float:
    """Seconds in ``90s``, ``10m``, ``1.5h`` or ``1h30m``; a number alone is seconds. UsageError for anything else."""
    found = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?", text.strip().lower())
    try:
        parts = [float(part) if part else 0.0 for part in found.groups()] if found and any(found.groups()) else []
    except ValueError:
        parts = []
    if not parts:
        raise UsageError(f"--budget {text}: give a time such as 90s, 10m or 1h30m.")
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    if seconds < SHORTEST:
        raise UsageError(f"--budget {text}: give at least {SHORTEST:g} seconds.")
    return seconds


@dataclass(frozen=True)
class Budget:
    """How much time there is.

    seconds  in all; infinite without a budget
    started  ``time.monotonic()`` when they began to count
    spent    by earlier processes of the same run, which was stopped
    reserve  kept for what follows training: export, test and report
    agree    makes of the seconds that this process has left those that all who train together go by
    """

    seconds: float = math.inf
    started: float = 0.0
    spent: float = 0.0
    reserve: float = 0.0
    agree: Callable[[float], float] = float

    @property
    def limited(self) -> bool:
        return self.seconds < math.inf

    def elapsed(self) -> float:
        """Seconds that were spent up to now, earlier processes included."""
        return self.spent + time.monotonic() - self.started

    def left(self) -> float:
        """Seconds that training may still take; negative when it should have ended."""
        return self.agree(self.seconds - self.elapsed() - self.reserve) if self.limited else math.inf

    def keeping(self, reserve: float, allowance: float = 0.0) -> Budget:
        """The budget with CAUTION times ``reserve`` seconds kept for what follows training, and an ``allowance`` that may be used up."""
        return replace(self, reserve=CAUTION * reserve + allowance)

    def after(self, spent: float) -> Budget:
        """The budget of a process that goes on with a run which had taken so many seconds."""
        return replace(self, spent=spent)


NO_BUDGET = Budget()


def process_start() -> float:
    """``time.monotonic()`` when this process was started; now, where the system does not tell."""
    try:
        # After the command's name, which may hold anything but ends in a bracket, the 20th field is in ticks since the system's start.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        age = 0.0
    return time.monotonic() - max(0.0, age)


def spoken(seconds: float) -> str:
    """A length of time in words: ``45 s``, ``2 min``, ``2 min 5 s``, ``1 h 30 min``."""
    whole = max(1, round(seconds))
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes) + [f"{rest} s"] * bool(rest and not hours)
    return " ".join(parts)
