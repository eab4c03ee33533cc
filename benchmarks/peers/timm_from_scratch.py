"""timm's training script's recipe for ResNets, in as many epochs as fit into the time: ResNet-18 from scratch with timm's own loader.

The recipe is the one of which timm's documentation ("Scripts", training examples) says that it works for a wide range of ResNets: SGD
with Nesterov's momentum at 0.1 for 224 images a step, cosine, 5 epochs of warm-up (a tenth of fewer than 50), weight decay 1e-4,
random erasing 0.4 by pixel, and the script's defaults for the rest: random resized crops, flips, colour jitter 0.4, label smoothing
0.1. A batch is 112 images, as there, and the rate is scaled with it.
"""

from __future__ import annotations

import itertools
import time

import peer
import timm
import torch
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

BATCH, RATE_AT_224 = 112, 0.1


def loader(split: str, *, training: bool) -> torch.utils.data.DataLoader:
    images = create_dataset("", root=str(args.data), split=split, is_training=training, class_map="")
    augment = {"re_prob": 0.4, "re_mode": "pixel", "color_jitter": 0.4, "interpolation": "random"} if training else {}
    contract = {"mean": config["mean"], "std": config["std"], "crop_pct": config["crop_pct"], "interpolation": config["interpolation"]}
    return create_loader(
        images, (3, args.size, args.size), BATCH, is_training=training, num_workers=peer.workers(), use_prefetcher=False,
        device=torch.device("cpu"), **{**contract, **augment},
    )  # fmt: skip


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, targets: torch.Tensor) -> None:
    loss = LabelSmoothingCrossEntropy(0.1)(model(images), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def new() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(args.seed)
    model = timm.create_model("resnet18", num_classes=classes)
    return model, create_optimizer_v2(model, opt="sgd", lr=RATE_AT_224 * BATCH / 224, weight_decay=1e-4, momentum=0.9)


def epoch_seconds(batches: torch.utils.data.DataLoader) -> float:
    """From some steps with a network that is thrown away, not counting the first, which waits for the loader to start."""
    model, optimizer = new()
    stamps: list[float] = []
    for images, targets in itertools.chain.from_iterable(itertools.repeat(batches)):
        step(model, optimizer, images, targets)
        stamps.append(time.perf_counter())
        if stamps[-1] - stamps[0] > args.timing:
            break
    return (stamps[-1] - stamps[0]) / (len(stamps) - 1) * len(batches)


def train() -> tuple[torch.nn.Module, int]:
    batches = loader("train", training=True)
    epochs = peer.fitting_epochs(args.seconds, epoch_seconds(batches))
    model, optimizer = new()
    warmup = min(5, epochs // 10)
    schedule, _ = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=epochs, warmup_epochs=warmup, warmup_lr=1e-5, step_on_epochs=False,
        updates_per_epoch=len(batches),
    )  # fmt: skip
    done = 0
    for epoch in range(epochs):
        model.train()
        for images, targets in batches:
            schedule.step_update(done)
            step(model, optimizer, images, targets)
            done += 1
        if peer.spent() > args.seconds:  # the machine became slower than it was when timed
            return model.eval(), epoch + 1
    return model.eval(), epochs


args = peer.arguments(seconds=600.0, size=32, out=peer.Path("timm.pt"), timing=peer.TIMING_SECONDS)
classes = len([folder for folder in (args.data / "train").iterdir() if folder.is_dir()])
config = resolve_data_config({"img_size": args.size}, model=timm.create_model("resnet18"))
network, epochs_done = train()
torch.save(network.state_dict(), args.out)
peer.say(event="trained")
right = count = 0
with torch.inference_mode():
    for images, targets in loader("test", training=False):
        right += int((network(images).argmax(1) == targets).sum())
        count += len(targets)
peer.say(accuracy=right / count, n=count, epochs=epochs_done)
