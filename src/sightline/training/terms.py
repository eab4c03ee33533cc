"""On what terms the loop runs a plan: in which numbers, in how much time, after what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sightline.training.budget import NO_BUDGET, Budget
from sightline.training.ranks import ALONE, Ranks

# What an epoch takes whose images have such sides in pixels; None for the network's own.
Cost = Callable[[int | None], float]


@dataclass(frozen=True)
class Place:
    """What the loop has to know of the stages before the one it is in.

    stage   its number, from 0
    layers  what learns in it: "all" layers or the "upper" ones
    rows    those of the epochs before, the start as epoch 0
    best    the epoch among them that was kept
    """

    stage: int = 0
    layers: str = "all"
    rows: tuple[dict[str, Any], ...] = ()
    best: int = 0

    def counted(self, epoch: int) -> int:
        """The number of this stage's epoch among those of all stages."""
        return epoch + (self.rows[-1]["epoch"] if self.rows else 0)

    def whole(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows of all stages up to this one, of which ``rows`` are given; where it starts from is the last one's end."""
        return [*self.rows, *({**row, "epoch": self.counted(row["epoch"])} for row in rows[1:])] if self.rows else rows

    def kept(self, best: int) -> int:
        """The epoch that is kept among those of all stages, when ``best`` is this stage's."""
        return self.counted(best) if best or not self.rows else self.best


def _alike(side: int | None) -> float:
    return 1.0


@dataclass(frozen=True)
class Terms:
    """What the loop has to keep to.

    precision  the numbers that steps compute in, fp32 or bf16; a resumed run goes on in those of its checkpoint
    budget     where it does not suffice for the plan's epochs there are fewer
    epochs     how many are expected to suffice for it; the plan's if not told
    cost       what an epoch takes beside another; the same, if not told
    place      where this stands in a training of several stages
    ranks      the processes that train together
    """

    precision: str = "fp32"
    budget: Budget = NO_BUDGET
    epochs: int | None = None
    cost: Cost = _alike
    place: Place = Place()
    ranks: Ranks = ALONE
