"""serving.batching: which images are computed together, and that each caller gets the answer to its own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from served import BLUE, GREEN, KINDS, RED, SIDE, manifest, png
from sightline.data.decode import Limits
from sightline.errors import ImageError
from sightline.runtime import Model
from sightline.serving.batching import Batcher
from sightline.serving.declined import Declined
from sightline.serving.metrics import Metrics
from sightline.tiling import Tiling

LONG = 1000.0


class Engine:
    """Tells colours apart, and notes how many images came at once; while ``free`` is not set, it is at its first batch."""

    def __init__(self, *, free: bool = True, fails: int | None = None) -> None:
        self.sizes: list[int] = []
        self.fails = fails
        self.free, self.begun = threading.Event(), threading.Event()
        if free:
            self.free.set()

    def __call__(self, images):
        self.sizes.append(len(images))
        self.begun.set()
        assert self.free.wait(20)
        if len(self.sizes) == self.fails:
            raise RuntimeError("the engine stopped")
        return {"logits": images.mean(axis=(1, 2)).astype(np.float32) / 20}


def run(engine, scenario, *, batch_size=4, max_wait=0.0, prepare=None, decoders=2, ahead=100, model=None):
    """What a scenario gives, which is called with a batcher over the engine."""
    model = model or Model(manifest(), engine, threads=1)
    model.prepare = prepare or model.prepare

    async def whole():
        with ThreadPoolExecutor(decoders) as decoding, ThreadPoolExecutor(1) as computing:
            batcher = Batcher(
                model, "colours", decoding=decoding, computing=computing, limits=Limits(), batch_size=batch_size, max_wait=max_wait,
                ahead=ahead, metrics=Metrics(),
            )  # fmt: skip
            try:
                return await scenario(batcher)
            finally:
                getattr(engine, "free", threading.Event()).set()

    return asyncio.run(whole())


async def begun(engine):
    assert await asyncio.to_thread(engine.begun.wait, 20)


async def settled(batcher, waiting):
    """Until so many images wait to be computed."""
    while len(batcher._waiting) < waiting:
        await asyncio.sleep(0.001)


def test_a_single_image_waits_for_nobody():
    engine = Engine()
    found = run(engine, lambda batcher: batcher.predict(RED), max_wait=LONG)
    assert found.prediction.label == "red"
    assert found.size == (20, 16)
    assert engine.sizes == [1]


def test_what_comes_while_the_engine_is_busy_is_computed_together_in_batches_of_bounded_size():
    engine = Engine(free=False)

    async def scenario(batcher):
        first = asyncio.ensure_future(batcher.predict(RED))
        await begun(engine)
        others = [asyncio.ensure_future(batcher.predict(data)) for data in (RED, GREEN, BLUE) * 3]
        await settled(batcher, 9)
        engine.free.set()
        return await asyncio.gather(first, *others)

    found = run(engine, scenario, max_wait=LONG)
    assert [each.prediction.label for each in found] == ["red", *KINDS * 3]
    assert engine.sizes == [1, 4, 4, 1]


def test_no_more_images_are_decoded_than_may_be_ahead():
    engine = Engine(free=False)

    async def scenario(batcher):
        all_of_them = [asyncio.ensure_future(batcher.predict(data)) for data in (RED, GREEN, BLUE) * 4]
        await begun(engine)
        await settled(batcher, 4)
        for _ in range(20):
            await asyncio.sleep(0.001)
            assert (len(batcher._waiting), batcher._coming) == (4, 0)
        engine.free.set()
        return await asyncio.gather(*all_of_them)

    found = run(engine, scenario, batch_size=1, ahead=5)
    assert [each.prediction.label for each in found] == list(KINDS * 4)


class Slow:
    """Prepares as the model does, but for blue pictures, which it holds until ``go`` is set."""

    def __init__(self, prepare):
        self.go, self.held = threading.Event(), threading.Event()
        self._prepare = prepare
        self.min_side, self.reading, self.shape = prepare.min_side, prepare.reading, prepare.shape

    def __call__(self, image):
        if image.getpixel((0, 0))[2] > 200:
            self.held.set()
            assert self.go.wait(20)
        return self._prepare(image)


def slow():
    return Slow(Model(manifest(), Engine(), threads=1).prepare)


def test_a_batch_waits_for_an_image_that_is_being_decoded():
    engine, prepare = Engine(), slow()

    async def scenario(batcher):
        late = asyncio.ensure_future(batcher.predict(BLUE))
        assert await asyncio.to_thread(prepare.held.wait, 20)
        early = asyncio.ensure_future(batcher.predict(RED))
        await settled(batcher, 1)
        prepare.go.set()
        return await asyncio.gather(late, early)

    assert [found.prediction.label for found in run(engine, scenario, max_wait=LONG, prepare=prepare)] == ["blue", "red"]
    assert engine.sizes == [2]


def test_a_batch_waits_no_longer_than_it_may():
    engine, prepare = Engine(), slow()

    async def scenario(batcher):
        late = asyncio.ensure_future(batcher.predict(BLUE))
        assert await asyncio.to_thread(prepare.held.wait, 20)
        early = await batcher.predict(RED)
        prepare.go.set()
        return [early, await late]

    assert [found.prediction.label for found in run(engine, scenario, max_wait=0.01, prepare=prepare)] == ["red", "blue"]
    assert engine.sizes == [1, 1]


def test_an_image_that_turns_out_unreadable_is_not_waited_for():
    engine = Engine(free=False)

    async def scenario(batcher):
        first = asyncio.ensure_future(batcher.predict(RED))
        await begun(engine)
        others = [asyncio.ensure_future(batcher.predict(data)) for data in (GREEN, b"no image")]
        engine.free.set()
        return await asyncio.gather(first, *others)

    first, good, bad = run(engine, scenario, max_wait=LONG)
    assert (first.prediction.label, good.prediction.label) == ("red", "green")
    assert isinstance(bad, ImageError)


def test_who_has_gone_takes_no_place_in_a_batch():
    engine = Engine(free=False)

    async def scenario(batcher):
        first = asyncio.ensure_future(batcher.predict(RED))
        await begun(engine)
        others = [asyncio.ensure_future(batcher.predict(data)) for data in (RED, GREEN, BLUE)]
        await settled(batcher, 3)
        others[1].cancel()
        await asyncio.sleep(0)
        engine.free.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    _, red, gone, blue = run(engine, scenario, max_wait=LONG)
    assert isinstance(gone, asyncio.CancelledError)
    assert (red.prediction.label, blue.prediction.label) == ("red", "blue")
    assert engine.sizes == [1, 2]


def test_a_fault_of_the_engine_is_told_to_those_in_the_batch_and_the_next_is_computed(capsys):
    engine = Engine(fails=1)

    async def scenario(batcher):
        with pytest.raises(Declined) as caught:
            await batcher.predict(RED)
        return caught.value.status, await batcher.predict(GREEN)

    status, after = run(engine, scenario)
    assert (status, after.prediction.label) == (503, "green")
    assert "the engine stopped" in capsys.readouterr().err


@settings(max_examples=15)
@given(st.lists(st.sampled_from(["red", "green", "blue", "none"]), min_size=1, max_size=24), st.integers(1, 9))
def test_each_caller_gets_the_answer_to_its_own_image(kinds, batch_size):
    files = {"red": RED, "green": GREEN, "blue": BLUE, "none": b"no image"}
    engine = Engine()

    async def scenario(batcher):
        return await asyncio.gather(*(batcher.predict(files[kind]) for kind in kinds))

    found = run(engine, scenario, batch_size=batch_size, max_wait=0.001)
    assert ["none" if isinstance(each, ImageError) else each.prediction.label for each in found] == kinds
    assert max(engine.sizes, default=0) <= batch_size
    assert sum(engine.sizes) == sum(kind != "none" for kind in kinds)


def test_answers_are_those_of_the_model():
    files = [png(colour) for colour in ((250, 10, 10), (120, 90, 80), (0, 0, 0), (90, 200, 190))]
    model = Model(manifest(), Engine(), threads=1)

    async def scenario(batcher):
        return await asyncio.gather(*(batcher.predict(data) for data in files))

    found = run(Engine(), scenario, max_wait=LONG)
    assert [each.prediction for each in found] == model.predict(files)
    assert model.prepare.size == SIDE


def test_a_model_of_tiles_sees_an_image_in_tiles():
    def per_pixel(images):
        assert images.shape[1:3] == (SIDE, SIDE)
        return {"logits": np.moveaxis(images, 3, 1).astype(np.float32)}

    model = Model(manifest(task="segment", tiles=Tiling(SIDE).to_json()), per_pixel, threads=1)
    picture = png((200, 30, 20), (3 * SIDE, 2 * SIDE))
    found = run(per_pixel, lambda batcher: batcher.predict(picture), model=model)
    assert found.size == (3 * SIDE, 2 * SIDE)
    assert found.prediction.classes.shape == (2 * SIDE, 3 * SIDE)
    np.testing.assert_array_equal(found.prediction.classes, model.predict(picture).classes)
    broken = Model(model.manifest, Engine(), threads=1)  # gives what is no map
    with pytest.raises(Declined):
        run(broken.infer, lambda batcher: batcher.predict(picture), model=broken)
    assert isinstance(run(per_pixel, lambda batcher: batcher.predict(b"no image"), model=model), ImageError)
