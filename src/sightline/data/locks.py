"""A file that one process holds at a time."""

from __future__ import annotations

import errno
import os
from pathlib import Path

# What the system says of a file that another process has locked; anything else means that there are no locks on this disk.
TAKEN = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK}


def try_lock(handle: int) -> bool:
    """Whether the open file could be locked; the system lets go of it when the process ends, however it ends."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in TAKEN
    return True


def lock(handle: int) -> bool:
    """Wait for the open file to be this process's until it is closed; False where there are no such locks, on this disk or system."""
    if os.name != "posix":
        return False
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether a process holds the file; one that is not there is held by none."""
    try:
        with path.open("r+") as file:
            return not try_lock(file.fileno())
    except FileNotFoundError:
        return False
