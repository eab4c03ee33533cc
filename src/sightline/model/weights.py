"""Pretrained weights and the contract that comes with them: from a local file, a hub's download, or none.

A weights file's own metadata is obeyed (mean, std, padding, size): reading weights under another contract loses
accuracy without any error.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sightline.data.prepare import RESAMPLE
from sightline.errors import ModelFileError, SightlineError, UsageError
from sightline.model.backbone import TORCHVISION, Backbone, check_name
from sightline.model.rfdetr import RfDetr, is_checkpoint

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What the last layer is called in the libraries' networks; ours replaces it.
CLASSIFIERS = (
    "classifier", "fc", "head", "heads", "head_dist", "heads_dist", "aux_head", "last_linear", "classif", "AuxLogits", "aux1", "aux2",
)  # fmt: skip
PADDINGS = ("same", "valid", "symmetric")
SMALLEST_SIZE, LARGEST_SIZE = 8, 2048
# Licences under which a model trained from the weights may be used for anything.
PERMISSIVE = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0")
# These torchvision networks learned on inputs scaled otherwise, and convert them themselves when told to.
CONVERTING_INPUT = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class Contract:
    """What weights expect of their input, and where that is known from."""

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"
    size: int = 224
    crop_fraction: float = 0.875
    arguments: Mapping[str, Any] = field(default_factory=dict)
    licence: str | None = None

    @property
    def permissive(self) -> bool | None:
        """Whether what is trained from the weights may be used for anything; None where the licence is not stated."""
        return None if self.licence is None else self.licence.lower() in PERMISSIVE

    @property
    def licence_said(self) -> str:
        """The licence in words, and a warning when it may forbid some use of what is trained from the weights."""
        if self.licence is None:
            return "licence: not stated"
        caution = "" if self.permissive else ", which is not a permissive one: read it before you use the model"
        return f"licence: {self.licence}{caution}"


@dataclass(frozen=True)
class Weights:
    """Weights to start from: the file, where it came from in a word, the backbone it is for and its contract."""

    path: Path
    source: str
    backbone: str
    contract: Contract


def local_weights(path: Path, backbone: str | None) -> Weights:
    """A safetensors file with its metadata read; ModelFileError when it is missing, broken or for another backbone."""
    metadata = {} if is_checkpoint(path, backbone) else _metadata(path)
    named = metadata.get("timm") or metadata.get("architecture") or metadata.get("backbone")
    if named and backbone and _plain(named) != _plain(backbone):
        raise ModelFileError(f"{path}: holds weights for {named}, not for {backbone}; leave --backbone out or give its own weights.")
    if not named and not backbone:
        raise ModelFileError(f"{path}: does not say which backbone it is for; name it with --backbone.")
    try:
        name = backbone or check_name(named or "")
    except UsageError as error:
        raise ModelFileError(f"{path}: is for {named}, and neither timm nor torchvision has a backbone of this name here.") from error
    try:
        contract = _stated_contract(metadata, library_contract(name))
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"{path}: its metadata is not understood ({error}).") from error
    return Weights(path, path.name, name, contract)


def _plain(backbone: str) -> str:
    """A backbone's name without its library and without the tag of one of its weights."""
    return backbone.removeprefix(TORCHVISION).partition(".")[0]


def _stated_contract(metadata: Mapping[str, str], library: Contract) -> Contract:
    """The file's own contract, the library's where the file is silent; ValueError or TypeError when it makes no sense."""
    contract = Contract(
        mean=_floats(metadata.get("mean"), library.mean),
        std=_floats(metadata.get("std"), library.std),
        interpolation=metadata.get("interpolation", library.interpolation),
        size=int(metadata.get("size", library.size)),
        crop_fraction=float(metadata.get("crop_pct", library.crop_fraction)),
        arguments={**library.arguments, **({"pad_type": metadata["pad_type"]} if metadata.get("pad_type") else {})},
        licence=metadata.get("licence") or metadata.get("license"),
    )
    sound = {
        "mean": all(map(math.isfinite, contract.mean)),
        "std": all(math.isfinite(value) and value > 0 for value in contract.std),
        "interpolation": contract.interpolation in RESAMPLE,
        "size": SMALLEST_SIZE <= contract.size <= LARGEST_SIZE,
        "crop_pct": 0 < contract.crop_fraction <= 1,
        "pad_type": contract.arguments.get("pad_type", "same") in PADDINGS,
    }
    wrong = [f"{name} is {metadata[name]!r}" for name, fits in sound.items() if not fits]
    if wrong:
        raise ValueError(", ".join(wrong))
    return contract


def has_weights(backbone: str) -> bool:
    """Whether the library has pretrained weights of a backbone, here or to download."""
    if backbone.startswith(TORCHVISION):
        return True
    import timm

    cfg = timm.get_pretrained_cfg(backbone)
    return cfg is not None and bool(cfg.hf_hub_id)


def hub_weights(backbone: str, *, download: bool) -> Weights | None:
    """The library's own pretrained weights, downloaded or, without ``download``, only if a copy is on this machine.

    Returns None when there is no copy, or the backbone has no pretrained weights; raises ModelFileError when a download fails.
    """
    if not has_weights(backbone):
        return None
    if backbone.startswith(TORCHVISION):
        return _torchvision_weights(backbone, download)
    import timm
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cfg = timm.get_pretrained_cfg(backbone)
    filename = cfg.hf_hub_filename or "model.safetensors"
    if download:
        try:
            found: Any = hf_hub_download(cfg.hf_hub_id, filename)
        except Exception as error:
            raise _no_download(backbone, error) from error
    else:
        found = try_to_load_from_cache(cfg.hf_hub_id, filename)
    return Weights(Path(found), cfg.hf_hub_id, backbone, library_contract(backbone)) if isinstance(found, str) else None


def _torchvision_weights(backbone: str, download: bool) -> Weights | None:
    import torchvision

    weights = torchvision.models.get_model_weights(backbone.removeprefix(TORCHVISION)).DEFAULT
    path = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    if download:
        try:
            weights.get_state_dict(progress=False, check_hash=True)
        except Exception as error:
            raise _no_download(backbone, error) from error
    return Weights(path, path.name, backbone, library_contract(backbone)) if path.exists() else None


def _no_download(backbone: str, error: Exception) -> SightlineError:
    return ModelFileError(
        f"The weights of {backbone} could not be downloaded ({type(error).__name__}); "
        "check the connection, give a file with --weights FILE, or train without with --weights none."
    )


def library_contract(backbone: str) -> Contract:
    """What the library's own weights of a backbone expect."""
    if backbone.startswith(TORCHVISION):
        return _torchvision_contract(backbone.removeprefix(TORCHVISION))
    import timm

    cfg = timm.get_pretrained_cfg(backbone)
    if cfg is None:
        return Contract()
    interpolation = cfg.interpolation if cfg.interpolation in RESAMPLE else "bicubic"
    return Contract(tuple(cfg.mean), tuple(cfg.std), interpolation, cfg.input_size[1], min(1.0, cfg.crop_pct), {}, cfg.license)


def _torchvision_contract(name: str) -> Contract:
    import torchvision

    weights = torchvision.models.get_model_weights(name).DEFAULT
    view = weights.transforms()
    return Contract(
        tuple(view.mean), tuple(view.std), view.interpolation.value, view.crop_size[0], view.crop_size[0] / view.resize_size[0],
        {"transform_input": True} if name in CONVERTING_INPUT else {},
        weights.meta.get("license"),  # torchvision's own licence is for its code: of its weights, it says, one may have to ask elsewhere
    )  # fmt: skip


def load_into(backbone: Backbone, weights: Weights) -> None:
    """Fill the backbone; the file's classifier is left out. ModelFileError when it is broken or for another network."""
    if isinstance(backbone, RfDetr):
        backbone.fill(weights.path)
        return
    given, wanted = _tensors(weights.path), backbone.inner.state_dict()
    given = _for_channels(given, wanted, backbone.inner)
    problem = _mismatch(_without_classifier(given, wanted), wanted)
    if problem:
        given = _for_channels(_as_timm_reads(given, backbone.inner), wanted, backbone.inner)
        problem = _mismatch(_without_classifier(given, wanted), wanted)
    if problem:
        raise ModelFileError(
            f"{weights.path}: these weights are of another network than {weights.backbone}, or of one for another size of image: "
            f"{problem}; give the --backbone and --size they were made for."
        )
    given = {name: tensor.to(wanted[name].dtype) for name, tensor in _without_classifier(given, wanted).items()}
    broken = sorted(name for name, tensor in given.items() if not tensor.isfinite().all())
    if broken:
        raise ModelFileError(f"{weights.path}: holds values that are no finite numbers (in {broken[0]}); fetch it again.")
    backbone.inner.load_state_dict(given, strict=False)


def _without_classifier(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A backbone may own layers under those names too, such as a head's normalisation: only what it lacks is left out."""
    return {name: tensor for name, tensor in given.items() if name in wanted or name.partition(".")[0] not in CLASSIFIERS}


def _for_channels(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], inner: nn.Module) -> Mapping[str, Tensor]:
    """The tensors with the first convolution of an RGB network as timm fits it to other channels: summed to one, or repeated and scaled."""
    named = getattr(inner, "pretrained_cfg", {}).get("first_conv") or ()
    names = [f"{name}.weight" for name in ((named,) if isinstance(named, str) else named)]
    odd = [name for name in names if name in given and name in wanted and given[name].shape[1:2] != wanted[name].shape[1:2]]
    if not odd:
        return given
    from timm.models import adapt_input_conv

    fitting = {name: adapt_input_conv(wanted[name].shape[1], given[name]) for name in odd if given[name].shape[1] == 3}
    return {**given, **fitting}


def _mismatch(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """How the tensors differ from those of the network, or an empty string."""
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    missing = sorted(wanted.keys() - given.keys() - optional)
    extra = sorted(given.keys() - wanted.keys())
    shapes = sorted(name for name in wanted.keys() & given.keys() if wanted[name].shape != given[name].shape)
    if not (missing or extra or shapes):
        return ""
    return (
        f"{len(missing)} tensors are missing, {len(extra)} have no place and {len(shapes)} have another shape "
        f"(such as {(missing or extra or shapes)[0]})"
    )


def _as_timm_reads(given: Mapping[str, Tensor], inner: nn.Module) -> dict[str, Tensor]:
    """The tensors as timm would load them: names of older files, a transformer's positions resampled to its input size."""
    convert = getattr(sys.modules[type(inner).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return dict(given)
    try:
        return dict(convert(dict(given), inner))
    except Exception:  # made for files of the network's family: what it cannot read stays as it is, and is refused with a reason
        return dict(given)


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))  # torchvision's own downloads
    except Exception as error:
        reason = type(error).__name__
        raise ModelFileError(f"{path}: these weights cannot be read ({reason}); remove the file and fetch it again.") from error


def _metadata(path: Path) -> dict[str, str]:
    if not path.exists():
        raise ModelFileError(f"--weights {path}: there is no such file.")
    if path.suffix != ".safetensors":
        raise ModelFileError(f"--weights {path}: only .safetensors files are read, because other formats can run code when opened.")
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"--weights {path}: is not a whole safetensors file ({error}); fetch it again.") from error


def _floats(text: str | None, default: tuple[float, ...]) -> tuple[float, ...]:
    """Three numbers from "0.5,0.5,0.5" or a JSON list."""
    if text is None:
        return default
    values = tuple(float(value) for value in (json.loads(text) if text.startswith("[") else text.split(",")))
    if len(values) != 3:
        raise ValueError(f"{len(values)} numbers where 3 are needed")
    return values
