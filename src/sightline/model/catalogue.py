"""Which backbones there are: how large each is, how fast here, and under which licence its weights may be used."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch

from sightline import console
from sightline.config import CatalogueConfig
from sightline.errors import UsageError, did_you_mean
from sightline.model.backbone import TORCHVISION, Backbone, BackboneSpec, build, known_backbones, known_weights
from sightline.model.device import torch_device
from sightline.model.weights import has_weights, hub_weights, library_contract

# Listed when nothing is asked for: well known, from the tiny to what a laptop still trains, none with weights that forbid some use.
CURATED = (
    "torchvision/alexnet", "vgg11", "torchvision/googlenet", "inception_v3", "torchvision/squeezenet1_1", "resnet10t", "resnet18",
    "resnet34", "resnet50", "resnext50_32x4d", "densenet121", "mobilenetv2_100", "mobilenetv3_small_100", "mobilenetv3_large_100",
    "mobilenetv4_conv_small", "efficientnet_b0", "tf_efficientnetv2_s", "regnety_008", "regnety_032", "convnext_atto", "convnext_tiny",
    "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_small_patch14_dinov2", "swin_tiny_patch4_window7_224",
)  # fmt: skip
WILDCARDS = "*?["
TIMED_BATCH, TIMED_SECONDS = 16, 2.0
# Billions of random numbers would have to be drawn before the first image.
LARGEST_TIMED = 500_000_000


@dataclass(frozen=True)
class Entry:
    """One backbone, as Sightline builds it: without its classifier, at the size its weights were trained at.

    name        what ``--backbone`` takes
    size        side of the square input in pixels
    parameters  how many numbers it learns; None, like the next three, where it cannot be built, and ``problem`` says why
    embedding   width of the embedding
    features    the last feature map: (channels, rows, columns), or (positions, channels) of a transformer
    reduction   pixels of the input's side to one cell of that map, where timm states it
    weights     "here" (a copy is on this machine), "hub" (can be downloaded) or None (there are none)
    licence     of those weights, None where it is not stated; ``permissive`` tells whether it allows any use
    images_per_second  on this machine with random weights, where it was measured
    """

    name: str
    size: int
    parameters: int | None
    embedding: int | None
    features: tuple[int, ...] | None
    reduction: int | None
    weights: str | None
    licence: str | None
    permissive: bool | None
    images_per_second: float | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def row(self) -> dict[str, str]:
        """What a table shows of it, heading to cell."""
        licence = "-" if self.weights is None else self.licence or "not stated"
        million = "-" if self.parameters is None else f"{self.parameters / 1e6:.1f}"
        rate = self.images_per_second
        speed = "-" if rate is None else f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
        return {"name": self.name, "million": million, "px": str(self.size), "images/s": speed, "weights": self.weights or "none",
                "licence": f"{licence}{' (caution)' if self.permissive is False else ''}"}  # fmt: skip


@dataclass(frozen=True)
class Catalogue:
    """The backbones that were asked for; ``matching`` counts those that ``limit`` left out too, ``known`` all there are.

    pattern  what was asked for; None for the well-known ones
    timed    whether speeds were measured
    """

    entries: tuple[Entry, ...]
    matching: int
    known: int
    pattern: str | None
    timed: bool

    def to_json(self) -> dict[str, Any]:
        return {"backbones": [entry.to_json() for entry in self.entries], "matching": self.matching, "known": self.known}

    def rows(self) -> list[dict[str, str]]:
        """The table, a row a backbone; without speeds where none were measured."""
        rows = [entry.row for entry in self.entries]
        return rows if self.timed else [{heading: cell for heading, cell in row.items() if heading != "images/s"} for row in rows]

    def hints(self) -> list[str]:
        """What to know of the table, and how to see more; a sentence each."""
        said = []
        if any(entry.permissive is False for entry in self.entries):
            said.append("Caution: read these licences before you use a model trained from such weights; they are not permissive ones.")
        if len(self.entries) < self.matching:
            said.append(f"{len(self.entries)} of the {self.matching} that match; --limit {self.matching} lists all.")
        if self.pattern is None:
            said.append(
                f"A choice of well-known ones; sightline backbones '*' --limit {self.known} lists all there are, a part of a name some."
            )
        if not self.timed:
            said.append("--time measures how many images a second each computes on this machine.")
        return said


def catalogue(pattern: str | None, config: CatalogueConfig) -> Catalogue:
    """Backbones whose name matches a shell pattern or has the text in it, in any case; without a pattern, a few well-known ones.

    A full name gives that one alone. Raises UsageError where nothing matches, with near names.
    """
    names = sorted(CURATED, key=_plain) if pattern is None else matching_names(pattern)
    if config.sort == "speed" and not config.time:
        raise UsageError("--sort speed: nothing was measured; add --time.")
    if config.sort == "speed" and len(names) > config.limit:
        raise UsageError(f"--sort speed: would have to time all {len(names)} matches; narrow the pattern, or give --limit {len(names)}.")
    chosen = names if config.sort == "parameters" else names[: config.limit]
    entries = [describe(name) for name in console.track(chosen, len(chosen), "Counting parameters")]
    if config.sort == "parameters":
        entries = sorted(entries, key=lambda entry: entry.parameters or float("inf"))[: config.limit]
    if config.time:
        device = torch_device(config.device)
        entries = [timed(entry, device) for entry in console.track(entries, len(entries), "Timing")]
    if config.sort == "speed":
        entries.sort(key=lambda entry: -(entry.images_per_second or 0))
    return Catalogue(tuple(entries), len(names), len(known_backbones()), pattern, config.time)


def _plain(name: str) -> str:
    return name.lower().removeprefix(TORCHVISION)


def matching_names(pattern: str) -> list[str]:
    """Names that match, sorted; the one name where the pattern is a full one. With a dot in it, the tags of weights are looked through too.

    Where both libraries have the full name it is timm's, as with ``--backbone``. Raises UsageError where nothing matches.
    """
    known = [*known_weights(), *known_backbones()] if "." in pattern else known_backbones()
    wanted = pattern.lower()
    for full in (wanted, TORCHVISION + wanted):
        if found := [name for name in known if name.lower() == full]:
            return found
    if any(character in pattern for character in WILDCARDS):
        found = [name for name in known if fnmatchcase(name.lower(), wanted) or fnmatchcase(_plain(name), wanted)]
    else:
        found = [name for name in known if wanted in name.lower()]
    if not found:
        near = did_you_mean(wanted.strip("*?"), sorted({*known, *map(_plain, known)}))
        raise UsageError(f"{pattern}: no backbone of timm or torchvision matches.{near} 'sightline backbones \"*\"' lists them all.")
    return sorted(found, key=_plain)


def describe(name: str) -> Entry:
    """What there is to know of a backbone, where possible without using the memory and time that it takes."""
    contract = library_contract(name)
    weights = ("here" if hub_weights(name, download=False) else "hub") if has_weights(name) else None
    stated = (contract.licence, contract.permissive) if weights else (None, None)
    entry = Entry(name, contract.size, None, None, None, None, weights, *stated)
    try:
        backbone, features = _built(name, contract.size, "meta")
    except UsageError as error:
        return replace(entry, problem=str(error))
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    stages = getattr(backbone.inner, "feature_info", None)
    reduction = stages[-1].get("reduction") if stages else None
    return replace(entry, parameters=parameters, embedding=backbone.num_features, features=tuple(features.shape[1:]), reduction=reduction)


def _built(name: str, size: int, device: str) -> tuple[Backbone, torch.Tensor]:
    """The backbone and its feature map; on torch's meta device tensors have a shape, and no numbers that take memory and time."""
    try:
        with torch.device(device), torch.no_grad():
            backbone = build(BackboneSpec(name, size)).eval()
            return backbone, backbone(torch.zeros(1, 3, size, size))[1]
    except UsageError as error:
        # torchvision's RegNets work out their widths with tensors, so that they have to be built for real.
        if device == "meta" and isinstance(error.__cause__, NotImplementedError):
            return _built(name, size, "cpu")
        raise


def timed(entry: Entry, device: torch.device) -> Entry:
    """The entry with its speed in evaluation on the device, at its size and with random weights, which compute as fast as others."""
    if entry.parameters is None:
        return entry
    if entry.parameters > LARGEST_TIMED:
        return replace(entry, problem=f"{entry.name}: not timed, as it has more than {LARGEST_TIMED // 1_000_000} million parameters.")
    backbone = build(BackboneSpec(entry.name, entry.size)).eval().to(device, memory_format=torch.channels_last)
    return replace(entry, images_per_second=_images_per_second(backbone, entry.size, device))


def _images_per_second(backbone: Backbone, size: int, device: torch.device) -> float:
    """From the median of a few seconds' worth of batches after a warm-up; from its first image where that took as long."""

    @torch.inference_mode()
    def seconds(batch: int) -> float:
        images = torch.rand(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
        start = time.perf_counter()
        backbone(images)[0].sum().item()  # an accelerator is waited for
        return time.perf_counter() - start

    first = seconds(1)
    if first > TIMED_SECONDS:
        return 1 / first
    # Of a slow network fewer at once, so that several batches fit into the time.
    batch = max(1, min(TIMED_BATCH, int(TIMED_SECONDS / 4 / seconds(1))))
    seconds(batch)
    start, found = time.monotonic(), []
    while not found or time.monotonic() - start < TIMED_SECONDS:
        found.append(seconds(batch))
    return batch / statistics.median(found)
