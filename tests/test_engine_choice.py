"""engines/choice: the fastest that agrees is chosen, and the choice is remembered; with engines whose time is made up."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from sightline.engines import cache, choice
from sightline.engines.acceptance import Acceptance
from sightline.engines.adapters import Candidate, Work
from sightline.engines.choice import choose_engine, measure
from sightline.errors import ModelFileError


class Clock:
    """Time that passes only when an engine computes."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def fake(clock, name, seconds, shift=0.0, calls=None):
    """A candidate "engine precision" whose images take so many seconds each, and whose first logit is off by ``shift``."""

    def load(work):
        def infer(images):
            clock.now += seconds * len(images)
            if calls is not None:
                calls.append((name, len(images)))
            level = images.reshape(len(images), -1).mean(axis=1)
            return {"logits": np.stack([level / 255 + shift, 1 - level / 255], axis=1).astype(np.float32)}

        return infer

    return Candidate(*name.split(), load)


def acceptance(images=None, digest="a"):
    def given():
        if images is None:
            raise ModelFileError("There are no photographs.")
        return images, fake(Clock(), FIRST, 0.0).load(WORK)(images)

    return Acceptance(
        difference=lambda raw, expected: float(np.abs(raw["logits"] - expected["logits"]).max()),
        answers=lambda raw: [frozenset(map(str, [row.argmax()])) for row in raw["logits"]],
        photographs=given,
        digest=digest,
    )


WORK = Work(b"a graph", ("logits",), "it", (2, 2, 3), threads=1, batch=8)
PHOTOGRAPHS = np.arange(20, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(12, axis=1).reshape(20, 2, 2, 3) * 6
FIRST, OTHER, SHORT = "onnxruntime fp32", "openvino fp32", "openvino bf16"


def chosen(*plans, images=PHOTOGRAPHS, work=WORK):
    clock = Clock()
    return measure(work, acceptance(images), [fake(clock, *plan) for plan in plans], clock=clock)[1]


@pytest.mark.parametrize(
    ("plans", "expected"),
    [
        ([(FIRST, 0.01), (OTHER, 0.005)], OTHER),
        ([(FIRST, 0.01), (OTHER, 0.02)], FIRST),
        ([(FIRST, 0.01), (OTHER, 0.0099)], FIRST),  # a gain that may be chance is none
        ([(FIRST, 0.01), (OTHER, 0.005, 1e-3)], FIRST),
        ([(FIRST, 0.01), (OTHER, 0.005, float("nan"))], FIRST),
        ([(FIRST, 0.01), (OTHER, 0.005), (SHORT, 0.001)], SHORT),
        ([(FIRST, 0.01), (OTHER, 0.005), (SHORT, 0.001, 1e-3)], SHORT),
        ([(FIRST, 0.01), (OTHER, 0.005), (SHORT, 0.001, 0.1)], OTHER),
        ([(FIRST, 0.01), (OTHER, 0.02), (SHORT, 0.001, 0.1)], FIRST),
        ([(OTHER, 0.01), (SHORT, 0.02)], OTHER),
        ([(OTHER, 0.01), (SHORT, 0.002)], SHORT),
    ],
)
def test_the_fastest_that_agrees_is_chosen_and_nothing_slower_than_the_first(plans, expected):
    assert chosen(*plans).chosen == expected


def test_bf16_is_refused_without_photographs_and_the_next_fastest_is_taken():
    measured = chosen((FIRST, 0.01), (OTHER, 0.005), (SHORT, 0.001), images=None)
    assert measured.chosen == OTHER
    assert measured.dropped == {SHORT: "There are no photographs."}


def test_outputs_of_another_shape_than_recorded_are_refused():
    def wider(work):
        infer = fake(clock, SHORT, 0.001).load(work)
        return lambda images: {"logits": np.repeat(infer(images)["logits"], 2, axis=1)}

    clock = Clock()
    measured = measure(WORK, acceptance(PHOTOGRAPHS), [fake(clock, FIRST, 0.01), Candidate("openvino", "bf16", wider)], clock=clock)[1]
    assert (measured.chosen, measured.dropped) == (FIRST, {SHORT: "its outputs have other shapes"})


def test_bf16_is_refused_when_one_answer_changes_however_little_the_scores_do():
    borderline = np.full((3, 2, 2, 3), 127, np.uint8)  # logits 0.498 and 0.502
    measured = chosen((FIRST, 0.01), (SHORT, 0.001, 0.01), images=borderline)
    assert measured.chosen == FIRST
    assert measured.dropped == {SHORT: "it answers differently on 3 of 3 images"}
    assert chosen((FIRST, 0.01), (SHORT, 0.001, 0.001), images=borderline).chosen == SHORT


def test_a_candidate_that_cannot_load_or_compute_is_dropped_with_its_reason_but_the_first_must():
    clock = Clock()

    def broken(work):
        raise ModelFileError("it knows no such operator")

    def dies(work):
        def infer(images):
            raise RuntimeError("it stops")

        return infer

    able = [fake(clock, FIRST, 0.01), Candidate("openvino", "fp32", broken), Candidate("openvino", "bf16", dies)]
    measured = measure(WORK, acceptance(), able, clock=clock)[1]
    assert measured.chosen == FIRST
    assert measured.dropped == {OTHER: "it knows no such operator", SHORT: "it stops"}
    with pytest.raises(ModelFileError, match="no such operator"):
        measure(WORK, acceptance(), able[1:], clock=clock)


def test_figures_are_medians_of_turns_of_the_batch_asked_for():
    clock, calls = Clock(), []
    able = [fake(clock, FIRST, 0.0010, calls=calls), fake(clock, OTHER, 0.0005, calls=calls)]
    measured = measure(WORK, acceptance(), able, clock=clock)[1]
    assert measured.batch == 8
    assert measured.images_per_second == pytest.approx({FIRST: 1000, OTHER: 2000})
    timed = [name for name, count in calls if count == 8]
    assert timed[1 : 1 + 2 * choice.ROUNDS] == [FIRST, OTHER] * choice.ROUNDS


def test_streams_are_timed_beside_each_other():
    together = threading.Barrier(3)

    def load(work):
        def infer(images):
            if len(images) > 1:  # timed, not warmed up
                together.wait(20)
            return {"logits": np.zeros((len(images), 2), np.float32)}

        return infer

    ticks = count(step=0.001)
    measured = measure(
        replace(WORK, threads=3, streams=3), acceptance(), [Candidate("onnxruntime", "fp32", load)], clock=lambda: next(ticks)
    )[1]
    assert measured.images_per_second[FIRST] == pytest.approx(3 * 8 / 0.001)


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 0.1, 10.0])
@pytest.mark.parametrize("batch", [1, 16, 4096])
def test_the_timing_takes_about_a_second_whatever_the_network_and_the_batch(seconds, batch):
    clock = Clock()
    able = [fake(clock, FIRST, seconds), fake(clock, OTHER, seconds), fake(clock, SHORT, 50 * seconds)]
    measured = measure(replace(WORK, batch=batch), acceptance(), able, clock=clock)[1]
    assert measured.chosen == FIRST
    assert 1 <= measured.batch <= batch
    one_round = 52 * seconds * measured.batch  # a candidate that is fifty times slower is not asked again
    assert clock.now <= max(2 * choice.SECONDS, 4 * seconds) + 3 * one_round


# Remembering


def test_one_candidate_is_not_timed(kept_choices):
    clock, calls = Clock(), []
    infer, found = choose_engine(WORK, acceptance(), [fake(clock, FIRST, 1.0, calls=calls)])
    assert (found.name, calls) == (FIRST, [])
    assert not kept_choices.exists()
    assert infer(PHOTOGRAPHS)["logits"].shape == (20, 2)


def pick(work=WORK, digest="a", images=PHOTOGRAPHS):
    """Choose between two real-time fakes; says whether anything was measured."""
    calls = []
    able = [fake(Clock(), FIRST, 0.0, calls=calls), fake(Clock(), OTHER, 0.0, calls=calls)]
    _, found = choose_engine(work, acceptance(images, digest), able)
    return found.name, bool(calls)


def test_a_choice_is_kept_with_its_figures_and_not_measured_again(kept_choices):
    name, measured = pick()
    assert measured
    (file,) = kept_choices.iterdir()
    kept = json.loads(file.read_text())
    assert kept["chosen"] == name
    assert set(kept["images_per_second"]) == {FIRST, OTHER}
    assert pick() == (name, False)


@pytest.mark.parametrize(
    "change",
    [{"batch": 9}, {"threads": 2}, {"streams": 2}, {"graph": b"another"}, {"outputs": ("logits", "embedding")}],
    ids=lambda change: next(iter(change)),
)
def test_other_work_is_measured_for_itself(kept_choices, change):
    pick()
    assert pick(replace(WORK, **change))[1]
    assert pick() == (pick()[0], False)


def test_another_machine_bundle_or_version_is_measured_for_itself(kept_choices, monkeypatch):
    pick()
    assert pick(digest="b")[1]
    for name, value in (
        ("processor_name", lambda: "another"),
        ("processor_features", lambda: ["avx2"]),
        ("version_of", lambda engine: "9"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(choice, name, value)
            assert pick()[1]
    assert not pick()[1]
    assert len(list(kept_choices.iterdir())) == 5


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"chosen"', "{}", '{"key": {}, "chosen": "openvino fp32"}', "\xff"])
def test_a_broken_file_is_measured_again_with_a_warning(kept_choices, capsys, text):
    pick()
    (file,) = kept_choices.iterdir()
    file.write_text(text, encoding="latin-1")
    assert pick()[1]
    assert f"! {file}: the engine chosen before cannot be read" in capsys.readouterr().err
    assert not pick()[1]


def test_a_name_that_is_no_candidate_is_not_believed(kept_choices, capsys):
    pick()
    (file,) = kept_choices.iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), "chosen": "openvino fp8"}))
    assert pick()[1]
    assert "it is about something else" in capsys.readouterr().err


def test_a_cache_folder_that_takes_no_file_is_no_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "file"))
    assert pick()[1]
    assert "cannot be kept" in capsys.readouterr().err


def test_a_file_that_cannot_be_put_in_place_leaves_nothing_behind(kept_choices, monkeypatch, capsys):
    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "replace", refuse)
    assert pick()[1]
    assert "No space left on device" in capsys.readouterr().err
    assert list(kept_choices.iterdir()) == []


def test_a_gain_is_said_once(kept_choices, monkeypatch, capsys):
    figures = choice.Measured(OTHER, {FIRST: 10.0, OTHER: 16.0}, {}, 8)
    able = [fake(Clock(), FIRST, 0.0), fake(Clock(), OTHER, 0.0)]
    monkeypatch.setattr(choice, "measure", lambda work, acceptance, candidates: (candidates[1].load(work), figures))
    choose_engine(WORK, acceptance(), able)
    choose_engine(WORK, acceptance(), able)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "here 1.6 times as fast as ONNX Runtime" in lines[0]
