"""Room on the disk for what is kept beside the data: how much it may take, and what goes for it."""

from __future__ import annotations

import shutil
from pathlib import Path

from sightline.errors import ResourceError

# Share of the disk that is left free.
KEEP_FREE = 0.02


def check_limit(size: float, limit: float, what: str = "store of decoded images") -> None:
    """ResourceError for what takes more than it may."""
    if size > limit:
        raise ResourceError(f"The {what} would take {size / 1e9:.3g} GB, over the limit of {limit / 1e9:.3g}; raise --store-limit.")


def make_room(folder: Path, need: float, limit: float, what: str = "store of decoded images") -> None:
    """Remove the folders beside this one that were used longest ago until it fits; ResourceError when it cannot."""
    check_limit(need, limit, what)
    beside = folder.parent
    beside.mkdir(parents=True, exist_ok=True)
    others = sorted((other for other in beside.iterdir() if other.is_dir() and other != folder), key=lambda other: other.stat().st_mtime_ns)
    sizes = [sum(part.stat().st_size for part in other.rglob("*") if part.is_file()) for other in others]
    while others and sum(sizes) + need > limit:
        shutil.rmtree(others.pop(0), ignore_errors=True)
        sizes.pop(0)
    usage = shutil.disk_usage(beside)
    if need > usage.free - KEEP_FREE * usage.total:
        raise ResourceError(
            f"{beside}: the {what} needs {need / 1e9:.3g} GB and {usage.free / 1e9:.3g} GB are free; "
            "make room or set SIGHTLINE_CACHE to a folder on another disk."
        )
