"""A bundle's network as a program of ``torch.export``: what torch runs without the code that built it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sightline.bundle import Bundle
from sightline.data.prepare import Prepare
from sightline.errors import ModelFileError
from sightline.fp16 import STEP, in_fp16
from sightline.model.backbone import MODULE
from sightline.model.export import quiet
from sightline.model.rebuild import network_of


class Halved(nn.Module):
    """A network with its matrices and kernels stored in fp16 and all sums in fp32, as they were; biases and norms stay as they are.

    rests  with what fp16 rounds off in eight bits beside it (fp16.py)
    """

    def __init__(self, network: nn.Module, rests: bool) -> None:
        super().__init__()
        self.network = network
        self.rests: dict[str, str | None] = {}  # of each weight in fp16 the buffer of what that rounds off
        weights = dict(network.named_parameters())
        stored = {name: weight.detach().numpy() for name, weight in weights.items() if weight.ndim >= 2 and weight.dtype == torch.float32}
        for place, (name, (half, rest)) in enumerate(in_fp16(stored, rests).items()):
            weights[name].data = torch.from_numpy(half)
            self.rests[name] = None if rest is None else f"rest_{place}"
            if rest is not None:
                self.register_buffer(f"rest_{place}", torch.from_numpy(rest))

    def forward(self, images: Tensor) -> Any:
        weights = {}
        for name, rest in self.rests.items():
            weights[name] = self.network.get_parameter(name).float()
            if rest is not None:
                weights[name] = weights[name] * (1 + STEP * self.get_buffer(rest))
        return functional_call(self.network, weights, (images,))


def exported_program(bundle: Bundle, in_half: bool, rests: bool = False) -> Any:
    """The network of a bundle: uint8 (n, height, width, channels) to named raw outputs, for any n.

    ``in_half`` stores the weights in fp16, with ``rests`` what that rounds off as well. Raises ModelFileError for a bundle without weights,
    and where torch cannot export it.
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
            module = Halved(network, rests) if in_half else network
            program = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},))
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelFileError(f"{bundle.path}: torch cannot export its network ({reason}); use --to onnx.") from error
    program.example_inputs = None  # the only thing in the file that would be pickled
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # where this machine keeps its files is nobody's business
    return program
