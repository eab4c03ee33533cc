"""Numbers as a reader wants them: shares, counts, sizes and times as short text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

NOTHING = "–"
# Figures that are no shares but numbers of objects.
COUNTS = ("count_error",)
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def count(value: float | None) -> str:
    """1234567 as ``1,234,567``."""
    return NOTHING if value is None else f"{value:,.0f}"


def share(value: float | None, digits: int = 1) -> str:
    """0.8551 as ``85.5%``."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.{digits}%}"


def promised(value: float) -> str:
    """A share that was asked for, with as many decimals as it has: 0.99 as ``99%``, 0.9995 as ``99.95%``."""
    return f"{100 * value:.6g}%"


def figure(name: str, value: float | None) -> str:
    """A figure of the test images as text: a share, but for those that count objects."""
    return decimal(value, 2) if name in COUNTS else share(value)


def share_digits(low: float | None, high: float | None) -> int:
    """How many decimals of a percentage its interval allows: none where it is wider than ten points."""
    return 0 if low is not None and high is not None and high - low > 0.1 else 1


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with a fixed count of decimals."""
    if value is None:
        return NOTHING
    return f"{value:,.{digits}f}" if math.isfinite(value) else "not a number"


def significant(value: float | None, digits: int = 2) -> str:
    """A number whose size matters more than its digits: ``0.001``, ``2.4 × 10⁻⁶``."""
    if value is None or not math.isfinite(value):
        return NOTHING if value is None else "not a number"
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_RAISED)}" if exponent else mantissa


def size(n_bytes: int | None) -> str:
    """Bytes in decimal units, as drives and browsers count them."""
    if n_bytes is None:
        return NOTHING
    amount = float(n_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"


def input_size(network: Mapping[str, Any]) -> str:
    """Width and height of what a network reads; reports from before these were recorded have the side of a square."""
    return f"{network.get('width', network['size'])} × {network.get('height', network['size'])} pixels"


def parameters(n: int) -> str:
    """11181642 as ``11.2 million``."""
    return f"{n / 1e6:,.1f} million" if n >= 1e5 else count(n)


def duration(seconds: float | None) -> str:
    """Seconds as ``4.2 s``, ``3 min 05 s`` or ``2 h 14 min``."""
    if seconds is None:
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def energy(joules: float | None) -> str:
    """Joules in watt-hours: 7920 as ``2.2 Wh``."""
    if joules is None:
        return NOTHING
    hours = joules / 3600
    return f"{hours / 1000:,.2f} kWh" if hours >= 1000 else f"{hours:.1f} Wh" if hours >= 0.1 else f"{hours:.4f} Wh"


def moment(iso: str) -> str:
    """An ISO 8601 time as ``4 March 2026, 14:05 UTC``; text that is none comes back as it is."""
    try:
        when = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    zone = f" {when.tzname()}" if when.tzname() else ""
    return f"{when.day} {when:%B %Y, %H:%M}{zone}"


def number_of(n: int, noun: str, plural: str = "") -> str:
    """``1 image``, ``214 images``."""
    return f"{count(n)} {noun if n == 1 else plural or noun + 's'}"
