"""The torch network of a bundle, from its weights: to train on, and to hold the graph against."""

from __future__ import annotations

from torch import nn

from sightline.bundle import Bundle
from sightline.data.prepare import Prepare
from sightline.errors import ModelFileError
from sightline.model.assembly import assembled, heads_of
from sightline.model.backbone import BackboneSpec, build
from sightline.model.network import Network
from sightline.tasks import load_task


def network_of(bundle: Bundle, module: nn.Module | None = None) -> Network:
    """The network in evaluation mode; ``module`` is needed where the backbone was a user's own.

    Raises ModelFileError when the bundle has no weights, or has those of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    manifest = bundle.manifest
    load_task(manifest.task)
    spec = BackboneSpec.from_json(manifest.backbone)
    heads, backbone = heads_of(manifest.task, spec.name), build(spec, module)
    network = assembled(backbone, heads, len(manifest.labels), 0.0, Prepare.from_json(manifest.prepare))
    try:
        network.load_state_dict(load(bundle.read("weights")))
    except (SafetensorError, RuntimeError) as error:
        raise ModelFileError(f"{bundle.path}: its weights do not fit the network it describes; train it again.") from error
    return network.eval()
