"""engines: both compute the same, what is missing is said, and every verb computes with the one asked for."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import sightline
from sightline import config
from sightline.bundle import Bundle, Part, arrays_to_bytes, write
from sightline.cli import _exit_code
from sightline.data.prepare import Prepare
from sightline.engines import adapters, choice
from sightline.engines.acceptance import acceptance_of, replay_of
from sightline.engines.adapters import Work, candidates, onnx_infer, openvino_bf16_infer, openvino_infer
from sightline.engines.choice import choose_engine
from sightline.errors import DeviceError, ModelFileError, UsageError
from sightline.evaluation.metrics import softmax
from sightline.processor import BF16_FEATURES, bf16_features
from test_engine_choice import FIRST, OTHER, acceptance

needs_openvino = pytest.mark.skipif(adapters.version_of("openvino") is None, reason="OpenVINO is not installed: sightline[fast]")
needs_bf16 = pytest.mark.skipif(not bf16_features(), reason="this processor has no instructions for bf16")
AMX = ["avx2", "avx512_bf16", "amx_bf16"]


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine one with these features and engines."""

    def of(features=(), engines=("onnxruntime", "openvino")):
        monkeypatch.setattr("sightline.processor.processor_features", lambda: list(features))
        monkeypatch.setattr(adapters, "version_of", lambda engine: "1.0" if engine in engines else None)

    return of


def work_of(path, threads=1, batch=4):
    with Bundle.open(path) as bundle:
        prepare = Prepare.from_json(bundle.manifest.prepare)
        shape = (prepare.size, prepare.size, prepare.channels)
        return Work(bundle.read("graph"), ("logits", "embedding"), "it", shape, threads, batch)


def noise(work, count):
    return np.random.default_rng(1).integers(0, 256, (count, *work.shape), np.uint8)


# What the engines compute


@needs_openvino
@pytest.mark.parametrize("threads", [1, 2])
def test_openvino_computes_what_onnx_runtime_does_for_batches_of_any_size(run, threads):
    work = work_of(run.model, threads)
    ours, theirs = onnx_infer(work), openvino_infer(work)
    for count in (1, 4, 3):
        images = noise(work, count)
        expected, found = ours(images), theirs(images)
        assert set(found) == set(expected) == {"logits", "embedding"}
        for name in expected:
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], expected[name], atol=1e-4)


@needs_openvino
def test_fp32_is_fp32_where_openvino_would_take_bf16_by_itself(run):
    work = work_of(run.model)
    images = noise(work, 4)
    assert np.abs(openvino_infer(work)(images)["embedding"] - onnx_infer(work)(images)["embedding"]).max() < 1e-5


AT_ONCE = """
import pickle, sys, threading
import numpy as np
from sightline.engines.adapters import openvino_infer
work = pickle.load(sys.stdin.buffer)
infer, begin = openvino_infer(work), threading.Barrier(work.streams)
def first():
    begin.wait()
    infer(np.zeros((2, *work.shape), np.uint8))
threads = [threading.Thread(target=first, daemon=True) for _ in range(work.streams)]
sys.setswitchinterval(1e-7)  # so that threads take turns wherever they can
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@needs_openvino
def test_the_first_calls_of_a_process_may_come_at_once(run):
    work = replace(work_of(run.model), streams=6)
    ended = subprocess.run([sys.executable, "-c", AT_ONCE], input=pickle.dumps(work), capture_output=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("load", [onnx_infer, pytest.param(openvino_infer, marks=needs_openvino)])
@pytest.mark.parametrize(("threads", "streams"), [(2, 2), (3, 2), (1, 2)])
def test_several_streams_compute_what_one_does_however_they_are_called(run, load, threads, streams):
    work = work_of(run.model, threads)
    one, several = load(work), load(replace(work, streams=streams))
    batches = [noise(work, count) for count in (4, 1, 3, 2, 4, 4)]
    with ThreadPoolExecutor(streams + 1) as pool:
        found = list(pool.map(several, batches))
    for batch, raw in zip(batches, found, strict=True):
        expected = one(batch)
        assert all(np.abs(raw[name] - expected[name]).max() < 1e-4 for name in expected)


def test_a_model_for_many_images_predicts_what_one_for_single_images_does(run, shapes):
    images = sorted((shapes / "disc").glob("*.png"))
    single, many = (sightline.Model.open(run.model, threads=2, engine="onnxruntime", many=many) for many in (False, True))
    assert (single.streams, many.streams) == (1, 2)
    for one, other in zip(single.predict(images), many.predict(images), strict=True):
        assert dict(zip(one.labels, one.scores, strict=True)) == pytest.approx(dict(zip(other.labels, other.scores, strict=True)), abs=1e-5)


@needs_openvino
@needs_bf16
def test_bf16_is_near_and_not_the_same(run):
    work = work_of(run.model)
    images = noise(work, 4)
    found, expected = openvino_bf16_infer(work)(images)["logits"], onnx_infer(work)(images)["logits"]
    assert 0 < np.abs(softmax(found, 1.0) - softmax(expected, 1.0)).max() < choice.TOLERANCE["bf16"]


@needs_openvino
def test_what_openvino_gave_is_not_overwritten_and_threads_may_share_it(run):
    work = work_of(run.model)
    infer, batches = openvino_infer(work), [noise(work, count) for count in (1, 2, 3, 4)] * 4
    expected = [infer(batch)["logits"].copy() for batch in batches]
    found = [None] * len(batches)
    threads = [
        threading.Thread(target=lambda place=place: found.__setitem__(place, infer(batches[place])["logits"]))
        for place in range(len(batches))
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def openvino_child(code, run):
    """A fresh interpreter in which ``infer(threads)`` computes a batch in OpenVINO."""
    start = f"""
import os, sys
import numpy as np
from sightline.runtime import Model
def infer(threads):
    model = Model.open({str(run.model)!r}, threads=threads, engine="openvino", precision="fp32")
    model.infer(np.zeros((512, model.prepare.size, model.prepare.size, 3), np.uint8))  # so much that it is divided among threads
    return model
"""
    return subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True)


@needs_openvino
def test_a_signal_is_survived_after_openvino_was_let_go_of(run):
    """In another thread than the one that asked for it, OpenVINO takes a stack for signals away that is in use (where there is AMX)."""
    code = """
import gc, signal, threading
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
models = [infer(1)]
other = threading.Thread(target=lambda: (models.clear(), gc.collect()))
other.start()
other.join()
os.kill(os.getpid(), signal.SIGTERM)
assert heard
"""
    done = openvino_child(code, run)
    assert (done.returncode, done.stderr) == (0, "")


@needs_openvino
def test_openvinos_telemetry_is_never_imported_and_nothing_is_printed(run):
    code = """
infer(1)
assert "openvino" in sys.modules
assert sys.modules["openvino_telemetry"] is None
assert not any(name.startswith("openvino_telemetry.") for name in sys.modules)
"""
    done = openvino_child(code, run)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_openvino
@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
def test_openvino_computes_with_the_threads_asked_for(run):
    counts = []
    for threads in (1, 2):
        done = openvino_child(f"infer({threads})\nprint(len(os.listdir('/proc/self/task')))", run)
        assert done.returncode == 0, done.stderr
        counts.append(int(done.stdout))
    assert counts[1] == counts[0] + 1


def small_work(operator):
    """A graph of one operator on images of 4 x 4."""
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT), helper.make_node(operator, ["x"], ["logits"])]
    values = [helper.make_tensor_value_info(name, kind, ["n", 4, 4, 3])
              for name, kind in (("images", TensorProto.UINT8), ("logits", TensorProto.FLOAT))]  # fmt: skip
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return Work(model.SerializeToString(), ("logits",), "it.sight", (4, 4, 3), 1)


@needs_openvino
def test_a_graph_that_openvino_does_not_know_is_refused_in_a_sentence():
    work = small_work("NoSuch")
    with pytest.raises(ModelFileError, match=r"^it.sight: OpenVINO cannot load its graph \([^)\n]*NoSuch[^)\n]*\); use --engine onnx"):
        openvino_infer(work)
    with pytest.raises(ModelFileError, match=r"^it.sight: ONNX Runtime cannot load its graph"):
        onnx_infer(work)


@pytest.mark.parametrize("load", [onnx_infer, pytest.param(openvino_infer, marks=needs_openvino)])
def test_an_output_that_the_graph_lacks_is_named(run, load):
    with pytest.raises(ModelFileError, match="lacks masks"):
        load(replace(work_of(run.model), outputs=("logits", "masks")))


@needs_openvino
@pytest.mark.parametrize("images", [np.zeros((1, 7, 7, 3), np.uint8), np.zeros((1, 4, 4, 5), np.uint8), np.zeros((1, 4, 4, 3), np.float32)])
def test_openvino_computes_nothing_from_other_images_than_the_graph_takes(images):
    with pytest.raises(ValueError, match="uint8"):
        openvino_infer(small_work("Relu"))(images)


@pytest.mark.parametrize("load", [onnx_infer, pytest.param(openvino_infer, marks=needs_openvino)])
@pytest.mark.parametrize("shape", [(64, 64, 3), (32, 32, 5)])
def test_a_graph_for_other_images_than_are_prepared_is_refused(run, load, shape):
    with pytest.raises(ModelFileError, match="does not take the images of"):
        load(replace(work_of(run.model), shape=shape))


# What may compute here


def test_the_flags_name_the_engines_there_are():
    assert ("auto", *adapters.ENGINES) == config.ENGINES
    assert ("auto", *adapters.PRECISIONS) == config.PRECISIONS
    assert {kind.engine for kind in adapters.KINDS} == set(adapters.ENGINES)
    assert {kind.precision for kind in adapters.KINDS} == set(adapters.PRECISIONS) == set(choice.TOLERANCE)


@pytest.mark.parametrize(
    ("features", "engines", "asked", "found"),
    [
        ([], ["onnxruntime"], {}, ["onnxruntime fp32"]),
        (AMX, ["onnxruntime"], {}, ["onnxruntime fp32"]),
        (["avx2"], ["onnxruntime", "openvino"], {}, ["onnxruntime fp32", "openvino fp32"]),
        (AMX, ["onnxruntime", "openvino"], {}, ["onnxruntime fp32", "openvino fp32", "openvino bf16"]),
        (AMX, ["onnxruntime", "openvino"], {"precision": "fp32"}, ["onnxruntime fp32", "openvino fp32"]),
        (AMX, ["onnxruntime", "openvino"], {"precision": "bf16"}, ["openvino bf16"]),
        (AMX, ["onnxruntime", "openvino"], {"engine": "onnxruntime"}, ["onnxruntime fp32"]),
        (AMX, ["onnxruntime", "openvino"], {"engine": "openvino"}, ["openvino fp32", "openvino bf16"]),
        (["avx2"], ["onnxruntime", "openvino"], {"engine": "openvino"}, ["openvino fp32"]),
    ],
)
def test_candidates_are_what_is_installed_and_native(machine, features, engines, asked, found):
    machine(features, engines)
    assert [candidate.name for candidate in candidates(**asked)] == found


@pytest.mark.parametrize("feature", BF16_FEATURES)
def test_either_instruction_set_makes_bf16_native(machine, feature):
    machine([feature])
    assert candidates(precision="bf16")[0].name == "openvino bf16"


@pytest.mark.parametrize(
    ("features", "engines", "asked", "error", "said"),
    [
        (AMX, ["onnxruntime"], {"engine": "openvino"}, UsageError, r"--engine openvino: OpenVINO is not installed; pip install"),
        (AMX, ["onnxruntime"], {"precision": "bf16"}, UsageError, r"--precision bf16: OpenVINO is not installed; pip install"),
        (["avx2"], ["onnxruntime"], {"precision": "bf16"}, DeviceError, "--precision bf16: this processor .* emulated .* --precision fp32"),
        ([], ["onnxruntime", "openvino"], {"engine": "openvino", "precision": "bf16"}, DeviceError, "a thousand times slower"),
        (AMX, ["onnxruntime", "openvino"], {"engine": "onnxruntime", "precision": "bf16"}, UsageError, "onnxruntime: computes in fp32"),
        (AMX, ["onnxruntime"], {"engine": "opnvino"}, UsageError, "Did you mean 'openvino'"),
        (AMX, ["onnxruntime"], {"precision": "fp16"}, UsageError, "must be one of auto, fp32, bf16"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_said_with_what_to_do(machine, features, engines, asked, error, said):
    machine(features, engines)
    with pytest.raises(error, match=said):
        candidates(**asked)


def test_the_flags_give_the_exit_codes_of_their_errors(machine, run, shapes, capsys):
    machine([], ["onnxruntime"])
    image = str(shapes / "disc" / "000.png")
    assert _exit_code(["predict", str(run.model), image, "--engine", "openvino"]) == 2
    assert _exit_code(["evaluate", str(run.model), str(shapes), "--precision", "bf16"]) == 5
    assert _exit_code(["predict", str(run.model), image, "--engine", "onnxruntime"]) == 0
    assert "pip install 'sightline[fast]'" in capsys.readouterr().err


# What a bundle accepts


def test_a_bundle_brings_its_photographs_as_the_network_sees_them(run):
    with Bundle.open(run.model) as bundle:
        brought = acceptance_of(bundle)
        images, raw = brought.photographs()
        files = replay_of(bundle, ("logits",)).files
        arrays = bundle.arrays("replay")
    assert images.shape == (len(files), 32, 32, 3)
    np.testing.assert_array_equal(raw["logits"], arrays["raw_logits"])
    found = onnx_infer(replace(work_of(run.model), outputs=("logits",)))(images)
    assert brought.difference(found, raw) < 1e-6
    model = sightline.Model.open(run.model, engine="onnxruntime")
    assert brought.answers(raw) == [frozenset([model.predict(file).label]) for file in files]


def rebuilt(run, path, change):
    """The run's bundle with other replay arrays."""
    with Bundle.open(run.model) as bundle:
        arrays = change(bundle.arrays("replay"))
        parts = [Part("model.onnx", "graph", bundle.read("graph"), required=True), Part("replay.npz", "replay", arrays_to_bytes(arrays))]
        write(path, bundle.manifest, parts)
    return path


@pytest.mark.parametrize(
    "change",
    [lambda arrays: {**arrays, "rendered": np.array(True)}, lambda arrays: {name: arrays[name] for name in arrays if name != "rendered"}],
    ids=["rendered", "not said"],
)
def test_rendered_images_are_no_evidence(run, tmp_path, change):
    with Bundle.open(rebuilt(run, tmp_path / "other.sight", change)) as bundle:
        assert acceptance_of(bundle).digest
        with pytest.raises(ModelFileError, match="carries no photographs"):
            acceptance_of(bundle).photographs()


def test_a_bundle_says_whether_its_images_are_rendered(run):
    with Bundle.open(run.model) as bundle:
        assert not bundle.arrays("replay")["rendered"]


def test_another_decision_is_other_evidence(run, tmp_path):
    with Bundle.open(run.model) as bundle:
        manifest, digest = bundle.manifest, acceptance_of(bundle).digest
        parts = [Part(member.name, member.role, bundle.read(member.role), member.required) for member in manifest.members]
    assert acceptance_of(Bundle.open(run.model)).digest == digest
    write(tmp_path / "other.sight", replace(manifest, temperature=2.0), parts)
    with Bundle.open(tmp_path / "other.sight") as other:
        assert acceptance_of(other).digest != digest


# From the outside


def test_an_openvino_that_is_broken_is_said_when_asked_for_and_dropped_when_not(run, kept_choices, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match=r"cannot be imported \(.*\); install it again: pip install 'sightline\[fast\]'"):
        openvino_infer(work_of(run.model))
    able = [kind for kind in adapters.KINDS if kind.precision == "fp32"]
    _, found = choose_engine(work_of(run.model), acceptance(), able)
    assert found.name == FIRST
    (file,) = kept_choices.iterdir()
    assert "cannot be imported" in json.loads(file.read_text())["dropped"][OTHER]


@needs_openvino
def test_every_verb_computes_with_the_engine_asked_for(run, shapes, kept_choices):
    images = sorted((shapes / "disc").glob("*.png"))
    model = sightline.Model.open(run.model, threads=1, engine="openvino", precision="fp32")
    version = importlib.metadata.version("openvino")
    assert model.engine == f"OpenVINO {version} in fp32, 1 thread"
    plain = sightline.Model.open(run.model, engine="onnxruntime")
    for found, expected in zip(model.predict(images), plain.predict(images), strict=True):
        assert dict(zip(found.labels, found.scores, strict=True)) == pytest.approx(
            dict(zip(expected.labels, expected.scores, strict=True)), abs=1e-5
        )
    result = sightline.evaluate(run.model, shapes, engine="openvino", precision="fp32")
    assert result["engine"].startswith(f"OpenVINO {version} in fp32")
    assert result["metrics"] == pytest.approx(run.numbers["test"]["metrics"], abs=1e-4)
    verified = sightline.verify(run.model, engine="openvino", precision="fp32")
    assert verified["engine"].startswith("OpenVINO")
    assert verified["max_difference"] < 1e-5
    assert not kept_choices.exists()  # one candidate, so nothing was measured


@needs_openvino
def test_auto_chooses_remembers_and_answers_the_same(run, shapes, kept_choices):
    images = sorted((shapes / "disc").glob("*.png"))
    model = sightline.Model.open(run.model)
    assert len(list(kept_choices.iterdir())) == 1
    assert sightline.Model.open(run.model).engine == model.engine
    plain = sightline.Model.open(run.model, engine="onnxruntime")
    tolerance = choice.TOLERANCE[model.precision]
    for found, expected in zip(model.predict(images), plain.predict(images), strict=True):
        assert found.score == pytest.approx(expected.score, abs=tolerance)


def test_verify_and_the_judging_of_a_bundle_stay_with_onnx_runtime(run, kept_choices):
    expected = f"ONNX Runtime {importlib.metadata.version('onnxruntime')} in fp32"
    assert run.numbers["export"]["engine"].startswith(expected)
    assert sightline.verify(run.model)["engine"].startswith(expected)
    assert not kept_choices.exists()


@needs_openvino
@needs_bf16
def test_verify_allows_bf16_what_bf16_needs(run):
    found = sightline.verify(run.model, engine="openvino", precision="bf16")
    assert found["tolerance"] == choice.TOLERANCE["bf16"]
    assert 0 < found["max_difference"] <= found["tolerance"]


def test_doctor_lists_engines_and_instruction_sets(machine, capsys, monkeypatch):
    machine(AMX, ["onnxruntime"])
    monkeypatch.setattr("sightline.diagnosis.version_of", adapters.version_of)
    assert _exit_code(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["engines"] == {"onnxruntime": "1.0", "openvino": "not installed"}
    assert found["considered"] == ["onnxruntime fp32"]
    assert found["bf16"] == ["avx512_bf16", "amx_bf16"]
    assert found["int8"] == []
