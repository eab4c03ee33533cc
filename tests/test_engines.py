"""engines: both compute the same, the fastest that agrees is chosen, a choice is remembered, and what is missing is said."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import sightline
from sightline import config
from sightline.bundle import Bundle, Part, arrays_to_bytes, write
from sightline.cli import _exit_code
from sightline.data.prepare import Prepare
from sightline.engines import adapters, cache, choice
from sightline.engines.adapters import Candidate, Work, candidates, onnx_infer, openvino_bf16_infer, openvino_infer
from sightline.engines.choice import choose_engine, measure
from sightline.engines.evidence import Evidence, evidence_of, replay_of
from sightline.errors import DeviceError, ModelFileError, UsageError
from sightline.evaluation.metrics import softmax
from sightline.processor import BF16_FEATURES, bf16_features
from sightline.runtime import raw_outputs

needs_openvino = pytest.mark.skipif(adapters.version_of("openvino") is None, reason="OpenVINO is not installed: sightline[fast]")
needs_bf16 = pytest.mark.skipif(not bf16_features(), reason="this processor has no instructions for bf16")
AMX = ["avx2", "avx512_bf16", "amx_bf16"]


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """A cache folder for one test."""
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


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
    model.predict([np.zeros((40, 40, 3), np.uint8)] * 8)
    return model
"""
    return subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True)


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


# Choosing


class Clock:
    """Time that passes only when an engine computes."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def fake(clock, name, seconds, shift=0.0, calls=None):
    """A candidate "engine precision" whose images take so many seconds each, and whose first logit is off by ``shift``."""

    def load(work):
        def infer(images):
            clock.now += seconds * len(images)
            if calls is not None:
                calls.append((name, len(images)))
            level = images.reshape(len(images), -1).mean(axis=1)
            return {"logits": np.stack([level / 255 + shift, 1 - level / 255], axis=1).astype(np.float32)}

        return infer

    return Candidate(*name.split(), load)


def evidence(images=None, digest="a"):
    def given():
        if images is None:
            raise ModelFileError("There are no photographs.")
        return images, fake(Clock(), FIRST, 0.0).load(WORK)(images)

    return Evidence(
        difference=lambda raw, expected: float(np.abs(raw["logits"] - expected["logits"]).max()),
        answers=lambda raw: [frozenset(map(str, [row.argmax()])) for row in raw["logits"]],
        photographs=given,
        digest=digest,
    )


WORK = Work(b"a graph", ("logits",), "it", (2, 2, 3), threads=1, batch=8)
PHOTOGRAPHS = np.arange(20, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(12, axis=1).reshape(20, 2, 2, 3) * 6
FIRST, OTHER, SHORT = "onnxruntime fp32", "openvino fp32", "openvino bf16"


def chosen(*plans, images=PHOTOGRAPHS, work=WORK):
    clock = Clock()
    return measure(work, evidence(images), [fake(clock, *plan) for plan in plans], clock=clock)[1]


@pytest.mark.parametrize(
    ("plans", "expected"),
    [
        ([(FIRST, 0.01), (OTHER, 0.005)], OTHER),
        ([(FIRST, 0.01), (OTHER, 0.02)], FIRST),
        ([(FIRST, 0.01), (OTHER, 0.0099)], FIRST),  # a gain that may be chance is none
        ([(FIRST, 0.01), (OTHER, 0.005, 1e-3)], FIRST),
        ([(FIRST, 0.01), (OTHER, 0.005, float("nan"))], FIRST),
        ([(FIRST, 0.01), (OTHER, 0.005), (SHORT, 0.001)], SHORT),
        ([(FIRST, 0.01), (OTHER, 0.005), (SHORT, 0.001, 1e-3)], SHORT),
        ([(FIRST, 0.01), (OTHER, 0.005), (SHORT, 0.001, 0.1)], OTHER),
        ([(FIRST, 0.01), (OTHER, 0.02), (SHORT, 0.001, 0.1)], FIRST),
        ([(OTHER, 0.01), (SHORT, 0.02)], OTHER),
        ([(OTHER, 0.01), (SHORT, 0.002)], SHORT),
    ],
)
def test_the_fastest_that_agrees_is_chosen_and_nothing_slower_than_the_first(plans, expected):
    assert chosen(*plans).chosen == expected


def test_bf16_is_refused_without_photographs_and_the_next_fastest_is_taken():
    measured = chosen((FIRST, 0.01), (OTHER, 0.005), (SHORT, 0.001), images=None)
    assert measured.chosen == OTHER
    assert measured.dropped == {SHORT: "There are no photographs."}


def test_outputs_of_another_shape_than_recorded_are_refused():
    def wider(work):
        infer = fake(clock, SHORT, 0.001).load(work)
        return lambda images: {"logits": np.repeat(infer(images)["logits"], 2, axis=1)}

    clock = Clock()
    measured = measure(WORK, evidence(PHOTOGRAPHS), [fake(clock, FIRST, 0.01), Candidate("openvino", "bf16", wider)], clock=clock)[1]
    assert (measured.chosen, measured.dropped) == (FIRST, {SHORT: "its outputs have other shapes"})


def test_bf16_is_refused_when_one_answer_changes_however_little_the_scores_do():
    borderline = np.full((3, 2, 2, 3), 127, np.uint8)  # logits 0.498 and 0.502
    measured = chosen((FIRST, 0.01), (SHORT, 0.001, 0.01), images=borderline)
    assert measured.chosen == FIRST
    assert measured.dropped == {SHORT: "it answers differently on 3 of 3 images"}
    assert chosen((FIRST, 0.01), (SHORT, 0.001, 0.001), images=borderline).chosen == SHORT


def test_a_candidate_that_cannot_load_or_compute_is_dropped_with_its_reason_but_the_first_must():
    clock = Clock()

    def broken(work):
        raise ModelFileError("it knows no such operator")

    def dies(work):
        def infer(images):
            raise RuntimeError("it stops")

        return infer

    able = [fake(clock, FIRST, 0.01), Candidate("openvino", "fp32", broken), Candidate("openvino", "bf16", dies)]
    measured = measure(WORK, evidence(), able, clock=clock)[1]
    assert measured.chosen == FIRST
    assert measured.dropped == {OTHER: "it knows no such operator", SHORT: "it stops"}
    with pytest.raises(ModelFileError, match="no such operator"):
        measure(WORK, evidence(), able[1:], clock=clock)


def test_figures_are_medians_of_turns_of_the_batch_asked_for():
    clock, calls = Clock(), []
    able = [fake(clock, FIRST, 0.0010, calls=calls), fake(clock, OTHER, 0.0005, calls=calls)]
    measured = measure(WORK, evidence(), able, clock=clock)[1]
    assert measured.batch == 8
    assert measured.images_per_second == pytest.approx({FIRST: 1000, OTHER: 2000})
    timed = [name for name, count in calls if count == 8]
    assert timed[1 : 1 + 2 * choice.ROUNDS] == [FIRST, OTHER] * choice.ROUNDS


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 0.1, 10.0])
@pytest.mark.parametrize("batch", [1, 16, 4096])
def test_the_timing_takes_about_a_second_whatever_the_network_and_the_batch(seconds, batch):
    clock = Clock()
    able = [fake(clock, FIRST, seconds), fake(clock, OTHER, seconds), fake(clock, SHORT, 50 * seconds)]
    measured = measure(replace(WORK, batch=batch), evidence(), able, clock=clock)[1]
    assert measured.chosen == FIRST
    assert 1 <= measured.batch <= batch
    one_round = 52 * seconds * measured.batch  # a candidate that is fifty times slower is not asked again
    assert clock.now <= max(2 * choice.SECONDS, 4 * seconds) + 3 * one_round


# Remembering


def test_one_candidate_is_not_timed(own_folder):
    clock, calls = Clock(), []
    infer, found = choose_engine(WORK, evidence(), [fake(clock, FIRST, 1.0, calls=calls)])
    assert (found.name, calls) == (FIRST, [])
    assert not own_folder.exists()
    assert infer(PHOTOGRAPHS)["logits"].shape == (20, 2)


def pick(work=WORK, digest="a", images=PHOTOGRAPHS):
    """Choose between two real-time fakes; says whether anything was measured."""
    calls = []
    able = [fake(Clock(), FIRST, 0.0, calls=calls), fake(Clock(), OTHER, 0.0, calls=calls)]
    _, found = choose_engine(work, evidence(images, digest), able)
    return found.name, bool(calls)


def test_a_choice_is_kept_with_its_figures_and_not_measured_again(own_folder):
    name, measured = pick()
    assert measured
    (file,) = own_folder.iterdir()
    kept = json.loads(file.read_text())
    assert kept["chosen"] == name
    assert set(kept["images_per_second"]) == {FIRST, OTHER}
    assert pick() == (name, False)


@pytest.mark.parametrize(
    "change",
    [{"batch": 9}, {"threads": 2}, {"graph": b"another"}, {"outputs": ("logits", "embedding")}],
    ids=lambda change: next(iter(change)),
)
def test_other_work_is_measured_for_itself(own_folder, change):
    pick()
    assert pick(replace(WORK, **change))[1]
    assert pick() == (pick()[0], False)


def test_another_machine_bundle_or_version_is_measured_for_itself(own_folder, monkeypatch):
    pick()
    assert pick(digest="b")[1]
    for name, value in (
        ("processor_name", lambda: "another"),
        ("processor_features", lambda: ["avx2"]),
        ("version_of", lambda engine: "9"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(choice, name, value)
            assert pick()[1]
    assert not pick()[1]
    assert len(list(own_folder.iterdir())) == 5


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"chosen"', "{}", '{"key": {}, "chosen": "openvino fp32"}', "\xff"])
def test_a_broken_file_is_measured_again_with_a_warning(own_folder, capsys, text):
    pick()
    (file,) = own_folder.iterdir()
    file.write_text(text, encoding="latin-1")
    assert pick()[1]
    assert f"! {file}: the engine chosen before cannot be read" in capsys.readouterr().err
    assert not pick()[1]


def test_a_name_that_is_no_candidate_is_not_believed(own_folder, capsys):
    pick()
    (file,) = own_folder.iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), "chosen": "openvino fp8"}))
    assert pick()[1]
    assert "it is about something else" in capsys.readouterr().err


def test_a_cache_folder_that_takes_no_file_is_no_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "file"))
    assert pick()[1]
    assert "cannot be kept" in capsys.readouterr().err


def test_a_file_that_cannot_be_put_in_place_leaves_nothing_behind(own_folder, monkeypatch, capsys):
    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "replace", refuse)
    assert pick()[1]
    assert "No space left on device" in capsys.readouterr().err
    assert list(own_folder.iterdir()) == []


def test_a_gain_is_said_once(own_folder, monkeypatch, capsys):
    figures = choice.Measured(OTHER, {FIRST: 10.0, OTHER: 16.0}, {}, 8)
    able = [fake(Clock(), FIRST, 0.0), fake(Clock(), OTHER, 0.0)]
    monkeypatch.setattr(choice, "measure", lambda work, evidence, candidates: (candidates[1].load(work), figures))
    choose_engine(WORK, evidence(), able)
    choose_engine(WORK, evidence(), able)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "here 1.6 times as fast as ONNX Runtime" in lines[0]


# The evidence in a bundle


def test_a_bundle_brings_its_photographs_as_the_network_sees_them(run):
    with Bundle.open(run.model) as bundle:
        brought = evidence_of(bundle)
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
        assert evidence_of(bundle).digest
        with pytest.raises(ModelFileError, match="carries no photographs"):
            evidence_of(bundle).photographs()


def test_a_bundle_says_whether_its_images_are_rendered(run):
    with Bundle.open(run.model) as bundle:
        assert not bundle.arrays("replay")["rendered"]


def test_another_decision_is_other_evidence(run, tmp_path):
    with Bundle.open(run.model) as bundle:
        manifest, digest = bundle.manifest, evidence_of(bundle).digest
        parts = [Part(member.name, member.role, bundle.read(member.role), member.required) for member in manifest.members]
    assert evidence_of(Bundle.open(run.model)).digest == digest
    write(tmp_path / "other.sight", replace(manifest, temperature=2.0), parts)
    with Bundle.open(tmp_path / "other.sight") as other:
        assert evidence_of(other).digest != digest


# From the outside


def test_an_openvino_that_is_broken_is_said_when_asked_for_and_dropped_when_not(run, own_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match=r"cannot be imported \(.*\); install it again: pip install 'sightline\[fast\]'"):
        openvino_infer(work_of(run.model))
    able = [kind for kind in adapters.KINDS if kind.precision == "fp32"]
    _, found = choose_engine(work_of(run.model), evidence(), able)
    assert found.name == FIRST
    (file,) = own_folder.iterdir()
    assert "cannot be imported" in json.loads(file.read_text())["dropped"][OTHER]


@needs_openvino
def test_every_verb_computes_with_the_engine_asked_for(run, shapes, own_folder):
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
    assert not own_folder.exists()  # one candidate, so nothing was measured


@needs_openvino
def test_auto_chooses_remembers_and_answers_the_same(run, shapes, own_folder):
    images = sorted((shapes / "disc").glob("*.png"))
    model = sightline.Model.open(run.model)
    assert len(list(own_folder.iterdir())) == 1
    assert sightline.Model.open(run.model).engine == model.engine
    plain = sightline.Model.open(run.model, engine="onnxruntime")
    tolerance = choice.TOLERANCE[model.precision]
    for found, expected in zip(model.predict(images), plain.predict(images), strict=True):
        assert found.score == pytest.approx(expected.score, abs=tolerance)


def test_verify_and_the_judging_of_a_bundle_stay_with_onnx_runtime(run, own_folder):
    expected = f"ONNX Runtime {importlib.metadata.version('onnxruntime')} in fp32"
    assert run.numbers["export"]["engine"].startswith(expected)
    assert sightline.verify(run.model)["engine"].startswith(expected)
    assert not own_folder.exists()


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


# Prediction as a pipeline


class Meeting:
    """Prepare and infer that can only go on together: infer of a batch waits until the next one is prepared, and an image of that
    is only prepared while infer is under way. Sources are grey images whose level is their place."""

    min_side, reading, size = 8, sightline.Prepare(8).reading, 8

    def __init__(self, count, batch):
        self.count, self.batch = count, batch
        self.taken = 0
        self.ahead = []
        self.prepared = [threading.Event() for _ in range(count)]
        self.inferring = [threading.Event() for _ in range(-(-count // batch))]

    def sources(self):
        for place in range(self.count):
            self.taken += 1
            sink = io.BytesIO()
            Image.new("RGB", (8, 8), (place,) * 3).save(sink, "PNG")
            yield sink.getvalue()

    def __call__(self, image):
        place = int(image[0, 0, 0])
        if place >= self.batch:
            assert self.inferring[place // self.batch - 1].wait(20), "the batch before was not being computed meanwhile"
        self.prepared[place].set()
        return image, np.eye(2, 3)

    def infer(self, images):
        number = int(images[0, 0, 0, 0]) // self.batch
        self.ahead.append(self.taken)
        self.inferring[number].set()
        for place in range((number + 1) * self.batch, min((number + 2) * self.batch, self.count)):
            assert self.prepared[place].wait(20), "the next batch was not being prepared meanwhile"
        return {"level": images[:, 0, 0, 0].astype(np.float32)}


@pytest.mark.parametrize("threads", [1, 3])
def test_the_next_batch_is_prepared_while_one_is_computed(threads):
    meeting = Meeting(22, batch=4)
    batches = list(raw_outputs(meeting.infer, meeting, meeting.sources(), batch_size=4, threads=threads))
    assert np.concatenate([batch.raw["level"] for batch in batches]).tolist() == list(range(22))
    assert [place for batch in batches for place in batch.positions] == list(range(22))
    assert meeting.ahead == [8, 12, 16, 20, 22, 22]  # never more than two batches are at hand
