"""Fine-tuned weights are moved towards the start as far as validation likes it, and no further."""

from __future__ import annotations

import pytest
import torch

from sightline.training.averaging import average_with_start, mixed
from tiny import tiny_network


def copied(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_weights_lie_on_the_line_and_counters_do_not():
    start, tuned = {"w": torch.tensor([0.0, 4.0]), "n": torch.tensor(3)}, {"w": torch.tensor([4.0, 0.0]), "n": torch.tensor(7)}
    found = mixed(start, tuned, 0.25)
    assert found["w"].tolist() == [1.0, 3.0]
    assert found["n"] == 7


@pytest.mark.parametrize(("target", "share"), [(0.8, 0.75), (0.4, 0.5), (0.2, 0.25), (1.3, 1.0), (-1.0, 0.0)])
def test_the_share_with_the_lowest_validation_loss_is_kept(target, share):
    network = tiny_network()
    with torch.no_grad():
        network.head.linear.bias.fill_(0.0)
    start = copied(network)
    with torch.no_grad():
        network.head.linear.bias.fill_(1.0)

    def validate(candidate):
        return {"loss": abs(float(candidate.head.linear.bias.detach()[0]) - target)}

    kept, figures = average_with_start(network, start, validate, ({"loss": abs(target)}, validate(network)))
    torch.testing.assert_close(network.head.linear.bias, torch.full((3,), share))
    assert kept == share
    assert figures == validate(network)


def test_of_equal_losses_the_fine_tuned_weights_win():
    network = tiny_network()
    same = {"loss": 1.0}
    assert average_with_start(network, copied(network), lambda _: same, (same, same)) == (1.0, same)
