"""The ONNX checker against models made with the ``onnx`` package, and its field numbers against that package's own."""

from __future__ import annotations

import contextlib
import tracemalloc

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sightline import onnx_check
from sightline.engines.load_cost import load_cost
from sightline.errors import ModelFileError
from sightline.onnx_check import GraphValue, check_graph, graph_io


def tensor(name: str = "w", external: bool = False) -> TensorProto:
    made = numpy_helper.from_array(np.ones(3, np.float32), name)
    if external:
        made.ClearField("raw_data")
        made.data_location = TensorProto.EXTERNAL
        made.external_data.add(key="location", value="../../etc/passwd")
    return made


def sparse(external: bool) -> onnx.SparseTensorProto:
    indices = numpy_helper.from_array(np.arange(3, dtype=np.int64))
    return helper.make_sparse_tensor(tensor("s", external), indices, [9])


def graph(nodes=None, **more) -> onnx.GraphProto:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 8, 8, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 8, 8, 3])
    nodes = [helper.make_node("Cast", ["image"], ["logits"], to=TensorProto.FLOAT)] if nodes is None else nodes
    return helper.make_graph(nodes, "g", [image], [logits], **more)


def model(the_graph: onnx.GraphProto | None = None, opset: int = 18, **more) -> onnx.ModelProto:
    return helper.make_model(the_graph or graph(), opset_imports=[helper.make_opsetid("", opset)], ir_version=9, **more)


def branch(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node inside both branches of an If."""
    inner = helper.make_graph([node], "inner", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    return helper.make_node("If", ["condition"], ["y"], then_branch=inner, else_branch=inner)


def function(node: onnx.NodeProto) -> onnx.FunctionProto:
    return helper.make_function("", "F", [], ["y"], [node], [helper.make_opsetid("", 18)])


def constant(external: bool = True, **attributes) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["y"], **(attributes or {"value": tensor(external=external)}))


def test_a_sound_model_passes_and_runs():
    data = model().SerializeToString()
    check_graph(data)
    images = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    (logits,) = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"image": images})
    np.testing.assert_array_equal(logits, images.astype(np.float32))


def training_model() -> onnx.ModelProto:
    made = model()
    made.training_info.add().algorithm.CopyFrom(graph(initializer=[tensor(external=True)]))
    return made


def model_with_function(node: onnx.NodeProto) -> onnx.ModelProto:
    return model(functions=[function(node)])


def function_default(value: TensorProto) -> onnx.ModelProto:
    made = model_with_function(constant(external=False))
    made.functions[0].attribute_proto.append(helper.make_attribute("a", value))
    return made


EXTERNAL = {
    "initializer": lambda: model(graph(initializer=[tensor(external=True)])),
    "sparse initializer": lambda: model(graph(sparse_initializer=[sparse(True)])),
    "attribute": lambda: model(graph([constant()])),
    "list attribute": lambda: model(graph([helper.make_node("Constant", [], ["y"], many=[tensor(), tensor(external=True)])])),
    "sparse attribute": lambda: model(graph([constant(sparse_value=sparse(True))])),
    "subgraph": lambda: model(graph([branch(branch(constant()))])),
    "list of graphs": lambda: model(graph([helper.make_node("If", [], ["y"], many=[graph([constant()])])])),
    "function": lambda: model_with_function(constant()),
    "default of a function": lambda: function_default(tensor(external=True)),
    "training": training_model,
}


@pytest.mark.parametrize("place", EXTERNAL)
def test_external_data_is_refused_wherever_it_is(place):
    with pytest.raises(ModelFileError, match="another file"):
        check_graph(EXTERNAL[place]().SerializeToString())


@pytest.mark.parametrize("keep", ["data_location", "external_data"])
def test_either_sign_of_external_data_is_enough(keep):
    hidden = tensor(external=True)
    hidden.ClearField({"data_location": "external_data", "external_data": "data_location"}[keep])
    with pytest.raises(ModelFileError, match="another file"):
        check_graph(model(graph(initializer=[hidden])).SerializeToString())


def test_a_graph_given_twice_is_checked_twice():
    """protobuf merges the two, so the first one's tensors are in the model that runs."""
    first = onnx.ModelProto(graph=graph(initializer=[tensor(external=True)])).SerializeToString()
    data = first + model().SerializeToString()
    assert onnx.load_from_string(data).graph.initializer[0].data_location == TensorProto.EXTERNAL
    with pytest.raises(ModelFileError, match="another file"):
        check_graph(data)


def test_a_location_overwritten_with_another_wire_type_is_not_forgotten():
    """protobuf ignores the second occurrence, because its type is wrong, and keeps the first."""
    evil = bytes([14 << 3, 1]) + bytes([14 << 3 | 5, 0, 0, 0, 0])
    read = TensorProto.FromString(evil)
    assert read.data_location == TensorProto.EXTERNAL
    body = bytes([5 << 3 | 2, len(evil)]) + evil
    with pytest.raises(ModelFileError):
        check_graph(model().SerializeToString() + bytes([7 << 3 | 2, len(body)]) + body)


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"])
def test_known_domains_pass(domain):
    check_graph(model(graph([helper.make_node("Anything", [], ["y"], domain=domain)])).SerializeToString())


@pytest.mark.parametrize("wrap", [lambda node: model(graph([node])), lambda node: model(graph([branch(node)])), model_with_function])
@pytest.mark.parametrize(
    ("domain", "operator"), [("evil.ops", "Run"), ("ai.onnx.contrib", "PyOp"), ("com.microsoft", "EPContext"), ("org.pytorch.aten", "ATen")]
)
def test_foreign_operators_are_named(wrap, domain, operator):
    with pytest.raises(ModelFileError, match=f"{domain}::{operator}"):
        check_graph(wrap(helper.make_node(operator, [], ["y"], domain=domain)).SerializeToString(), "m.sight: its model.onnx")


@pytest.mark.parametrize("kind", ["If", "Loop", "Scan", "BeamSearch"])
def test_loops_and_branches_are_refused(kind):
    """They need not end, whatever operator holds them and by whatever name."""
    body = branch(constant(external=False)).attribute[0]
    node = helper.make_node(kind, ["x"], ["y"], domain="com.microsoft" if kind == "BeamSearch" else "")
    node.attribute.append(body)
    with pytest.raises(ModelFileError, match="holds a loop or a branch, which is refused"):
        check_graph(model(graph([node])).SerializeToString())
    node.attribute[0].CopyFrom(helper.make_attribute("many", [body.g]))
    with pytest.raises(ModelFileError, match="holds a loop or a branch, which is refused"):
        check_graph(model(graph([node])).SerializeToString())


def test_operators_defined_in_the_file_are_refused():
    """Thirty that use each other twice would unfold to a billion."""
    with pytest.raises(ModelFileError, match="defines operators of its own, which is refused"):
        check_graph(model_with_function(constant(external=False)).SerializeToString())


def test_instructions_for_training_are_refused():
    made = model()
    made.training_info.add().algorithm.CopyFrom(graph())
    with pytest.raises(ModelFileError, match="holds instructions for training"):
        check_graph(made.SerializeToString())


def test_sparse_tensors_are_refused():
    """Three numbers may stand for terabytes, which are made when the graph is loaded."""
    for made in (model(graph(sparse_initializer=[sparse(False)])), model(graph([constant(sparse_value=sparse(False))]))):
        with pytest.raises(ModelFileError, match="holds a sparse tensor that may unpack to any size, which is refused"):
            check_graph(made.SerializeToString())


def test_what_is_done_while_a_graph_is_loaded_is_counted():
    def node(inputs, outputs):
        return helper.make_node("Add", inputs, outputs)

    sums = [node(["w", "w"], ["a"]), node(["a", ""], ["b"]), node(["image", "b"], ["c"]), node(["c", "a"], ["d"]), constant(external=False)]
    size = len(tensor().SerializeToString())
    assert load_cost(model(graph(sums, initializer=[tensor()])).SerializeToString()) == (3, size, 1, 12)
    assert load_cost(model(graph(sums[::-1], initializer=[tensor()])).SerializeToString()) == (5, size, 0, 0)
    assert load_cost(model(graph([node(["image", "w"], ["a"]), node(["a", "w"], ["b"])], initializer=[tensor()])).SerializeToString()) == (
        0,
        2 * size,
        0,
        0,
    )
    assert load_cost(model().SerializeToString()) == (0, 0, 0, 0)
    samples = changed(model(graph(sums, initializer=[tensor()])).SerializeToString(), 500)
    assert {is_refused(load_cost, sample) for sample in samples} == {True, False}


def test_operators_that_make_weights_whole_are_known_with_what_they_give():
    rng, node = np.random.default_rng(0), helper.make_node
    weights = {"half": rng.normal(size=(5, 7)).astype(np.float16), "rest": np.ones((5, 7), np.int8), "step": np.float32(0.1),
               "row": np.ones(7, np.float32), "column": np.ones((5, 1), np.float32), "whole": np.ones((2, 3), np.int64)}  # fmt: skip

    def cost(*nodes, packed=False):
        tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in weights.items()]
        data = model(graph(list(nodes), initializer=tensors)).SerializeToString()
        if packed:  # ONNX writes sizes one by one, and protobuf allows them in one piece
            assert data.count(b"\x08\x05\x08\x07") == 2
            data = data.replace(b"\x08\x05\x08\x07", b"\x0a\x02\x05\x07")
        return load_cost(data)[0::2], load_cost(data).made

    def cast(name, to=TensorProto.FLOAT, **more):
        return node("Cast", [name], [f"{name}_cast"], to=to, **more)

    chain = [cast("half"), cast("rest"), node("Mul", ["rest_cast", "step"], ["share"]), node("Add", ["share", "step"], ["factor"]),
             node("Mul", ["half_cast", "factor"], ["w"])]  # fmt: skip
    for packed in (False, True):
        assert cost(*chain, packed=packed) == ((5, 5), 5 * 4 * 35)
    assert cost(cast("rest", saturate=1)) == ((1, 1), 4 * 35)
    for other in (
        cast("half", TensorProto.DOUBLE), cast("half", TensorProto.STRING), node("Add", ["row", "column"], ["sum"]),
        node("Mul", ["whole", "whole"], ["square"]), node("Expand", ["row", "whole"], ["wide"]), node("Div", ["row", "step"], ["ratio"]),
    ):  # fmt: skip
        assert cost(other) == ((1, 0), 0)
    twice = cast("half", TensorProto.DOUBLE)
    twice.attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    assert cost(twice) == ((1, 0), 0)
    # What is made of something else is no better known than that.
    assert cost(node("Expand", ["row", "whole"], ["wide"]), node("Mul", ["wide", "step"], ["less"])) == ((2, 0), 0)


def test_a_tensor_of_any_number_of_axes_is_read_in_little_memory():
    data = model(graph([helper.make_node("Cast", ["w"], ["v"], to=TensorProto.FLOAT)], initializer=[tensor()])).SerializeToString()
    found = onnx.load_from_string(data)
    found.graph.initializer[0].dims.extend([1] * 20_000)
    data = found.SerializeToString()
    tracemalloc.start()
    try:
        assert load_cost(data)[0::2] == (1, 0)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_an_import_without_a_use_is_harmless():
    made = model()
    made.opset_import.append(helper.make_opsetid("pkg.onnxscript.torch_lib", 1))
    check_graph(made.SerializeToString())


@pytest.mark.parametrize(("domain", "newest"), onnx_check.NEWEST_OPSET.items())
def test_newer_operator_sets_are_refused(domain, newest):
    made = model()
    made.opset_import.append(helper.make_opsetid(domain, newest))
    check_graph(made.SerializeToString())
    made.opset_import.append(helper.make_opsetid(domain, newest + 1))
    with pytest.raises(ModelFileError, match=f"version {newest + 1}"):
        check_graph(made.SerializeToString())


def test_a_function_has_operator_sets_of_its_own():
    made = model_with_function(constant(external=False))
    made.functions[0].opset_import[0].version = 999
    with pytest.raises(ModelFileError, match="999"):
        check_graph(made.SerializeToString())


@pytest.mark.parametrize(
    "data", [b"", b"PK\3\4 a zip", b"\x08", b"\x08\x09", b"\x3a\x00", b"\x3a\x05\x0a", b"\x0b", b"\x00" * 9, b"\xff" * 40, b"hello, world"]
)
def test_what_is_not_a_model_is_refused(data):
    with pytest.raises(ModelFileError, match=r"is not an ONNX model .*: export it again"):
        check_graph(data)


@pytest.mark.parametrize("tail", [b"\x12\x09short", b"\x0d\0\0", b"\x09\0", b"\x12", b"\x80", b"\x0c", b"\x00\x00"])
def test_a_model_with_a_broken_end_is_refused(tail):
    with pytest.raises(ModelFileError, match="is not an ONNX model"):
        check_graph(model().SerializeToString() + tail)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_garbage_gives_no_other_error(data):
    for function in (check_graph, graph_io):
        is_refused(function, data)


def is_refused(function, data: bytes) -> bool:
    """Whether it raises ModelFileError; any other error is a fault of ours."""
    try:
        function(data)
    except ModelFileError:
        return True
    return False


def changed(data: bytes, count: int) -> list[bytes]:
    """Every truncation, and ``count`` copies with one bit flipped."""
    random = np.random.default_rng(0)
    broken = [data[:end] for end in range(len(data))]
    for _ in range(count):
        flipped = bytearray(data)
        flipped[random.integers(len(data))] ^= 1 << random.integers(8)
        broken.append(bytes(flipped))
    return broken


def test_changed_and_truncated_models_give_no_other_error():
    plain = constant(external=False)
    # A graph with branches is refused as it is, so that only another one says what changes are taken for harmless.
    models = [model(graph([node], initializer=[tensor()])).SerializeToString() for node in (plain, branch(plain))]
    samples = [sample for whole in models for sample in changed(whole, 1500)]
    for function in (check_graph, graph_io):
        assert {is_refused(function, sample) for sample in samples} == {True, False}


@pytest.mark.parametrize("place", EXTERNAL)
def test_what_passes_has_no_external_data_for_protobuf_either(place):
    for sample in changed(EXTERNAL[place]().SerializeToString(), 300):
        with contextlib.suppress(ModelFileError, DecodeError):
            check_graph(sample)
            assert "EXTERNAL" not in str(onnx.ModelProto.FromString(sample))


def test_deep_nesting_is_refused():
    body = b""
    for _ in range(50):  # graph within attribute within node within graph
        for key in (bytes([6 << 3 | 2]), bytes([5 << 3 | 2]), bytes([1 << 3 | 2])):
            size, count = len(body), bytearray()
            while size >= 128:
                count.append(size & 127 | 128)
                size >>= 7
            body = key + bytes(count) + bytes([size]) + body
    size = len(body)
    data = b"\x08\x09\x3a" + bytes([size & 127 | 128, size >> 7]) + body
    with pytest.raises(ModelFileError, match="deep"):
        check_graph(data)


def test_a_flood_of_fields_is_refused(monkeypatch):
    monkeypatch.setattr(onnx_check, "_MAX_FIELDS", 1000)
    with pytest.raises(ModelFileError, match="1,000 fields"):
        check_graph(b"\x08\x09" * 1001)


def test_large_tensors_are_not_copied():
    big = numpy_helper.from_array(np.zeros(2_000_000, np.float32), "w")
    data = model(graph(initializer=[big])).SerializeToString()
    tracemalloc.start()
    try:
        check_graph(data)
        graph_io(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_inputs_and_outputs_are_those_onnxruntime_reports():
    data = model().SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    inputs, outputs = graph_io(data)
    assert inputs == (GraphValue("image", "uint8", ("n", 8, 8, 3)),)
    assert outputs == (GraphValue("logits", "float32", ("n", 8, 8, 3)),)
    assert [tuple(value.shape) for value in session.get_inputs()] == [value.shape for value in inputs]


def test_shapes_that_are_free_or_absent():
    made = model()
    made.graph.output.append(helper.make_tensor_value_info("unranked", TensorProto.FLOAT16, None))
    made.graph.output.append(helper.make_tensor_value_info("scalar", TensorProto.INT64, []))
    made.graph.output.append(helper.make_tensor_value_info("free", TensorProto.BFLOAT16, [None, -1, 2]))
    made.graph.output.append(helper.make_tensor_value_info("packed", TensorProto.UINT4, [1]))
    assert graph_io(made.SerializeToString())[1][1:] == (
        GraphValue("unranked", "float16", None),
        GraphValue("scalar", "int64", ()),
        GraphValue("free", "bfloat16", ("", "", 2)),
        GraphValue("packed", f"type {TensorProto.UINT4}", (1,)),
    )


def test_initializers_listed_as_inputs_are_no_inputs():
    made = model(graph(initializer=[tensor("w")], sparse_initializer=[sparse(False)]))
    made.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("w", "s"))
    assert [value.name for value in graph_io(made.SerializeToString())[0]] == ["image"]


def test_an_input_that_is_not_a_tensor_is_refused():
    made = model()
    made.graph.input.append(helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, [1]))
    with pytest.raises(ModelFileError, match="'list' is not a tensor"):
        graph_io(made.SerializeToString())


def descriptors() -> dict[str, object]:
    """Every message reachable from ModelProto, nested ones as Outer.Inner."""
    found, waiting = {}, [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        name = message.full_name.removeprefix("onnx.")
        if name not in found:
            found[name] = message
            waiting += [field.message_type for field in message.fields if field.message_type is not None]
    return found


def test_field_numbers_are_those_of_the_onnx_package():
    known = descriptors()
    for name, fields in onnx_check.FIELDS.items():
        assert fields == {field: known[name].fields_by_name[field].number for field in fields}


def test_no_message_that_can_hold_a_tensor_or_an_operator_is_left_out():
    """Compares ``CHILDREN`` with all paths in the installed specification, so that a new one there fails here."""
    known = descriptors()
    telling = {"NodeProto", "TensorProto", "OperatorSetIdProto"}
    while True:
        more = {n for n, m in known.items() for f in m.fields if f.message_type is not None and f.message_type.name in telling} - telling
        if not more:
            break
        telling |= more
    expected = {
        name: {f.number: f.message_type.name for f in known[name].fields if f.message_type is not None and f.message_type.name in telling}
        for name in telling
    }
    assert expected == onnx_check.CHILDREN


def test_element_names_are_numpys():
    for number, name in enumerate(onnx_check.ELEMENTS):
        assert TensorProto.DataType.Name(number) in {name.upper(), {"float32": "FLOAT", "float64": "DOUBLE"}.get(name)}
