"""What is said of a plan: a sentence for each thing that was decided, for the log and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sightline.config import AugmentConfig, TrainConfig
from sightline.training.balance import WORTH_SAYING

if TYPE_CHECKING:
    from sightline.training.plan import Plan

# Of what a class has many or few, by what lies on the images; otherwise of images.
COUNTED: Mapping[str | None, str] = {"boxes": "objects", "maps": "pixels"}


def reasons_for(
    plan: Plan, config: TrainConfig, augment: AugmentConfig, n_train: int, mirrored: str | None, imbalance: float, *, slow: bool,
    lies: str | None,
) -> list[str]:  # fmt: skip
    """What is said of a plan; ``slow`` says whether the network's layers took down the rate, ``lies`` what lies on the images."""
    reasons = _learning(plan, config)
    if slow:
        reasons.append("The rate is low because this network has no normalisation layers.")
    reasons += _hardening(augment) + _balance(config.balance, imbalance, COUNTED.get(lies, "images"))
    if plan.sizes:
        first, last = plan.sizes
        reasons.append(f"Images are {first} px at first and grow to {last} px: early steps learn as much from small ones, faster.")
    reasons += _mirroring(augment.flip, mirrored)
    if plan.freeze_norm:
        reasons.append(f"Batch normalisation keeps its pretrained statistics, as {n_train} images would give noisy ones.")
    stops = f"It stops early after {_count(plan.patience, 'epoch')} without a better validation loss; the best epoch is kept."
    reasons.append("The last epoch is kept, as asked." if plan.keep == "last" else stops)
    return reasons


def _learning(plan: Plan, config: TrainConfig) -> list[str]:
    """What learns, for how long and how fast."""
    reasons = ["First the backbone stays frozen: a logistic regression on its embeddings becomes the head."] if plan.probe else []
    if plan.frozen_epochs:
        reasons.append(f"For {_count(plan.frozen_epochs, 'epoch')} only the head learns.")
    if plan.epochs > plan.frozen_epochs and config.layers in ("auto", "all"):
        who = "All layers together learn" if plan.probe else f"{'Then the' if reasons else 'The'} whole network learns"
        backbone = plan.lr * plan.backbone_lr_scale
        rate = f"at {plan.lr:g}" if plan.lr == backbone else f"at {plan.lr:g}, the backbone at {backbone:g}"
        reasons.append(f"{who} for up to {_count(plan.epochs - plan.frozen_epochs, 'epoch')} ({plan.optimizer}, {rate}).")
    return reasons


def _hardening(augment: AugmentConfig) -> list[str]:
    if not augment.robust:
        return []
    return ["At the end all layers learn once more, from images of which half are made harder: night, rain, blur, noise..."]


def _balance(balance: str, imbalance: float, counted: str) -> list[str]:
    if balance == "weights":
        return ["In the loss, rare classes weigh as much as common ones."]
    if balance == "sampling":
        return ["An epoch shows rare classes as often as common ones, so some images more than once and others not at all."]
    if imbalance < WORTH_SAYING:
        return []
    return [f"The largest class has {imbalance:.0f} times the {counted} of the smallest; --balance weights or sampling makes up for it."]


def _mirroring(asked: bool | None, why: str | None) -> list[str]:
    """What to say about mirroring, where there is a reason ``why`` it may matter."""
    if why is None or asked is False:
        return []
    if asked:
        return [f"Images are mirrored, as asked, although {why}."]
    return [f"Images are not mirrored, because {why}; --flip mirrors them all the same."]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"
