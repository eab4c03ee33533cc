"""Backbones by name from timm, torchvision and our own: images in, an embedding and the last feature map out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from sightline.errors import ModelFileError, UsageError, did_you_mean
from sightline.model.small import OURS, WIDTHS, PatchNet
from sightline.model.traced import traced
from sightline.model.views import ONE

TORCHVISION, MODULE, RFDETR = "torchvision/", "module/", "rfdetr-"
# What the libraries, timm and torchvision, call the share of residual branches that are left out at random.
DROP_PATH = ("drop_path_rate", "stochastic_depth_prob")
# Blocks after which the papers have an auxiliary classifier; the heads there are ours.
TAPS = {"googlenet": ("inception4a", "inception4d"), "inception_v3": ("Mixed_6e",)}
# The libraries' own auxiliary classifiers would be built and thrown away: we take features, not logits.
TORCHVISION_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
# Up to this side an image has no detail to give away in the stem.
SMALL_SIDE = 64
# A stem of patches up to this side belongs to a convolutional network, a larger one to a transformer, whose unit it is.
LARGEST_CONVOLUTIONAL_PATCH = 4


@dataclass(frozen=True)
class BackboneSpec:
    """All that is needed to build the same backbone again; written into the bundle.

    name             timm's name, ``torchvision/NAME``, or ``sightline/NAME``
    arguments        passed to the library's builder, such as ``{"pad_type": "same"}``
    keep_resolution  the stem does not shrink the image (for inputs of 64 px or less), where the network allows it
    size             side of the square input in pixels
    channels         of the input; torchvision's take no other number than 3
    views            in which evaluation sees an image, see ``model/views.py``
    """

    name: str
    size: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    keep_resolution: bool = False
    channels: int = 3
    views: str = ONE

    def to_json(self) -> dict[str, Any]:
        """Plain values; views are only among them where there are several, so that earlier versions read the others."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("views", ONE)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> BackboneSpec:
        try:
            return cls(**fields)
        except TypeError as error:
            raise ModelFileError(f"The model's backbone is not understood ({error}); upgrade Sightline.") from error


class Backbone(nn.Module):
    """``forward((n, channels, size, size) float)`` gives the embedding (n, num_features), the last feature map, and the maps of the taps.

    The feature map is (n, channels, rows, columns), or (n, positions, channels) of a transformer. Taps are places halfway up at
    which auxiliary heads learn, with ``tap_channels`` channels each; most backbones have none. ``averages`` says that the embedding is
    known to be the map's mean, ``name`` is what the backbone is called in messages.
    """

    def __init__(self, inner: nn.Module, num_features: int) -> None:
        super().__init__()
        self.inner = inner
        self.num_features = num_features
        self.name = type(inner).__name__
        self.tap_channels: tuple[int, ...] = ()
        self.views, self.averages = ONE, False


class TimmBackbone(Backbone):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.inner.forward_features(images)
        embedding = self.inner.forward_head(features, pre_logits=True)
        channels_last = getattr(self.inner, "output_fmt", "NCHW") == "NHWC"
        return embedding, features.permute(0, 3, 1, 2) if channels_last else features


class TimmInception(Backbone):
    """timm's Inception-v3, tapped where the paper has its auxiliary classifier."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        tap = self.inner.forward_preaux(images)
        features = self.inner.forward_postaux(tap)
        return self.inner.forward_head(features, pre_logits=True), features, tap


class ModuleBackbone(Backbone):
    """A user's own module. It gives an embedding (n, f), a feature map (n, c, h, w) that is averaged, or both in this order."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.inner(images)
        if isinstance(outputs, tuple):
            embedding, features = outputs
            return embedding, features
        return (outputs.mean((2, 3)), outputs) if outputs.ndim == 4 else (outputs, outputs[:, :, None, None])


class TorchvisionBackbone(Backbone):
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.inner(images)
        # SqueezeNet's last layer sees the feature map itself and its average comes after; here it comes before.
        embedding = _averaged(outputs.get("embedding", outputs["features"]))
        taps = (outputs[f"tap{number}"] for number in range(len(self.tap_channels)))
        return embedding, outputs["features"], *taps


@torch.fx.wrap  # stays whole in a traced graph, in which a shape decides nothing
def _averaged(embedding: Tensor) -> Tensor:
    return embedding.mean((2, 3)) if embedding.ndim == 4 else embedding


def known_backbones() -> list[str]:
    """Every name ``build`` takes: timm's, torchvision's classifiers as ``torchvision/NAME``, then our own."""
    import timm
    import torchvision

    classifiers = torchvision.models.list_models(module=torchvision.models)
    return [*timm.list_models(), *(TORCHVISION + name for name in classifiers), *WIDTHS]


def known_weights() -> list[str]:
    """timm's names with the tag of each of their pretrained weights, such as ``resnet18.a1_in1k``; ``build`` takes them too."""
    import timm

    return list(timm.list_models(pretrained=True))


def check_name(name: str) -> str:
    """The full name of a backbone, the library's name added where timm does not have it; UsageError with near names otherwise."""
    import timm

    if timm.is_model(name):
        tagged = timm.list_models(f"{name.partition('.')[0]}.*", pretrained=True)
        if "." in name and name not in tagged:
            raise UsageError(f"--backbone {name}: timm has no weights of this name.{did_you_mean(name, tagged)}")
        return name
    known = known_backbones()
    for candidate in (name, TORCHVISION + name, OURS + name):
        if candidate in known:
            return candidate
    raise UsageError(f"--backbone {name}: neither timm nor torchvision has a backbone of this name.{did_you_mean(name, known)}")


def check_channels(name: str, channels: int) -> None:
    """UsageError where a network is built for red, green and blue alone."""
    if channels != 3 and name.startswith((TORCHVISION, RFDETR)):
        raise UsageError(f"--backbone {name}: such networks take three channels, and --bands asks for {channels}; choose one of timm's.")


def has_fixed_size(name: str) -> bool:
    """Whether the network is built for one input size, as a transformer with learned positions is."""
    if name.startswith(TORCHVISION):
        return name.removeprefix(TORCHVISION).startswith(("vit_", "maxvit_"))
    if name.startswith((OURS, RFDETR)):
        return name.startswith(RFDETR)
    import timm

    cfg = timm.get_pretrained_cfg(name)
    return cfg is not None and cfg.fixed_input_size


def build(spec: BackboneSpec, module: nn.Module | None = None) -> Backbone:
    """The backbone with random weights, in training mode; of a user's ``module`` a copy with the weights it has.

    Raises ModelFileError when it does not take the spec's arguments, UsageError when it cannot be built for the spec's size or channels,
    or needs a module that is not given.
    """
    if spec.name.startswith(MODULE):
        return _from_module(spec, module)
    check_channels(spec.name, spec.channels)
    if spec.name.startswith(RFDETR):
        from sightline.model import rfdetr

        return rfdetr.build(spec)
    try:
        backbone = _named(spec)
    except Exception as error:
        if spec.keep_resolution:  # branches beside the changed stem no longer fit it
            return build(replace(spec, keep_resolution=False))
        if isinstance(error, TypeError) and DROP_PATH[spec.name.startswith(TORCHVISION)] in str(error):
            raise UsageError(f"--drop-path: {spec.name} has no residual branches that could be left out; leave the flag out.") from error
        if isinstance(error, TypeError) and spec.arguments:
            raise ModelFileError(f"The backbone {spec.name} does not take these arguments: {error}") from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"--backbone {spec.name}: cannot be built for images of {spec.size} px ({reason}); choose another --size or --backbone."
        ) from error
    backbone.name, backbone.views = spec.name, spec.views
    return backbone


def _named(spec: BackboneSpec) -> Backbone:
    library = next((made for prefix, made in ((TORCHVISION, _torchvision), (OURS, _ours)) if spec.name.startswith(prefix)), _timm)
    return library(spec)


def _timm(spec: BackboneSpec) -> Backbone:
    import timm

    channels = {"in_chans": spec.channels} if spec.channels != 3 else {}
    model = timm.create_model(spec.name, pretrained=False, num_classes=0, **spec.arguments, **_image_size(spec), **channels)
    if spec.keep_resolution:
        keep_resolution(model)
    backbone: Backbone = TimmInception(model, 0) if isinstance(model, timm.models.InceptionV3) else TimmBackbone(model, 0)
    backbone.num_features = _embedding_width(backbone, spec)
    return backbone.train()


def _ours(spec: BackboneSpec) -> Backbone:
    backbone = ModuleBackbone(PatchNet(spec.channels, spec.size, WIDTHS[spec.name], **spec.arguments), 0)
    backbone.averages = True
    backbone.num_features = _embedding_width(backbone, spec)
    return backbone.train()


def _from_module(spec: BackboneSpec, module: nn.Module | None) -> Backbone:
    if module is None:
        raise UsageError(f"The backbone {spec.name} is a module of your own: give it again, as train(..., backbone=your_module).")
    backbone = ModuleBackbone(copy.deepcopy(module), 0)
    backbone.name, backbone.views = spec.name, spec.views
    try:
        backbone.num_features = _embedding_width(backbone, spec)
    except Exception as error:
        shape = f"(n, {spec.channels}, {spec.size}, {spec.size})"
        raise UsageError(
            f"backbone={spec.name}: the module does not turn {shape} float images into an embedding (n, f), a feature map (n, c, h, w) "
            f"or both ({error})."
        ) from error
    return backbone.train()


def _image_size(spec: BackboneSpec) -> dict[str, Any]:
    """Transformers have positions for one input size and must be told; convolutional networks do not take the argument."""
    import timm

    cfg = timm.get_pretrained_cfg(spec.name)
    return {"img_size": spec.size} if has_fixed_size(spec.name) and cfg.input_size[1] != spec.size else {}


def _embedding_width(backbone: Backbone, spec: BackboneSpec) -> int:
    # Not inference_mode: some networks keep tensors of their first pass, and those of inference mode cannot be trained with.
    with torch.no_grad():
        embedding, features, *taps = backbone.eval()(torch.zeros(1, spec.channels, spec.size, spec.size))
    backbone.tap_channels = tuple(tap.shape[1] for tap in taps)
    if embedding.ndim != 2:
        raise ValueError(f"its embedding has the shape {tuple(embedding.shape)}")
    if not isinstance(features, Tensor):  # would be trained, and only then fail
        raise ValueError("it has several last feature maps where one is needed")
    return int(embedding.shape[1])


def _torchvision(spec: BackboneSpec) -> Backbone:
    import torchvision

    name = spec.name.removeprefix(TORCHVISION)
    sized: dict[str, Any] = {"vit": {"image_size": spec.size}, "maxvit": {"input_size": (spec.size, spec.size)}}.get(name.split("_")[0], {})
    model = torchvision.models.get_model(name, weights=None, **TORCHVISION_ARGUMENTS.get(name, {}), **sized, **spec.arguments)
    if spec.keep_resolution:
        keep_resolution(model)
    taps = TAPS.get(name, ())
    backbone = TorchvisionBackbone(traced(model.eval(), spec.size, taps), 0)
    backbone.tap_channels = (0,) * len(taps)  # how many there are, until a first pass tells their channels
    backbone.num_features = _embedding_width(backbone, spec)
    return backbone.train()


def keep_resolution(model: nn.Module) -> None:
    """Take the strides out of the stem: the first strided convolution and the pooling in front of the first stage.

    A transformer's patch embedding, whose stride is its kernel, is left alone: there the stride is the network's unit.
    """
    strided = next((module for module in model.modules() if isinstance(module, nn.Conv2d) and module.stride[0] > 1), None)
    if strided is not None:
        if strided.stride == strided.kernel_size and strided.stride[0] > LARGEST_CONVOLUTIONAL_PATCH:
            return
        strided.stride = (1, 1)
    pooling = next((name for name, module in model.named_modules() if isinstance(module, nn.MaxPool2d) and _shrinks(module)), None)
    if pooling is not None:
        parent, _, child = pooling.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())


def _shrinks(pooling: nn.MaxPool2d) -> bool:
    return max(pooling.stride) > 1 if isinstance(pooling.stride, tuple) else pooling.stride > 1
