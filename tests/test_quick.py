"""Layers that only compute give the same numbers, whatever runs them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.model import quick
from sightline.model.cut import cuts
from sightline.model.quick import ONNXRUNTIME, TORCH, by, by_onnxruntime, by_torch, quickest
from tiny import tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")


def images_of(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 32, 32, 3), generator=torch.Generator().manual_seed(n), dtype=torch.uint8)


@pytest.fixture(scope="module")
def lower():
    return cuts(tiny_network())[0].lower.eval()


def test_onnxruntime_computes_what_torch_does_for_any_number_of_images(lower):
    run = by_onnxruntime(lower, images_of(4).float())
    for n in (1, 4, 7):
        torch.testing.assert_close(run(images_of(n)), by_torch(lower, "fp32")(images_of(n)), rtol=1e-4, atol=1e-4)


def test_nothing_is_learned_and_bf16_is_near(lower):
    exact, near = (by_torch(lower, precision)(images_of(4)) for precision in ("fp32", "bf16"))
    assert not exact.requires_grad
    torch.testing.assert_close(near.float(), exact, rtol=0.1, atol=0.1)


class Unknown(torch.autograd.Function):
    """What no exporter knows."""

    @staticmethod
    def forward(context, numbers):
        return numbers.sort(dim=-1).values.flip(-1) * torch.rand(1)


class Strange(nn.Module):
    def forward(self, images):
        return Unknown.apply(images)


def test_layers_that_another_engine_does_not_take_or_computes_otherwise_stay_with_torch():
    assert by_onnxruntime(Strange(), images_of(2).float()) is None
    assert by(ONNXRUNTIME, Strange(), images_of(2).float(), "fp32")(images_of(2).float()).shape == (2, 32, 32, 3)


@pytest.mark.parametrize(("torch_seconds", "onnx_seconds", "chosen"), [(1.0, 0.4, ONNXRUNTIME), (1.0, 1.1, TORCH), (0.001, 0.0, TORCH)])
def test_the_quicker_one_is_taken_where_the_work_is_long_and_kept(lower, monkeypatch, empty_cache, torch_seconds, onnx_seconds, chosen):
    times = iter([torch_seconds, onnx_seconds])
    monkeypatch.setattr(quick, "_seconds", lambda run, images: next(times))
    assert quickest(lower, images_of(4), "fp32", 100)[0] == chosen
    monkeypatch.setattr(quick, "_seconds", lambda run, images: pytest.fail("it was timed again"))
    again, run = quickest(lower, images_of(4), "fp32", 100)
    assert again == chosen
    torch.testing.assert_close(run(images_of(4)), by_torch(lower, "fp32")(images_of(4)), rtol=1e-4, atol=1e-4)


def test_other_layers_or_another_number_of_images_are_timed_anew(lower, monkeypatch, empty_cache):
    seen = []
    monkeypatch.setattr(quick, "_timed", lambda layers, images, n: (TORCH, seen.append((layers, n)) or layers))
    other = nn.Identity()
    for layers, n in ((lower, 100), (lower, 101), (other, 100), (lower, 100)):
        quickest(layers, images_of(4), "fp32", n)
    assert seen == [(lower, 100), (lower, 101), (other, 100)]


def test_bf16_stays_with_torch(lower, monkeypatch):
    monkeypatch.setattr(quick, "_seconds", lambda run, images: 100.0)
    assert quickest(lower, images_of(4), "bf16", 1000)[0] == TORCH
