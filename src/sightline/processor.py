"""What processor time and memory this process may use."""

from __future__ import annotations

import os
import platform
import signal
import threading
from pathlib import Path

# Instruction sets that compute in few bits natively, by the names Linux gives them.
BF16_FEATURES = ("amx_bf16", "avx512_bf16")
INT8_FEATURES = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm")
# Of glibc's malloc.h: how many allocations may be mappings of their own, and the free bytes at the end of the heap that are given back.
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1
MOST_KEPT = 2**31 - 1


def processors() -> int:
    """Processors this process may use, at least 1: its affinity, and the quota of its control group where that is less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = _cgroup_quota(Path("/sys/fs/cgroup"))
    return max(1, allowed if quota is None else min(allowed, int(quota)))


def _cgroup_quota(root: Path) -> float | None:
    """Processors' worth of time a period grants, from version 2 or 1 of the interface; None when unlimited."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def memory_bytes() -> int:
    """Memory this process may use: the machine's, and the limit of its control group where that is less; 4 GB where nothing is told."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        physical = 4_000_000_000
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return min(physical, int(Path("/sys/fs/cgroup", limit).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return physical


def launched() -> tuple[int, int] | None:
    """This process's number, from 0, and how many there are, where torchrun or its like started several; None otherwise."""
    told = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")]
    return (int(told[0]), int(told[1])) if all(told) and int(told[1]) > 1 else None


def end_undisturbed() -> None:
    """Pass over SIGTERM from here on, where several processes were started: this one ends by itself and has yet to tell why.

    Their launcher sends it to those that are left as soon as one is gone, so that it would cut short what is told of that.
    """
    if launched() is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def share_processors() -> None:
    """Ask for threads that sleep while they wait, unless the user asked otherwise; to be called before torch is imported.

    By default they spin, which costs a busy machine far more than sleeping costs an idle one (decision 008).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_memory(most: int = MOST_KEPT) -> None:
    """Have the C library keep up to ``most`` bytes that are freed for the next to ask, instead of giving them back to the system; nothing
    where it is not glibc.

    A step of training frees and takes the same large arrays each time, and the system clears every page before it hands it out again
    (decision 026). To be called before torch is imported.
    """
    if os.name != "posix":
        return
    import ctypes

    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, most)


def processor_name() -> str:
    """The processor's model name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def processor_features() -> list[str]:
    """Which of the instruction sets that speed up networks the processor has, by the names Linux gives them."""
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [name for name in wanted if name in flags]


def bf16_features() -> list[str]:
    """Those that multiply in bf16; without one it is emulated, a thousand times slower than fp32."""
    return [name for name in processor_features() if name in BF16_FEATURES]


def int8_features() -> list[str]:
    """Those that multiply in int8."""
    return [name for name in processor_features() if name in INT8_FEATURES]
