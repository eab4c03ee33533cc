"""RF-DETR's networks, of the package ``rfdetr``, which is imported only where one of them is asked for.

Robinson et al., "RF-DETR: Real-Time Detection Transformer" (2026): a DINOv2 backbone that looks through windows, and a decoder that
answers with a set of queries, each an object or nothing. The networks are the package's own, as are the names of their weights.
"""

from __future__ import annotations

import argparse
import importlib.util
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from sightline.config import TrainSettings
from sightline.errors import ModelFileError, UsageError, did_you_mean
from sightline.model.backbone import RFDETR, Backbone, BackboneSpec

# What the package calls their configurations. Its other sizes for boxes are deprecated, or their weights have a licence of their own.
SIZES = {f"{RFDETR}nano": "RFDETRNanoConfig", f"{RFDETR}small": "RFDETRSmallConfig", f"{RFDETR}medium": "RFDETRMediumConfig",
         f"{RFDETR}large": "RFDETRLargeConfig"}  # fmt: skip
NOT_PERMISSIVE = (f"{RFDETR}xlarge", f"{RFDETR}2xlarge")
# Pixels of the input that are one place of the map, in each direction, and the most queries; those of all four sizes.
PATCH, QUERIES = 16, 300
# Files as the package writes them.
CHECKPOINTS = (".pth", ".pt")
# A buffer that files from before it was introduced lack; of networks for boxes it is empty.
OPTIONAL = {"_kp_active_mask"}


def is_rfdetr(name: str | None) -> TypeGuard[str]:
    """Whether a backbone's name is one of theirs, or meant to be."""
    return name is not None and name.startswith(RFDETR.rstrip("-"))


def check_size(name: str) -> str:
    """The name; UsageError where it is none of the sizes that there are, or the package is not installed."""
    if name in NOT_PERMISSIVE:
        raise UsageError(
            f"--backbone {name}: its weights are under the Platform Model License, which is no permissive one; take {', '.join(SIZES)}."
        )
    if name not in SIZES:
        raise UsageError(f"--backbone {name}: of RF-DETR there are {', '.join(SIZES)}.{did_you_mean(name, SIZES)}")
    if importlib.util.find_spec("rfdetr") is None:
        raise _not_installed(name, "rfdetr")
    return name


def check_asked(chosen: TrainSettings, task: str) -> None:
    """UsageError where one of these networks is asked for and cannot be had, or is to do what it does not.

    It takes the task and no image, so it is asked before any is looked at.
    """
    name, training = chosen.network.backbone, chosen.training
    if not is_rfdetr(name):
        return
    check_size(name)
    if task != "detect":
        raise UsageError(f"--backbone {name}: finds objects with boxes (--task detect) and does not learn to {task}; choose another.")
    if chosen.network.weights in ("auto", "hub"):
        raise UsageError(
            f"--backbone {name}: its weights are not downloaded here; give the file, such as --weights {name.replace('rf', 'rf-', 1)}.pth, "
            "or learn from random ones with --weights none."
        )
    unknown = {"label-smoothing": training.label_smoothing, "balance weights": training.balance == "weights"}
    if given := [flag for flag, there in unknown.items() if there]:
        raise UsageError(f"--{' and --'.join(given)}: the loss of RF-DETR has no such term; leave it out.")


def _not_installed(name: str, module: str | None) -> UsageError:
    return UsageError(f"--backbone {name}: needs {module}, which is not installed: pip install 'sightline[rfdetr]'.")


def resolution(name: str) -> int | None:
    """The side in pixels of the input that a network was made for; None for those of others."""
    return int(getattr(library(name).config, SIZES[name]).model_fields["resolution"].default) if name in SIZES else None


def library(name: str) -> Any:
    """``rfdetr`` with what is taken of it; UsageError where it or what it needs is not installed."""
    from sightline.model.export import quiet

    try:
        with quiet():  # of extensions that it does not find
            import rfdetr.config
            import rfdetr.models
            import rfdetr.models.weights
            import rfdetr.utilities.tensors
    except ModuleNotFoundError as error:
        raise _not_installed(name, error.name) from error
    return rfdetr


def configured(name: str, side: int, **changes: Any) -> Any:
    """The package's configuration of a network for square images of ``side`` pixels, a multiple of 32, without weights."""
    from sightline.model.export import quiet

    places = side // PATCH
    # More queries than places would come from no place, in other numbers while it learns than later.
    given = {"resolution": side, "positional_encoding_size": places, "num_queries": min(QUERIES, places**2), "num_select": QUERIES}
    with quiet():  # what it says of having no weights
        return getattr(library(name).config, SIZES[name])(pretrain_weights=None, device="cpu", **{**given, **changes})


class RfDetr(Backbone):
    """The backbone of an RF-DETR for images of ``side`` pixels: the embedding is its map's mean, and the map is given once more, to the
    decoder.

    ``decoder`` has the rest of the network, until a head takes it.
    """

    def __init__(self, whole: nn.Module, side: int) -> None:
        super().__init__(whole.backbone[0], whole.transformer.d_model)
        self.side = side
        self.decoder = [whole, whole.backbone[1]]
        self.averages = True
        whole.backbone = nn.Identity()  # what is given is already what the backbone makes of images

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        (features,), _, _ = self.inner.forward_export(images)
        return features.mean((2, 3)), features, features

    def taken_decoder(self) -> tuple[nn.Module, nn.Module]:
        """The rest of the network and what tells it where places of the map are, which are handed over."""
        whole, position = self.decoder
        self.decoder = []
        return whole, position

    def fill(self, path: Path) -> None:
        """Take the weights of a file for any number of classes and any size of input; ModelFileError where it is of another network."""
        whole, given = self.decoder[0], _tensors(path)
        classes = given.get("class_embed.bias", torch.zeros(0))
        if len(classes):
            whole.reinitialize_detection_head(len(classes))
        wanted = {**{f"backbone.0.{name}": each for name, each in self.inner.state_dict().items()}, **whole.state_dict()}
        given = _fitting(given, wanted, whole.group_detr)
        wrong = sorted(
            name for name in wanted.keys() | given.keys() if _shape(wanted, name) != _shape(given, name) and name not in OPTIONAL
        )
        if wrong:
            raise ModelFileError(
                f"{path}: these weights are of another network than {self.name} (such as {wrong[0]}); give its --backbone."
            )
        broken = sorted(name for name, tensor in given.items() if not tensor.isfinite().all())
        if broken:
            raise ModelFileError(f"{path}: holds values that are no finite numbers (in {broken[0]}); fetch it again.")
        self.inner.load_state_dict({name.removeprefix("backbone.0."): given[name] for name in given if name.startswith("backbone.0.")})
        whole.load_state_dict({name: given[name] for name in given if not name.startswith("backbone.0.")}, strict=False)


def build(spec: BackboneSpec) -> RfDetr:
    """The backbone with random weights, and its decoder with it, in training mode.

    Raises UsageError where the package is not installed, or has no such network for images of this size.
    """
    from sightline.model.export import quiet

    package, arguments = library(spec.name), dict(spec.arguments)
    settings = package.config.TrainConfig(dataset_dir=".", output_dir=".", drop_path=arguments.pop("drop_path_rate", 0.0))
    try:
        with quiet():
            whole = package.models.build_model_from_config(configured(spec.name, spec.size, **arguments), settings)
    except (ValueError, AssertionError) as error:
        raise UsageError(
            f"--backbone {spec.name}: cannot be built for images of {spec.size} px ({error}); choose another --size."
        ) from error
    backbone = RfDetr(whole, spec.size)
    backbone.name = spec.name
    return backbone.train()


def is_checkpoint(path: Path, backbone: str | None) -> bool:
    """Whether a file is one of the package's own for one of its networks, which has no metadata."""
    return is_rfdetr(backbone) and path.suffix in CHECKPOINTS and path.exists()


def _tensors(path: Path) -> dict[str, Tensor]:
    """The weights by their names in the whole network. Of the package's own files nothing is made but tensors and plain values."""
    from safetensors.torch import load_file

    try:
        if path.suffix not in CHECKPOINTS:
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace, types.SimpleNamespace]):  # bags of settings, which are not looked at
            content = torch.load(path, map_location="cpu", weights_only=True)
        found = content.get("model", content)
        return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    except Exception as error:
        raise ModelFileError(f"{path}: these weights cannot be read ({type(error).__name__}); fetch the file again.") from error


def _fitting(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], groups: int) -> dict[str, Tensor]:
    """The weights for inputs of the size that is wanted: positions resampled, of each group of queries the first."""
    fitting, positions = dict(given), "backbone.0.encoder.encoder.embeddings.position_embeddings"
    if _shape(given, positions) != _shape(wanted, positions):
        library(RFDETR).models.weights.interpolate_position_embeddings(fitting, round((wanted[positions].shape[1] - 1) ** 0.5))
    for name in ("refpoint_embed.weight", "query_feat.weight"):
        if name in given and not len(given[name]) % groups and len(given[name]) > len(wanted[name]):
            fitting[name] = given[name].unflatten(0, (groups, -1))[:, : len(wanted[name]) // groups].flatten(0, 1)
    return fitting


def _shape(tensors: Mapping[str, Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None
