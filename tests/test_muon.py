"""Muon: directions made orthogonal as by a singular value decomposition, filters that keep their norm, and SGD for the rest."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sightline.training.muon import Muon, is_filters, make_muon, orthogonal
from tiny import tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (3, 8, 20)])
def test_a_matrix_becomes_the_nearest_one_with_singular_values_alike(shape):
    matrix = torch.from_numpy(np.random.default_rng(0).normal(size=shape)).float()
    found = orthogonal(matrix).numpy()
    assert found.shape == shape
    left, values, right = np.linalg.svd(matrix.numpy(), full_matrices=False)
    inside = np.swapaxes(left, -1, -2) @ found @ np.swapaxes(right, -1, -2)
    spread = np.diagonal(inside, axis1=-2, axis2=-1)
    # The same directions as in the decomposition, each of about the same weight, where it had weights between these.
    assert values.max() / values.min() > 2
    assert spread.min() > 0.6
    assert spread.max() < 1.3
    np.testing.assert_allclose(inside - spread[..., None] * np.eye(spread.shape[-1]), 0, atol=1e-3)


def test_a_matrix_without_any_direction_stays_so():
    assert torch.equal(orthogonal(torch.zeros(4, 9)), torch.zeros(4, 9))


def test_a_step_turns_filters_by_an_angle_and_keeps_their_norm():
    torch.manual_seed(0)
    bank = nn.Parameter(torch.randn(8, 4, 3, 3))
    before = bank.detach().clone()
    optimizer = Muon([{"params": [bank], "lr": 0.05, "filters": True}], momentum=0.9)
    bank.grad = torch.randn_like(bank)
    direction = bank.grad.clone()
    optimizer.step()
    assert float(bank.detach().norm()) == pytest.approx(float(before.norm()), rel=1e-5)
    moved = (bank.detach() - before).flatten()
    assert float(moved.norm() / before.norm()) == pytest.approx(0.05, rel=0.05)
    assert float(moved @ direction.flatten()) < 0  # downhill
    bank.grad = 1000 * torch.randn_like(bank)  # its length says nothing
    now = bank.detach().clone()
    optimizer.step()
    assert float((bank.detach() - now).norm() / now.norm()) == pytest.approx(0.05, rel=0.05)


def test_the_rest_learns_as_by_sgd_with_nesterovs_momentum():
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.arange(5.0)) for _ in range(2))
    optimizer = Muon([{"params": [ours], "lr": 0.1}], momentum=0.9)
    known = torch.optim.SGD([theirs], lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(4):
        ours.grad = torch.randn(5)
        theirs.grad = ours.grad.clone()
        optimizer.step()
        known.step()
        torch.testing.assert_close(ours, theirs)


def test_what_is_a_bank_of_filters():
    network = tiny_network(name="test_efficientnet")
    depthwise = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d) and module.groups > 1]
    assert depthwise
    assert not any(is_filters(weight) for weight in depthwise)
    assert not is_filters(torch.zeros(8))
    assert not is_filters(torch.zeros(1, 5, 64))  # a transformer's positions
    assert is_filters(torch.zeros(8, 4, 3, 3))
    assert is_filters(torch.zeros(8, 4))


def test_each_weight_has_one_place_and_only_the_heads_matrix_decays():
    network = tiny_network()
    plan = SimpleNamespace(lr=0.1, backbone_lr_scale=0.5, weight_decay=0.2, momentum=0.9)
    groups = make_muon(network, plan).param_groups
    placed = [weight for group in groups for weight in group["params"]]
    assert {id(weight) for weight in placed} == {id(weight) for weight in network.parameters()}
    assert len(placed) == len(list(network.parameters()))
    turned = [group for group in groups if group["filters"]]
    assert len(turned) == 1
    assert turned[0]["peak"] == pytest.approx(0.05)
    assert all(weight.ndim == 4 for weight in turned[0]["params"])
    (decaying,) = (group for group in groups if group["weight_decay"])
    (matrix,) = decaying["params"]
    assert matrix is network.head.linear.weight


def test_a_weight_that_decays_shrinks_apart_from_its_gradient():
    weight = nn.Parameter(torch.ones(3, 2))
    optimizer = Muon([{"params": [weight], "lr": 0.1, "weight_decay": 0.5}], momentum=0.0)
    weight.grad = torch.zeros(3, 2)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((3, 2), 0.95))
