"""Strided layers with "same" padding give in bfloat16 what timm's do, and learn alike."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from sightline.model.strided import QuickConv2dSame, with_quick_strides

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("shape", [(12, 16), (11, 16), (12, 15), (7, 9), (1, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_every_second_place_of_all_is_what_the_stride_gives(shape, bias):
    torch.manual_seed(0)
    plain = nn.Sequential(Conv2dSame(6, 6, 3, 2, groups=6, bias=bias)).bfloat16().train()
    quick = copy.deepcopy(plain)
    with_quick_strides(quick)
    assert type(quick[0]) is QuickConv2dSame
    assert plain.state_dict().keys() == quick.state_dict().keys()
    given = torch.randn(3, 6, *shape).bfloat16()
    inputs = [given.clone().requires_grad_() for _ in range(2)]
    expected, found = (layer(each) for layer, each in zip((plain, quick), inputs, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    for output in (expected, found):
        output.float().square().sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=3e-2, atol=3e-2)
    torch.testing.assert_close(quick[0].weight.grad, plain[0].weight.grad, rtol=3e-2, atol=1e-1)
    torch.testing.assert_close(quick.eval()(given), plain.eval()(given), rtol=0, atol=0)


def test_other_layers_stay_as_they_are():
    layers = nn.Sequential(
        Conv2dSame(6, 6, 3, 2), Conv2dSame(6, 6, 5, 2, groups=6), Conv2dSame(6, 6, 3, 1, groups=6), nn.Conv2d(6, 6, 3, 2, groups=6)
    )
    with_quick_strides(layers)
    assert not any(isinstance(layer, QuickConv2dSame) for layer in layers)
