"""What libraries say of odd files that they read well: muted while we decode, and for nobody else in this process."""

from __future__ import annotations

import ctypes
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# ``warnings.catch_warnings`` would exchange the filters of all threads. So this filter stays where it is put; its module pattern
# matches the libraries' modules, in a thread that is decoding.
_THREAD = threading.local()
_LIBRARIES = ("PIL.", "tifffile.", "pydicom.")
_WHILE_DECODING = SimpleNamespace(
    match=lambda module: module.startswith(_LIBRARIES) and getattr(_THREAD, "decoding", False),
    # Whoever rebuilds the filters from their parts, as scikit-learn does for its forests, asks a pattern for its text.
    pattern="|".join(map(re.escape, _LIBRARIES)),
)
_MUTE: Any = ("ignore", None, Warning, _WHILE_DECODING, 0)


@contextmanager
def quiet() -> Iterator[None]:
    """While it lasts, this thread hears no warning and no log line of the libraries that decode."""
    if _MUTE not in warnings.filters:
        warnings.filters.insert(0, _MUTE)  # type: ignore[attr-defined]
    for library in ("tifffile", "pydicom"):
        logging.getLogger(library).addFilter(_heard)  # the same one again is not added twice
    _THREAD.decoding = True
    try:
        yield
    finally:
        _THREAD.decoding = False


def _heard(record: logging.LogRecord) -> bool:
    return not getattr(_THREAD, "decoding", False)


@lru_cache(1)
def mute_libtiff() -> None:
    """Libtiff writes a line to stderr for each oddity of a broken file, past Python; what matters of them is in the ImageError."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:  # only Linux tells which library Pillow brought
        return
    if found := re.search(r"/\S*libtiff[^/\s]*", maps):
        libtiff = ctypes.CDLL(found.group())
        libtiff.TIFFSetErrorHandler(None)
        libtiff.TIFFSetWarningHandler(None)
