"""Which backbone, weights and input size a run uses, and why."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline.config import NetworkConfig
from sightline.data.prepare import Prepare
from sightline.data.reading import Reading
from sightline.errors import ModelFileError, UsageError
from sightline.model.backbone import (
    DROP_PATH,
    MODULE,
    RFDETR,
    SMALL_SIDE,
    TORCHVISION,
    Backbone,
    BackboneSpec,
    build,
    check_channels,
    check_name,
    has_fixed_size,
)
from sightline.model.pyramid import pyramid
from sightline.model.rfdetr import check_size, is_rfdetr, resolution
from sightline.model.views import COUNTS, ONE
from sightline.model.weights import Contract, Weights, hub_weights, load_into, local_weights

# The longer side of inputs on which boxes or label maps lie, where it is not asked for, and what their sides are multiples of.
SCENE_SIDE, SCENE_STEP = 512, 32
# Stored images are so many times as large, as training enlarges them.
ENLARGED = 1.5
# Chosen when nothing is asked for: small enough to be trained on a laptop's processor.
SMALL_DEFAULT, SCRATCH_DEFAULT, PRETRAINED_DEFAULT = "resnet10t", "resnet18", "mobilenetv3_large_100"
SIZE_STEP, MAX_SCRATCH_SIZE = 32, 224
# How images are fitted to the input: of whole images the middle is enough, but what lies on them may lie anywhere.
FITS = {False: "crop", True: "pad"}


@dataclass(frozen=True)
class Choice:
    """A network's backbone, its start and its input; ``reasons`` are sentences for the log and the report.

    ``weights_source`` and ``licence`` say where pretrained weights came from; ``weights`` is None for a run that goes on from
    its checkpoint and so needs them no more. ``module`` is a user's own backbone. ``scenes`` says that things lie on the images.
    """

    spec: BackboneSpec
    weights: Weights | None
    prepare: Prepare
    reasons: tuple[str, ...]
    weights_source: str | None = None
    licence: str | None = None
    module: nn.Module | None = None

    @property
    def pretrained(self) -> bool:
        return self.weights_source is not None

    def to_json(self) -> dict[str, Any]:
        """What a run records, so that it goes on with the same network whatever has become of the weights' file."""
        return {"spec": self.spec.to_json(), "prepare": self.prepare.to_json(), "reasons": list(self.reasons),
                "weights_source": self.weights_source, "licence": self.licence, "scenes": self.scenes}  # fmt: skip

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], module: nn.Module | None = None) -> Choice:
        spec, prepare = BackboneSpec.from_json(fields["spec"]), Prepare.from_json(fields["prepare"])
        about = fields["weights_source"], fields["licence"], module, fields["scenes"]
        return cls(spec, None, prepare, tuple(fields["reasons"]), *about)

    scenes: bool = False

    @property
    def queries(self) -> bool:
        """Whether the network answers with a set of queries, not at places of its maps."""
        return self.spec.name.startswith(RFDETR)

    @property
    def store_side(self) -> int:
        """The shorter side in pixels of stored images, from which evaluation's view is cut without enlarging."""
        return math.ceil(min(self.prepare.shape) * (ENLARGED if self.scenes else 1 / self.prepare.crop_fraction))

    @property
    def normalised(self) -> bool:
        """Whether the network has normalisation layers."""
        modules = (self.module if self.module is not None else self._sketch()).modules()
        return any("norm" in type(module).__name__.lower() for module in modules)

    def takes(self, side: int) -> bool:
        """Whether the network, as it is built for its own size, takes images with sides of so many pixels too."""
        if self.module is not None or has_fixed_size(self.spec.name):
            return False
        backbone = self._sketch().eval()
        with torch.device(_place(backbone)), torch.no_grad():
            try:
                embedding = backbone(torch.zeros(2, self.spec.channels, side, side))[0]
            except (RuntimeError, ValueError, AssertionError):  # as of a map that shrinks to nothing
                return False
        return tuple(embedding.shape) == (2, backbone.num_features)

    def check_maps(self) -> None:
        """UsageError where the backbone gives no maps of its input, on which boxes and label maps are found."""
        backbone = self._sketch()
        with torch.device(_place(backbone)):
            pyramid(backbone, self.spec.channels, self.prepare.shape)

    def _sketch(self) -> Backbone:
        """The backbone with shapes in place of numbers, which take time and memory; of a user's module with them, as it has them."""
        if self.module is not None:
            return build(self.spec, self.module)
        try:
            with torch.device("meta"):
                return build(self.spec)
        except UsageError as error:
            if not isinstance(error.__cause__, NotImplementedError):
                raise
            return build(self.spec)  # torchvision's RegNets work out their widths with tensors

    def build(self) -> Backbone:
        """The backbone, filled with the weights."""
        backbone = build(self.spec, self.module)
        if self.weights is not None:
            load_into(backbone, self.weights)
        return backbone


def choose(
    config: NetworkConfig,
    median_size: tuple[int, int],
    reading: Reading = Reading(),
    module: nn.Module | None = None,
    *,
    scenes: bool = False,
) -> Choice:
    """The choice for images of a ``median_size`` (width, height) in pixels, and of which ``reading`` says what is read.

    ``module`` is a user's own backbone; ``scenes`` says that boxes or label maps lie on the images, whose shape the input then has.

    Raises UsageError for an unknown backbone, one that does not take so many channels, or one without maps where there are scenes,
    ModelFileError for weights that cannot be had.
    """
    if module is not None:
        return _own(config, median_size, reading, module, scenes=scenes)
    checked = check_size if is_rfdetr(config.backbone) else check_name
    asked = checked(config.backbone) if config.backbone else None
    weights, weights_reason = _weights(config, asked)
    name, backbone_reason = _backbone(asked, weights, small=min(median_size) <= SMALL_SIDE)
    check_channels(name, reading.channels)
    contract = weights.contract if weights else Contract(crop_fraction=1.0)
    if scenes:
        (width, height), size_reason = _scene_size(config, median_size, square=has_fixed_size(name), own=resolution(name))
        contract = replace(contract, crop_fraction=1.0)
    else:
        width, size_reason = _size(config, name, contract, min(median_size), pretrained=weights is not None)
        height = width
    size, keep = max(width, height), width <= SMALL_SIDE and not scenes
    reasons = [backbone_reason, weights_reason, size_reason, *_reading_reasons(reading, pretrained=weights is not None)]
    reasons += _view_reasons(config)
    if name == SMALL_DEFAULT and asked is None and not scenes:
        reasons.append("There is also --preset speed for small images from scratch: docs/speed_preset.md says what it brings and costs.")
    if keep:
        reasons.append(f"At {size} px a convolutional stem keeps the resolution: small images are not shrunk before anything is learned.")
    mean, std = (tuple(itertools.islice(itertools.cycle(each), reading.channels)) for each in (contract.mean, contract.std))
    view = (width, config.fit or FITS[scenes], contract.crop_fraction, contract.interpolation)
    prepare = Prepare(*view, mean, std, reading.channels, reading.window, reading.bands, None if height == width else height)
    drop = {DROP_PATH[name.startswith(TORCHVISION)]: config.drop_path} if config.drop_path else {}
    spec = BackboneSpec(name, size, {**contract.arguments, **drop}, keep, reading.channels, _views(config, scenes=scenes))
    start = (weights.source, contract.licence) if weights else (None, None)
    choice = Choice(spec, weights, prepare, tuple(reasons), *start, scenes=scenes)
    if scenes and not choice.queries:
        choice.check_maps()
    return choice


def _place(backbone: Backbone) -> torch.device:
    return next((weights.device for weights in backbone.parameters()), torch.device("cpu"))


def _own(config: NetworkConfig, median_size: tuple[int, int], reading: Reading, module: nn.Module, *, scenes: bool) -> Choice:
    """The choice for a user's own module, which is taken as it is and learns like a network from random weights."""
    given = [flag for flag, there in (("weights", config.weights not in ("auto", "none")), ("drop_path", config.drop_path)) if there]
    if given:
        raise UsageError(f"{' and '.join(given)} cannot be set for a module of your own; set it up before giving it.")
    name = f"{MODULE}{type(module).__name__}"
    if scenes:
        (width, height), size_reason = _scene_size(config, median_size, square=True)
    else:
        width, size_reason = _size(config, name, Contract(), min(median_size), pretrained=False)
        height = width
    reasons = (f"Backbone {name}, your own, with the weights it came with.", size_reason, *_view_reasons(config))
    half = (0.5,) * reading.channels
    about = reading.channels, reading.window, reading.bands, None if height == width else height
    prepare = Prepare(width, config.fit or FITS[scenes], 1.0, "bilinear", half, half, *about)
    spec = BackboneSpec(name, max(width, height), channels=reading.channels, views=_views(config, scenes=scenes))
    choice = Choice(spec, None, prepare, reasons, module=module, scenes=scenes)
    if scenes:
        choice.check_maps()
    return choice


def _backbone(asked: str | None, weights: Weights | None, *, small: bool) -> tuple[str, str]:
    """The backbone's name, and why it is that."""
    if asked is not None:
        return asked, f"Backbone {asked}, as asked."
    if weights is not None:
        return weights.backbone, f"Backbone {weights.backbone}, which the weights are for."
    name, kind = (SMALL_DEFAULT, "small images") if small else (SCRATCH_DEFAULT, "photographs")
    return name, f"Backbone {name}, the default for {kind} without pretrained weights."


def is_from_scratch(config: NetworkConfig) -> bool:
    """Whether ``choose`` would begin with random weights; raises as it does."""
    return _weights(config, None)[0] is None


def _weights(config: NetworkConfig, name: str | None) -> tuple[Weights | None, str]:
    if config.weights == "none":
        return None, "Random weights, as asked."
    if config.weights == "hub":
        weights = hub_weights(name or PRETRAINED_DEFAULT, download=True)
        if weights is None:
            raise ModelFileError(f"--weights hub: there are no pretrained weights for {name}; give a file or 'none'.")
        return weights, f"Weights {weights.source}, downloaded; {weights.contract.licence_said}."
    if config.weights == "auto":
        weights = hub_weights(name or PRETRAINED_DEFAULT, download=False)
        if weights is None:
            ways = "'--weights hub' downloads one, '--weights FILE' reads yours"
            return None, f"Random weights: no pretrained copy is on this machine ({ways})."
        return weights, f"Weights {weights.source}, found on this machine; {weights.contract.licence_said}."
    weights = local_weights(Path(config.weights), name)
    return weights, f"Weights {weights.source}; {weights.contract.licence_said}."


def _views(config: NetworkConfig, *, scenes: bool) -> str:
    """How evaluation sees an image; UsageError for several views of one on which things lie, whose places a mean would blur."""
    if scenes and config.views not in (None, ONE):
        raise UsageError(f"--views {config.views}: is for what whole images show, not for boxes or label maps on them; leave it out.")
    return config.views or ONE


def _view_reasons(config: NetworkConfig) -> list[str]:
    count = COUNTS[config.views or ONE]
    return [f"An answer is the mean over {count} views of an image, which takes {count} times the time in use."] if count > 1 else []


def _reading_reasons(reading: Reading, *, pretrained: bool) -> list[str]:
    reasons = []
    if reading.window:
        reasons.append("Levels {:g} to {:g} of images deeper than 8 bits become black and white, as asked.".format(*reading.window))
    if reading.bands:
        reasons.append(f"Bands {', '.join(map(str, reading.bands))} of each image, as asked.")
    if pretrained and reading.channels != 3:
        how = "summed" if reading.channels == 1 else "repeated and scaled"
        reasons.append(f"The weights' first convolution, made for red, green and blue, is {how} to fit {reading.channels} channels.")
    return reasons


def _scene_size(
    config: NetworkConfig, median_size: tuple[int, int], *, square: bool, own: int | None = None
) -> tuple[tuple[int, int], str]:
    """Width and height of an input in the shape of the images, which are fitted to it whole; a network may have a size of its ``own``."""
    shape = [max(1, side) for side in median_size]  # nought where no image has a sound header, of which the gate tells
    longer = config.size or own or min(SCENE_SIDE, max(shape))
    sides: list[float] = [longer] * 2 if square else [side * longer / max(shape) for side in shape]
    width, height = (SCENE_STEP * max(1, round(side / SCENE_STEP)) for side in sides)
    made = "which the network was made for" if own else None
    why = "as asked" if config.size else made or f"in the shape of the images (median {median_size[0]} x {median_size[1]} px)"
    return (width, height), f"Input {width} x {height} px, {why}."


def _size(config: NetworkConfig, name: str, contract: Contract, median_side: int, *, pretrained: bool) -> tuple[int, str]:
    if config.size:
        return config.size, f"Input {config.size} px, as asked."
    if pretrained and (median_side > SMALL_SIDE or has_fixed_size(name)):
        return contract.size, f"Input {contract.size} px, which the weights were trained on."
    if pretrained:
        return SMALL_SIDE, f"Input {SMALL_SIDE} px, because the images are small (median shorter side {median_side} px)."
    size = min(MAX_SCRATCH_SIZE, max(SIZE_STEP, SIZE_STEP * round(median_side / SIZE_STEP)))
    return size, f"Input {size} px, near the images' own size (median shorter side {median_side} px)."
