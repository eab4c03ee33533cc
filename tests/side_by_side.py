"""What each of the processes of ``test_ranks`` does; the test does the same alone. ``python side_by_side.py FOLDER PART``"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sightline.config import AugmentConfig, TrainConfig
from sightline.data.prepare import Prepare
from sightline.errors import DataError
from sightline.model.assembly import assembled
from sightline.model.assignment import PADDING
from sightline.model.backbone import BackboneSpec, build
from sightline.model.heads import classify, detect, segment, tag
from sightline.model.network import Network, Trainable, torch_infer
from sightline.training import course
from sightline.training.balance import class_weights, sampling_shares
from sightline.training.batches import TrainBatches, plain_batches
from sightline.training.budget import Budget
from sightline.training.finetune import fine_tune
from sightline.training.loop import Trained, fit
from sightline.training.plan import make_plan
from sightline.training.ranks import ALONE, Ranks
from sightline.training.terms import Terms
from sightline.training.together import Together
from test_finetune import session_of
from tiny import shapes_store

CPU = torch.device("cpu")
# 35 images in batches of 11: the last has two images, which one of two processes takes both.
STORE, TARGETS = (lambda data: (data[0].select(np.arange(35)), data[1][:35]))(shapes_store(13))
BATCH, EPOCHS, STOP = 11, 13, 23
SIDE = 64


class Smooth(Trainable):
    """A network without kinks, of which a rounding error stays a rounding error for some steps; with batch normalisation and a weight
    that nothing uses."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        blocks = (nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.Tanh()) for a, b in ((3, 8), (8, 16)))
        self.backbone = nn.Sequential(*blocks, nn.AvgPool2d(4), nn.Flatten())
        self.backbone.register_parameter("spare", nn.Parameter(torch.ones(3)))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(64, 3))
        self.auxiliary = nn.ModuleList()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.backbone((images.float() / 128 - 1).permute(0, 3, 1, 2)))}


class Recorded(Together):
    """Notes each loss; before the step that ``stop`` counts to it calls ``end``."""

    def __init__(self, ranks: Ranks, stop: int | None = None, end: Callable[[], None] | None = None) -> None:
        super().__init__(classify.Objective(0.1, torch.from_numpy(class_weights(TARGETS, 3)) * torch.tensor([1.0, 2.0, 0.5])), ranks)
        self.losses: list[float] = []
        self.stop, self.end = stop, end

    def step(self, network: Trainable, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if len(self.losses) == self.stop and self.end is not None:
            self.end()
        loss, logs = super().step(network, images, targets)
        self.losses.append(float(loss.detach()))
        return loss, logs


class Stopped(Exception):
    pass


def stopped() -> None:
    raise Stopped


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train(
    folder: Path, ranks: Ranks, *, dropout: float = 0.0, resume: bool = False, stop: int | None = None, end: Callable[[], None] = stopped,
    epochs: int = EPOCHS, mixed: bool = False,
) -> tuple[Recorded, Trained]:  # fmt: skip
    """The losses and what was trained. ``mixed`` mixes images, draws rare classes more often and trains only the head at first."""
    network, objective = Smooth(dropout), Recorded(ranks, stop, end)
    config = TrainConfig(epochs=epochs, batch_size=BATCH, lr=2e-3, frozen_epochs=1 if mixed else None, patience=EPOCHS)
    plan = make_plan(config, len(TARGETS), pretrained=False)
    augment = AugmentConfig(flip=True, mixup=0.4, cutmix=0.4) if mixed else AugmentConfig(flip=True)
    shares = sampling_shares(TARGETS, 3) if mixed else None
    batches = TrainBatches(STORE, TARGETS, Prepare(32), augment, BATCH, 0, CPU, 3, shares, ranks)

    def validate(candidate: Trainable) -> dict[str, float]:
        infer = torch_infer(candidate, CPU, ("logits",))
        raw = np.concatenate([infer(batch)["logits"] for batch in plain_batches(STORE, Prepare(32), 32)])
        return classify.Objective.validate({"logits": raw}, TARGETS)

    torch.manual_seed(9 if resume else 7)
    ranks.part_ways(9 if resume else 7)
    folder.mkdir(exist_ok=True)
    judge = lambda candidate: ranks.of_first(lambda: validate(candidate))  # noqa: E731
    return objective, fit(network, objective, batches, judge, plan, folder, terms=Terms(ranks=ranks), resume=resume)


def scene_network(task: str) -> tuple[Network, object, Tensor]:
    """A network, its objective and the targets of five pictures: of tags, of label maps or of objects, on some none."""
    torch.manual_seed(0)
    heads = {"tag": tag, "segment": segment, "detect": detect}[task]
    network = assembled(build(BackboneSpec("test_resnet", SIDE)), heads, 3, 0.0, Prepare(SIDE)).double()
    draw = torch.Generator().manual_seed(1)
    if task == "tag":
        targets = torch.rand(5, 3, generator=draw) > 0.6
    elif task == "segment":
        targets = torch.randint(0, 3, (5, SIDE, SIDE), generator=draw, dtype=torch.uint8)
        targets[4] = 255
    else:
        targets = torch.full((5, 3, 5), float(PADDING))
        for picture, count in enumerate((3, 0, 1, 0, 2)):
            for place in range(count):
                targets[picture, place] = torch.tensor([place, 4.0 + 6 * place, 8, 30 + 6 * place, 40])
    kind = torch.float64 if task == "tag" else torch.float32  # which the losses of scenes are computed in
    return network, heads.Objective(0.1, torch.tensor([1.0, 2.0, 0.5], dtype=kind)), targets


def gradients(task: str, ranks: Ranks) -> tuple[float, Tensor]:
    """The loss of five pictures and its gradients."""
    network, objective, targets = scene_network(task)
    images = torch.randint(0, 256, (5, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(2)).double()
    places, count = ranks.share(5)
    own = targets[places][:count]
    if task == "detect":  # as ``SceneBatches`` gives them: no wider than the share needs
        own = own[:, : max(1, int((own[..., 0] >= 0).sum(1).max()))]
    together = Together(objective, ranks)
    loss, _ = together.step(network.train(), images[places], own)
    loss.backward()
    return float(loss.detach()), torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def first_part(folder: Path, ranks: Ranks) -> None:
    found = {"losses": train(folder / "two", ranks)[0].losses, "mixed": train(folder / "mixed", ranks, epochs=2, mixed=True)[0].losses}
    for task in ("tag", "segment", "detect"):
        (loss, ours), (expected, theirs) = gradients(task, ranks), gradients(task, ALONE)
        found[task] = [abs(loss - expected) / expected, float((ours - theirs).norm() / theirs.norm())]
    _, straight = train(folder / "straight", ranks, dropout=0.3, epochs=4)
    try:
        train(folder / "stopped", ranks, dropout=0.3, epochs=4, stop=9)
    except Stopped:
        _, again = train(folder / "stopped", ranks, dropout=0.3, epochs=4, resume=True)
    pairs = zip(straight.network.state_dict().values(), again.network.state_dict().values(), strict=True)
    found["bitwise"] = ranks.gather(all(torch.equal(*pair) for pair in pairs))
    found["alike"] = ranks.gather([float(value.double().sum()) for value in straight.network.state_dict().values()])
    session = replace(session_of(folder / "fine"), ranks=ranks)
    stages = fine_tune(session, Budget(seconds=1e9), resume=False).stages
    found["fine"] = ranks.gather(
        [[told["layers"] for told in stages], [float(p.detach().double().sum()) for p in session.network.parameters()]]
    )
    if ranks.is_first:
        (folder / "first.json").write_text(json.dumps(found))
    ranks.wait()
    train(folder / "killed-on-two", ranks, stop=STOP, end=killed)


def second_part(folder: Path, ranks: Ranks) -> None:
    losses = train(folder / "killed-on-one", ranks, resume=True)[0].losses
    if ranks.is_first:
        (folder / "second.json").write_text(json.dumps(losses))
    ranks.wait()
    raise DataError("The same is wrong in all of them.")


def main(folder: Path, part: str) -> None:
    torch.set_num_threads(1)
    course.SAVE_SECONDS, course.SAVE_SHARE = 0.0, float("inf")
    try:
        with Ranks.join(CPU) as ranks:
            {"first": first_part, "second": second_part}[part](folder, ranks)
    except DataError as error:
        print("elsewhere" if error.told_elsewhere else "here")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
