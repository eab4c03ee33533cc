"""runtime: images are prepared while others are computed, in bounded memory and in order."""

from __future__ import annotations

import io
import threading
from itertools import count, islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.data.prepare import Prepare
from sightline.errors import ImageError
from sightline.runtime import batch_share, raw_outputs


class Meeting:
    """Prepare and infer that can only go on together: infer of a batch waits until the next one is prepared, and an image of that
    is only prepared while infer is under way. Sources are grey images whose level is their place."""

    min_side, reading, shape = 8, Prepare(8).reading, (8, 8)

    def __init__(self, count, batch):
        self.count, self.batch = count, batch
        self.taken = 0
        self.prepared = [threading.Event() for _ in range(count)]
        self.inferring = [threading.Event() for _ in range(-(-count // batch))]

    def sources(self):
        for place in range(self.count):
            self.taken += 1
            sink = io.BytesIO()
            Image.new("RGB", (8, 8), (place,) * 3).save(sink, "PNG")
            yield sink.getvalue()

    def __call__(self, image):
        place = image.getpixel((0, 0))[0]
        if place >= self.batch:
            assert self.inferring[place // self.batch - 1].wait(20), "the batch before was not being computed meanwhile"
        self.prepared[place].set()
        return np.asarray(image), np.eye(2, 3)

    def infer(self, images):
        number = int(images[0, 0, 0, 0]) // self.batch
        self.inferring[number].set()
        for place in range((number + 1) * self.batch, min((number + 2) * self.batch, self.count)):
            assert self.prepared[place].wait(20), "the next batch was not being prepared meanwhile"
        return {"level": images[:, 0, 0, 0].astype(np.float32)}


@pytest.mark.parametrize("threads", [1, 3])
def test_the_next_batch_is_prepared_while_one_is_computed(threads):
    meeting = Meeting(22, batch=4)
    batches = list(raw_outputs(meeting.infer, meeting, meeting.sources(), batch_size=4, threads=threads))
    assert np.concatenate([batch.raw["level"] for batch in batches]).tolist() == list(range(22))
    assert [place for batch in batches for place in batch.positions] == list(range(22))
    assert meeting.taken == 22


PREPARE = Prepare(2, crop_fraction=1.0)


def grey(level):
    return np.full((2, 2, 3), level, np.uint8)


def level(images):
    return {"level": images[:, 0, 0, 0].astype(np.float32)}


def levels(batches):
    return [value for batch in batches for value in batch.raw.get("level", [])]


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_streams_are_computed_at_the_same_time_and_no_more_of_them(streams):
    together, under_way, most = threading.Barrier(streams), [], []

    def infer(images):
        under_way.append(images)
        most.append(len(under_way))
        together.wait(20)
        found = level(images)
        together.wait(20)
        under_way.pop()
        together.wait(20)
        return found

    batches = raw_outputs(infer, PREPARE, map(grey, range(6 * 4)), batch_size=4, threads=2, streams=streams)
    assert levels(batches) == list(range(24))
    assert max(most) == streams


@pytest.mark.parametrize("streams", [1, 3])
def test_an_endless_stream_is_taken_only_as_far_as_it_is_needed(streams):
    taken = []
    sources = (taken.append(place) or grey(place % 256) for place in count())
    threads = threading.active_count()
    batches = raw_outputs(level, PREPARE, sources, batch_size=4, threads=2, streams=streams)
    for done, batch in enumerate(islice(batches, 40), start=1):
        assert batch.positions == list(range(4 * done - 4, 4 * done))
        assert len(taken) - 4 * done <= 4 * (2 * streams + 1)
    batches.close()
    assert threading.active_count() == threads


def test_a_slow_first_image_holds_the_order_but_not_the_others():
    others = threading.Semaphore(0)

    class SlowFirst(Prepare):
        def __call__(self, image):
            if image.getpixel((0, 0))[0] == 0:
                for _ in range(6):
                    assert others.acquire(timeout=20), "the others waited for the first"
            else:
                others.release()
            return super().__call__(image)

    batches = list(raw_outputs(level, SlowFirst(2), map(grey, range(20)), batch_size=4, threads=2))
    assert levels(batches) == list(range(20))
    assert [batch.size for batch in batches] == [4] * 5


@settings(max_examples=40)
@given(bad=st.sets(st.integers(0, 19)), batch=st.integers(1, 9), streams=st.integers(1, 3))
def test_whichever_images_are_bad_the_others_keep_their_places(bad, batch, streams):
    sources = [b"no image" if place in bad else grey(place) for place in range(20)]
    batches = list(raw_outputs(level, PREPARE, sources, batch_size=batch, threads=2, streams=streams))
    assert levels(batches) == [place for batch in batches for place in batch.positions] == sorted(set(range(20)) - bad)
    assert {place for batch in batches for place, error in batch.errors if isinstance(error, ImageError)} == bad
    assert sum(batch.size for batch in batches) == 20


@pytest.mark.parametrize("streams", [1, 2])
def test_a_fault_of_the_engine_or_of_the_source_ends_it_after_what_came_before(streams):
    def infer(images):
        if 9 in images:
            raise RuntimeError("the engine stopped")
        return level(images)

    def broken():
        yield from map(grey, range(9))
        raise OSError("the source stopped")

    found = []
    with pytest.raises(RuntimeError, match="the engine stopped"):
        found.extend(raw_outputs(infer, PREPARE, map(grey, range(40)), batch_size=4, threads=2, streams=streams))
    assert levels(found) == list(range(8))
    with pytest.raises(OSError, match="the source stopped"):
        list(raw_outputs(level, PREPARE, broken(), batch_size=4, threads=2, streams=streams))


def test_an_interrupt_waits_only_for_what_is_under_way():
    computed = []

    def infer(images):
        computed.append(len(images))
        return level(images)

    def interrupted():
        yield from map(grey, range(100))
        raise KeyboardInterrupt

    threads = threading.active_count()
    batches = raw_outputs(infer, PREPARE, interrupted(), batch_size=100, threads=2)
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    assert computed == []
    assert threading.active_count() == threads


@given(st.integers(1, 300), st.integers(1, 64))
def test_more_streams_share_the_images_of_a_batch(batch_size, streams):
    share = batch_share(batch_size, streams)
    assert 1 <= share <= batch_size
    assert share * streams >= batch_size
    assert share == batch_size or share >= 4
    assert (share - 1) * streams < batch_size or share <= 4
