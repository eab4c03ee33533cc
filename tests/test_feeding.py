"""The next batches are made while one is used, in order, and no more of them than were asked for."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from sightline.training.batches import ahead
from sightline.training.feeding import copied, makers, one_ahead

CPU = torch.device("cpu")


def test_a_batch_is_asked_for_before_the_one_in_front_of_it_is_used():
    told = []

    def batches():
        for number in range(3):
            told.append(f"made {number}")
            yield torch.tensor([number]), torch.tensor([10 * number])

    for images, targets in one_ahead(batches(), CPU):
        told.append(f"used {int(images)}")
        assert int(targets) == 10 * int(images)
    assert told == ["made 0", "made 1", "used 0", "made 2", "used 1", "used 2"]
    assert list(one_ahead(iter(()), CPU)) == []


@pytest.mark.parametrize("threads", [1, 3, 20])
def test_what_threads_make_comes_in_order(threads):
    under_way, most, lock = set(), [], threading.Lock()

    def make(place):
        with lock:
            under_way.add(place)
            most.append(len(under_way))
        with lock:
            under_way.discard(place)
        return place * 2

    assert list(ahead(make, range(5, 17), threads)) == [2 * place for place in range(5, 17)]
    assert max(most) <= threads
    assert list(ahead(make, [], threads)) == []


def test_several_threads_make_batches_at_the_same_time():
    meeting = threading.Barrier(3, timeout=20)
    assert list(ahead(lambda place: (meeting.wait(), place)[1], range(3), 3)) == [0, 1, 2]


def test_a_mistake_in_a_thread_is_told():
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda place: 1 // place, [1, 0], 2))


def test_one_thread_makes_batches_where_the_processor_has_the_steps_to_do_as_well(monkeypatch):
    monkeypatch.setattr("sightline.training.feeding.processors", lambda: 8)
    assert makers(CPU) == 1
    assert makers(torch.device("cuda")) == 7
    monkeypatch.setattr("sightline.training.feeding.processors", lambda: 1)
    assert makers(torch.device("cuda")) == 1


def test_an_array_is_copied_as_it_is():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert torch.equal(copied(array, CPU), torch.arange(6.0).reshape(2, 3))
