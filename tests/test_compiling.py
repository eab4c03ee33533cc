"""Steps are compiled where that repays itself; the network, its weights' names and its copies stay what they are."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sightline.config import TrainConfig, TrainSettings
from sightline.errors import UsageError
from sightline.model.heads.classify import Objective
from sightline.model.network import Network
from sightline.training.budget import NO_BUDGET
from sightline.training.compiling import COMPILE_SECONDS, REPAID, SAVED_SHARE, as_compiled, compiled, decided, note, worth_compiling
from sightline.training.plan import make_plan
from sightline.training.ranks import ALONE
from tiny import tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BATCH = torch.rand(4, 32, 32, 3) * 255, torch.tensor([0, 1, 2, 0])
# So many steps of a tenth of a second save just what compiling once has to.
ENOUGH = round(REPAID * COMPILE_SECONDS / (SAVED_SHARE * 0.1))


@pytest.mark.parametrize(
    ("asked", "device", "steps", "sizes", "wanted"),
    [
        ("auto", CPU, 10 * ENOUGH, 1, False),
        ("auto", CUDA, ENOUGH + 1, 1, True),
        ("auto", CUDA, ENOUGH - 1, 1, False),
        ("auto", CUDA, ENOUGH + 1, 2, False),
        ("on", CPU, 1, 4, True),
        ("off", CUDA, 10 * ENOUGH, 1, False),
    ],
)
def test_a_run_is_compiled_when_it_is_long_enough_to_repay_it(asked, device, steps, sizes, wanted):
    found, why = worth_compiling(asked, device, 0.1, steps, sizes)
    assert found is wanted
    assert ("not compiled" in why) is (not wanted and why != "")
    assert ("as asked" in why) is (asked != "auto")


def test_a_resumed_run_does_as_it_did(tmp_path):
    assert decided(tmp_path) is None
    note(tmp_path, True)
    assert decided(tmp_path) is True


@pytest.fixture
def light(monkeypatch):
    """Torch's compiler up to the code generator, which needs a compiler of C++ and a minute."""
    monkeypatch.setattr(Network, "compile", lambda self, **_: nn.Module.compile(self, backend="eager"))


def test_the_network_learns_the_same_and_keeps_its_names(light):
    network = tiny_network(dropout=0.0)
    plain, names = copy.deepcopy(network).train(), list(network.state_dict())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with compiled(network, Objective(0.1), BATCH, "fp32", must=True):
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())  # trying changed nothing
        assert network._compiled_call_impl is not None
        assert copy.deepcopy(network)._compiled_call_impl is None
        losses = [Objective(0.1).step(each.train(), *BATCH)[0] for each in (network, plain)]
        assert list(network.state_dict()) == names
    assert network._compiled_call_impl is None
    torch.testing.assert_close(*losses)


def test_what_torch_cannot_compile_is_learned_without_or_refused(monkeypatch, capsys):
    def fails(self, **_):
        raise RuntimeError("no compiler here\nand more")

    monkeypatch.setattr(Network, "compile", fails)
    network = tiny_network()
    with compiled(network, Objective(0.1), BATCH, "fp32", must=False):
        assert network._compiled_call_impl is None
    assert "not compiled after all, as torch cannot here (no compiler here)" in capsys.readouterr().err
    with (
        pytest.raises(UsageError, match="--compile on: torch cannot compile this network here"),
        compiled(network, Objective(0.1), BATCH, "fp32", must=True),
    ):
        pass


def session_of(folder, compile: str) -> SimpleNamespace:
    """What deciding looks at of a session."""
    plan = make_plan(TrainConfig(epochs=2, batch_size=4), 12, pretrained=False)
    settings = TrainSettings.of(compile=compile)
    return SimpleNamespace(
        settings=settings, device=CPU, folder=folder, network=tiny_network(), objective=Objective(0.1), example=lambda: BATCH, plan=plan,
        ranks=ALONE,
        batches=range(3),
    )  # fmt: skip


def test_a_session_is_compiled_when_asked_and_a_resumed_one_as_it_was_begun(light, tmp_path, capsys):
    session = session_of(tmp_path, "on")
    with as_compiled(session, NO_BUDGET, resume=False):
        assert session.network._compiled_call_impl is not None
    assert decided(tmp_path) is True
    assert "The training step is compiled, as asked." in capsys.readouterr().err
    note(tmp_path, False)
    with as_compiled(session, NO_BUDGET, resume=True):
        assert session.network._compiled_call_impl is None


@pytest.mark.parametrize("asked", ["auto", "off"])
def test_on_a_processor_nothing_is_timed_or_compiled_unasked(tmp_path, asked):
    session = session_of(tmp_path, asked)
    session.example = None  # asking it for a batch would be a mistake
    with as_compiled(session, NO_BUDGET, resume=False):
        assert session.network._compiled_call_impl is None
    assert decided(tmp_path) is None


def test_an_error_of_training_is_told_as_it_is(light):
    with pytest.raises(KeyError), compiled(tiny_network(), Objective(0.1), BATCH, "fp32", must=False):
        raise KeyError("another matter")
