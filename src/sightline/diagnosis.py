"""What this machine has: versions, processor, devices, and what is missing for which verb."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.data.store import cache_folder
from sightline.engines.adapters import ENGINES, candidates, version_of
from sightline.errors import UsageError
from sightline.processor import bf16_features, int8_features, processor_features, processor_name, processors

NEEDED = {
    "predict, evaluate, explain, verify": ("numpy", "Pillow", "onnxruntime", "cyclopts", "rich"),
    "train": (
        "torch", "torchvision", "timm", "scikit-learn", "safetensors", "onnx", "onnxscript", "Jinja2", "loky", "cleanlab", "torch-pruning",
    ),
    "serve": ("fastapi", "uvicorn", "httptools", "python-multipart", "prometheus-client"),
}  # fmt: skip


def examine() -> dict[str, Any]:
    """Findings as plain values; ``problems`` holds a sentence for each thing that stands in the way of a verb."""
    versions: dict[str, str] = {}
    problems: list[str] = []
    for verb, names in NEEDED.items():
        missing = []
        for name in names:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                missing.append(name)
        if missing:
            extra = "" if verb.startswith("predict") else f"[{verb}]"
            problems.append(f"For {verb}: {', '.join(missing)} not installed; pip install 'sightline{extra}'.")
    folder = cache_folder()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        problems.append(f"The cache folder {folder} cannot be written; set SIGHTLINE_CACHE to one that can.")
    return {
        "sightline": importlib.metadata.version("sightline"), "python": platform.python_version(), "platform": platform.platform(),
        "processor": processor_name(), "processors": processors(), "features": processor_features(),
        "bf16": bf16_features(), "int8": int8_features(), "engines": {name: version_of(name) or "not installed" for name in ENGINES},
        "considered": _considered(),
        "memory_gb": _memory_gb(), "devices": _devices(versions, problems), "versions": versions,
        "cache": str(folder), "cache_free_gb": round(shutil.disk_usage(existing).free / 1e9, 1), "problems": problems,
    }  # fmt: skip


def _considered() -> list[str]:
    """Engines and precisions that may be chosen here, the one that the others are held against first."""
    try:
        return [candidate.name for candidate in candidates()]
    except UsageError:  # ONNX Runtime is missing, and named among the problems
        return []


def _devices(versions: dict[str, str], problems: list[str]) -> list[str]:
    """Devices torch could train on; empty without torch."""
    if "torch" not in versions:
        return []
    try:
        from sightline.model.device import present_devices
    except ImportError as error:
        problems.append(f"torch is installed but cannot be imported ({error}); install it again.")
        return []
    return present_devices()


def _memory_gb() -> float | None:
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    except OSError:
        return None
    return round(int(fields["MemTotal"].split()[0]) / 1e6, 1)


def lines(found: Mapping[str, Any]) -> list[str]:
    """What ``examine`` gives, in words."""
    said = []
    for name, value in found.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        shown = (", ".join(map(str, shown)) or "none found") if isinstance(shown, list) else shown
        if name != "problems":
            said.append(f"{name.replace('_', ' '):<15} {shown}")
    return [*said, *(found["problems"] or ["Nothing is missing."])]
