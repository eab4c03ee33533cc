"""benchmarks/measure.py: a child's time, words and memory; runs, their figures, and results that are added to."""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measure import Check, Record, finish, run_child, run_peer, spread, tree, versions

MACHINE = {"processor": "a processor", "features": ["avx2"], "processors": 2}


def record(**changes) -> Record:
    return dataclasses.replace(Record("speed", "It is fast.", "3 images", {"images": 3}, MACHINE, []), **changes)


def child(code: str, **more):
    return run_child([sys.executable, "-c", code], **more)


def test_a_child_is_timed_and_its_json_lines_are_kept_in_order():
    ran = child("import time; print('{\"event\": \"trained\"}', flush=True); time.sleep(0.3); print('plain words'); print('{\"n\": 7}')")
    assert [answer for _, answer in ran.answers] == [{"event": "trained"}, {"n": 7}]
    assert ran.last == {"n": 7}
    trained, ended = (at for at, _ in ran.answers)
    assert trained > 0
    assert trained + 0.25 < ended <= ran.seconds
    assert ran.peak_memory is None


def test_what_a_child_is_told_by_its_environment():
    ran = child("import os, json; print(json.dumps({'said': os.environ['TOLD']}))", TOLD="this")
    assert ran.last == {"said": "this"}


@pytest.mark.parametrize(
    ("code", "said"),
    [("import sys; print('{}'); sys.exit('there is no such folder')", "exit code 1"), ("print('no more than this')", "printed no JSON")],
)
def test_a_child_that_fails_or_says_nothing_ends_the_benchmark_with_its_words(code, said):
    with pytest.raises(SystemExit) as stopped:
        child(code)
    assert said in str(stopped.value)
    assert "there is no such folder" in str(stopped.value) or "no more than this" in str(stopped.value)


@pytest.mark.skipif(not tree(1), reason="this system has no /proc")
def test_memory_is_that_of_a_child_and_its_children_together():
    grandchild = "import time; held = bytearray(b'x') * 60_000_000; time.sleep(1.5)"
    waiting = f"import subprocess, sys; held = bytearray(b'x') * 60_000_000; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    ran = child(f"{waiting}; print('{{}}')", memory=True)
    assert 120e6 < ran.peak_memory < 250e6


def test_an_absent_environment_of_the_peers_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("measure.PEERS", tmp_path)
    with pytest.raises(SystemExit, match="make bench-peers"):
        run_peer("timm_predict.py")


@given(st.lists(st.floats(0.01, 1e5), min_size=2, max_size=20))
def test_spread_is_that_of_numpy(values):
    found = spread(values)
    assert found["median"] == pytest.approx(np.median(values), abs=1e-6)
    assert found["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    assert found["deviation"] == pytest.approx(np.std(values, ddof=1), abs=1e-5)
    assert (found["least"], found["most"], found["n"]) == (min(values), max(values), len(values))


def test_a_single_run_has_no_deviation():
    assert spread([2.5]) == {"median": 2.5, "mean": 2.5, "deviation": 0.0, "least": 2.5, "most": 2.5, "n": 1}


def test_ratios_are_of_medians_and_a_repeated_seed_counts_once():
    speed = record()
    for seed, (ours, theirs) in enumerate([(1.0, 10.0), (2.0, 8.0), (9.0, 9.0)]):
        speed.add("ours", seed, seconds=ours, note="as it was")
        speed.add("theirs", seed, seconds=theirs)
    speed.add("ours", 2, seconds=3.0)
    assert speed.values("ours", "seconds") == [1.0, 2.0, 3.0]
    assert speed.ratio("seconds", "theirs", "ours") == 9.0 / 2.0
    assert speed.mean("theirs", "seconds") == statistics.fmean([10, 8, 9])
    assert speed.sides == ["ours", "theirs"]


def test_results_are_written_and_added_to(tmp_path):
    first = record()
    first.add("ours", 0, seconds=1.0, good=True)
    first.write(tmp_path, [Check("time", "at most 2 s", "1 s", True)])
    later = record()
    later.restore(tmp_path)
    later.add("ours", 1, seconds=3.0)
    later.write(tmp_path, [])
    content = json.loads((tmp_path / "speed.json").read_text())
    assert [run["seed"] for run in content["runs"]] == [0, 1]
    assert content["sides"] == {"ours": {"seconds": spread([1.0, 3.0])}}
    assert (content["claim"], content["n"], content["machines"], content["checks"]) == ("It is fast.", "3 images", [MACHINE], [])


def test_there_may_be_nothing_to_add_to(tmp_path):
    new = record()
    new.restore(tmp_path)
    assert new.runs == []


def test_seeds_of_another_machine_are_compared_on_it_alone(tmp_path):
    first = record()
    for seed in (0, 1):
        first.add("ours", seed, seconds=1.0)
        first.add("theirs", seed, seconds=4.0)
    first.write(tmp_path, [])
    other = record(machine=MACHINE | {"processor": "another", "features": []})
    other.restore(tmp_path)
    other.add("ours", 2, seconds=10.0)
    other.add("theirs", 2, seconds=30.0)
    assert other.ratio("seconds", "theirs", "ours") == 3.0
    assert other.ratio("seconds", "theirs", "ours", worst=max) == 4.0
    other.write(tmp_path, [])
    again = record()
    again.restore(tmp_path)
    again.add("ours", 1, seconds=2.0)
    assert again.machines == [first.machine, other.machine]
    assert {run["seed"]: run["machine"] for run in again.runs if run["side"] == "ours"} == {0: 0, 2: 1, 1: 0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"machine": MACHINE | {"processors": 4}}, "processors"), ({"machine": MACHINE | {"libraries": {"torch": "3"}}}, "libraries"),
     ({"settings": {"images": 4}}, "settings")],
)  # fmt: skip
def test_runs_of_more_processors_other_versions_or_other_settings_are_not_added_to(tmp_path, changes, said):
    first = record()
    first.add("ours", 0, seconds=1.0)
    first.write(tmp_path, [])
    with pytest.raises(SystemExit, match=f"differ in {said};"):
        record(**changes).restore(tmp_path)


@pytest.mark.parametrize("holds", [True, False])
def test_a_miss_is_said_and_is_the_exit_code(capsys, holds):
    with pytest.raises(SystemExit) as stopped:
        finish([Check("time", "at most 2 s", "1 s", True), Check("memory", "at most 1 GB", "2 GB", holds)])
    assert stopped.value.code == (0 if holds else 1)
    assert ("MISSED" in capsys.readouterr().out) is not holds


def test_versions_are_those_of_the_interpreter_that_is_asked():
    assert versions(sys.executable, ["numpy", "no-such-package"]) == {"numpy": np.__version__}
