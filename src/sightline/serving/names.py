"""What is settled before anything heavy is imported: whether the libraries are there, and what the bundles are called."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from sightline.errors import UsageError

LIBRARIES = ("fastapi", "uvicorn", "httptools", "python_multipart", "prometheus_client")
INSTALL = "pip install 'sightline[serve]'"


def check_libraries() -> None:
    """Raises UsageError where the ``serve`` extra is not installed."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"Serving needs {', '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed: {INSTALL}.")


def names_of(paths: Sequence[Path]) -> dict[str, Path]:
    """A name for each bundle: its file's, or its folder's where the file is called model; -2, -3... behind one that is taken."""
    named: dict[str, Path] = {}
    for path in paths:
        stem = path.stem if path.stem != "model" else path.absolute().parent.name or path.stem
        number, name = 1, stem
        while name in named:
            number += 1
            name = f"{stem}-{number}"
        named[name] = path
    if not named:
        raise UsageError("Name the bundles to serve: sightline serve MODEL.sight")
    return named
