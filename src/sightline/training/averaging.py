"""Fine-tuned weights averaged with those that fine-tuning started from."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sightline.model.network import Trainable

Figures = dict[str, float]
# Shares of the fine-tuned weights that are tried, besides all of them and none.
SHARES = (0.25, 0.5, 0.75)


def average_with_start(
    network: Trainable, start: Mapping[str, Tensor], validate: Callable[[Trainable], Figures], ends: tuple[Figures, Figures]
) -> tuple[float, Figures]:
    """Move the weights towards those of the start as far as that lowers the validation loss.

    ends     what ``validate`` gives for the start and for the network as it comes
    returns  the share that stays fine-tuned, 0 if the start is best, and the figures there

    The straight line between a pretrained network and its fine-tuned form often leads through better and more robust ones (Wortsman
    et al., "Robust fine-tuning of zero-shot models", 2022).
    """
    tuned = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    figures = {0.0: ends[0], 1.0: ends[1]}
    for share in SHARES:
        network.load_state_dict(mixed(start, tuned, share))
        figures[share] = validate(network)
    best = min(figures, key=lambda share: (figures[share]["loss"], -share))
    network.load_state_dict(mixed(start, tuned, best))
    return best, figures[best]


def mixed(start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights of which ``share`` comes from ``tuned``; counters are taken from there."""
    return {name: torch.lerp(start[name], new, share) if new.is_floating_point() else new for name, new in tuned.items()}
