"""Choices that were measured before, each in a small file of its own in the cache folder; what is broken is measured again."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sightline import console
from sightline.data.store import cache_folder


def recall(key: Mapping[str, Any], names: Collection[str]) -> str | None:
    """The name that was chosen for exactly this key, one of ``names``; None, and a warning, when the file does not say."""
    path = _path(key)
    try:
        kept = json.loads(path.read_bytes())
        if kept["key"] != dict(key) or kept["chosen"] not in names:
            raise ValueError("it is about something else")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        console.warn(f"{path}: the engine chosen before cannot be read ({error}), so it is chosen again.")
        return None
    return str(kept["chosen"])


def keep(key: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Keep what was found (with ``chosen``, a name) under a key; a warning where the cache folder takes no file."""
    path = _path(key)
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"key": dict(key), **found}, indent=1))
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        console.warn(f"{path.parent}: the engine chosen cannot be kept ({reason}), so each start measures; set SIGHTLINE_CACHE.")
        with suppress(OSError):  # the warning says what is wrong
            temporary.unlink(missing_ok=True)


def _path(key: Mapping[str, Any]) -> Path:
    return cache_folder() / "engines" / f"{hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()[:32]}.json"
