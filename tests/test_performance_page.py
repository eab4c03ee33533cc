"""docs/performance.md and docs/scale.md are what benchmarks/write_docs.py makes of benchmarks/results/."""

from __future__ import annotations

import json

import pytest
import scale_page
import write_docs
from measure import Check, Record, spread

MACHINE = {
    "processor": "a processor", "features": ["avx2", "amx_bf16"], "processors": 2, "memory_gb": 16, "system": "Linux", "python": "3.12.1",
    "sightline": "0.1.0", "libraries": {"torch": "2.9"}, "peers": {"fastai": "2.8"},
}  # fmt: skip


def result(name: str = "budgets", *, holds: bool = True) -> dict[str, object]:
    return {
        "name": name, "claim": "It ends in time.", "date": "2026-01-02", "n": "214 images", "machines": [MACHINE], "runs": [],
        "checks": [{"what": "longest run", "asked": "at most 100%", "measured": "97%", "holds": holds}],
        "sides": {"clothing, 120 s": {"seconds": spread([110.0, 116.0, 119.0]), "peak_megabytes": spread([1234.0])}},
    }  # fmt: skip


def test_the_page_matches_the_results():
    """Where this fails, run benchmarks/write_docs.py."""
    assert write_docs.PAGE.read_text(encoding="utf-8") == write_docs.page(write_docs.read_results(write_docs.HERE / "results"))


def test_what_scale_costs_matches_the_results():
    """Where this fails, run benchmarks/write_docs.py."""
    results = {result["name"]: result for result in write_docs.read_results(write_docs.HERE / "results")}
    if results.keys() >= set(scale_page.NEEDED):
        assert scale_page.PAGE.read_text(encoding="utf-8") == scale_page.page(results)
    else:
        assert not scale_page.PAGE.exists()


def test_a_section_says_what_was_asked_found_where_and_on_what():
    page = write_docs.page([result()])
    assert "## A budget that holds\n\nIt ends in time.\n" in page
    assert "| longest run | at most 100% | 97% | holds |" in page
    assert "| clothing, 120 s | seconds | 116 | 115 ± 4.583 | 110 to 119 | 3 |" in page
    assert "| clothing, 120 s | peak megabytes | 1,234 | 1,234 | 1,234 to 1,234 | 1 |" in page
    for fact in ("n: 214 images.", "2026-01-02", "a processor, 2 processors (avx2, amx_bf16), 16 GB", "torch 2.9", "Peers: fastai 2.8."):
        assert fact in page


def test_each_of_several_machines_is_named_with_its_seeds():
    runs = [{"side": "ours", "seed": seed, "machine": place} for seed, place in ((2, 0), (0, 0), (1, 1))]
    page = write_docs.page([{**result(), "machines": [MACHINE, MACHINE | {"features": []}], "runs": runs}])
    assert "(avx2, amx_bf16), 16 GB, seeds 0, 2; a processor, 2 processors (no features of note), 16 GB, seeds 1; Linux" in page


def test_a_miss_is_on_the_page():
    assert "| 97% | **missed** |" in write_docs.page([result(holds=False)])


def test_sections_stand_in_the_order_of_their_titles():
    page = write_docs.page([result("look_once"), result("clothing_time")])
    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert titles == [write_docs.TITLES["clothing_time"], write_docs.TITLES["look_once"]]


def test_without_results_the_page_says_so():
    assert "Nothing was measured yet" in write_docs.page([])


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (0.8734, "0.873"), (12.3456, "12.35"), (1234.5, "1,234"), (-0.25, "-0.250")])
def test_numbers_are_short(value, shown):
    assert write_docs.number(value) == shown


def test_what_a_record_writes_can_be_read(tmp_path):
    record = Record("budgets", "It ends in time.", "214 images", {}, MACHINE, [])
    record.add("clothing, 120 s", 0, seconds=110.0)
    record.write(tmp_path, [Check("longest run", "at most 100%", "92%", True)])
    assert "| clothing, 120 s | seconds | 110 |" in write_docs.page(write_docs.read_results(tmp_path))


def test_results_in_another_layout_are_named_together(tmp_path):
    (tmp_path / "startup.json").write_text(json.dumps({"python": "3.12", "runs": 15}))
    (tmp_path / "other.json").write_text(json.dumps(result("other")))
    with pytest.raises(SystemExit) as stopped:
        write_docs.read_results(tmp_path)
    assert "startup.json lacks claim" in str(stopped.value)
    assert "give 'other' a title" in str(stopped.value)


def test_every_title_is_of_a_benchmark():
    there = {path.stem for path in write_docs.HERE.glob("*.py")}
    assert set(write_docs.TITLES) - {"int8"} <= there
