"""config: every setting explains itself, and whatever is wrong is said at once."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.config import (
    AugmentConfig,
    DataConfig,
    NetworkConfig,
    RunConfig,
    RuntimeConfig,
    ServeConfig,
    TrainConfig,
    TrainSettings,
)
from sightline.errors import ConfigError
from sightline.settings import make, names_of

STAGES = (DataConfig, NetworkConfig, TrainConfig, AugmentConfig, RunConfig, RuntimeConfig, ServeConfig)
SETTINGS = [pytest.param(stage, entry, id=f"{stage.__name__}.{entry.name}") for stage in STAGES for entry in fields(stage)]


def problems(**flat: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        TrainSettings.of(**flat)
    return caught.value.problems


@pytest.mark.parametrize(("stage", "entry"), SETTINGS)
def test_every_setting_has_a_help_that_is_a_sentence(stage, entry):
    assert entry.metadata["help"].endswith(".")
    assert entry.metadata["help"][0].isupper()


@pytest.mark.parametrize(("stage", "entry"), SETTINGS)
def test_every_default_is_accepted_when_given(stage, entry):
    assert make(stage, {entry.name: entry.default}) == stage()


@pytest.mark.parametrize(("stage", "entry"), [case for case in SETTINGS if case.values[1].metadata["low"] is not None])
def test_every_bound_is_inclusive_and_holds(stage, entry):
    low, high = entry.metadata["low"], entry.metadata["high"]
    for bound, beyond, words in ((low, -1, "at least"), (high, 1, "at most")):
        if bound is None:
            continue
        assert getattr(make(stage, {entry.name: bound}), entry.name) == bound
        with pytest.raises(ConfigError, match=f"{entry.name} must be {words}"):
            make(stage, {entry.name: type(bound)(bound + beyond)})


def test_no_name_stands_in_two_stages_of_training():
    stages = [stage for stage in STAGES if stage not in (RuntimeConfig, ServeConfig)]
    assert len(set().union(*map(names_of, stages))) == sum(len(names_of(stage)) for stage in stages)


def test_flat_names_reach_their_stage():
    chosen = TrainSettings.of(epochs=5, seed=1, backbone="resnet18", flip=False, max_pixels=10)
    assert (chosen.training.epochs, chosen.run.seed, chosen.network.backbone, chosen.augment.flip, chosen.data.max_pixels) == (
        5, 1, "resnet18", False, 10,
    )  # fmt: skip


def test_all_mistakes_are_reported_together_each_with_its_nearest_good_name():
    found = problems(epoch=3, lr=-1.0, fit="stretch", batch_size="many", seed=0)
    assert len(found) == 4
    assert found[0] == "There is no setting 'epoch'. Did you mean 'epochs'?"
    assert found[1] == "lr must be at least 1e-08, not -1.0."
    assert found[2] == "fit must be one of crop, pad, squash, not 'stretch'."
    assert found[3] == "batch_size must be a whole number, not 'many'."


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("epochs", True, "must be a whole number, not True"),
        ("lr", True, "must be a number, not True"),
        ("flip", 1, "must be true or false, not 1"),
        ("epochs", 2.5, "must be a whole number, not 2.5"),
        ("lr", "0.1", "must be a number, not '0.1'"),
        ("device", None, "must be text, not None"),
        ("lr", math.nan, "must be a finite number, not nan"),
        ("clip_norm", math.inf, "must be a finite number, not inf"),
        ("colour", -math.inf, "must be a finite number, not -inf"),
        ("backbone", ["resnet18"], "must be text"),
        ("epochs", np.arange(3), "must be a whole number"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(name, value, words):
    assert problems(**{name: value})[0].startswith(f"{name} {words}")


def test_a_whole_number_is_a_number():
    assert TrainSettings.of(lr=1, colour=0).training.lr == 1


def test_paths_and_numpy_numbers_are_taken_as_plain_values():
    chosen = TrainSettings.of(out=Path("runs/x"), seed=np.int64(3), lr=np.float32(0.5), flip=np.bool_(False))
    assert chosen == TrainSettings.of(out="runs/x", seed=3, lr=0.5, flip=False)
    assert type(chosen.run.seed) is int
    assert json.loads(json.dumps(chosen.to_json())) == chosen.to_json()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.none() | st.integers(1, 10_000),
            "lr": st.none() | st.floats(1e-8, 100.0),
            "flip": st.booleans(),
            "fit": st.sampled_from(("crop", "pad", "squash")),
            "weights": st.text(),
            "seed": st.integers(0, 2**31 - 1),
        },
    )
)
def test_settings_survive_json(flat):
    chosen = TrainSettings.of(**flat)
    assert TrainSettings.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen


def test_a_stage_is_made_with_the_same_checks():
    assert make(RuntimeConfig, {"threads": 2}).threads == 2
    with pytest.raises(ConfigError, match=r"no setting 'thread'\. Did you mean 'threads'\? batch_size must be at least 1, not 0\."):
        make(RuntimeConfig, {"thread": 2, "batch_size": 0})
