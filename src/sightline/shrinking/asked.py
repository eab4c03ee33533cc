"""What is asked of a smaller model: a latency on this machine, a size on disk, or both."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sightline.config import ExportConfig
from sightline.errors import ConfigError
from sightline.exporting.wanted import PRECISIONS, listed

# How many milliseconds, or bytes, each unit is. Sizes are decimal, as disks and downloads are counted; KiB and MiB are binary.
TIMES = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
SIZES = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-zµ]+)")


@dataclass(frozen=True)
class Asked:
    """``latency_ms``, the median of one image, and ``bytes``, those of the file; None for what is not asked for.

    ``int8`` says whether it may compute in INT8.
    """

    latency_ms: float | None
    bytes: int | None
    int8: bool = True

    @classmethod
    def of(cls, config: ExportConfig) -> Asked:
        """From what the flags say, such as "20ms", "0.02s", "4MB" and "500kB". Raises ConfigError naming all that is wrong."""
        problems, found = [], {}
        amounts = (("latency", config.latency, TIMES, "20ms or 0.02s"), ("size", config.size, SIZES, "4MB or 500kB"))
        for flag, text, units, example in amounts:
            if text is None:
                continue
            found[flag] = _amount(text, units)
            if not found[flag] > 0:
                problems.append(f"--{flag} {text}: give a number above 0 and its unit, such as {example}.")
        if config.to != "onnx":
            problems.append(f"--to {config.to}: a smaller model is a bundle (onnx); leave it out.")
        problems += _of_precisions(config.precision)
        if config.max_difference != ExportConfig.max_difference:
            problems.append(f"--max-difference {config.max_difference:g}: a smaller model is judged by --max-loss; leave it out.")
        if config.standalone:
            problems.append("--standalone: make the smaller model first, then give that as the model with --standalone.")
        if config.data is None:
            problems.append("--data: give the labelled images that the bundle was made from, which a smaller model learns from.")
        if problems:
            raise ConfigError(problems)
        size = int(found["size"]) if "size" in found else None
        return cls(found.get("latency"), size, "int8" in config.precision.lower())

    def met(self, latency_ms: float, size: float) -> bool:
        """Whether a file of so many bytes that takes so many milliseconds is what is asked for."""
        return (self.latency_ms is None or latency_ms <= self.latency_ms) and (self.bytes is None or size <= self.bytes)

    def excess(self, latency_ms: float, size: float) -> float:
        """How many times what is asked for it takes, by what is worse; 1 or less where it is met."""
        over = [latency_ms / self.latency_ms] if self.latency_ms is not None else []
        return max(over + ([size / self.bytes] if self.bytes is not None else []))

    def to_json(self) -> dict[str, float | None]:
        return {"latency_ms": self.latency_ms, "bytes": self.bytes}

    def __str__(self) -> str:
        said = [f"--latency {spoken_time(self.latency_ms)}"] if self.latency_ms is not None else []
        return " and ".join(said + ([f"--size {spoken_size(self.bytes)}"] if self.bytes is not None else []))


def _of_precisions(text: str) -> tuple[str, ...]:
    """What is wrong with a list of precisions."""
    try:
        names = listed("precision", text, PRECISIONS)
    except ConfigError as error:
        return error.problems
    return ("--precision fp16: smaller models are made in fp32 and int8; leave it out.",) if "fp16" in names else ()


def _amount(text: str, units: dict[str, float]) -> float:
    """In the smallest unit; 0 for what is no amount."""
    found = _AMOUNT.fullmatch(text.strip().lower())
    return 0.0 if found is None else float(found[1]) * units.get(found[2], 0.0)


def spoken_time(milliseconds: float) -> str:
    """``20 ms``, ``0.31 ms``."""
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.3g} s"


def spoken_size(size: float) -> str:
    """``4 MB``, ``500 kB``."""
    name, unit = next(((name, unit) for name, unit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if size >= unit), ("bytes", 1.0))
    return f"{size / unit:.3g} {name}"
