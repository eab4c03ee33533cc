"""Compiling the training step (``torch.compile``), where the run is long enough to repay it.

The network stays what it is: only how it is called changes, and only while it learns. Its weights keep their names, copies of it (the
average, the exported one) are not compiled, and a checkpoint of either kind of run fits the other.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sightline import console
from sightline.errors import UsageError
from sightline.model.network import Network
from sightline.training.budget import Budget, spoken
from sightline.training.checkpoint import atomically
from sightline.training.objective import Objective
from sightline.training.precision import has_bf16, step_seconds

if TYPE_CHECKING:
    from sightline.training.session import Session

# What compiling forward and backward pass for one size of images costs in seconds, and the share of a step that it saves. Both are
# stated, not measured: to measure them one would have to compile.
COMPILE_SECONDS, SAVED_SHARE = 60.0, 0.2
# What is saved has to be so many times what compiling costs.
REPAID = 2.0
DECIDED = "compiling.json"


@contextmanager
def as_compiled(session: Session, budget: Budget, *, resume: bool) -> Iterator[None]:
    """Within it the session's network computes its steps compiled, where that is asked for or repays itself."""
    asked, device = session.settings.training.compile, session.device
    wanted = decided(session.folder) if resume else None
    if wanted is None and (asked == "on" or (asked == "auto" and device.type == "cuda")):
        wanted = session.ranks.of_first(lambda: _worth_compiling(session, budget))
    if not wanted:
        yield
        return
    with compiled(session.network, session.objective, session.example(), _likely_precision(session), must=asked == "on"):
        yield


def _worth_compiling(session: Session, budget: Budget) -> bool:
    """Decided by the time of a step that is not compiled, said and noted."""
    seconds = step_seconds(session.network, session.objective, session.example(), _likely_precision(session))
    plan, steps = session.plan, session.plan.epochs * len(session.batches)
    sizes = len({plan.size_at(epoch, plan.epochs) for epoch in range(1, plan.epochs + 1)})
    if budget.limited:
        steps = min(steps, int(max(0.0, budget.left()) / seconds))
    wanted, why = worth_compiling(session.settings.training.compile, session.device, seconds, steps, sizes)
    console.say(why)
    note(session.folder, wanted)
    return wanted


def _likely_precision(session: Session) -> str:
    """That in which steps are timed and tried before it is chosen."""
    asked = session.settings.training.precision
    return asked if asked != "auto" else "bf16" if session.device.type == "cuda" and has_bf16(session.device) else "fp32"


def worth_compiling(asked: str, device: torch.device, step_seconds: float, steps: int, sizes: int) -> tuple[bool, str]:
    """Whether to compile, and a sentence on it, empty where there is nothing to say.

    asked         "auto", "on" or "off"; auto compiles on CUDA alone, as a processor's libraries are as fast on most networks
    step_seconds  of a step that is not compiled
    steps, sizes  how many steps there are to be, of images with so many different sides: each is compiled for
    """
    if asked != "auto":
        return asked == "on", f"The training step is {'' if asked == 'on' else 'not '}compiled, as asked."
    if device.type != "cuda":
        return False, ""
    cost, saved = COMPILE_SECONDS * sizes, SAVED_SHARE * steps * step_seconds
    worth = saved >= REPAID * cost
    why = f"{steps} steps of {1000 * step_seconds:.3g} ms would save about {spoken(saved)}, compiling takes about {spoken(cost)}"
    return worth, f"The training step is {'' if worth else 'not '}compiled: {why}."


def decided(folder: Path) -> bool | None:
    """What a run that goes on decided when it began; None where nothing was decided yet."""
    path = folder / "checkpoint" / DECIDED
    return bool(json.loads(path.read_text())["compiled"]) if path.exists() else None


def note(folder: Path, compiled: bool) -> None:
    """Keep the decision, so that a resumed run computes in the same way."""
    atomically(folder / "checkpoint" / DECIDED, lambda temporary: temporary.write_text(json.dumps({"compiled": compiled})) and None)


@contextmanager
def compiled(network: Network, objective: Objective, batch: tuple[Tensor, Tensor], precision: str, *, must: bool) -> Iterator[None]:
    """Within it calls of the network are compiled; not, with a warning, where torch cannot, which is a UsageError if it ``must``."""
    try:
        _try(network, objective, batch, precision)
    except Exception as error:  # compilers raise whatever they like of networks and machines that they do not know
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if must:
            raise UsageError(f"--compile on: torch cannot compile this network here ({reason}); leave it out.") from error
        console.warn(f"The training step is not compiled after all, as torch cannot here ({reason}).")
        yield
        return
    network.compile(dynamic=False)
    try:
        yield
    finally:
        network._compiled_call_impl = None


def _try(network: Network, objective: Objective, batch: tuple[Tensor, Tensor], precision: str) -> None:
    """One compiled step of a copy, which raises where there can be none; its code is kept and found again by the network itself."""
    copied, device = copy.deepcopy(network).train(), batch[0].device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        copied.compile(dynamic=False)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss, _ = objective.step(copied, *batch)
        loss.backward()
