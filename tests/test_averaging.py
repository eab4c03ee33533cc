"""Fine-tuned weights are moved towards the start as far as validation likes it, and no further."""

from __future__ import annotations

import pytest
import torch

from sightline.errors import ModelFileError
from sightline.training.averaging import average_with_start, keep_start, mixed
from tiny import tiny_network

CPU = torch.device("cpu")


def test_weights_lie_on_the_line_and_counters_do_not():
    start, tuned = {"w": torch.tensor([0.0, 4.0]), "n": torch.tensor(3)}, {"w": torch.tensor([4.0, 0.0]), "n": torch.tensor(7)}
    found = mixed(start, tuned, 0.25)
    assert found["w"].tolist() == [1.0, 3.0]
    assert found["n"] == 7


@pytest.mark.parametrize(("target", "share"), [(0.8, 0.75), (0.4, 0.5), (0.0, 0.25), (1.3, 1.0)])
def test_the_share_with_the_lowest_validation_loss_is_kept(tmp_path, target, share):
    network = tiny_network()
    with torch.no_grad():
        network.head.linear.bias.fill_(0.0)
    keep_start(network, tmp_path)
    with torch.no_grad():
        network.head.linear.bias.fill_(1.0)
    said = average_with_start(network, lambda candidate: {"loss": abs(float(candidate.head.linear.bias[0]) - target)}, tmp_path, CPU)
    torch.testing.assert_close(network.head.linear.bias, torch.full((3,), share))
    assert said == "" if share == 1 else said.startswith(f"The weights kept are {share:.0%} fine-tuned and {1 - share:.0%} the start's")


def test_of_equal_losses_the_fine_tuned_weights_win(tmp_path):
    network = tiny_network()
    keep_start(network, tmp_path)
    assert average_with_start(network, lambda _: {"loss": 1.0}, tmp_path, CPU) == ""


def test_a_run_without_its_start_says_so(tmp_path):
    with pytest.raises(ModelFileError, match=r"start\.pt: there is no checkpoint"):
        average_with_start(tiny_network(), lambda _: {"loss": 1.0}, tmp_path, CPU)
