"""What a graph from elsewhere may do to the machine that runs it: little."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sightline.engines import adapters
from sightline.engines.adapters import Work, onnx_infer, openvino_infer, version_of
from sightline.engines.outputs import checked
from sightline.errors import ModelFileError, ResourceError
from sightline.exporting.halved import halved
from sightline.onnx_check import check_graph

needs_openvino = pytest.mark.skipif(version_of("openvino") is None, reason="OpenVINO is not installed: pip install 'sightline[fast]'")
node = helper.make_node
IMAGES = np.zeros((2, 4, 4, 3), np.uint8)
MEAN = [node("Cast", ["images"], ["x"], to=TensorProto.FLOAT), node("ReduceMean", ["x"], ["level"], axes=[1, 2], keepdims=0)]


def work(nodes, constants=(), shapes=None, output="logits", kind=TensorProto.FLOAT) -> Work:
    made = helper.make_graph(
        [*MEAN, *nodes], "g", [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 4, 4, 3])],
        [helper.make_tensor_value_info(output, kind, None)], [numpy_helper.from_array(array, name) for name, array in constants],
    )  # fmt: skip
    data = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return Work(data, (output,), "it.sight", (4, 4, 3), threads=1, shapes=shapes or {})


def refused(the_work: Work, words: str, error: type[Exception] = ModelFileError) -> None:
    with pytest.raises(error, match=words) as caught:
        onnx_infer(the_work)(IMAGES)
    assert str(caught.value).startswith("it.sight: its graph ")
    assert "\n" not in str(caught.value)


def test_a_sound_graph_gives_what_it_computes():
    found = onnx_infer(work([node("Identity", ["level"], ["logits"])], shapes={"logits": (3,)}))(IMAGES + np.uint8(7))
    np.testing.assert_allclose(found["logits"], np.full((2, 3), 7, np.float32))


def test_onnx_runtimes_own_format_is_never_read():
    """Its marker stands where that format has it, inside a text that protobuf knows: nothing here checks what such a file asks for."""
    sound = work([node("Identity", ["level"], ["logits"])])
    text = b"xxORTM" + b"x" * 26
    both = Work(b"\x12" + bytes([len(text)]) + text + sound.graph, sound.outputs, sound.source, sound.shape, threads=1)
    assert both.graph[4:8] == b"ORTM"
    check_graph(both.graph)
    np.testing.assert_array_equal(onnx_infer(both)(IMAGES)["logits"], onnx_infer(sound)(IMAGES)["logits"])


@needs_openvino
def test_openvino_reads_no_other_format_either():
    """A text at the beginning, which protobuf knows, makes it look like Paddle's format to OpenVINO."""
    sound = work([node("Identity", ["level"], ["logits"])])
    text = b'\n<?xml version="1.0"?><!--'.ljust(62)
    both = Work(text + sound.graph, sound.outputs, sound.source, sound.shape, threads=1)
    check_graph(both.graph)
    found = openvino_infer(both)(IMAGES + np.uint8(7))
    np.testing.assert_allclose(found["logits"], np.full((2, 3), 7, np.float32))


def test_nothing_is_printed_of_a_graph_that_cannot_be_loaded(capfd):
    """Found by benchmarks/fuzz_bundles.py: ONNX Runtime printed to where --json has its answers."""
    sound = work([node("Identity", ["level"], ["logits"])])
    odd = Work(sound.graph.replace(b"Identity", b"Identit\xf1"), sound.outputs, sound.source, sound.shape, threads=1)
    with pytest.raises(ModelFileError, match="ONNX Runtime cannot load its graph"):
        onnx_infer(odd)
    assert capfd.readouterr() == ("", "")


def test_weights_that_are_laid_out_for_many_operators_are_counted(monkeypatch):
    """Each product lays them out anew, so that a small file would take any amount of memory while it is loaded."""
    products = [node("MatMul", [f"y{number}", "w"], [f"y{number + 1}"]) for number in range(20)]
    many = work(
        [node("Identity", ["level"], ["y0"]), *products, node("Identity", ["y20"], ["logits"])], [("w", np.eye(3, dtype=np.float32))]
    )
    onnx_infer(many)
    monkeypatch.setattr(adapters, "LOAD_BYTES", 0)
    monkeypatch.setattr(adapters, "LOAD_TIMES", 0.5)
    with pytest.raises(ModelFileError, match=r"^it\.sight: its graph uses the same weights so often that they take 0 MB; do not use it"):
        onnx_infer(many)


@pytest.mark.parametrize("rests", [False, True])
def test_a_large_weight_in_half_among_many_is_made_whole_while_the_graph_is_loaded(monkeypatch, tmp_path, rests):
    """Otherwise it would be made whole for each image anew."""
    rng, wide = np.random.default_rng(0), [(3, 100), *[(100, 100)] * 20, (100, 5_000)]
    products = [node("MatMul", [f"y{number}", f"w{number}"], [f"y{number + 1}"]) for number in range(len(wide))]
    weights = [(f"w{number}", rng.normal(0, 0.1, shape).astype(np.float32)) for number, shape in enumerate(wide)]
    whole = work([node("Identity", ["level"], ["y0"]), *products, node("Identity", [f"y{len(wide)}"], ["logits"])], weights)
    stored = replace(whole, graph=halved(whole.graph, rests))
    loaded = onnxruntime.InferenceSession

    def told(graph, options, **how):
        options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
        return loaded(graph, options, **how)

    monkeypatch.setattr(onnxruntime, "InferenceSession", told)
    monkeypatch.setattr(adapters, "LOAD_BYTES", 0)
    found = onnx_infer(stored)(IMAGES + np.uint8(7))["logits"]
    graph = onnx.load(tmp_path / "loaded.onnx").graph
    held = {tensor.name for tensor in graph.initializer}
    assert len(held) >= len(wide)
    assert not [each.op_type for each in graph.node if set(each.input) <= held]
    expected = onnx_infer(whole)(IMAGES + np.uint8(7))["logits"]
    assert np.abs(found - expected).max() < (1e-4 if rests else 2e-2) * np.abs(expected).max()


def test_a_graph_that_fails_on_an_image_is_one_error():
    wrong = node("Reshape", ["level", "shape"], ["logits"])
    refused(work([wrong], [("shape", np.array([5, 7], np.int64))]), "fails on an image")


@pytest.mark.parametrize(
    ("nodes", "constants", "words"),
    [
        ([node("Identity", ["level"], ["logits"])], (), r"gives logits of \(3,\) for an image, where \(2,\) belong"),
        ([node("Identity", ["x"], ["logits"])], (), r"gives logits of \(4, 4, 3\) for an image"),
        ([node("ReduceMean", ["level"], ["logits"], keepdims=0)], (), "no numbers in float32 for each image as logits"),
        ([node("Div", ["level", "level"], ["logits"])], (), "gives logits that are not finite"),
        ([node("Concat", ["level", "level"], ["logits"], axis=0)], (), "no numbers in float32 for each image"),
    ],
)
def test_what_a_graph_gives_must_be_what_its_task_takes(nodes, constants, words):
    refused(work(nodes, constants, {"logits": (2,)}), words)


def test_other_kinds_of_numbers_are_refused():
    refused(work([node("Cast", ["level"], ["logits"], to=TensorProto.DOUBLE)], kind=TensorProto.DOUBLE), "no numbers in float32")


def test_sizes_of_one_name_are_the_same():
    def infer(images):
        return {"boxes": np.zeros((2, 5, 4), np.float32), "scores": np.zeros((2, 6, 3), np.float32)}

    shapes = {"boxes": ("places", 4), "scores": ("places", 3)}
    with pytest.raises(ModelFileError, match=r"gives scores of \(6, 3\) for an image"):
        checked(infer, Work(b"", (), "it.sight", (4, 4, 3), 1, shapes=shapes))(IMAGES)


@pytest.mark.parametrize("said", ["std::bad_alloc", "Available memory of 5 is smaller than requested bytes", "Failed to allocate memory"])
def test_too_little_memory_is_called_so(said):
    def infer(images):
        raise RuntimeError(said)

    with pytest.raises(ResourceError, match=r"more memory than it may take; try a smaller --batch-size"):
        checked(infer, Work(b"", (), "it.sight", (4, 4, 3), 1))(IMAGES)


@pytest.mark.skipif(sys.platform == "win32", reason="asks the system how much memory was taken")
@pytest.mark.parametrize("way", ["ConstantOfShape", "Add", "Tile", "a constant", "many constants", "many sums"])
def test_a_graph_takes_no_more_memory_than_it_may(way):
    """In a child: ONNX Runtime's memory is bounded for a whole process, here to 200 MB, where the graph asks for about a gigabyte, for an
    image or while it is loaded."""
    code = f"""
    import resource
    import numpy as np
    from onnx import helper
    import test_graph_limits as t
    from sightline.engines import adapters
    from sightline.processor import memory_bytes
    from sightline.errors import ResourceError

    adapters.LOAD_BYTES = 50 << 20
    adapters.MEMORY_SHARE = (200 << 20) / memory_bytes()
    long = np.ones((20_000, 1), np.float32)
    ways = {{
        "ConstantOfShape": ([t.node("Shape", ["level"], ["s"]), t.node("Mul", ["s", "c"], ["t"]), t.node("ConstantOfShape", ["t"], ["y"])],
                            [("c", np.array([10_000, 10_000], np.int64))]),
        "Add": ([t.node("ReduceMean", ["level"], ["m"], keepdims=0), t.node("Add", ["a", "m"], ["b"]), t.node("Add", ["b", "c"], ["y"])],
                [("a", long), ("c", long.T)]),
        "Tile": ([t.node("Tile", ["level", "c"], ["y"])], [("c", np.array([2_000, 20_000], np.int64))]),
    }}
    ways["a constant"] = [t.node("ConstantOfShape", ["c"], ["y"])], [("c", np.array([20_000, 10_000], np.int64))]
    ways["many constants"] = (
        [
            *(t.node("ConstantOfShape", ["c"], [f"y{{n}}"]) for n in range(30)),
            t.node("Concat", [f"y{{n}}" for n in range(30)], ["y"], axis=0),
        ],
        [("c", np.array([2_000, 3_000], np.int64))],
    )
    ways["many sums"] = (
        [
            t.node("Add", ["w", "c0"], ["z"]),
            *(t.node("Add", ["z", f"c{{n}}"], [f"y{{n}}"]) for n in range(200)),
            t.node("Concat", [f"y{{n}}" for n in range(200)], ["y"], axis=0),
        ],
        [("w", np.ones(1_000_000, np.float32)), *((f"c{{n}}", np.array(n, np.float32)) for n in range(200))],
    )
    nodes, constants = ways[{way!r}]
    work = t.work([*nodes, t.node("ReduceSum", ["y"], ["logits"], keepdims=0)], constants)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        adapters.onnx_infer(work)(t.IMAGES)
    except ResourceError as error:
        print(error)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000)
    """
    path = {"PYTHONPATH": ":".join([*sys.path, __file__.rpartition("/")[0]])}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=path)
    said = "it.sight: its graph asks for more memory than it may take; try a smaller --batch-size or --threads."
    assert done.stdout.splitlines() == [said, "True"], done.stderr
