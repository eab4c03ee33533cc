"""energy: what counters tell is told, over their wrap-around; where they tell nothing, nothing is made up."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import pytest

from sightline import energy
from sightline.energy import Meter, gpu_counters, processor_counters

FULL = 262_143_328_850


def zone(powercap: Path, place: str, name: str, microjoules: int) -> Path:
    folder = powercap / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{FULL}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def server(powercap: Path) -> dict[str, Path]:
    """Two processors with what counts parts of them, or all of it once more."""
    (powercap / "intel-rapl").mkdir(parents=True)
    return {
        "first": zone(powercap, "intel-rapl:0", "package-0", 1_000_000),
        "cores": zone(powercap, "intel-rapl:0:0", "core", 0),
        "memory": zone(powercap, "intel-rapl:0:1", "dram", 5_000_000),
        "second": zone(powercap, "intel-rapl:1", "package-1", 7_000_000),
        "platform": zone(powercap, "intel-rapl:2", "psys", 0),
        "again": zone(powercap, "intel-rapl-mmio:0", "package-0", 0),
    }


class Steps:
    """A counter that gains ten joules a look, or fails from some look on."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.looks, self.fails_at = 0, fails_at

    def joules(self) -> float:
        self.looks += 1
        if self.looks == self.fails_at:
            raise OSError(5, "Input/output error")
        return 10.0 * self.looks


class Nvml:
    """NVML with one GPU."""

    def __init__(self, uuid: str = "GPU-1", millijoules: int = 4_000_000_000_000, code: int = 0) -> None:
        self.uuid, self.millijoules, self.code = uuid, millijoules, code

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: ctypes.c_char_p, handle) -> int:
        handle._obj.value = 77
        return 0 if uuid.value == self.uuid.encode() else 6

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, found) -> int:
        assert handle.value == 77
        found._obj.value = self.millijoules
        return self.code


def test_each_processor_and_its_memory_count_once(tmp_path):
    paths = server(tmp_path)
    counters = processor_counters(tmp_path)
    assert [counter.joules() for counter in counters] == [0, 0, 0]
    for name, microjoules in (("first", 3_500_000), ("memory", 6_000_000), ("second", 7_000_000), ("cores", 9**9), ("platform", 9**9),
                              ("again", 9**9)):  # fmt: skip
        paths[name].write_text(str(microjoules))
    assert sum(counter.joules() for counter in counters) == 2.5 + 1.0


def test_a_counter_that_begins_again_goes_on(tmp_path):
    path = zone(tmp_path, "intel-rapl:0", "package-0", FULL - 1_000_000)
    (counter,) = processor_counters(tmp_path)
    for microjoules in (500_000, FULL - 1, 0):
        path.write_text(str(microjoules))
        joules = counter.joules()
    assert joules == pytest.approx(1.0 + FULL / 1e6)


@pytest.mark.parametrize("broken", ["no folder", "no counter", "empty", "closed"])
def test_where_a_counter_cannot_be_read_none_is(tmp_path, broken, monkeypatch):
    if broken != "no folder":
        paths = server(tmp_path)
    if broken == "no counter":
        paths["second"].unlink()
    elif broken == "empty":
        paths["second"].write_text("")
    elif broken == "closed":
        read = Path.read_text

        def refuse(path, *arguments, **options):
            if path.name == "energy_uj":
                raise PermissionError(13, "Permission denied")
            return read(path, *arguments, **options)

        monkeypatch.setattr(Path, "read_text", refuse)
    assert processor_counters(tmp_path) == []


def test_without_a_package_nothing_is_the_whole(tmp_path):
    zone(tmp_path, "intel-rapl:0", "psys", 5)
    zone(tmp_path, "intel-rapl:1", "dram", 5)
    assert processor_counters(tmp_path) == []


def test_a_gpu_counts_from_when_it_was_asked_first():
    nvml = Nvml()
    (counter,) = gpu_counters("GPU-1", lambda name: nvml)
    nvml.millijoules += 12_345
    assert counter.joules() == 12.345


def test_a_gpu_that_does_not_tell_is_none():
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    assert gpu_counters("GPU-1", missing) == []
    assert gpu_counters("GPU-1", lambda name: object()) == []
    assert gpu_counters("GPU-2", lambda name: Nvml()) == []
    assert gpu_counters("GPU-1", lambda name: Nvml(code=3)) == []


def test_a_meter_adds_what_its_counters_tell():
    with Meter([Steps(), Steps()], [Steps()]) as meter:
        found = meter.read()
    assert found["joules"] == 30.0
    assert found["processor_seconds"] >= 0
    assert found["source"] == "counters of the processor (RAPL) and the GPU (NVML); everything that ran there meanwhile is counted"
    assert Meter([Steps()]).read()["source"].startswith("counters of the processor (RAPL); ")
    assert "without the processor" in Meter([], [Steps()]).read()["source"]


@pytest.mark.parametrize(
    ("processor", "gpu", "words"), [([], None, "no counter"), ([Steps()], [], "the GPU's counter"), ([], [], "the GPU's")]
)
def test_what_is_not_told_is_not_measured(processor, gpu, words):
    found = Meter(processor, gpu).read()
    assert found["joules"] is None
    assert found["source"].startswith("not measured: ")
    assert words in found["source"]


def test_a_counter_that_fails_on_the_way_leaves_no_figure():
    meter = Meter([Steps(fails_at=2)])
    assert meter.read()["joules"] == 10.0
    for _ in range(2):  # it would answer again, with what came between missing
        found = meter.read()
        assert found["joules"] is None
        assert "could not be read any more" in found["source"]


def test_a_program_that_stood_still_does_not_guess_how_often_a_counter_was_full(monkeypatch):
    meter, gpu_alone = Meter([Steps()]), Meter([], [Steps()])
    later = energy.time.monotonic() + 2 * energy.LONGEST_GAP
    monkeypatch.setattr(energy.time, "monotonic", lambda: later)
    assert meter.read()["joules"] is None
    assert "stood still for 600 s" in meter.read()["source"]
    assert gpu_alone.read()["joules"] == 10.0


def test_a_meter_looks_by_itself(monkeypatch):
    monkeypatch.setattr(energy, "LOOK_EVERY", 0.001)
    counter = Steps()
    with Meter([counter]) as meter:
        for _ in range(5000):
            if counter.looks >= 3:
                break
            time.sleep(0.001)
    assert meter.read()["joules"] >= 30


def test_processor_seconds_are_of_this_machine():
    with Meter.start() as meter:
        began = time.process_time()
        while time.process_time() < began + 0.1:
            pass
        found = meter.read()
    assert found["processor_seconds"] >= 0.09
    assert set(found) == {"joules", "processor_seconds", "source"}
    assert (found["joules"] is None) == found["source"].startswith("not measured")
