"""The exported graph: the same answers in ONNX Runtime, for any batch, and nothing in it of the machine it was made on."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load

import sightline
from sightline.errors import ModelFileError
from sightline.evaluation.metrics import softmax
from sightline.model.export import OPSET, count_parameters, export_graph, weights_bytes
from sightline.model.network import Network, torch_infer
from sightline.onnx_check import check_graph
from tiny import tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
OUTPUTS = ("logits", "embedding", "features")


@pytest.fixture(scope="module")
def exported() -> tuple[Network, bytes]:
    torch.set_num_threads(1)
    network = tiny_network(dropout=0.5)
    with torch.no_grad():  # statistics of its own, as after training
        for batch in torch.rand(5, 8, 32, 32, 3):
            network(batch * 255)
    return network.train(), export_graph(network, 32)


@pytest.fixture
def model(exported) -> onnx.ModelProto:
    return onnx.load_model_from_string(exported[1])


@pytest.mark.parametrize("n", [1, 5])
def test_the_graph_answers_as_the_network_does(exported, n):
    network, graph = exported
    images = np.random.default_rng(n).integers(0, 256, (n, 32, 32, 3), np.uint8)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = dict(zip(OUTPUTS, session.run(OUTPUTS, {"images": images}), strict=True))
    expected = torch_infer(network, CPU, OUTPUTS)(images)
    assert {name: values.shape for name, values in found.items()} == {"logits": (n, 3), "embedding": (n, 96), "features": (n, 96, 4, 4)}
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-4)
    assert np.abs(softmax(found["logits"]) - softmax(expected["logits"])).max() < 1e-4


def test_exporting_again_gives_the_same_bytes_in_silence_and_leaves_the_network_as_it_was(exported, capfd):
    network, graph = exported
    before = copy.deepcopy(network)
    assert export_graph(network, 32) == graph
    assert capfd.readouterr() == ("", "")
    assert [module.training for module in network.modules()] == [module.training for module in before.modules()]
    assert all(torch.equal(tensor, before.state_dict()[name]) for name, tensor in network.state_dict().items())
    copy.deepcopy(network)(torch.rand(2, 32, 32, 3))["logits"].sum().backward()


def test_the_network_is_not_moved(exported, monkeypatch):
    """What is exported is a copy: the network itself may be on an accelerator, and stays there."""
    network, _ = exported
    moved = []
    original = Network.cpu
    monkeypatch.setattr(Network, "cpu", lambda self: moved.append(self) or original(self))
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("enough")))
    with pytest.raises(ModelFileError):
        export_graph(network, 32)
    assert moved
    assert network not in moved


def test_the_graph_is_one_that_bundles_take(exported, model):
    check_graph(exported[1], "model.onnx")
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET == 20


def test_names_types_and_shapes(model):
    (images,) = model.graph.input
    shape = images.type.tensor_type.shape.dim
    assert (images.name, images.type.tensor_type.elem_type) == ("images", onnx.TensorProto.UINT8)
    assert [entry.dim_value for entry in shape[1:]] == [32, 32, 3]
    assert shape[0].dim_param
    assert [value.name for value in model.graph.output] == list(OUTPUTS)
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.output} == {shape[0].dim_param}


def test_nothing_lies_outside_the_file(model):
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT and not tensor.external_data for tensor in model.graph.initializer)


def messages(message):
    """The message and all that are inside it."""
    yield message
    for _, value in message.ListFields():
        for part in value if hasattr(value, "__len__") and not isinstance(value, str | bytes) else [value]:
            if hasattr(part, "ListFields"):
                yield from messages(part)


def test_nothing_is_told_of_the_machine_it_was_made_on(exported, model):
    _, graph = exported
    for place in (Path(sightline.__file__).parents[2], Path(torch.__file__).parents[1], Path.home(), Path.cwd()):
        assert str(place).encode() not in graph
    for word in (b"site-packages", b"Traceback", b"stack_trace"):
        assert word not in graph
    assert all(not getattr(each, "doc_string", "") and not getattr(each, "metadata_props", ()) for each in messages(model))


def test_a_network_that_cannot_be_exported_is_an_error_in_words(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("\nFailed to export the model.\nA page of advice.")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ModelFileError, match=r"cannot be exported to ONNX \(Failed to export the model\.\); choose another --backbone"):
        export_graph(tiny_network(), 32)


def test_weights_are_written_to_train_on(exported):
    network, _ = exported
    tensors = load(weights_bytes(network))
    state = network.state_dict()
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) for name in state)


def test_parameters_are_counted():
    network = tiny_network()
    assert count_parameters(network) == sum(weights.numel() for weights in network.backbone.parameters()) + 96 * 3 + 3


@pytest.mark.parametrize("name", ["test_resnet", "torchvision/resnet18"])
def test_global_pooling_is_a_mean_and_no_gathering(name):
    graph = onnx.load_from_string(export_graph(tiny_network(name=name), 32)).graph
    kinds = {node.op_type for node in graph.node}
    assert "ReduceMean" in kinds
    assert not kinds & {"Range", "Gather"}
