"""How much energy the machine used from a moment on, where it tells; never an estimate.

Processors count their energy themselves (RAPL, which Linux shows in ``/sys/class/powercap``, often to the administrator alone), NVIDIA's
GPUs too (NVML, which comes with their driver). Either counts everything that ran meanwhile, not this program alone.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"
# A processor's counter begins again after some 260 kJ, which a large one uses in ten minutes: it has to be looked at more often than that.
LOOK_EVERY = 60.0
LONGEST_GAP = 300.0
NOT_MEASURED = "not measured"


class Counter(Protocol):
    """Counts from the moment when it was made."""

    def joules(self) -> float:
        """Joules up to now; OSError or ValueError where they cannot be read any more."""
        ...


class Meter:
    """Measures from ``Meter.start()`` on; ``read`` tells how much so far. Leaving its ``with`` ends the looking at counters.

    ``processor`` and ``gpu`` hold what counts their energy, nothing where it is not told; ``gpu`` is None where no GPU computes.
    """

    def __init__(self, processor: Sequence[Counter], gpu: Sequence[Counter] | None = None) -> None:
        self._counters, self._source = [*processor, *(gpu or ())], _source(processor, gpu)
        self._tells, self._wraps = bool(self._counters) and (gpu is None or bool(gpu)), bool(processor)
        self._began, self._looked = _processor_seconds(), time.monotonic()
        self._lost = ""
        self._lock, self._stopped = threading.Lock(), threading.Event()
        if self._tells and self._wraps:
            threading.Thread(target=self._keep_looking, daemon=True, name="energy").start()

    @classmethod
    def start(cls, gpu: str | None = None) -> Meter:
        """A meter that runs. ``gpu`` is the UUID of the NVIDIA GPU that computes, ``GPU-`` and 36 characters; None where none does."""
        return cls(processor_counters(), None if gpu is None else gpu_counters(gpu))

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def read(self) -> dict[str, Any]:
        """``joules`` (None where not measured), ``processor_seconds`` of this process and of those it started that have ended, and the
        ``source`` of the joules, or why there are none."""
        joules = self._look() if self._tells else None
        return {
            "joules": None if joules is None else round(joules, 1),
            "processor_seconds": round(_processor_seconds() - self._began, 2),
            "source": self._lost or self._source,
        }

    def _look(self) -> float | None:
        """Joules up to now; None for good once a counter failed, or may have been full more than once since it was looked at."""
        with self._lock:
            now = time.monotonic()
            if self._wraps and now - self._looked > LONGEST_GAP:
                self._lost = (
                    f"{NOT_MEASURED}: the program stood still for {now - self._looked:.0f} s, in which counters may have begun again"
                )
            self._looked = now
            try:
                return None if self._lost else sum(counter.joules() for counter in self._counters)
            except (OSError, ValueError) as error:
                self._lost = f"{NOT_MEASURED}: a counter of energy could not be read any more ({error})"
                return None

    def _keep_looking(self) -> None:
        while not self._stopped.wait(LOOK_EVERY):
            self._look()


def _source(processor: Sequence[Counter], gpu: Sequence[Counter] | None) -> str:
    """Whose energy is counted, in words."""
    meanwhile = "everything that ran there meanwhile is counted"
    if gpu is not None and not gpu:
        return f"{NOT_MEASURED}: the GPU's counter of energy (NVML) cannot be read"
    if not processor and not gpu:
        return f"{NOT_MEASURED}: no counter of energy can be read here"
    if not processor:
        return f"the GPU's own counter (NVML), without the processor, whose counter cannot be read; {meanwhile}"
    return f"counters of the processor{' (RAPL) and the GPU (NVML)' if gpu else ' (RAPL)'}; {meanwhile}"


def _processor_seconds() -> float:
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


class _ProcessorCounter:
    """One of RAPL's counters, which begin again at nought when they are full."""

    def __init__(self, zone: Path) -> None:
        self._path, self._full = zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())
        self._last, self._counted = self._microjoules(), 0

    def joules(self) -> float:
        now = self._microjoules()
        self._counted += now - self._last + (self._full if now < self._last else 0)
        self._last = now
        return self._counted / 1e6

    def _microjoules(self) -> int:
        return int(self._path.read_text())


def processor_counters(powercap: Path = POWERCAP) -> list[Counter]:
    """A counter of each processor and of the memory beside it; nothing where one of them cannot be read, as the rest is not the whole.

    Zones within a processor are part of its count, and the platform's (psys) and those of a second way to it (mmio) count it again.
    """
    try:
        named = [(zone, (zone / "name").read_text().strip()) for zone in sorted(powercap.glob("intel-rapl:*"))]
        if not any(name.startswith("package") for _, name in named):
            return []
        return [_ProcessorCounter(zone) for zone, name in named if name.startswith("package") or name == "dram"]
    except (OSError, ValueError):
        return []


class _GpuCounter:
    """A GPU's count of millijoules since its driver was loaded."""

    def __init__(self, nvml: Any, handle: ctypes.c_void_p) -> None:
        self._nvml, self._handle = nvml, handle
        self._first = self._millijoules()

    def joules(self) -> float:
        return (self._millijoules() - self._first) / 1e3

    def _millijoules(self) -> int:
        found = ctypes.c_ulonglong()
        _call(self._nvml.nvmlDeviceGetTotalEnergyConsumption, self._handle, ctypes.byref(found))
        return found.value


def gpu_counters(uuid: str, load: Callable[[str], Any] = ctypes.CDLL) -> list[Counter]:
    """The counter of the NVIDIA GPU of this UUID; nothing where there is no driver, no such GPU, or one too old to count (before Volta)."""
    handle = ctypes.c_void_p()
    try:
        nvml = load(NVML)
        _call(nvml.nvmlInit_v2)
        _call(nvml.nvmlDeviceGetHandleByUUID, ctypes.c_char_p(uuid.encode()), ctypes.byref(handle))
        return [_GpuCounter(nvml, handle)]
    except (OSError, AttributeError):  # no library, an error it told, or one without these functions
        return []


def _call(function: Any, *arguments: Any) -> None:
    """A function of NVML, which tells by its result whether it worked; OSError where it did not."""
    if code := function(*arguments):
        raise OSError(f"NVML error {code}")
