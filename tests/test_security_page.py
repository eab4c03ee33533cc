"""docs/security.md names the test of every promise, and its figures are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sightline.config import ServeConfig
from sightline.serving import guard, parts, protocol, token, upload

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_every_file_that_is_named_is_there():
    named = set(re.findall(r"`((?:tests|benchmarks|deploy)/[\w./-]+)`", PAGE))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_promise_in_a_table_names_its_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) > 10
    assert [row for row in rows if not re.search(r"`(tests|benchmarks)/\w+\.py`[^|]*\|$", row)] == []


def test_every_flag_that_is_named_is_one_of_serve():
    flags = {f"--{name.replace('_', '-')}" for name in ServeConfig.__dataclass_fields__}
    assert set(re.findall(r"`(--[a-z-]+)`", PAGE)) <= flags


@pytest.mark.parametrize(("words", "value"), [
    ("at least {} characters", token.LEAST_LENGTH), ("`--max-upload` ({} MB)", ServeConfig().max_upload // 1_000_000),
    ("hold {} times `--max-upload`", upload.LARGEST_AT_ONCE), ("`--timeout` ({:.0f} s)", ServeConfig().timeout),
    ("a head within {:.0f} s", protocol.Watched.head_seconds), ("and {} KiB (\"slow", protocol.Watched.head_bytes // 1024),
    ("and {} KiB (\"slow", guard.MOST_HEAD // 1024), ("some of it every {:.0f} s", protocol.Watched.answer_seconds),
    ("{:,} connections", protocol.Watched.most_connections), ("{} KiB of headers for a part", parts.MOST_HEAD_BYTES // 1024),
    ("`{}`", token.VARIABLE), ("(`{}`)", ServeConfig().host),
])  # fmt: skip
def test_figures_are_those_of_the_code(words, value):
    assert words.format(value) in PAGE
