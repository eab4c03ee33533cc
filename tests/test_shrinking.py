"""shrinking: a smaller, faster model on purpose is what is asked for, measured, taught by the model itself, and never quietly worse."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import entropy

import sightline
from conftest import render_shape, write_shapes
from sightline.auditing.gate import gate
from sightline.bundle import Bundle, Part, write
from sightline.cli import _exit_code
from sightline.config import ExportConfig, ReadConfig
from sightline.data.content import content_key
from sightline.data.decode import Limits
from sightline.errors import ConfigError, DataError, ModelFileError, RequirementNotMet, UsageError
from sightline.exporting import judging
from sightline.exporting.judging import Loss, Speed
from sightline.manifest import Manifest
from sightline.model.export import count_parameters
from sightline.model.heads.classify import Objective
from sightline.records import ImageRef
from sightline.shrinking import candidates, measuring, shrink
from sightline.shrinking.asked import Asked, spoken_size, spoken_time
from sightline.shrinking.candidates import Foreseen, families, picked
from sightline.shrinking.curve import PLOT, Curve, drawn, lines
from sightline.shrinking.distil import Distillation, graph_teacher, resized
from sightline.shrinking.measuring import Point
from sightline.shrinking.pruning import pruned
from tiny import tiny_network

# Of a few rendered test images each weighs many points, and two epochs teach little.
GENEROUS = {"max_loss": 100.0, "threads": 1, "calibration_images": 24, "epochs": 2, "engine": "onnxruntime"}


@pytest.fixture(autouse=True)
def quick_measuring(monkeypatch, one_thread):
    """Timings of a moment, and one small backbone to teach."""
    monkeypatch.setattr(judging, "SECONDS", 0.1)
    monkeypatch.setattr(measuring, "SECONDS", 0.02)
    monkeypatch.setattr(candidates, "BACKBONES", ("test_efficientnet",))


@pytest.fixture
def model(learnt, tmp_path):
    """The trained bundle in a folder of its own."""
    return shutil.copy(learnt[1].model, tmp_path / "model.sight")


def asked(**flags):
    return Asked.of(ExportConfig(data="photos", **flags))


# What is asked for


@pytest.mark.parametrize(
    ("flags", "latency_ms", "size"),
    [
        ({"latency": "20ms"}, 20.0, None), ({"latency": "0.02s"}, 20.0, None), ({"latency": " 1.5 MS "}, 1.5, None),
        ({"latency": "300us"}, 0.3, None), ({"size": "4MB"}, None, 4_000_000), ({"size": "500kB"}, None, 500_000),
        ({"size": "1.5MiB"}, None, 1_572_864), ({"latency": "5ms", "size": "800 b"}, 5.0, 800),
    ],
)  # fmt: skip
def test_amounts_are_read_with_their_units(flags, latency_ms, size):
    found = asked(**flags)
    assert (found.latency_ms, found.bytes) == (pytest.approx(latency_ms) if latency_ms else None, size)


@pytest.mark.parametrize("text", ["20", "fast", "-3ms", "0ms", "20MB", "1e3ms", "ms", "inf s", ""])
def test_what_is_no_latency_is_said(text):
    with pytest.raises(ConfigError, match=r"--latency .*: give a number above 0 and its unit, such as 20ms or 0.02s"):
        asked(latency=text)


def test_all_mistakes_are_said_at_once():
    with pytest.raises(ConfigError) as raised:
        Asked.of(ExportConfig(latency="soon", size="tiny", to="torch", precision="in8", max_difference=0.02, standalone=True))
    said = [problem.split(":")[0] for problem in raised.value.problems]
    assert said == ["--latency soon", "--size tiny", "--to torch", "--precision in8", "--max-difference 0.02", "--standalone", "--data"]


@pytest.mark.parametrize("precision", ["fp16", "fp32,fp16", "int8, FP16"])
def test_fp16_is_no_way_to_a_smaller_model(precision):
    with pytest.raises(ConfigError, match=r"^--precision fp16: smaller models are made in fp32 and int8; leave it out\.$"):
        asked(latency="20ms", precision=precision)
    assert asked(latency="20ms", precision="fp32,int8").int8


def test_both_must_hold_and_the_worse_counts():
    both = asked(latency="10ms", size="2MB")
    assert both.met(10.0, 2_000_000)
    assert not both.met(10.1, 1_000_000)
    assert not both.met(5.0, 2_000_001)
    assert both.excess(20.0, 3_000_000) == pytest.approx(2.0)
    assert str(both) == "--latency 10 ms and --size 2 MB"
    assert (spoken_time(0.3), spoken_time(1500), spoken_size(999), spoken_size(2.5e9)) == ("0.3 ms", "1.5 s", "999 bytes", "2.5 GB")


# What can be tried


def manifest_of(name="test_resnet", size=32, **changes):
    with_defaults = {
        "task": "classify", "labels": ("a", "b", "c"), "thresholds": {}, "temperature": 1.0, "config": {}, "seed": 0, "fingerprint": "",
        "versions": {}, "licences": {}, "created": "", "prepare": sightline.data.prepare.Prepare(size).to_json(),
        "backbone": {"name": name, "size": size, "arguments": {}, "keep_resolution": False, "channels": 3},
    }  # fmt: skip
    return Manifest(**with_defaults | changes)


def test_shapes_go_from_the_gentlest_on_and_only_those_that_can_help():
    found = {family[0].family: family for family in families(manifest_of(size=224), asked(latency="1ms"))}
    assert list(found) == ["input", "channels", "backbone"]
    assert [shape.prepare.size for shape in found["input"]] == [192, 160, 128, 96]
    assert [shape.channels for shape in found["channels"]] == [0.75, 0.5, 0.3]
    by_size = families(manifest_of(size=224), asked(size="1MB"))
    assert [family[0].family for family in by_size] == ["channels", "backbone"]  # a smaller input makes no smaller file
    fixed = families(manifest_of("vit_tiny_patch16_224", size=224), asked(latency="1ms"))
    assert "input" not in [family[0].family for family in fixed]
    own = families(manifest_of("module/Mine"), asked(latency="1ms"))
    assert [family[0].family for family in own] == ["backbone"]
    assert [shape.prepare.size for shape in families(manifest_of(size=32), asked(latency="1ms"))[0]] == [28, 24, 20, 12]
    # Below 49 px its patches overlap, which they did not where it learned, and there would be more of them.
    assert [shape.prepare.size for shape in families(manifest_of("sightline/patchnet", size=64), asked(latency="1ms"))[0]] == [56]


def test_of_each_family_the_gentlest_that_fits_is_picked():
    shapes = families(manifest_of(), asked(latency="1ms"))
    speed = {28: 4.0, 24: 2.0, 20: 1.0, 12: 0.5}

    def look(shape):
        if shape.family == "input":
            return [Foreseen(shape, False, speed[shape.prepare.size], 10)]
        return [Foreseen(shape, False, 9.0, 10), Foreseen(shape, True, 0.9 if shape.channels <= 0.5 else 3.0, 5)]

    picks, seen = picked(shapes[:2], look, asked(latency="1ms"))
    assert [(pick.shape.name, pick.int8) for pick in picks] == [("input of 20 px", False), ("50% of the channels", True)]
    assert len(seen) == 3 + 4


def test_channels_are_taken_out_of_every_layer_and_the_embedding_keeps_its_width():
    pytest.importorskip("torch_pruning", reason="torch-pruning is not installed: sightline[train]")
    network = tiny_network()
    before, images = count_parameters(network), torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    shapes = {name: tuple(values.shape) for name, values in network.eval()(images).items()}
    smaller = pruned(network, 0.5)
    assert smaller.training
    assert {name: tuple(values.shape) for name, values in smaller.eval()(images).items()} == shapes
    assert 0.2 * before < count_parameters(smaller) < 0.5 * before
    loss = Objective(0.0).step(smaller.train(), images, torch.tensor([0, 1]))[0]
    loss.backward()
    assert all(parameter.grad is not None for parameter in smaller.parameters())


def test_channels_without_weight_go_first():
    """Half of a layer's channels do nothing: without them the block computes what it did."""
    pytest.importorskip("torch_pruning", reason="torch-pruning is not installed: sightline[train]")
    network = tiny_network().eval()
    block = network.backbone.inner.layer1[0]
    idle = torch.arange(block.conv1.out_channels) % 2 == 0
    with torch.no_grad():
        for values in (block.conv1.weight, block.bn1.weight, block.bn1.bias):
            values[idle] = 0
        block.conv2.weight[:, idle] = 0
    kept = block.bn1.weight[~idle].clone()
    pruned(network, 0.5)
    assert set(block.bn1.weight.tolist()) <= set(kept.tolist())


# Learning from the model itself


def test_the_distance_from_the_teacher_is_kullback_and_leiblers():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(0, 3, (2, 5, 4)).astype(np.float32)
    objective = Distillation(Objective(0.0), lambda images: images, (8, 8), one_label=True, temperature=2.0)

    def softened(logits):
        powers = np.exp(logits / 2.0)
        return powers / powers.sum(axis=1, keepdims=True)

    expected = 4.0 * entropy(softened(teacher), softened(student), axis=1).mean()
    assert float(objective.distance(torch.tensor(student), torch.tensor(teacher))) == pytest.approx(expected, rel=1e-4)
    tags = replace(objective, one_label=False)
    yes, no = 1 / (1 + np.exp(-teacher / 2)), 1 / (1 + np.exp(teacher / 2))
    told = entropy(np.stack([yes, no]), np.stack([1 / (1 + np.exp(-student / 2)), 1 / (1 + np.exp(student / 2))]), axis=0)
    assert float(tags.distance(torch.tensor(student), torch.tensor(teacher))) == pytest.approx(4.0 * told.mean(), rel=1e-4)
    assert float(tags.distance(torch.tensor(teacher), torch.tensor(teacher))) == pytest.approx(0.0, abs=1e-6)


def test_the_student_sees_less_of_what_the_teacher_sees():
    seen = []

    def teacher(images):
        seen.append(images)
        return torch.zeros(len(images), 3)

    network, images = tiny_network(size=16), torch.rand(4, 32, 32, 3) * 255
    objective = Distillation(Objective(0.0), teacher, (16, 16), one_label=True, share=0.0)
    targets = torch.tensor([0, 1, 2, 0])
    network.eval()
    loss, figures = objective.step(network, images, targets)
    plainly, _ = Objective(0.0).step(network, resized(images, (16, 16)), targets)
    torch.testing.assert_close(loss, plainly)  # a share of nothing leaves the labels' own loss
    assert seen[0].shape == (4, 32, 32, 3)
    assert figures["distillation"] > 0
    assert not figures["distillation"].requires_grad


def test_images_shrink_as_prepare_shrinks_them():
    image = np.asarray(render_shape("disc", 3, 64))
    expected = sightline.data.prepare.Prepare(32)(image)[0].astype(np.float32)
    found = resized(torch.from_numpy(image.astype(np.float32))[None], (32, 32))[0].numpy()
    assert np.abs(found - expected).max() < 1.5
    assert resized(torch.ones(1, 8, 8, 3), (8, 8)).shape == (1, 8, 8, 3)


def test_any_graph_can_teach():
    told = graph_teacher(lambda batch: {"logits": batch.reshape(len(batch), -1)[:, :2].astype(np.float32)}, torch.device("cpu"))
    torch.testing.assert_close(told(torch.full((1, 2, 2, 3), 300.4)), torch.full((1, 2), 255.0))


# The curve


def point(name, ms, size, value, *, fits):
    lost = 100 * (0.9 - value)
    interval = (value - 0.03, value + 0.02)
    return Point(
        name, "float", "it", Speed(ms, 2 * ms, ms, ms, 9), size, "accuracy", value, interval, Loss(lost, 2, 50), Loss(lost, 1, 40), fits
    )


POINTS = [point("the model itself", 40, 9_000_000, 0.9, fits=False), point("half", 15, 4_000_000, 0.88, fits=True),
          point("third", 9, 3_000_000, 0.7, fits=True)]  # fmt: skip


def test_the_picture_has_the_limit_as_a_line_and_each_point_with_its_interval(tmp_path):
    model = tmp_path / "model-small.sight"
    for flags in ({"latency": "20ms"}, {"size": "5MB"}, {"latency": "20ms", "size": "5MB"}):
        curve = Curve.beside(model)
        curve.write(POINTS, asked(**flags), POINTS[1], 5.0)
        pixels = np.asarray(Image.open(curve.picture).convert("RGB")).astype(int)
        red = (pixels[PLOT[1] + 5 : PLOT[3] - 5] == (180, 30, 50)).all(axis=2)
        assert red.mean(axis=0).max() > 0.95  # a line from top to bottom, which others cross
        assert (pixels == (20, 110, 190)).all(axis=2).any()
        told = json.loads(curve.figures.read_text())
        assert [row["name"] for row in told["points"]] == ["the model itself", "half", "third"]
        assert told["chosen"] == "half"
        assert set(told["points"][1]) >= {
            "latency_ms",
            "latency_p99_ms",
            "size",
            "value",
            "interval",
            "loss",
            "changed",
            "n",
            "fits",
            "engine",
        }
    assert sorted(path.name for path in tmp_path.glob("*.png")) == sorted(f"model-small-curve{end}.png" for end in ("", "-2", "-3"))


def test_one_point_and_equal_values_can_be_drawn():
    alone = replace(POINTS[0], interval=(0.9, 0.9))
    assert drawn([alone], asked(latency="40ms"), None, 0.0).size == drawn(POINTS, asked(size="9MB"), None, 90.0).size


def test_the_table_has_a_row_for_each_and_marks_the_chosen():
    rows = lines(POINTS, POINTS[1])
    assert [row.startswith("*") for row in rows] == [False, False, True, False]
    assert "15.00" in rows[2]
    assert "4 MB" in rows[2]
    assert "yes" in rows[2]


# From the outside


def graph_bytes(model):
    with Bundle.open(model) as bundle:
        return len(bundle.read("graph"))


def test_int8_alone_where_that_is_small_enough(learnt, model, capsys):
    data, size = learnt[0], graph_bytes(model) // 2 + 60_000
    words = ["export", str(model), "--data", str(data), "--size", f"{size}B", "--max-loss", "100", "--threads", "1", "--json"]
    assert _exit_code([*words, "--engine", "onnxruntime", "--calibration-images", "24"]) == 0
    found = json.loads(capsys.readouterr().out)
    small = model.with_name("model-small.sight")
    assert found["model"] == str(small)
    assert found["chosen"] == "the model itself, INT8"
    assert [row["name"] for row in found["variants"]] == ["the model itself", "the model itself, INT8"]
    assert small.stat().st_size <= size
    assert model.with_name("model-small-curve.png").exists()
    assert sightline.verify(small)["max_difference"] < 1e-5
    with Bundle.open(small) as bundle:
        assert bundle.manifest.is_int8
        assert bundle.manifest.variant["made"] == "the model itself, INT8"
        assert "# A smaller model" in bundle.read("card").decode()
    reached = sightline.evaluate(small, data, engine="onnxruntime")["metrics"]["accuracy"]
    assert reached == pytest.approx(found["variants"][1]["value"], abs=1e-6)
    with pytest.raises(ModelFileError, match="is a variant already"):
        sightline.export(small, data=data, size="10kB")


def test_a_network_is_taught_where_int8_is_not_small_enough(learnt, model):
    pytest.importorskip("torch_pruning", reason="torch-pruning is not installed: sightline[train]")
    data, size = learnt[0], round(0.2 * graph_bytes(model)) + 30_000
    made = sightline.export(model, data=data, size=f"{size}B", **GENEROUS)
    assert made.model.stat().st_size <= size
    names = [point.name for point in made.points]
    assert any("channels" in name for name in names)
    assert any("test_efficientnet" in name for name in names)
    assert made.chosen.fits
    fitting = [point for point in made.points[1:] if point.fits]
    assert made.chosen.validation.points == min(point.validation.points for point in fitting)
    assert sightline.verify(made.model)["n"] >= 1
    with Bundle.open(made.model) as bundle:
        assert [row["name"] for row in bundle.manifest.variant["points"]] == names
        assert bundle.arrays("reference")["seen"].size
        assert not bundle.has("weights")
    reached = sightline.evaluate(made.model, data, engine="onnxruntime")["metrics"]["accuracy"]
    assert reached == pytest.approx(made.chosen.value, abs=1e-6)


@pytest.fixture
def time_is_area(monkeypatch):
    """An image of 32 px takes 10 ms, whatever computes it, and others as much as they have pixels."""

    def milliseconds(infer, shape):
        return 10 * shape[0] * shape[1] / 1024

    monkeypatch.setattr(measuring, "latency_ms", milliseconds)
    monkeypatch.setattr(measuring, "speeds", lambda infers, shape: {"it": Speed(milliseconds(None, shape), 11, 1, 1, 1)})


@pytest.fixture
def only_inputs(monkeypatch):
    """Nothing else is made smaller."""
    monkeypatch.setattr(candidates, "CHANNELS", ())
    monkeypatch.setattr(candidates, "BACKBONES", ())


def test_a_smaller_input_where_that_is_fast_enough(learnt, model, time_is_area, only_inputs):
    data = learnt[0]
    made = sightline.export(model, data=data, latency="6ms", **GENEROUS)
    assert made.chosen.name == "input of 24 px"
    assert made.chosen.speed.latency_ms == pytest.approx(5.625)
    opened = sightline.Model.open(made.model, engine="onnxruntime")
    assert opened.prepare.size == 24
    assert opened.predict(sorted((data / "test" / "disc").iterdir())[0]).label in ("cross", "disc", "square")
    with Bundle.open(made.model) as bundle, Bundle.open(model) as source:
        assert bundle.manifest.decision != source.manifest.decision  # calibrated anew
        assert bundle.arrays("reference").keys() == source.arrays("reference").keys()
        assert bundle.manifest.variant["precision"] == "fp32"
        assert len(bundle.arrays("replay")["lengths"]) == len(source.arrays("replay")["lengths"])


def test_tags_are_taught_too(trained_on, tmp_path, time_is_area, only_inputs):
    data, run = trained_on("tag")
    made = sightline.export(run.model, data=data, latency="6ms", out=tmp_path / "quick.sight", **GENEROUS)
    assert made.points[0].metric == "map"
    assert made.model == tmp_path / "quick.sight"
    assert sightline.verify(made.model)["n"] > 0


def test_what_is_small_enough_already_stays_as_it_is(learnt, model):
    made = sightline.export(model, data=learnt[0], size="1GB", **GENEROUS)
    assert (made.model, made.curve, len(made.points)) == (model, None, 1)
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.sight"]


@pytest.mark.parametrize("flags", [{"latency": "0.001ms"}, {"size": "2kB"}, {"latency": "5s", "size": "2kB"}])
def test_what_no_model_reaches_is_said_before_anything_is_trained(learnt, model, monkeypatch, only_inputs, flags):
    monkeypatch.setattr(shrink.Trials, "train", lambda *given: pytest.fail("trained"))
    monkeypatch.setattr(candidates, "SIDES", (0.5,))
    with pytest.raises(
        RequirementNotMet, match=r"no model that is known here meets --.*; nearest of \d+ that were measured is .*: .* ms, .* [kM]B"
    ):
        sightline.export(model, data=learnt[0], **flags, **GENEROUS)
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.sight"]


def test_what_loses_too_much_is_refused_with_the_nearest_and_the_curve(learnt, model, time_is_area, only_inputs, monkeypatch):
    def spoilt(lesson, network, shape):
        with torch.no_grad():
            network.head.linear.weight.copy_(-network.head.linear.weight)
        return network

    monkeypatch.setattr("sightline.shrinking.lesson.Lesson.teach", spoilt)
    with pytest.raises(
        RequirementNotMet, match=r"loses at most 1 points of accuracy on the 36 test images; nearest is input of 24 px: .*curve\.png"
    ):
        sightline.export(model, data=learnt[0], latency="6ms", **{**GENEROUS, "max_loss": 1.0})
    assert sorted(path.name for path in model.parent.iterdir()) == ["model-small-curve.json", "model-small-curve.png", "model.sight"]


def test_bad_input_is_said_in_a_sentence(learnt, model, tmp_path):
    data = learnt[0]
    with pytest.raises(UsageError, match=r"^--data: give the labelled images"):
        sightline.export(model, latency="5ms")
    with pytest.raises(UsageError, match=r"--out .*: .*absent is no folder to write it\.sight to"):
        sightline.export(model, data=data, size="10kB", out=tmp_path / "absent" / "it.sight", **GENEROUS)
    strangers = write_shapes(tmp_path / "strangers", per_class=12, seed=9)
    with pytest.raises(DataError, match=r"holds none of the images that .* was trained on"):
        sightline.export(model, data=strangers, size="10kB", **GENEROUS)
    other = write_shapes(tmp_path / "other", kinds=("disc", "ring"))
    with pytest.raises(DataError, match="does not know the class 'ring'"):
        sightline.export(model, data=other, size="10kB", **GENEROUS)
    with Bundle.open(model) as bundle:
        graph = Part("model.onnx", "graph", bundle.read("graph"), required=True)
        write(tmp_path / "scenes.sight", replace(bundle.manifest, task="detect"), [graph])
    with pytest.raises(UsageError, match="smaller models for the task detect are not made yet"):
        sightline.export(tmp_path / "scenes.sight", data=data, size="10kB", **GENEROUS)


def lesson_of(model, data):
    """What smaller models would learn from."""
    with Bundle.open(model) as source:
        return shrink._begun(source, asked(latency="1ms"), ReadConfig(), ExportConfig(data=str(data), threads=1), Limits()).lesson


def keys_of(dataset, split):
    return {content_key(dataset.refs[row]) for row in dataset.rows_of(split)}


def test_data_are_split_as_for_the_training(run, shapes, untested):
    for data, trained in ((shapes, run), (untested[0], untested[1])):
        lesson = lesson_of(trained.model, data)
        assert lesson.held_out
        with Bundle.open(trained.model) as source:
            assert lesson.gated.dataset.fingerprint == source.manifest.fingerprint
            np.testing.assert_array_equal(lesson.seen(source), source.arrays("reference")["seen"])


def test_the_fold_of_the_training_is_found_again(run, shapes, tmp_path):
    known = lesson_of(run.model, shapes)
    settings = replace(known.settings, data=replace(known.settings.data, folds=3))
    parted = gate(known.gated.dataset.replace(splits=None), known.gated.store, settings.data, settings.run.seed, 2).dataset
    with Bundle.open(run.model) as bundle:
        manifest = replace(bundle.manifest, config=settings.to_json(), fingerprint=parted.fingerprint)
        parts = [Part(member.name, member.role, bundle.read(member.role), member.required) for member in bundle.manifest.members]
        write(tmp_path / "fold.sight", manifest, parts)
    lesson = lesson_of(tmp_path / "fold.sight", shapes)
    assert lesson.held_out
    assert keys_of(lesson.gated.dataset, "test") == keys_of(parted, "test")


def test_a_network_that_may_know_its_validation_images_promises_nothing(run, shapes, tmp_path, time_is_area, only_inputs, capsys):
    model, data = shutil.copy(run.model, tmp_path / "model.sight"), shutil.copytree(shapes, tmp_path / "data")
    render_shape("disc", 77).save(data / "disc" / "new.png")
    made = sightline.export(model, data=data, latency="6ms", **GENEROUS)
    assert made.chosen.loss.n == run.numbers["test"]["n"] + 1
    assert "a network that is trained on them makes no promises" in capsys.readouterr().err
    with Bundle.open(made.model) as bundle, Bundle.open(model) as source:
        assert source.manifest.promises
        assert not bundle.manifest.promises
        assert bundle.manifest.temperature == source.manifest.temperature
        known = bundle.arrays("reference").keys()
        assert "embeddings" in known
        assert not [name for name in known if name.startswith("calibration_")]
        assert "It makes no promises" in bundle.read("card").decode()


def test_data_that_lack_test_images_are_tested_on_what_the_model_has_not_seen(untested, tmp_path, capsys):
    data, run = untested
    copied = shutil.copytree(data, tmp_path / "data")
    for number in range(2):
        render_shape("disc", 70 + number).save(copied / "train" / "disc" / f"new-{number}.png")
    lesson = lesson_of(run.model, copied)
    with Bundle.open(run.model) as source:
        seen = set(source.arrays("reference")["seen"].tolist())
    tested = keys_of(lesson.gated.dataset, "test")
    assert len(tested) == run.numbers["test"]["n"] + 2
    assert not tested & seen
    assert keys_of(lesson.gated.dataset, "validation") == keys_of(lesson_of(run.model, data).gated.dataset, "validation")
    assert lesson.held_out  # its validation images came as such
    assert "flatter" not in capsys.readouterr().err


def test_a_split_by_hand_of_what_the_model_was_trained_on_promises_nothing(run, shapes, tmp_path, capsys):
    """Its test images tell that it is another split than that of the training."""
    for place, path in enumerate(sorted(shapes.rglob("*.png"))):
        folder = tmp_path / "data" / ("train", "val", "test")[place % 3] / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.name)
    assert not lesson_of(run.model, tmp_path / "data").held_out
    assert "a network that is trained on them makes no promises" in capsys.readouterr().err.replace("\n", " ")


def test_test_images_that_were_trained_on_are_told_and_what_is_learned_from_is_known(learnt, tmp_path, capsys):
    data, run = learnt
    lesson_of(run.model, data / "train")
    said = capsys.readouterr().err
    assert re.search(r"\d+ of the test images were used in training, so the figures flatter every model", said)
    copied = shutil.copytree(data, tmp_path / "data")
    render_shape("disc", 77).save(copied / "train" / "disc" / "new.png")
    lesson = lesson_of(run.model, copied)
    with Bundle.open(run.model) as source:
        seen = set(source.arrays("reference")["seen"].tolist())
        assert set(lesson.seen(source).tolist()) - seen == {content_key(ImageRef(str(copied / "train" / "disc" / "new.png")))}


def test_data_that_did_not_come_split_are_split_by_what_the_model_saw(run, shapes, tmp_path, time_is_area, only_inputs):
    model = shutil.copy(run.model, tmp_path / "model.sight")
    (tmp_path / "exports").mkdir()
    made = sightline.export(model, data=shapes, latency="6ms", out=tmp_path / "exports", **GENEROUS)
    assert made.model == tmp_path / "exports" / "model-small.sight"
    assert made.chosen.loss.n == run.numbers["test"]["n"]
    assert made.points[0].value == pytest.approx(run.numbers["test"]["metrics"]["accuracy"], abs=1e-4)
