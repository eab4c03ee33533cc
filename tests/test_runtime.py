"""runtime: images are prepared while others are computed, in bounded memory and in order."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from sightline.data.prepare import Prepare
from sightline.runtime import raw_outputs


class Meeting:
    """Prepare and infer that can only go on together: infer of a batch waits until the next one is prepared, and an image of that
    is only prepared while infer is under way. Sources are grey images whose level is their place."""

    min_side, reading, size = 8, Prepare(8).reading, 8

    def __init__(self, count, batch):
        self.count, self.batch = count, batch
        self.taken = 0
        self.ahead = []
        self.prepared = [threading.Event() for _ in range(count)]
        self.inferring = [threading.Event() for _ in range(-(-count // batch))]

    def sources(self):
        for place in range(self.count):
            self.taken += 1
            sink = io.BytesIO()
            Image.new("RGB", (8, 8), (place,) * 3).save(sink, "PNG")
            yield sink.getvalue()

    def __call__(self, image):
        place = int(image[0, 0, 0])
        if place >= self.batch:
            assert self.inferring[place // self.batch - 1].wait(20), "the batch before was not being computed meanwhile"
        self.prepared[place].set()
        return image, np.eye(2, 3)

    def infer(self, images):
        number = int(images[0, 0, 0, 0]) // self.batch
        self.ahead.append(self.taken)
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
    assert meeting.ahead == [8, 12, 16, 20, 22, 22]  # never more than two batches are at hand
