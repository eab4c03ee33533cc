"""exporting: boxes and label maps in INT8, made, judged and refused by what whole images are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import sightline
from conftest import QUICK, write_boxes, write_maps
from sightline.bundle import Bundle
from sightline.cli import _exit_code
from sightline.data.decode import Limits
from sightline.engines.adapters import onnx_infer
from sightline.errors import RequirementNotMet
from sightline.exporting import int8 as making
from sightline.exporting.forms import work_of
from sightline.exporting.judging import Judge
from sightline.exporting.material import Images
from sightline.exporting.prepared import prepared
from sightline.exporting.quantise import LAYERS, last_layers, quantised
from sightline.onnx_check import check_graph
from sightline.tasks import load_task

WRITE = {"detect": write_boxes, "segment": write_maps}
# Of a few rendered test images each weighs many points.
GENEROUS = {"max_loss": 10.0, "threads": 1, "calibration_images": 24}


@pytest.fixture(scope="module", params=sorted(WRITE))
def learnt(request, tmp_path_factory):
    """Rendered data, and a run that tells the rectangles apart."""
    folder = tmp_path_factory.mktemp(request.param)
    data = WRITE[request.param](folder / "data", n=72, seed=4)
    return data, sightline.train(data, out=str(folder / "run"), **{**QUICK, "epochs": 14})


@pytest.fixture(scope="module")
def exported(learnt, tmp_path_factory):
    data, run = learnt
    return sightline.export(run.model, data=data, precision="int8", out=tmp_path_factory.mktemp("exported") / "small.sight", **GENEROUS)


@pytest.fixture(scope="module")
def seen(learnt):
    """The bundle's manifest and graph, and that graph in INT8, with the images it was calibrated with."""
    data, run = learnt
    files = sorted((data / "images").iterdir())[:24]
    with Bundle.open(run.model) as bundle:
        manifest, graph = bundle.manifest, bundle.read("graph")
    images = prepared(Images([str(path) for path in files], np.zeros(24)), sightline.Model.open(run.model).prepare, Limits(), "Reading")
    return manifest, graph, quantised(graph, images.pixels), images


def test_a_variant_is_a_bundle_that_every_verb_takes(learnt, exported):
    data, run = learnt
    metric = load_task(run.numbers["task"]).METRIC
    assert run.numbers["test"]["metrics"][metric] > 0.3
    assert exported.figures[0].metric == metric
    assert exported.figures[0].value == pytest.approx(run.numbers["test"]["metrics"][metric], abs=1e-4)
    assert exported.loss.points <= GENEROUS["max_loss"]
    assert exported.loss.n == run.numbers["test"]["n"]
    with Bundle.open(exported.model) as bundle, Bundle.open(run.model) as source:
        assert bundle.manifest.is_int8
        assert bundle.manifest.variant["validation"]["n"] > 10
        assert set(last_layers(source.read("graph"))) <= set(bundle.manifest.variant["float_layers"])
        assert len(bundle.read("graph")) < 0.75 * len(source.read("graph"))
    assert sightline.verify(exported.model)["max_difference"] < 1e-5
    found = sightline.evaluate(exported.model, data, engine="onnxruntime")
    assert 100 * (exported.figures[0].value - found["metrics"][metric]) <= exported.loss.points + 1e-6
    image = sorted((data / "images").iterdir())[1]
    assert sightline.Model.open(exported.model).predict(image).labels


def test_what_is_behind_the_last_layers_stays_in_float(seen):
    """Places in pixels have more than 256 values."""
    manifest, graph, int8, _ = seen
    check_graph(int8)
    nodes = onnx.load_from_string(int8).graph.node
    assert sum(node.op_type == "QuantizeLinear" for node in nodes) > 20
    outputs = set(load_task(manifest.task).OUTPUTS)
    makers = {output: node for node in nodes for output in node.output}
    last = set()
    for name in outputs:
        reached = [name]
        while reached:
            node = makers.get(reached.pop())
            if node is not None and node.op_type in LAYERS:
                last.add(node.name)
            elif node is not None:
                assert node.op_type not in ("QuantizeLinear", "DequantizeLinear")
                reached += node.input
    weights = {tensor.name: tensor.data_type for tensor in onnx.load_from_string(int8).graph.initializer}
    assert len(last) == {"detect": 6, "segment": 1}[manifest.task]
    assert last == set(last_layers(graph))
    for node in nodes:
        if node.name in last:
            assert weights[node.input[1]] == onnx.TensorProto.FLOAT


def test_the_graph_in_int8_finds_nearly_the_same(seen):
    manifest, graph, int8, images = seen
    judge = Judge(load_task(manifest.task), manifest)
    expected, raw = (images.dense(onnx_infer(work_of(manifest, made, "it", 1))) for made in (graph, int8))
    assert 0 < judge.apart(raw, expected) < 0.2 * judge.apart(raw, {name: np.zeros_like(values) for name, values in expected.items()})


def scrambled(int8):
    """A graph whose last layers of classes have those in another order."""
    model = onnx.load_from_string(int8)
    names = {node.input[place] for node in model.graph.node for place in (1, 2) if node.op_type == "Conv" and len(node.input) > place}
    for place, tensor in enumerate(model.graph.initializer):
        if tensor.name in names and tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims[0] in (2, 3):
            values = onnx.numpy_helper.to_array(tensor)[::-1].copy()
            model.graph.initializer[place].CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model.SerializeToString()


def test_a_variant_broken_on_purpose_is_refused_with_its_figures_and_nothing_is_written(learnt, tmp_path, monkeypatch):
    data, run = learnt
    monkeypatch.setattr(making, "quantised", lambda *given: scrambled(quantised(*given)))
    monkeypatch.setattr("sightline.exporting.floats.in_float", lambda int8, graph, names: int8)
    with pytest.raises(RequirementNotMet, match="on validation images it loses too much"):
        sightline.export(run.model, data=data, out=tmp_path / "broken.sight", precision="int8", **GENEROUS)
    monkeypatch.setattr("sightline.exporting.floats.Mixed.holds", lambda self, max_loss: True)  # so that the test replay is reached
    metric = load_task(run.numbers["task"]).METRIC
    with pytest.raises(RequirementNotMet, match=rf"loses \d+\.\d\d points of {metric} on the \d+ test images, more than --max-loss 10 "):
        sightline.export(run.model, data=data, out=tmp_path / "broken.sight", precision="int8", **GENEROUS)
    assert not list(tmp_path.iterdir())


def test_without_data_it_is_said_what_to_give(learnt, capsys):
    assert _exit_code(["export", str(learnt[1].model), "--precision", "int8"]) == 2
    assert "--data: give the labelled images" in " ".join(capsys.readouterr().err.split())
