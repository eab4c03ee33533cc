"""The simulation of docs/scale.md agrees with what can be told without it, where one thing alone limits a cluster."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from scale_page import _amount
from simulate_cluster import THREADS, Cluster, simulate

EVEN = Cluster(images=25_600, chunk=256, machines=2, answer=0.04, handing_out=0.0, lost_every=inf, storage=inf, uneven=0.0)
OF_A_CHUNK = EVEN.chunk * EVEN.answer / THREADS


def test_processors_alone_work_in_rounds():
    found = simulate(EVEN, 0)
    assert found.seconds == pytest.approx(13 * OF_A_CHUNK)  # 100 chunks on 8 workers
    assert found.counts == pytest.approx(100 / (13 * 8))
    assert (found.driver, found.storage, found.again) == (0, 0, 0)


def test_a_slow_driver_hands_out_one_chunk_after_the_other():
    found = simulate(replace(EVEN, handing_out=10 * OF_A_CHUNK), 0)
    assert found.seconds == pytest.approx((100 * 10 + 1) * OF_A_CHUNK)
    assert found.driver == pytest.approx(1000 / 1001)


def test_slow_storage_gives_what_it_can():
    found = simulate(replace(EVEN, storage=EVEN.image_bytes * 100, images=25_600 * 8), 0)
    assert found.seconds == pytest.approx(25_600 * 8 / 100)
    assert found.storage == pytest.approx(1)


def test_what_is_lost_with_a_machine_is_given_again():
    steady = simulate(replace(EVEN, uneven=0.2), 0)
    found = simulate(replace(EVEN, uneven=0.2, lost_every=60 * OF_A_CHUNK, replacing=5.0), 0)
    assert found.again > 0
    assert found.seconds > steady.seconds
    assert found.counts < steady.counts
    assert found == simulate(replace(EVEN, uneven=0.2, lost_every=60 * OF_A_CHUNK, replacing=5.0), 0)


@pytest.mark.parametrize(
    ("count", "shown"), [(46, "46 bytes"), (5120, "5.1 kB"), (999_600, "1.0 MB"), (337e9, "337 GB"), (2e15, "2000 TB")]
)
def test_amounts_have_the_unit_that_fits(count, shown):
    assert _amount(count) == shown
