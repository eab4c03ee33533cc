"""Stages are planned for the time and the memory there are."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.config import TrainConfig
from sightline.training import stages
from sightline.training.plan import make_plan
from sightline.training.stages import Workload, plan_stages

PLAN = make_plan(TrainConfig(), 500, pretrained=True)
WORK = Workload(n_train=500, n_validation=100, lower=0.01, upper=0.002, bytes_of_view=1000)


def layers(found) -> list[str]:
    return [stage.layers for stage in found]


def test_without_a_budget_there_is_the_upper_stage_and_then_everything():
    found, said = plan_stages("auto", PLAN, WORK, math.inf)
    assert layers(found) == ["upper", "all"]
    assert (found[0].views, found[0].epochs) == stages.UPPER_SIZES[0]
    assert found[1].epochs == PLAN.epochs
    assert said.startswith("Then the upper layers learn for")
    assert said.endswith(", the next one only if validation gained by the one before.")


@pytest.mark.parametrize(("asked", "expected"), [("head", ["head"]), ("upper", ["upper"]), ("all", ["all"])])
def test_what_is_asked_for_is_planned(asked, expected):
    found, said = plan_stages(asked, PLAN, WORK, math.inf)
    assert layers(found) == expected
    assert ("as asked" in said) == (asked == "head")


def test_a_network_without_a_cut_learns_at_once_in_all_layers():
    found, said = plan_stages("auto", PLAN, replace(WORK, bytes_of_view=None), math.inf)
    assert layers(found) == ["all"]
    assert said.endswith("There is no stage for the upper layers alone: " + stages.UNCUT + ".")


def test_upper_layers_of_a_network_without_a_cut_cannot_be_had_and_the_reason_is_said():
    found, said = plan_stages("upper", PLAN, replace(WORK, bytes_of_view=None), math.inf)
    assert layers(found) == ["head"]
    assert said.startswith("The probe is the model: this network cannot be cut")


def test_activations_that_do_not_fit_into_memory_are_not_kept(monkeypatch):
    monkeypatch.setattr(stages, "most_kept_bytes", lambda: 4500.0)
    assert plan_stages("upper", PLAN, WORK, math.inf)[0][0].views == 4
    monkeypatch.setattr(stages, "most_kept_bytes", lambda: 500.0)
    assert layers(plan_stages("auto", PLAN, WORK, math.inf)[0]) == ["all"]


def test_little_time_is_for_fewer_views_and_epochs_before_it_is_for_none():
    """Every size takes less than the one before it, down to one view, of which there is one."""
    seconds = [WORK.upper_seconds(*size) for size in stages.UPPER_SIZES]
    assert seconds == sorted(seconds, reverse=True)
    found, said = plan_stages("auto", PLAN, WORK, seconds[-1])
    assert [(stage.layers, stage.views, stage.epochs) for stage in found] == [("upper", *stages.UPPER_SIZES[-1])]
    assert "of 1 view of each image" in said
    assert layers(plan_stages("auto", PLAN, WORK, seconds[-1] * 0.99)[0]) == ["head"]


def test_without_time_the_probe_is_the_model():
    found, said = plan_stages("auto", PLAN, WORK, -3.0)
    assert layers(found) == ["head"]
    assert found[0].epochs == 0
    assert said == "The probe is the model: there is no time for more."


@given(st.floats(0, 2000), st.floats(1e-4, 0.1), st.floats(1e-4, 0.1), st.integers(10, 5000))
def test_planned_stages_fit_into_the_time_and_more_time_never_plans_less(left, lower, upper, n):
    work = replace(WORK, lower=lower, upper=upper, n_train=n)
    found = plan_stages("auto", PLAN, work, left)[0]
    assert sum(stage.seconds for stage in found) <= left + 1e-6
    more = plan_stages("upper", PLAN, work, 2 * left)[0]
    assert sum(stage.epochs for stage in more) >= sum(stage.epochs for stage in plan_stages("upper", PLAN, work, left)[0])
