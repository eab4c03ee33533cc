"""What the network learned, as pictures: the filters of its first layer; and for channels early, in the middle and late in it the parts of
training images they answer to most, beside an image made to excite them."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sightline.data.channels import picture_of
from sightline.model.network import Network
from sightline.trust.filters import described, filter_grid, first_filters
from sightline.trust.patches import BATCH, FIELD_IMAGES, PATCHES, Answers, Images, answers, batches, field_of, patch_of, selective_channels
from sightline.trust.places import Place, at_rest, stages_of
from sightline.trust.report_part import ReportPart
from sightline.trust.visualise import Colours, Excited, affordable, excite

# Training images that patches are looked for in, and what of the allowance goes into it.
MOST_IMAGES, FEWEST_IMAGES = 2000, 24
PATCHES_SHARE = 0.4
# Of what is left, kept for pictures.
DRAWING_SHARE = 0.1
# A picture has the made image on the left, as high as two rows of three patches.
TILE, GAP, COLUMNS = 96, 3, 3
GREY = 128
JPEG_QUALITY = 85
OPAQUE = "This network lets no gradient through to its input, so no images could be made that excite its channels."
TOO_LITTLE = "The time allowance was too small to look for what its channels answer to."


@dataclass(frozen=True)
class Looked:
    """A stage with the channels chosen of it, how they answer to the sampled images, and the side in pixels of what a unit sees."""

    place: Place
    channels: list[int]
    answers: Answers
    field: int
    excited: Excited | None = None


def learned(network: Network, images: Images, names: Sequence[str], device: torch.device, *, seconds: float, seed: int) -> ReportPart:
    """What the network learned, in about ``seconds``; the network, on ``device``, is left as it was.

    images  gives prepared training images, by row; ``names`` has a name for each of them

    ``numbers`` has ``filters`` and ``stages``, each with what was drawn and of how much, the samples' sizes, and ``reasons`` for
    what is not there.
    """
    started = time.perf_counter()
    filters, reasons, pictures = first_filters(network.backbone, network.prepare.channels), [], dict[str, bytes]()
    numbers: dict[str, Any] = {"filters": None, "stages": [], "side": network.prepare.size}
    if filters is None:
        reasons.append("No layer of this network looks at the image with filters that could be drawn.")
    else:
        numbers["filters"] = {"picture": "learned/filters", **described(filters)}
        pictures["learned/filters"] = filter_grid(filters.weights)
    with at_rest(network):
        rows, looked, missing = _looked(network, images, len(names), device, PATCHES_SHARE * seconds, seed)
        reasons += missing
        left = (1 - DRAWING_SHARE) * (seconds - (time.perf_counter() - started))
        if looked and OPAQUE not in missing:
            looked, missing = _excited(network, looked, images(rows[:BATCH]), device, left, seed)
            reasons += missing
    for stage in looked:
        described_stage, drawn = _drawn(stage, images, rows, names)
        numbers["stages"].append(described_stage)
        pictures |= drawn
    return ReportPart({**numbers, "images": len(rows), "of": len(names), "reasons": reasons}, pictures)


def _looked(
    network: Network, images: Images, n: int, device: torch.device, seconds: float, seed: int
) -> tuple[NDArray[np.int64], list[Looked], list[str]]:
    """The rows of the images that were looked at, and the stages with the channels chosen."""
    mixed, started = np.random.default_rng(seed).permutation(n), time.perf_counter()
    few = mixed[: max(2, FIELD_IMAGES)]
    if n < 2:
        return mixed[:0], [], ["There are too few training images to look for what its channels answer to."]
    first = next(batches(images, few, device))
    places = stages_of(network, first)
    if not places:
        return mixed[:0], [], ["No layer of this network keeps a map of the image, so there are no channels to look at."]
    fields = [field_of(network, place, first) for place in places]
    opaque = [OPAQUE] if None in fields else []
    some = mixed[:BATCH]
    timed = time.perf_counter()
    answers(network, places, images, some, device)
    each = (time.perf_counter() - timed) / len(some)
    size = min(n, MOST_IMAGES, int((seconds - (time.perf_counter() - started)) / each))
    if size < min(n, FEWEST_IMAGES):
        return mixed[:0], [], [TOO_LITTLE]
    rows = np.sort(mixed[:size])
    found = answers(network, places, images, rows, device)
    looked = [
        Looked(place, selective_channels(answer.strongest), answer, field or network.prepare.size)
        for place, answer, field in zip(places, found, fields, strict=True)
    ]
    return rows, [stage for stage in looked if stage.channels], opaque


def _excited(
    network: Network, looked: Sequence[Looked], some: NDArray[np.uint8], device: torch.device, seconds: float, seed: int
) -> tuple[list[Looked], list[str]]:
    """The stages with an image made for each channel, where the time allows it."""
    colours = Colours.of(torch.from_numpy(some).to(device).float())
    afforded = affordable(network, [(stage.place, len(stage.channels)) for stage in looked], colours, seconds)
    if afforded is None:
        return list(looked), ["The time allowance was too small to make images that excite the channels."]
    side, steps = afforded
    return [replace(stage, excited=excite(network, stage.place, stage.channels, side, steps, colours, seed)) for stage in looked], []


def _drawn(stage: Looked, images: Images, rows: NDArray[np.int64], names: Sequence[str]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A stage's numbers and its pictures."""
    place, drawn, pictures = stage.place, [], dict[str, bytes]()
    for number, channel in enumerate(stage.channels):
        strongest = stage.answers.strongest[:, channel]
        best = np.argsort(-strongest, kind="stable")[:PATCHES]
        cells, columns = stage.answers.cells[best, channel].tolist(), stage.answers.columns
        patches = [patch_of(image, cell, columns, stage.field) for image, cell in zip(images(rows[best]), cells, strict=True)]
        key, typical = f"learned/{place.stage}-{number + 1}", float(np.median(strongest))
        # An image that leaves the channel as it mostly is shows nothing.
        made = stage.excited if stage.excited is not None and stage.excited.reached[number] > typical else None
        pictures[key] = _picture(made.images[number] if made else None, patches)
        drawn.append({
            "picture": key, "channel": channel, "images": [names[row] for row in rows[best].tolist()],
            "strongest": strongest[best].astype(float).tolist(), "typical": typical,
            "excited": float(made.reached[number]) if made else None,
        })  # fmt: skip
    numbers = {
        "stage": place.stage, "layer": place.module, "map": [place.rows, place.columns], "channels": place.channels, "field": stage.field,
        "steps": None if stage.excited is None else stage.excited.steps,
        "made_side": None if stage.excited is None else stage.excited.images.shape[1], "drawn": drawn,
    }  # fmt: skip
    return numbers, pictures


def _picture(made: NDArray[np.uint8] | None, patches: Sequence[NDArray[np.uint8]]) -> bytes:
    """A JPEG: the made image, where there is one, and beside it the patches in rows of three."""
    height = 2 * TILE + GAP
    left = 0 if made is None else height + 2 * GAP
    canvas = Image.new("RGB", (left + COLUMNS * (TILE + GAP) - GAP, height), (GREY, GREY, GREY))
    if made is not None:
        canvas.paste(_tile(made, height), (0, 0))
    for place, patch in enumerate(patches):
        row, column = divmod(place, COLUMNS)
        canvas.paste(_tile(patch, TILE), (left + column * (TILE + GAP), row * (TILE + GAP)))
    file = io.BytesIO()
    canvas.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return file.getvalue()


def _tile(image: NDArray[np.uint8], side: int) -> Image.Image:
    return picture_of(image).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
