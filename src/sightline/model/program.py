"""A bundle's network as a program of ``torch.export``: what torch runs without the code that built it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sightline.bundle import Bundle
from sightline.data.prepare import Prepare
from sightline.errors import ModelFileError
from sightline.model.backbone import MODULE
from sightline.model.export import quiet
from sightline.model.rebuild import network_of

# As in ``exporting/halves.py``: a tensor that loses more than rounding to fp16 takes stays as it is.
LOST = 2.0**-11


class Halved(nn.Module):
    """A network with its matrices and kernels stored in fp16 and all sums in fp32, as they were; biases and norms stay as they are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for weight in network.parameters():
            half = weight.detach().half()
            lost = torch.linalg.vector_norm(weight.detach() - half.float())
            if weight.ndim >= 2 and weight.dtype == torch.float32 and bool(lost <= LOST * torch.linalg.vector_norm(weight.detach())):
                weight.data = half

    def forward(self, images: Tensor) -> Any:
        weights = {name: weight.float() for name, weight in self.network.named_parameters()}
        return functional_call(self.network, weights, (images,))


def exported_program(bundle: Bundle, in_half: bool) -> Any:
    """The network of a bundle: uint8 (n, height, width, channels) to named raw outputs, for any n.

    ``in_half`` stores the weights in fp16. Raises ModelFileError for a bundle without weights, and where torch cannot export it.
    """
    if not bundle.has("weights"):
        raise ModelFileError(f"{bundle.path}: has no weights, of which a program for torch is made; use --to onnx.")
    if str(bundle.manifest.backbone.get("name", "")).startswith(MODULE):
        raise ModelFileError(f"{bundle.path}: its backbone is a module of your own, which a bundle has no code of; use --to onnx.")
    network = network_of(bundle).requires_grad_(False)
    prepare = Prepare.from_json(bundle.manifest.prepare)
    example = torch.zeros(2, *prepare.shape, prepare.channels, dtype=torch.uint8)
    try:
        with quiet(), torch.no_grad():
            module = Halved(network) if in_half else network
            program = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},))
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelFileError(f"{bundle.path}: torch cannot export its network ({reason}); use --to onnx.") from error
    program.example_inputs = None  # the only thing in the file that would be pickled
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # where this machine keeps its files is nobody's business
    return program
