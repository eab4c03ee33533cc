"""Fine-tuned weights averaged with those that fine-tuning started from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sightline import console
from sightline.model.network import Network
from sightline.training import checkpoint

START = "start.pt"
# Shares of the fine-tuned weights that are tried.
SHARES = (0.25, 0.5, 0.75)


def keep_start(network: Network, folder: Path) -> None:
    """Write the weights that fine-tuning starts from into the run's folder; ResourceError when the disk does not take it."""
    checkpoint.save(folder / "checkpoint", START, {"network": network.state_dict()})


def average_with_start(network: Network, validate: Callable[[Network], dict[str, float]], folder: Path, device: torch.device) -> str:
    """Move the weights towards those of the start as far as that lowers the validation loss; says and returns a sentence on it, or nothing.

    The straight line between a pretrained network and its fine-tuned form often leads through better and more robust ones (Wortsman
    et al., "Robust fine-tuning of zero-shot models", 2022).
    """
    start = checkpoint.load(folder / "checkpoint", START, device)["network"]
    tuned = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    losses = {1.0: validate(network)["loss"]}
    for share in SHARES:
        network.load_state_dict(mixed(start, tuned, share))
        losses[share] = validate(network)["loss"]
    best = min(losses, key=lambda share: (losses[share], -share))
    network.load_state_dict(mixed(start, tuned, best))
    if best == 1.0:
        return ""
    said = (
        f"The weights kept are {best:.0%} fine-tuned and {1 - best:.0%} the start's, "
        f"which lowered the validation loss from {losses[1.0]:.3f} to {losses[best]:.3f}."
    )
    console.say(said)
    return said


def mixed(start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights of which ``share`` comes from ``tuned``; counters are taken from there."""
    return {name: torch.lerp(start[name], new, share) if new.is_floating_point() else new for name, new in tuned.items()}
