"""Pretrained weights and the contract that comes with them: from a local file, a hub's download, or none.

A weights file's own metadata is obeyed (mean, std, padding, size): reading weights under another contract loses
accuracy without any error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sightline.errors import ModelFileError, SightlineError
from sightline.model.backbone import TORCHVISION, Backbone

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What the last layer is called in the libraries' networks; ours replaces it.
CLASSIFIERS = ("classifier", "fc", "head", "heads", "head_dist", "AuxLogits", "aux1", "aux2")


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


@dataclass(frozen=True)
class Weights:
    """Weights to start from: the file, the backbone it names (None when it does not say) and its contract."""

    path: Path
    source: str
    backbone: str | None
    contract: Contract


def local_weights(path: Path, backbone: str | None) -> Weights:
    """A safetensors file with its metadata read; ModelFileError when it is missing, broken or for another backbone."""
    metadata = _metadata(path)
    named = metadata.get("timm") or metadata.get("architecture") or metadata.get("backbone")
    if named and backbone and named.split(".")[0] != backbone.split(".")[0]:
        raise ModelFileError(f"{path}: holds weights for {named}, not for {backbone}; leave --backbone out or give its own weights.")
    if not named and not backbone:
        raise ModelFileError(f"{path}: does not say which backbone it is for; name it with --backbone.")
    name = named or backbone
    assert name is not None
    base = _library_contract(name)
    try:
        contract = Contract(
            mean=_floats(metadata.get("mean"), base.mean),
            std=_floats(metadata.get("std"), base.std),
            interpolation=metadata.get("interpolation", base.interpolation),
            size=int(metadata.get("size", base.size)),
            crop_fraction=float(metadata.get("crop_pct", base.crop_fraction)),
            arguments={"pad_type": metadata["pad_type"]} if metadata.get("pad_type") else {},
            licence=metadata.get("licence") or metadata.get("license"),
        )
    except ValueError as error:
        raise ModelFileError(f"{path}: its metadata is not understood ({error}).") from error
    return Weights(path, path.name, name, contract)


def hub_weights(backbone: str, *, download: bool) -> Weights | None:
    """The library's own pretrained weights, downloaded or, without ``download``, only if a copy is on this machine.

    Returns None when there is no copy, or the backbone has no pretrained weights; raises ModelFileError when a download fails.
    """
    if backbone.startswith(TORCHVISION):
        return _torchvision_weights(backbone, download)
    import timm
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cfg = timm.get_pretrained_cfg(backbone)
    if cfg is None or not cfg.hf_hub_id:
        return None
    filename = cfg.hf_hub_filename or "model.safetensors"
    if download:
        try:
            found: Any = hf_hub_download(cfg.hf_hub_id, filename)
        except Exception as error:
            raise _no_download(backbone, error) from error
    else:
        found = try_to_load_from_cache(cfg.hf_hub_id, filename)
    return Weights(Path(found), cfg.hf_hub_id, backbone, _library_contract(backbone)) if isinstance(found, str) else None


def _torchvision_weights(backbone: str, download: bool) -> Weights | None:
    import torchvision

    weights = torchvision.models.get_model_weights(backbone.removeprefix(TORCHVISION)).DEFAULT
    path = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    if download:
        try:
            weights.get_state_dict(progress=False, check_hash=True)
        except Exception as error:
            raise _no_download(backbone, error) from error
    return Weights(path, weights.url.rpartition("/")[2], backbone, Contract()) if path.exists() else None


def _no_download(backbone: str, error: Exception) -> SightlineError:
    return ModelFileError(
        f"The weights of {backbone} could not be downloaded ({type(error).__name__}); "
        "check the connection, give a file with --weights FILE, or train without with --weights none."
    )


def _library_contract(backbone: str) -> Contract:
    if backbone.startswith(TORCHVISION):
        return Contract()
    import timm

    cfg = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    if cfg is None:
        return Contract()
    interpolation = cfg.interpolation if cfg.interpolation in ("bilinear", "bicubic") else "bicubic"
    return Contract(tuple(cfg.mean), tuple(cfg.std), interpolation, cfg.input_size[1], cfg.crop_pct, {}, cfg.license)


def load_into(backbone: Backbone, weights: Weights) -> None:
    """Fill the backbone; the file's classifier is left out. ModelFileError when it is for another network."""
    given = {name: tensor for name, tensor in _tensors(weights.path).items() if name.split(".")[0] not in CLASSIFIERS}
    # A backbone may own layers of those names too (a head's normalisation): only what it lacks is dropped above.
    wanted = backbone.inner.state_dict()
    given |= {name: tensor for name, tensor in _tensors(weights.path).items() if name in wanted}
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    missing = sorted(wanted.keys() - given.keys() - optional)
    extra = sorted(given.keys() - wanted.keys())
    shapes = [name for name in wanted.keys() & given.keys() if wanted[name].shape != given[name].shape]
    if missing or extra or shapes:
        example = (missing or extra or sorted(shapes))[0]
        raise ModelFileError(
            f"{weights.path}: these weights are of another network than {weights.backbone}: {len(missing)} tensors are missing, "
            f"{len(extra)} have no place and {len(shapes)} have another shape (such as {example}); give the --backbone they were made for."
        )
    backbone.inner.load_state_dict({name: tensor.to(wanted[name].dtype) for name, tensor in given.items()}, strict=False)


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":  # torchvision's own downloads, whose hash was checked
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    from safetensors.torch import load_file

    return load_file(path)


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
