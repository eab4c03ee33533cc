"""look: what is learned from one image, and that one bad image costs neither the others nor memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sightline.data import look
from sightline.data.decode import Limits
from sightline.data.look import BATCH, MAX_ASPECT, Look, Placed, look_at, looked_at
from sightline.records import ImageRef

LIMITS = Limits()


@dataclass(frozen=True)
class Deadly(ImageRef):
    """A reference that ends the process it arrives in, as a decoder with a fault would."""

    def __reduce__(self):
        return os._exit, (1,)


@pytest.fixture
def saved(tmp_path):
    """Writes an image (of an array or a Pillow image) and returns its reference."""

    def write(image, name="x.png", **options) -> ImageRef:
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.save(tmp_path / name, **options)
        return ImageRef(str(tmp_path / name))

    return write


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# ---- one image -------------------------------------------------------------------------------------------------------


def test_facts_of_an_even_picture(saved):
    seen = look_at(saved(np.full((40, 60, 3), (255, 51, 0), np.uint8)), 32, LIMITS)
    assert (seen.width, seen.height, seen.format, seen.mode, seen.error) == (60, 40, "PNG", "RGB", "")
    np.testing.assert_allclose(seen.colour, (1, 0.2, 0), atol=1e-6)
    assert seen.brightness == pytest.approx(0.299 + 0.587 * 0.2, abs=0.01)
    assert seen.contrast == pytest.approx(0, abs=1e-6)
    assert seen.sharpness == 0
    assert np.unique(seen.thumb).size == 1


def test_sharpness_falls_when_an_image_is_blurred_and_contrast_when_it_is_flattened(saved):
    sharp = noise(64, 64)
    blurred = np.asarray(Image.fromarray(sharp).resize((16, 16)).resize((64, 64)))
    first, second = look_at(saved(sharp), 64, LIMITS), look_at(saved(blurred, "y.png"), 64, LIMITS)
    assert second.sharpness < first.sharpness / 2
    assert look_at(saved(sharp // 2 + 64, "z.png"), 64, LIMITS).contrast == pytest.approx(first.contrast / 2, rel=0.05)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(8, 64))
def test_an_image_keeps_its_shape_and_takes_no_more_than_the_bound(width, height, side):
    _, scaled = look._scaled(Image.new("RGB", (width, height)), side)
    assert min(scaled.size) <= max(side, 1)
    assert max(scaled.size) <= MAX_ASPECT * side
    assert scaled.width <= width
    assert scaled.height <= height
    if max(width, height) <= MAX_ASPECT * min(width, height):
        assert min(scaled.size) == min(side, width, height)


@pytest.mark.parametrize(
    ("size", "stored"),
    [((1, 1), (1, 1)), ((1, 1000), (1, 128)), ((2000, 100), (128, 6)), ((20, 30), (20, 30)), ((640, 480), (43, 32)), ((32, 32), (32, 32))],
)
def test_the_shorter_side_is_scaled_down_to_the_side_and_a_panorama_by_its_longer_one(saved, size, stored):
    seen = look_at(saved(Image.new("RGB", size)), 32, LIMITS)
    assert seen.pixels.shape == (stored[1], stored[0], 3)
    assert (seen.width, seen.height) == size


def test_an_image_that_cannot_be_read_has_its_reason_and_no_pixels(saved, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"not an image")
    bad, gone = (look_at(ImageRef(str(tmp_path / name)), 32, LIMITS) for name in ("bad.png", "gone.png"))
    assert "format" in bad.error or "not" in bad.error
    assert gone.error == "no such file"
    assert [seen.pixels.shape for seen in (bad, gone)] == [(0, 0, 3)] * 2
    assert (len(bad.sha256), gone.sha256) == (64, "")


def test_limits_are_kept(saved):
    ref = saved(noise(20, 20))
    assert "limit" in look_at(ref, 32, Limits(max_pixels=399)).error
    assert "limit" in look_at(ref, 32, Limits(max_bytes=100)).error


def test_bytes_that_are_known_are_not_decoded(saved, monkeypatch):
    ref = saved(noise(20, 20))
    known = look_at(ref, 32, LIMITS).sha256
    monkeypatch.setattr(look, "picture_with_header", None)
    assert look_at(ref, 32, LIMITS, known) is None


# ---- many images -----------------------------------------------------------------------------------------------------


def test_looks_come_in_order_and_a_crash_costs_only_the_image_at_fault(saved):
    refs = [saved(np.full((8, 8, 3), row, np.uint8), f"{row}.png") for row in range(4 * BATCH + 3)]
    deadly = {5, 2 * BATCH + 1}
    jobs = [(Deadly(ref.path) if row in deadly else ref, 8, LIMITS, "") for row, ref in enumerate(refs)]
    seen = list(looked_at(jobs, workers=2))
    assert len(seen) == len(jobs)
    assert {row for row, one in enumerate(seen) if one.error} == deadly
    assert {one.error for one in seen} == {"", "the image decoder crashed on it"}
    assert all(one.pixels[0, 0, 0] == row for row, one in enumerate(seen) if row not in deadly)


def pixels_at(place, file):
    return np.fromfile(file, np.uint8, int(np.prod(place.shape)), offset=place.start).reshape(place.shape)


def test_processes_put_pixels_into_one_file_and_a_crash_costs_only_the_image_at_fault(saved, tmp_path):
    refs = [saved(np.full((8 + row % 5, 8, 3), row, np.uint8), f"{row}.png") for row in range(5 * BATCH + 3)]
    jobs = [(Deadly(ref.path) if row == BATCH else ref, 8, LIMITS, "") for row, ref in enumerate(refs)]
    file = tmp_path / "pixels.bin"
    file.write_bytes(b"before")
    seen = list(looked_at(jobs, 3, file))
    assert [row for row, one in enumerate(seen) if one.error] == [BATCH]
    assert isinstance(seen.pop(BATCH).pixels, np.ndarray)
    for ref, one in zip(refs[:BATCH] + refs[BATCH + 1 :], seen, strict=True):
        assert isinstance(one.pixels, Placed)
        np.testing.assert_array_equal(pixels_at(one.pixels, file), look_at(ref, 8, LIMITS).pixels)
    assert file.read_bytes().startswith(b"before")


def test_where_files_cannot_be_locked_pixels_come_back_and_the_file_stays_as_it_is(saved, tmp_path, monkeypatch):
    (file := tmp_path / "pixels.bin").touch()
    job = (saved(noise(20, 20)), 8, LIMITS, "")
    monkeypatch.setattr(look, "lock", lambda handle: False)
    (seen,) = look.look_at_all([job], file)
    np.testing.assert_array_equal(seen.pixels, look_at(*job).pixels)
    assert file.stat().st_size == 0


def test_what_keeps_pixels_from_being_written_is_raised(saved, tmp_path):
    job = (saved(noise(20, 20)), 8, LIMITS, "")
    with pytest.raises(FileNotFoundError):
        list(looked_at([job], 1, tmp_path / "gone.bin"))
    if not (full := Path("/dev/full")).exists():
        pytest.skip("no device here says that the disk is full")
    with pytest.raises(OSError, match="No space left"):
        list(looked_at([job], 1, full))


def test_an_image_that_is_known_or_refused_takes_no_room_in_the_file(saved, tmp_path):
    (file := tmp_path / "pixels.bin").touch()
    ref = saved(noise(20, 20))
    jobs = [(ref, 8, LIMITS, look_at(ref, 8, LIMITS).sha256), (ImageRef(str(tmp_path / "gone.png")), 8, LIMITS, "")]
    known, gone = look.look_at_all(jobs, file)
    assert (known, gone.error, gone.pixels) == (None, "no such file", Placed(0, (0, 0, 3)))
    assert file.stat().st_size == 0


def test_a_relative_path_is_of_the_folder_the_caller_stands_in_now(saved, tmp_path, monkeypatch):
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        saved(noise(20, 20), f"{place}/{place}.png")
        monkeypatch.chdir(tmp_path / place)
        Path("pixels.bin").touch()
        (seen,) = looked_at([(ImageRef(f"{place}.png"), 8, LIMITS, "")], 1, Path("pixels.bin"))
        assert (seen.error, seen.pixels) == ("", Placed(0, (8, 8, 3)))


KILLED = """
import os, signal, sys
from loky import get_reusable_executor
from sightline.data.decode import Limits
from sightline.data.look import BATCH, looked_at
from sightline.records import ImageRef
jobs = [(ImageRef(sys.argv[1]), 512, Limits(), "")] * (40 * BATCH)
next(looked_at(jobs, 2))
print(*get_reusable_executor(reuse=True)._processes, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="whether a process is there is asked of /proc")
def test_the_pool_ends_when_its_owner_is_killed(saved):
    ref = saved(noise(512, 512))
    done = subprocess.run([sys.executable, "-c", KILLED, ref.path], stdout=subprocess.PIPE, text=True, timeout=60)
    left, waited = done.stdout.split(), time.monotonic()
    assert len(left) == 2
    while any(runs(process) for process in left):
        assert time.monotonic() - waited < 20
        time.sleep(0.1)


def runs(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_only_a_window_of_batches_is_under_way(monkeypatch):
    submitted, workers = 0, 3

    def submit(batch, workers, pixel_file):
        nonlocal submitted
        submitted += 1
        future = Future()
        future.set_result([Look.refused(str(job)) for job in batch])
        return future

    monkeypatch.setattr(look, "_submit", submit)
    for done, seen in enumerate(looked_at(list(range(50 * BATCH)), workers)):
        assert seen.error == str(done)
        assert submitted - done // BATCH <= 2 * workers + 1
    assert submitted == 50


def test_nothing_to_look_at_starts_no_process(monkeypatch):
    monkeypatch.setattr(look, "_submit", None)
    assert list(looked_at([], 2)) == []
