"""What a part of the trial found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ReportPart:
    """``numbers`` go into ``report.json``: plain values, no NaN. ``pictures`` are JPEG or PNG bytes by ``Picture.key``; their keys
    begin with the part's name and a slash, so that no two parts share one."""

    numbers: dict[str, Any]
    pictures: Mapping[str, bytes] = field(default_factory=dict)
