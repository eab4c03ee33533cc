"""The card of a variant: its source's, behind what was measured of the variant."""

from __future__ import annotations

from collections.abc import Sequence

from sightline.bundle import Bundle
from sightline.exporting.judging import Figures, Loss
from sightline.exporting.quantise import layers
from sightline.exporting.wanted import Wanted
from sightline.report.markdown import split_front


def variant_card(
    source: Bundle, wanted: Wanted, figures: Sequence[Figures], loss: Loss | None, float_layers: Sequence[str], max_loss: float, rests: bool
) -> str:
    """Markdown, the source's front matter first as hubs expect it."""
    sentence = _sentence(source, wanted, figures[-1], loss, float_layers, max_loss, rests)
    said = f"# An {wanted.precision.upper()} variant\n\n{sentence}\n\n{_rows(figures)}"
    if not source.has("card"):
        return said
    front, body = split_front(source.read("card").decode())
    return f"{front}{said}\nWhat follows is said of the model it was made from.\n\n{body}"


def _sentence(
    source: Bundle, wanted: Wanted, row: Figures, loss: Loss | None, float_layers: Sequence[str], max_loss: float, rests: bool
) -> str:  # fmt: skip
    if loss is None:
        said = f"On the {row.n} images in the bundle its outputs differ by at most {row.difference:.1e}; it was not tried on test images."
    else:
        said = f"On {loss.n} test images it loses {loss.points:.2f} points ({max_loss:g} allowed)."
    if wanted.precision == "int8":
        said += f" {len(float_layers)} of {len(layers(source.read('graph')))} layers stay in float."
    elif wanted.precision == "fp16":
        said += f" Its weights are stored in fp16{' and 8 bits more' if rests else ''}; sums are in fp32."
    return said


def _rows(figures: Sequence[Figures]) -> str:
    rows = "\n".join(
        f"| {row.name} | {row.megabytes:.1f} | {'–' if row.value is None else f'{row.value:.4f}'} | {row.changed:.2%} | "
        f"{row.speed.latency_ms:.2f} |"
        for row in figures
    )
    return f"| variant | MB | {figures[0].metric} | answers changed | ms an image |\n| --- | --- | --- | --- | --- |\n{rows}\n"
