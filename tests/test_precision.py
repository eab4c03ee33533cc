"""bfloat16 is used where it is there and pays, never where it would be emulated, and the same choice is made again."""

from __future__ import annotations

import json

import pytest
import torch

from sightline.errors import DeviceError
from sightline.model.heads.classify import Objective
from sightline.training import precision
from sightline.training.precision import choose_precision, has_bf16, speed_ratio
from tiny import tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def example(n: int = 3):
    return torch.rand(n, 32, 32, 3) * 255, torch.arange(n) % 3


@pytest.fixture
def with_bf16(monkeypatch, empty_cache):
    monkeypatch.setattr(precision, "processor_features", lambda: ["avx2", "avx512_bf16"])
    return empty_cache / "precision.json"


def choose(asked: str = "auto") -> tuple[str, str]:
    return choose_precision(asked, tiny_network(), Objective(0.1), example, CPU)


def test_without_the_instructions_it_is_float32_and_nothing_is_timed(monkeypatch):
    monkeypatch.setattr(precision, "processor_features", lambda: ["avx2"])
    monkeypatch.setattr(precision, "speed_ratio", lambda *_: pytest.fail("timed"))
    assert not has_bf16(CPU)
    assert choose() == ("fp32", "")
    with pytest.raises(DeviceError, match="--precision bf16: cpu here has no bfloat16 arithmetic"):
        choose("bf16")


@pytest.mark.parametrize(("ratio", "chosen"), [(1.75, "bf16"), (1.05, "fp32"), (0.001, "fp32")])
def test_the_timing_decides_and_is_remembered(with_bf16, monkeypatch, ratio, chosen):
    monkeypatch.setattr(precision, "speed_ratio", lambda *_: ratio)
    first = choose()
    assert first[0] == chosen
    assert f"{ratio:.2g} times as fast here" in first[1]
    monkeypatch.setattr(precision, "speed_ratio", lambda *_: pytest.fail("timed again"))
    assert choose() == first
    assert list(json.loads(with_bf16.read_text()).values()) == [ratio]


def test_a_damaged_memory_is_begun_again(with_bf16, monkeypatch, capsys):
    with_bf16.parent.mkdir()
    with_bf16.write_text("[1, 2")
    monkeypatch.setattr(precision, "speed_ratio", lambda *_: 2.0)
    assert choose()[0] == "bf16"
    assert "precision.json: this list of timings is damaged" in capsys.readouterr().err
    assert len(json.loads(with_bf16.read_text())) == 1


def test_what_is_asked_for_is_done(with_bf16):
    assert choose("fp32") == ("fp32", "Training computes in fp32, as asked.")
    assert choose("bf16") == ("bf16", "Training computes in bf16, as asked.")
    assert not with_bf16.exists()


@pytest.mark.parametrize("n", [2, 20])
def test_timing_changes_neither_the_network_nor_the_random_numbers(n):
    network, batch = tiny_network(), example(n)
    before, state = {name: tensor.clone() for name, tensor in network.state_dict().items()}, torch.get_rng_state()
    assert 0 < speed_ratio(network, Objective(0.1), batch) < 1000
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in network.parameters())
