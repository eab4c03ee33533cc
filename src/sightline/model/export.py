"""A trained network as files that need no torch: the ONNX graph and the weights."""

from __future__ import annotations

import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from google.protobuf.message import Message
from torch import Tensor, nn

from sightline.errors import ModelFileError
from sightline.model.folding import folded
from sightline.model.network import Network

# The newest that bundles' readers accept is 21; written out, so that a newer torch does not change it.
OPSET = 20


def export_graph(network: Network, size: int | tuple[int, int]) -> bytes:
    """The network in evaluation mode as one ONNX file without external data: uint8 (n, height, width, channels) to named raw outputs.

    ``size`` is both sides, or height and width.

    The network stays as it is and where it is. Raises ModelFileError when the exporter does not take it.
    """
    import onnx

    height, width = size if isinstance(size, tuple) else (size, size)
    drawn = torch.Generator().manual_seed(0)
    example = torch.randint(0, 256, (2, height, width, network.prepare.channels), dtype=torch.uint8, generator=drawn)
    simpler, outputs = folded(_with_plain_pooling(copy.deepcopy(network).cpu().eval()), example)
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder, "model.onnx")
        try:
            torch.onnx.export(
                simpler, (example,), path, input_names=["images"], output_names=list(outputs), dynamo=True,
                opset_version=OPSET, external_data=False, dynamic_shapes={"images": {0: torch.export.Dim("n")}}, verbose=False,
            )  # fmt: skip
        except Exception as error:
            raise ModelFileError(f"The network cannot be exported to ONNX ({_first_line(error)}); choose another --backbone.") from error
        model = onnx.load(path)
    _strip(model)
    return bytes(model.SerializeToString(deterministic=True))


class _Mean(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3), keepdim=True)


def _with_plain_pooling(network: Network) -> Network:
    """The network with global average pooling as a mean, which it is; the exporter would gather each mean by a computed index."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            network.set_submodule(name, _Mean())
    return network


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _strip(message: Message) -> None:
    """Clear the source files and stack traces of this machine that the exporter notes at every level; they are nobody's business."""
    for name in ("doc_string", "metadata_props"):
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    for entry, value in message.ListFields():
        if entry.message_type is not None:
            for part in (value,) if isinstance(value, Message) else value:
                _strip(part)


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter talks to its developers on every channel there is; none of it is for our users."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def weights_bytes(network: Network) -> bytes:
    """The network's weights as safetensors."""
    from safetensors.torch import save

    try:
        weights = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("auxiliary.")}
        return bytes(save({name: tensor.contiguous().cpu() for name, tensor in weights.items()}))
    except (RuntimeError, ValueError) as error:
        raise ModelFileError(f"The network's weights cannot be written as safetensors: {error}") from error


def count_parameters(network: Network) -> int:
    """How many numbers were learned, without those of training's auxiliary heads."""
    return sum(parameter.numel() for part in (network.backbone, network.head) for parameter in part.parameters())
