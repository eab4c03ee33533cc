"""fastai trains its own ResNet-18 from scratch with ``fit_one_cycle``, in as many epochs as fit into the time.

Settings after the fastai book's chapter on training from scratch ("Training a State-of-the-Art Model"): ``xresnet`` in a plain
``Learner``, ``aug_transforms``, inputs normalised, one cycle at 3e-3. Nothing is validated while training, which spares fastai time.
"""

from __future__ import annotations

import time

import peer
from fastai.vision.all import (
    Callback,
    CancelFitException,
    CancelValidException,
    CrossEntropyLossFlat,
    ImageDataLoaders,
    Learner,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    imagenet_stats,
    set_seed,
    xresnet18,
)

RATE = 3e-3
# More epochs than timing takes; it ends the fit.
MANY = 10_000


class NoValidation(Callback):
    def before_validate(self) -> None:
        raise CancelValidException


class Timing(Callback):
    """The moments at which steps ended, until there are enough."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def after_batch(self) -> None:
        self.stamps.append(time.perf_counter())
        if self.stamps[-1] - self.stamps[0] > args.timing:
            raise CancelFitException


class InTime(Callback):
    """Ends the fit after the epoch in which the time ran out, should the machine become slower than it was when timed."""

    epochs = 0

    def after_epoch(self) -> None:
        self.epochs += 1
        if peer.spent() > args.seconds:
            raise CancelFitException


def new() -> Learner:
    set_seed(args.seed, reproducible=True)
    return Learner(loaders, xresnet18(n_out=loaders.c), loss_func=CrossEntropyLossFlat(), metrics=accuracy, cbs=NoValidation())


args = peer.arguments(seconds=600.0, size=32, out=peer.Path("learner.pkl"), timing=peer.TIMING_SECONDS)
loaders = ImageDataLoaders.from_folder(
    args.data, train="train", valid="test", seed=args.seed, item_tfms=Resize(args.size), num_workers=peer.workers(),
    batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)],
)  # fmt: skip
timing, in_time = Timing(), InTime()
trial = new()
with trial.no_bar(), trial.no_logging():
    trial.fit(MANY, cbs=timing)
step_seconds = (timing.stamps[-1] - timing.stamps[0]) / (len(timing.stamps) - 1)
learner = new()
with learner.no_bar(), learner.no_logging():
    learner.fit_one_cycle(peer.fitting_epochs(args.seconds, step_seconds * len(loaders.train)), RATE, cbs=in_time)
    learner.export(args.out.resolve())
    peer.say(event="trained")
    learner.remove_cb(NoValidation)
    scores, targets = learner.get_preds(dl=loaders.valid)
peer.say(accuracy=float((scores.argmax(1) == targets).float().mean()), n=len(targets), epochs=in_time.epochs)
