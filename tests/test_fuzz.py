"""A few hundred of the fuzzers' inputs, and that the fuzzers see what they are there to see."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import fuzz_bundles
import fuzz_images
import fuzzing
import mutations
import numpy as np
import pytest

from sightline.data.decode import decode
from sightline.data.formats import FORMATS, format_of

pytest.importorskip("tifffile", reason="the images are of all formats, also those of the extra 'tiff'")
pytest.importorskip("pydicom", reason="the images are of all formats, also those of the extra 'dicom'")
SEED = 1_000_000  # none that the benchmarks use


def outcomes(attempt: fuzzing.Attempt, numbers: range, folder: Path) -> Counter[str]:
    """How many inputs ended how; those that failed by what was said of them."""
    found: Counter[str] = Counter()
    for number in numbers:
        kind, said = fuzzing.outcome(attempt, SEED, number, folder)
        found[kind if kind in fuzzing.KINDS else f"number {number}: {said}"] += 1
    return found


@pytest.mark.parametrize("block", range(4))
def test_mutated_images_give_pixels_or_one_reason(block, tmp_path):
    found = outcomes(fuzz_images.attempt, range(100 * block, 100 * (block + 1)), tmp_path)
    assert found.keys() == set(fuzzing.KINDS)
    assert min(found.values()) > 5


def test_mutated_bundles_are_refused_in_a_sentence(tmp_path):
    found = outcomes(fuzz_bundles.attempt_bytes, range(200), tmp_path)
    assert found.keys() <= set(fuzzing.KINDS)
    assert found["refused"] > 150


def test_bundles_whose_hashes_fit_are_refused_or_used(tmp_path):
    found = outcomes(fuzz_bundles.attempt_hashes, range(60), tmp_path)
    assert found.keys() == set(fuzzing.KINDS)
    assert min(found.values()) > 5


def test_the_samples_are_of_every_format_and_sound():
    files = fuzz_images.samples()
    assert {format_of(data) for data in files} == set(FORMATS)
    for number, data in enumerate(files):
        assert decode(data, name=str(number)).shape[2] == 3


def test_an_input_is_made_again_from_its_seed_and_number():
    assert [fuzz_images.mutated(3, number) for number in range(30)] == [fuzz_images.mutated(3, number) for number in range(30)]
    members = fuzz_bundles.samples()[0]
    one, other = (fuzz_bundles.with_hashes(np.random.default_rng([3, 5]), members) for _ in range(2))
    assert one[-5000:] == other[-5000:]


def test_checksums_are_mended_so_that_what_is_behind_them_is_reached():
    sound = next(data for data in fuzz_images.samples() if format_of(data) == "PNG")
    broken = bytearray(sound)
    broken[20] ^= 1  # the width
    assert mutations.with_checksums(sound) == sound
    assert mutations.with_checksums(bytes(broken))[:29] == bytes(broken)[:29]
    assert mutations.with_checksums(bytes(broken))[29:33] != bytes(broken)[29:33]


# ---------------------------------------------------------------- what the watchers see


def watched(tmp_path: Path, code: str, **constants: float) -> fuzzing.Found:
    """What is found when this code is what is tried, with ``seed``, ``number`` and ``folder``."""
    script = tmp_path / "script.py"
    settings = "\n".join(f"fuzzing.{name} = {value}" for name, value in constants.items())
    script.write_text(
        f"import os, signal, sys, time\nfrom pathlib import Path\nimport fuzzing\nfrom sightline.errors import ImageError\n{settings}\n"
        f"def attempt(seed, number, folder):\n    {code}\n"
        'fuzzing.main(__file__, "", "it", "", {"it": (attempt, 1)}, 500 << 20, lambda: None)\n'
    )
    return fuzzing.run(str(script), "it", 0, range(6), batch=4)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("assert number != 3", "exception"),
        ("number == 3 and os.kill(os.getpid(), signal.SIGSEGV)", "crash"),
        ("number == 3 and sys.modules.update(big=bytearray(b'x') * (600 << 20))", "memory"),
        ("number == 3 and Path('here.txt').write_text('x')", "written outside"),
        ("number == 3 and (Path.home() / 'there').mkdir()", "written outside"),
        ("number == 3 and os.system('true')", "written outside"),
        ("number == 3 and os.write(1, b'a remark')", "printed"),
    ],
    ids=["exception", "crash", "memory", "written", "made", "started", "printed"],
)
def test_each_kind_of_failure_is_seen_once_and_the_rest_goes_on(tmp_path, code, kind):
    found = watched(tmp_path, code)
    assert (3, kind) in [failure[:2] for failure in found.failures]
    assert {failure[1] for failure in found.failures} == {kind}
    assert found.kinds["accepted"] == 5


def test_what_is_done_inside_the_folder_is_nobodys_business(tmp_path):
    found = watched(tmp_path, "(folder / 'x').write_text('x'); (folder / 'x').rename(folder / 'y'); Path(os.devnull).write_text('')")
    assert (found.kinds, found.failures) == ({"accepted": 6}, [])


def test_hangs_are_seen_also_where_nothing_is_said_any_more(tmp_path, monkeypatch):
    found = watched(tmp_path, "number == 3 and sum(range(30_000_000))", HANG_SECONDS=0.2)
    assert [failure[:2] for failure in found.failures] == [(3, "hang")]
    monkeypatch.setattr(fuzzing, "SILENT_SECONDS", 1.0)
    found = watched(tmp_path, "time.sleep(60 * (number == 3))")
    assert [failure[:2] for failure in found.failures] == [(3, "hang")]
    assert found.kinds["accepted"] == 5


def test_refusals_are_counted_by_their_error(tmp_path):
    found = watched(tmp_path, "raise ImageError('it', 'is bad')")
    assert (found.kinds, found.refusals, found.failures) == ({"refused": 6}, {"ImageError": 6}, [])


@pytest.mark.parametrize(("script", "words"), [("fuzz_images.py", []), ("fuzz_bundles.py", ["--way", "bytes"])])
def test_one_input_can_be_tried_alone(script, words):
    command = [sys.executable, Path(fuzzing.__file__).with_name(script), "--only", "0", *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0 or "sightline.errors." in done.stderr
