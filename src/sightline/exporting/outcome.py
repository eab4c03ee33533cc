"""What came of an export: the variants that were written, those that were refused, and the table of their figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import RequirementNotMet, SightlineError
from sightline.exporting.agreement import Agreement
from sightline.exporting.judging import Figures, Loss, table
from sightline.exporting.wanted import Wanted


@dataclass(frozen=True)
class Variant:
    """A variant that was written.

    model         its file, or folder
    samples       its agreement with its source on the images in the bundle
    loss          what it loses on the test images; None without any
    float_layers  of an INT8 variant, the layers that stayed in float
    rests         of one in fp16, whether what that rounds off is stored as well
    """

    wanted: Wanted
    model: Path
    samples: Agreement
    loss: Loss | None
    float_layers: tuple[str, ...] = ()
    rests: bool = False

    def to_json(self) -> dict[str, Any]:
        lost = {"loss": self.loss.points, "changed": self.loss.share, "n": self.loss.n} if self.loss else {}
        samples = {"n": len(self.samples.names), "difference": self.samples.largest, "changed": int(self.samples.changed.sum())}
        how = {"float_layers": list(self.float_layers), "rests": self.rests}
        return {"name": self.wanted.name, "model": str(self.model), **lost, "samples": samples, **how}


@dataclass(frozen=True)
class Exported:
    """``figures`` are of the source and of each variant written, in this order; ``refused`` says why others were not."""

    variants: tuple[Variant, ...]
    figures: tuple[Figures, ...]
    refused: Mapping[Wanted, SightlineError]
    max_loss: float

    @property
    def model(self) -> Path:
        """Of the first variant."""
        return self.variants[0].model

    @property
    def loss(self) -> Loss | None:
        """Of the first variant."""
        return self.variants[0].loss

    def to_json(self) -> dict[str, Any]:
        """Of the first variant as it stands, for those who ask for one; the others under ``written``."""
        first = self.variants[0].to_json() if self.variants else {}
        return {
            **{name: value for name, value in first.items() if name != "name"}, "max_loss": self.max_loss,
            "variants": [figures.to_json() for figures in self.figures],
            "written": [variant.to_json() for variant in self.variants],
            "refused": [{"name": one.name, "reason": str(error)} for one, error in self.refused.items()],
        }  # fmt: skip

    def lines(self) -> list[str]:
        """The table, a row for each variant."""
        return table(self.figures) if self.variants else []

    def checked(self) -> Exported:
        """Itself; where something was refused, all of that is raised together once the others are written, with itself as ``done``."""
        errors = {str(error): error for error in self.refused.values()}  # the same may be wrong with several
        if len(errors) == 1 and not self.variants:
            raise next(iter(errors.values()))
        if errors:
            raise RequirementNotMet(" ".join(errors), self)
        return self
