"""Backbones by name from timm and torchvision: images in, an embedding and the last feature map out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import ModelFileError, UsageError, did_you_mean

TORCHVISION = "torchvision/"
# Auxiliary classifiers would be built and thrown away: we take features, not logits.
TORCHVISION_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
# Up to this side an image has no detail to give away in the stem.
SMALL_SIDE = 64


@dataclass(frozen=True)
class BackboneSpec:
    """All that is needed to build the same backbone again; written into the bundle.

    name             timm's name, or ``torchvision/NAME``
    arguments        passed to the library's builder, such as ``{"pad_type": "same"}``
    keep_resolution  the stem does not shrink the image (for inputs of 64 px or less)
    size             side of the square input in pixels
    """

    name: str
    size: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    keep_resolution: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> BackboneSpec:
        try:
            return cls(**fields)
        except TypeError as error:
            raise ModelFileError(f"The model's backbone is not understood ({error}); upgrade Sightline.") from error


class Backbone(nn.Module):
    """``forward((n, 3, size, size) float)`` gives the embedding (n, num_features) and the last feature map."""

    def __init__(self, inner: nn.Module, num_features: int) -> None:
        super().__init__()
        self.inner = inner
        self.num_features = num_features


class TimmBackbone(Backbone):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.inner.forward_features(images)
        return self.inner.forward_head(features, pre_logits=True), features


class TorchvisionBackbone(Backbone):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.inner(images)
        return outputs["embedding"].flatten(1), outputs["features"]


def known_backbones() -> list[str]:
    """Every name ``build`` takes: timm's, then torchvision's classifiers as ``torchvision/NAME``."""
    import timm
    import torchvision

    return [*timm.list_models(), *(TORCHVISION + name for name in torchvision.models.list_models(module=torchvision.models))]


def check_name(name: str) -> str:
    """The full name of a backbone, ``torchvision/`` added where only torchvision has it; UsageError with near names otherwise."""
    import timm

    if timm.is_model(name):
        return name
    known = known_backbones()
    for candidate in (name, TORCHVISION + name):
        if candidate in known:
            return candidate
    raise UsageError(f"--backbone {name}: neither timm nor torchvision has a backbone of this name.{did_you_mean(name, known)}")


def build(spec: BackboneSpec) -> Backbone:
    """The backbone with random weights."""
    if spec.name.startswith(TORCHVISION):
        return _torchvision(spec)
    import timm

    try:
        model = timm.create_model(spec.name, pretrained=False, num_classes=0, **spec.arguments, **_image_size(spec))
    except TypeError as error:
        raise ModelFileError(f"The backbone {spec.name} does not take these arguments: {error}") from error
    if spec.keep_resolution:
        keep_resolution(model)
    with torch.inference_mode():
        model.eval()
        embedding = model.forward_head(model.forward_features(torch.zeros(1, 3, spec.size, spec.size)), pre_logits=True)
    return TimmBackbone(model.train(), embedding.shape[1])


def _image_size(spec: BackboneSpec) -> dict[str, Any]:
    """Transformers have positions for one input size and must be told; convolutional networks do not take the argument."""
    import timm

    cfg = timm.get_pretrained_cfg(spec.name)
    fixed = cfg is not None and cfg.fixed_input_size and cfg.input_size[1] != spec.size
    return {"img_size": spec.size} if fixed else {}


def _torchvision(spec: BackboneSpec) -> Backbone:
    import torchvision
    from torchvision.models.feature_extraction import create_feature_extractor

    name = spec.name.removeprefix(TORCHVISION)
    model = torchvision.models.get_model(name, weights=None, **TORCHVISION_ARGUMENTS.get(name, {}), **spec.arguments)
    if spec.keep_resolution:
        keep_resolution(model)
    embedding, features = _outputs_of(model.eval(), spec.size)
    inner = create_feature_extractor(model, {embedding: "embedding", features: "features"})
    with torch.inference_mode():
        width = inner(torch.zeros(1, 3, spec.size, spec.size))["embedding"].flatten(1).shape[1]
    return TorchvisionBackbone(inner.train(), width)


def _outputs_of(model: nn.Module, size: int) -> tuple[str, str]:
    """Names of the graph's nodes that give the input of the last linear layer, and the last spatial feature map."""
    from torch.fx import GraphModule
    from torch.fx.passes.shape_prop import ShapeProp
    from torchvision.models.feature_extraction import NodePathTracer

    tracer = NodePathTracer()
    graph = GraphModule(model, tracer.trace(model))
    with torch.inference_mode():
        ShapeProp(graph).propagate(torch.zeros(1, 3, size, size))
    modules = dict(model.named_modules())
    nodes = list(graph.graph.nodes)
    last = next(node for node in reversed(nodes) if node.op == "call_module" and isinstance(modules[node.target], nn.Linear | nn.Conv2d))

    def has_positions(node: Any) -> bool:
        shape = getattr(node.meta.get("tensor_meta"), "shape", ())
        return len(shape) in (3, 4) and shape[2] > 1

    feature_map = next(node for node in reversed(nodes[: nodes.index(last)]) if has_positions(node))
    # Dropout before the last layer is ours to set, so the embedding is taken in front of it.
    embedding = last.args[0]
    while embedding.op == "call_module" and isinstance(modules[embedding.target], nn.Dropout):
        embedding = embedding.args[0]
    return tracer.node_to_qualname[embedding], tracer.node_to_qualname[feature_map]


def keep_resolution(model: nn.Module) -> None:
    """Take the strides out of the stem: the first strided convolution and the pooling in front of the first stage.

    A patch embedding, whose stride is its kernel, is left alone: there the stride is the network's unit.
    """
    strided = next((module for module in model.modules() if isinstance(module, nn.Conv2d) and module.stride[0] > 1), None)
    if strided is not None and strided.stride == strided.kernel_size:
        return
    if strided is not None:
        strided.stride = (1, 1)
    pooling = next((name for name, module in model.named_modules() if isinstance(module, nn.MaxPool2d)), None)
    if pooling is not None:
        parent, _, child = pooling.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())
