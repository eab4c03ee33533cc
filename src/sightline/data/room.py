"""Room on the disk for what is kept beside the data: how much it may take, and what goes for it."""

from __future__ import annotations

import shutil
from pathlib import Path

from sightline.data.locks import is_locked
from sightline.errors import ResourceError

# Share of the disk that is left free.
KEEP_FREE = 0.02
STORE = "store of decoded images"
RAISE = "raise --store-limit"


def check_limit(size: float, limit: float, what: str = STORE, remedy: str = RAISE, held: float = 0.0) -> None:
    """ResourceError for what takes more than it may beside what is ``held``; ``remedy`` is what to do about that."""
    if size + held > limit:
        beside = f" beside {held / 1e9:.3g} GB in use" if held else ""
        raise ResourceError(f"The {what} would take {size / 1e9:.3g} GB{beside}, over the limit of {limit / 1e9:.3g}; {remedy}.")


def make_room(folder: Path, need: float, new: float, limit: float, what: str = STORE, remedy: str = RAISE) -> None:
    """Remove the folders beside this one that were used longest ago until it fits; ResourceError when it cannot.

    need  bytes that the folder will have, which count for the limit; ``new`` those among them that are still to be written, for the disk

    A folder in which a process holds a lock is in use, and stays.
    """
    check_limit(need, limit, what, remedy)
    beside = folder.parent
    beside.mkdir(parents=True, exist_ok=True)
    others = sorted((other for other in beside.iterdir() if other.is_dir() and other != folder), key=lambda other: other.stat().st_mtime_ns)
    sizes = {other: sum(part.stat().st_size for part in other.rglob("*") if part.is_file()) for other in others}
    for other in others:
        if sum(sizes.values()) + need > limit and not _is_in_use(other):
            shutil.rmtree(other, ignore_errors=True)
            del sizes[other]
    check_limit(need, limit, what, remedy, sum(sizes.values()))
    usage = shutil.disk_usage(beside)
    if new > max(0.0, usage.free - KEEP_FREE * usage.total):
        raise ResourceError(
            f"{beside}: the {what} needs {new / 1e9:.3g} GB and {usage.free / 1e9:.3g} GB are free; "
            "make room or set SIGHTLINE_CACHE to a folder on another disk."
        )


def _is_in_use(folder: Path) -> bool:
    try:
        return any(is_locked(lock) for lock in folder.glob("*.lock"))
    except PermissionError:  # another user's, who alone could remove it
        return True
