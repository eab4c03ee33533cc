"""A trained network as files that need no torch: the ONNX graph and the weights."""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from sightline.errors import ModelFileError
from sightline.model.network import Network


def export_graph(network: Network, size: int) -> bytes:
    """The network in evaluation mode as one ONNX file without external data: uint8 (n, size, size, 3) to named raw outputs."""
    import onnx

    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    network = network.eval().cpu()
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder, "model.onnx")
        torch.onnx.export(
            network, (example,), path, input_names=["images"], output_names=_output_names(network, example), dynamo=True,
            external_data=False, dynamic_shapes={"images": {0: torch.export.Dim("n")}}, verbose=False,
        )  # fmt: skip
        model = onnx.load(path)
    # The exporter notes source files and stack traces of the machine it ran on; they are nobody's business.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer, model.graph, model):
        if hasattr(value, "metadata_props"):
            del value.metadata_props[:]
        value.doc_string = ""
    return bytes(model.SerializeToString(deterministic=True))


def _output_names(network: Network, example: torch.Tensor) -> list[str]:
    with torch.inference_mode():
        return list(network(example))


@contextmanager
def _quiet() -> Iterator[None]:
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
        return bytes(save({name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}))
    except (RuntimeError, ValueError) as error:
        raise ModelFileError(f"The network's weights cannot be written as safetensors: {error}") from error


def count_parameters(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
