"""The two ways to a trained network: from random weights through one long course, from pretrained ones stage by stage."""

from __future__ import annotations

import time

import torch

from sightline import console
from sightline.training import checkpoint
from sightline.training.budget import Budget, spoken
from sightline.training.finetune import fine_tune
from sightline.training.loop import Trained, fit
from sightline.training.plan import Plan
from sightline.training.precision import step_seconds
from sightline.training.session import Session
from sightline.training.shipping import shipping_seconds

# Images whose passes are timed.
TIMED_IMAGES = 16


def train_network(session: Session, budget: Budget, *, resume: bool) -> Trained:
    """The trained network; a run that was stopped goes on from its checkpoint."""
    if resume and budget.limited:
        budget = budget.after(checkpoint.load(session.folder / "checkpoint", checkpoint.LAST, session.device)["spent"])
    return (fine_tune if session.plan.probe else from_scratch)(session, budget, resume=resume)


def from_scratch(session: Session, budget: Budget, *, resume: bool) -> Trained:
    """All layers together, for as many of the plan's epochs as there is time for."""
    # A resumed run goes on in the precision and with the epochs of its checkpoint.
    precision, plan = "" if resume else session.precision(), session.plan
    epochs = plan.epochs
    if budget.limited:
        forward = _forward_seconds(session)
        budget = budget.keeping(shipping_seconds(session, forward) + forward * len(session.validation))
        if not resume:
            epochs, seconds = _affordable(session, plan, precision, forward, budget.left())
            console.say(f"The budget is expected to suffice for {epochs} of up to {plan.epochs} epochs, in {spoken(seconds)}.")
    return fit(
        session.network, session.objective, session.batches, session.validate, plan, session.folder, session.log, resume=resume,
        precision=precision, budget=budget, epochs=epochs,
    )  # fmt: skip


def _affordable(session: Session, plan: Plan, precision: str, forward: float, left: float) -> tuple[int, float]:
    """The number of epochs for so many seconds, at least 1, and what they are expected to take, from the time of a few steps."""
    full = session.choice.prepare.size
    sides = sorted({full, *(plan.sizes or ())})
    step = {side: step_seconds(session.network, session.objective, session.train.targets, session.device, precision, side, plan.batch_size)
            for side in sides}  # fmt: skip
    slope = (step[sides[-1]] - step[sides[0]]) / max(1, sides[-1] ** 2 - sides[0] ** 2)

    def seconds(epochs: int) -> float:
        total = epochs * forward * len(session.validation)
        for epoch in range(1, epochs + 1):
            side = plan.size_at(epoch, epochs) or full
            total += len(session.batches) * (step[sides[0]] + slope * (side**2 - sides[0] ** 2))
        return total

    epochs = next((epochs for epochs in range(plan.epochs, 1, -1) if seconds(epochs) <= left), 1)
    return epochs, seconds(epochs)


def _forward_seconds(session: Session) -> float:
    """Seconds an image in evaluation, the quicker of two passes."""
    images = next(session.plain(session.validation))[:TIMED_IMAGES]
    taken = []
    session.network.eval()
    for _ in range(2):
        started = time.perf_counter()
        with torch.inference_mode():
            session.network(images)["logits"].sum().item()
        taken.append(time.perf_counter() - started)
    return min(taken) / len(images)
