"""Checkpoints: everything a run needs to go on bit for bit, written so that a broken one never has the real name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from sightline.errors import ModelFileError, ResourceError
from sightline.training.ranks import Ranks

LAST = "last.pt"


def save(folder: Path, name: str, state: Mapping[str, Any]) -> None:
    """Write a state of tensors and plain values; ResourceError when the disk does not take it."""
    atomically(folder / name, lambda temporary: torch.save(state, temporary))


def load(folder: Path, name: str, device: torch.device) -> dict[str, Any]:
    """The state, loaded without running any code from the file; ModelFileError when it is missing or broken."""
    path = folder / name
    if not path.exists():
        raise ModelFileError(f"{path}: there is no checkpoint to go on from; start the run again without --resume.")
    try:
        return dict(torch.load(path, map_location=device, weights_only=True))
    except Exception as error:
        raise ModelFileError(f"{path}: this checkpoint cannot be read ({type(error).__name__}); start the run again.") from error


def spent(folder: Path) -> float:
    """Seconds that a run had taken when its last checkpoint was written; ModelFileError when that is missing or broken."""
    return float(load(folder, LAST, torch.device("cpu"))["spent"])


def atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file that then takes the path's name; ResourceError when the disk does not take it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as written:  # Windows syncs only what is open for writing
            os.fsync(written.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "the disk may be full"
        raise ResourceError(f"{path}: could not be written ({reason}); make room, then continue with --resume.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def random_states(device: torch.device, ranks: Ranks) -> dict[str, Any]:
    """The states of torch's generators, the first process's and those of the others that train with it; those of the batches are drawn
    from (seed, epoch, row) and need none."""
    first, *others = ranks.gather(random_state(device))
    return {"random": first, "others": others}


def random_state(device: torch.device) -> dict[str, Any]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_states(saved: Mapping[str, Any], device: torch.device, ranks: Ranks) -> None:
    """This process's state of those in a checkpoint; one that was written by fewer processes has none for it, and new ones are drawn."""
    states = [saved["random"], *saved.get("others", ())]
    restore_random_state(states[min(ranks.rank, len(states) - 1)], device)
    if ranks.rank >= len(states):
        ranks.part_ways(int(torch.randint(2**62, ())))


def restore_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"].cpu())
