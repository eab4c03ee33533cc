"""The two ways to a trained network: from random weights through one long course, from pretrained ones stage by stage."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from sightline import console
from sightline.training.budget import Budget, spoken
from sightline.training.compiling import as_compiled
from sightline.training.finetune import fine_tune
from sightline.training.hardening import hardened
from sightline.training.loop import Trained, affordable, fit
from sightline.training.plan import Plan
from sightline.training.precision import step_seconds
from sightline.training.session import Session
from sightline.training.shipping import shipping_seconds, trial_seconds
from sightline.training.terms import Cost, Terms

# Images whose passes are timed.
TIMED_IMAGES = 16


def train_network(session: Session, budget: Budget, *, resume: bool) -> Trained:
    """The trained network; a run that was stopped goes on from its checkpoint, with what the ``budget`` says is left."""
    budget = replace(budget, agree=session.ranks.agree)
    with as_compiled(session, budget, resume=resume):
        return _trained(session, budget, resume=resume)


def _trained(session: Session, budget: Budget, *, resume: bool) -> Trained:
    way = fine_tune if session.plan.probe else from_scratch
    if not session.settings.augment.robust:
        return way(session, budget, resume=resume)

    def estimate(plan: Plan, precision: str) -> tuple[Cost, float, float]:
        forward = _forward_seconds(session)
        cost = _epoch_seconds(session, plan, precision, forward)
        return cost, forward * len(session.validation), shipping_seconds(session, forward)

    return hardened(session, lambda given: way(session, given, resume=resume), estimate, budget, resume=resume)


def from_scratch(session: Session, budget: Budget, *, resume: bool) -> Trained:
    """All layers together, for as many of the plan's epochs as there is time for."""
    # A resumed run goes on in the precision and with the epochs of its checkpoint.
    precision, plan = "" if resume else session.precision(), session.plan
    terms = Terms(precision, ranks=session.ranks)
    if budget.limited:
        forward = _forward_seconds(session)
        budget = budget.keeping(
            shipping_seconds(session, forward) + forward * len(session.validation), trial_seconds(budget, session.settings.trial)
        )
        cost = _epoch_seconds(session, plan, precision, forward)
        epochs = affordable(plan, plan.epochs, 0, cost, budget.left()) or 1
        terms = Terms(precision, budget, epochs, cost, ranks=session.ranks)
        if not resume:
            expected = spoken(sum(cost(plan.size_at(epoch, epochs)) for epoch in range(1, epochs + 1)))
            console.say(f"The budget is expected to suffice for {epochs} of up to {plan.epochs} epochs, in {expected}.")
    data = session.batches, session.validate
    return fit(session.network, session.objective, *data, plan, session.folder, session.log, terms, resume=resume)


def _epoch_seconds(session: Session, plan: Plan, precision: str, forward: float) -> Cost:
    """What an epoch of images with such sides is expected to take, from the time of a few steps with the smallest and the largest."""
    full = session.choice.prepare.size
    first, last = plan.sizes or (full, full)

    def measured() -> dict[int, float]:
        return {side: step_seconds(session.network, session.objective, session.example(side), precision) for side in {first, last}}

    step = session.ranks.of_first(measured)
    slope = (step[last] - step[first]) / max(1, last**2 - first**2)

    def seconds(side: int | None) -> float:
        one = step[first] + slope * ((side or full) ** 2 - first**2)
        return len(session.batches) * one + forward * len(session.validation)

    return seconds


def _forward_seconds(session: Session) -> float:
    """Seconds an image in evaluation, the quicker of two passes."""
    return session.ranks.of_first(lambda: _measured_forward(session))


def _measured_forward(session: Session) -> float:
    images = next(session.plain(session.validation))[:TIMED_IMAGES]
    taken = []
    session.network.eval()
    for _ in range(2):
        started = time.perf_counter()
        with torch.inference_mode():
            session.network(images)[session.task.OUTPUTS[0]].sum().item()
        taken.append(time.perf_counter() - started)
    return min(taken) / len(images)
