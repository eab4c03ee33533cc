"""processor: a control group's quota counts, whatever interface says it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from sightline import processor


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "250000 100000\n"}, 2.5),
        ({"cpu.max": "what is this\n"}, None),
        ({"cpu.max": "some 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "50000\n"}, None),
    ],
)
def test_the_quota_of_a_control_group(tmp_path, files, quota):
    write(tmp_path, files)
    assert processor._cgroup_quota(tmp_path) == quota


@pytest.mark.parametrize(("quota", "count"), [(None, 8), (2.5, 2), (0.5, 1), (64.0, 8)])
def test_processors_are_those_allowed_and_granted_and_at_least_one(monkeypatch, quota, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(processor, "_cgroup_quota", lambda root: quota)
    assert processor.processors() == count


def test_the_name_and_features_are_text_and_never_an_error(monkeypatch):
    assert processor.processor_name()
    assert all(name.islower() for name in processor.processor_features())

    def refuse(self):
        raise OSError

    monkeypatch.setattr(processor.Path, "read_text", refuse)
    assert processor.processor_name() == (platform.processor() or platform.machine())
    assert processor.processor_features() == []


FREED_AND_TAKEN = """
import resource, sys
import numpy as np
from sightline.processor import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
np.ones(8_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(8_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_memory_that_is_freed_is_not_cleared_again_when_it_is_taken():
    """Twenty times 64 MB are thousands of pages, unless they are the same ones."""
    faults = [int(subprocess.run([sys.executable, "-c", FREED_AND_TAKEN, how], check=True, capture_output=True, text=True).stdout)
              for how in ("given back", "kept")]  # fmt: skip
    assert faults[1] < faults[0] / 10
