"""The command line as a user meets it: results on stdout, one sentence and an exit code for whatever goes wrong."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import struct
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from PIL import Image

from conftest import WEIGHTS, needs_data, write_shapes
from sightline.cli import _exit_code
from sightline.flags import app

FAST = ["--epochs", "1", "--backbone", "test_resnet", "--weights", "none", "--device", "cpu"]
FASTER = [*FAST, "--no-trial"]


@pytest.fixture
def sightline(capsys, monkeypatch, tmp_path):
    """Runs a command in an empty working folder and returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        code = _exit_code([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def one_sentence(err: str) -> str:
    """The last line of stderr, which is the error and nothing more."""
    *_, last = err.strip().splitlines()
    assert last.startswith("sightline: ")
    assert "Traceback" not in err
    return last


# ---- what works ------------------------------------------------------------------------------------------------------


def test_predict_as_json_gives_a_line_an_image_with_the_original_path(sightline, run, shapes, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff nothing more")
    good = shapes / "disc" / "000.png"
    code, out, _ = sightline("predict", run.model, good, bad, "--json", "--top", "2")
    first, second = map(json.loads, out.splitlines())
    assert code == 0
    assert first["path"] == str(good)
    assert [set(entry) for entry in first["predictions"]] == [{"label", "score"}] * 2
    assert first["predictions"][0]["score"] >= first["predictions"][1]["score"]
    assert set(second) == {"path", "error"}


def test_predict_takes_folders_and_prints_readable_lines(sightline, run, shapes):
    code, out, _ = sightline("predict", run.model, shapes / "disc")
    assert code == 0
    assert len(out.splitlines()) == 20
    assert "%" in out


def test_evaluate_as_json_has_the_fields_names(sightline, run, shapes):
    code, out, _ = sightline("evaluate", run.model, shapes, "--split", "all", "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["task"], result["split"], result["n"]) == ("classify", "all", 60)
    assert set(result["metrics"]) == {"accuracy", "precision", "recall", "f1", "ece"}


def test_evaluating_training_images_is_said(sightline, run, shapes):
    _, out, err = sightline("evaluate", run.model, shapes, "--split", "all", "--json")
    assert json.loads(out)["seen"] > 0
    assert "flatter" in err


def test_train_as_json_is_one_object_with_all_else_on_stderr(sightline, shapes, tmp_path):
    code, out, err = sightline("train", shapes, "--json", *FAST)
    result = json.loads(out)
    assert code == 0
    assert result["run"] == "runs/classify/shapes"
    assert Path(result["model"]).exists()
    assert Path(result["report"]).exists()
    assert "Epoch  1 of 1" in err
    code, out, _ = sightline("train", shapes, "--json", *FASTER)
    assert json.loads(out)["run"] == "runs/classify/shapes-2"


def test_without_embedded_images_verify_replays_rendered_ones(sightline, shapes):
    code, out, _ = sightline("train", shapes, "--json", "--embed-images", "none", *FASTER)
    assert code == 0
    assert "16 images replayed" in sightline("verify", json.loads(out)["model"])[1]


def test_every_verb_has_help_that_names_its_flags(sightline):
    for verb, flag in (("train", "--epochs"), ("evaluate", "--split"), ("predict", "--top"), ("verify", "--threads"), ("compare", "--out"),
                       ("doctor", "--json")):  # fmt: skip
        code, out, _ = sightline(verb, "--help")
        assert code == 0
        assert flag in out


# ---- usage: exit code 2 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "says"), [
    (["train", "x", "--epoch", "3"], "--epochs"),
    (["trian", "x"], "train"),
    (["train", "x", "--fit", "stretch"], "--fit"),
    (["train", "x", "--epochs", "0"], "epochs must be at least 1, not 0"),
    (["train", "x", "--epochs", "many"], "--epochs"),
    (["train"], "Give the folder"),
    (["train", "x", "--task", "clasify"], "classify"),
    (["predict", "model.sight"], "IMAGES"),
    (["verify"], "MODEL"),
    (["train", "--resume", "nowhere"], "no run"),
])  # fmt: skip
def test_wrong_usage_is_one_sentence_with_what_was_meant(sightline, words, says):
    code, _, err = sightline(*words)
    assert code == 2
    assert says in one_sentence(err)


def test_several_wrong_values_are_reported_together(sightline):
    code, _, err = sightline("train", "x", "--epochs", "0", "--batch-size", "0", "--dropout", "2")
    assert code == 2
    assert all(name in one_sentence(err) for name in ("epochs", "batch_size", "dropout"))


def test_a_misspelt_backbone_gets_near_names(sightline, shapes):
    code, _, err = sightline("train", shapes, "--backbone", "resnet81")
    assert code == 2
    assert "'resnet18'" in one_sentence(err)


def test_training_in_the_base_install_says_what_to_install(tmp_path):
    code = """
import sys
import typing
sys.modules["torch"] = None
from sightline.cli import _exit_code
from sightline.flags import app
sys.exit(_exit_code(["train", "x"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert one_sentence(done.stderr) == "sightline: Training needs torch, which is not installed: pip install 'sightline[train]'."


# ---- data: exit code 3 -----------------------------------------------------------------------------------------------


def make_empty(folder: Path) -> None:
    folder.mkdir()


def make_one_class(folder: Path) -> None:
    write_shapes(folder, kinds=("disc",))


def make_loose(folder: Path) -> None:
    write_shapes(folder / "inner", kinds=("disc",), per_class=3)
    for path in (folder / "inner" / "disc").iterdir():
        path.rename(folder / path.name)
    shutil.rmtree(folder / "inner")


def make_unknown_test_class(folder: Path) -> None:
    write_shapes(folder / "train", kinds=("disc", "square"))
    write_shapes(folder / "test", kinds=("disc", "cross"), per_class=4, seed=1)


def make_class_of_one(folder: Path) -> None:
    write_shapes(folder, kinds=("disc", "square"))
    write_shapes(folder, kinds=("cross",), per_class=1)


def make_class_of_copies(folder: Path) -> None:
    write_shapes(folder, kinds=("disc", "square", "cross"), per_class=6)
    first, *others = sorted((folder / "cross").iterdir())
    for other in others:
        shutil.copy(first, other)


def make_all_broken(folder: Path) -> None:
    for kind in ("disc", "square"):
        (folder / kind).mkdir(parents=True)
        (folder / kind / "a.jpg").write_bytes(b"this is no image")


@pytest.mark.parametrize(("make", "says"), [
    (make_empty, "holds no images"),
    (make_one_class, "a single class, 'disc'"),
    (make_loose, "no class folders"),
    (make_unknown_test_class, "'cross' (found in test)"),
    (make_class_of_one, "'cross' has 1 usable image"),
    (make_class_of_copies, "'cross' has 6 usable images, of which 5 copies"),
    (make_all_broken, "none of its 2 files can be used"),
])  # fmt: skip
def test_data_that_cannot_be_learned_from_is_named(sightline, tmp_path, make, says):
    make(tmp_path / "data")
    code, _, err = sightline("train", tmp_path / "data", *FAST)
    assert code == 3
    assert says in one_sentence(err)
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_is_not_there(sightline):
    code, _, err = sightline("train", "absent")
    assert code == 3
    assert "no such folder" in one_sentence(err)


def test_a_file_that_lies_about_its_type_is_used_or_named(sightline, tmp_path):
    data = write_shapes(tmp_path / "data", kinds=("disc", "square"))
    (data / "disc" / "000.png").rename(data / "disc" / "png_inside.jpg")
    (data / "disc" / "page.jpg").write_text("<html>not an image</html>")
    code, _, err = sightline("train", data, *FASTER)
    assert code == 0
    assert "disc/png_inside.jpg: named .jpg but holds PNG data; used all the same." in err
    assert "disc/page.jpg: not an image but an HTML page; left out." in err


def test_evaluating_classes_the_model_does_not_know(sightline, run, tmp_path):
    data = write_shapes(tmp_path / "data", kinds=("disc", "square"), per_class=2)
    (data / "square").rename(data / "sqare")
    code, _, err = sightline("evaluate", run.model, data)
    assert code == 3
    assert "'sqare'. Did you mean 'square'?" in one_sentence(err)


def test_predicting_on_nothing_readable(sightline, run, tmp_path):
    (tmp_path / "notes.png").write_text("not an image")
    code, _, err = sightline("predict", run.model, tmp_path / "notes.png", tmp_path / "absent.png")
    assert code == 3
    assert "no such file" in err


# ---- model files: exit code 4 ----------------------------------------------------------------------------------------


def make_safetensors(path: Path, header: bytes) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def test_a_corrupt_weights_file(sightline, shapes, tmp_path):
    path = make_safetensors(tmp_path / "w.safetensors", b'{"half a header')
    code, _, err = sightline("train", shapes, "--backbone", "test_resnet", "--weights", path)
    assert code == 4
    assert "not a whole safetensors file" in one_sentence(err)


@needs_data
def test_weights_of_another_network(sightline, shapes):
    code, _, err = sightline("train", shapes, "--backbone", "resnet18", "--weights", WEIGHTS)
    assert code == 4
    assert "mobilenetv2_100, not for resnet18" in one_sentence(err)


@pytest.mark.parametrize("verb", ["predict", "evaluate", "verify"])
def test_a_bundle_cut_short_or_altered(sightline, run, shapes, tmp_path, verb):
    whole = run.model.read_bytes()
    rest = {"predict": [shapes / "disc" / "000.png"], "evaluate": [shapes], "verify": []}[verb]
    for name, data in {"cut": whole[: len(whole) // 2], "altered": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]}.items():
        path = tmp_path / f"{name}.sight"
        path.write_bytes(data)
        code, _, err = sightline(verb, path, *rest)
        assert code == 4
        assert str(path) in one_sentence(err)
    code, _, err = sightline(verb, tmp_path / "absent.sight", *rest)
    assert code == 4


# ---- devices, interruption -------------------------------------------------------------------------------------------


def test_a_device_that_is_not_there_is_an_error(sightline, shapes):
    import torch

    absent = next(name for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())) if not there)
    code, _, err = sightline("train", shapes, "--device", absent)
    assert code == 5
    assert f"--device {absent}" in one_sentence(err)


def test_a_stopped_run_says_how_to_go_on_and_ends_like_one_that_was_not(sightline, shapes, tmp_path, monkeypatch):
    import sightline.training.loop as loop

    words = ["train", shapes, "--backbone", "test_resnet", "--weights", "none", "--device", "cpu", "--epochs", "3", "--no-trial"]
    assert sightline(*words, "--out", "straight")[0] == 0
    real = loop.update_average
    steps = []

    def interrupted(*arguments: object) -> None:
        steps.append(1)
        if len(steps) == 4:  # in the second epoch
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(loop, "update_average", interrupted)
    code, _, err = sightline(*words, "--out", "stopped")
    assert code == 130
    assert "sightline train --resume stopped goes on" in one_sentence(err)
    monkeypatch.setattr(loop, "update_average", real)
    assert sightline("train", "--resume", "stopped", "--epochs", "9")[0] == 2
    assert sightline("train", "--resume", "stopped")[0] == 0
    from sightline.bundle import Bundle

    with Bundle.open("straight/model.sight") as straight, Bundle.open("stopped/model.sight") as stopped:
        assert straight.read("weights") == stopped.read("weights")
        assert straight.read("graph") == stopped.read("graph")
    code, _, err = sightline("train", "--resume", "stopped")
    assert code == 2
    assert "finished" in one_sentence(err)


def test_a_run_is_not_resumed_on_other_data(sightline, tmp_path, monkeypatch):
    import sightline.pipeline as pipeline

    data = write_shapes(tmp_path / "data")
    monkeypatch.setattr("sightline.package.ship", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    assert pipeline
    assert sightline("train", data, "--out", "run", *FAST)[0] == 130
    (data / "disc" / "000.png").unlink()
    code, _, err = sightline("train", "--resume", "run")
    assert code == 3
    assert "changed since" in one_sentence(err)


def test_debug_adds_the_traceback(sightline):
    code, _, err = sightline("train", "absent", "--debug")
    assert code == 3
    assert "Traceback" in err


@pytest.mark.skipif(sys.platform == "win32", reason="pipes are closed otherwise there")
def test_who_has_seen_enough_ends_it_without_a_word():
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run([sys.executable, "-m", "sightline", "doctor"], stdout=theirs, stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_what_an_encoding_lacks_is_spelt_out(encoding):
    """Of names with letters, and with bytes that are none in the file system's encoding."""
    code = "from sightline.console import print_json, show\nfrom sightline.exits import exit_code\nfrom cyclopts import App\n"
    code += "app = App()\n@app.default\ndef say():\n    name = 'caf\\xe9 \\u017e \\udce9'\n    show(name), print_json({name: 1})\n"
    code += "raise SystemExit(exit_code(app, []))"
    environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    said, in_json = done.stdout.decode(encoding).splitlines()
    assert said.endswith("\\udce9")
    assert json.loads(in_json) == {"caf\xe9 \u017e \udce9": 1}


def test_the_installed_command_runs():
    done = subprocess.run([Path(sys.executable).with_name("sightline"), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __import__("sightline").__version__


def test_a_picture_in_memory_and_its_file_are_told_alike(run, shapes):
    from sightline import Model

    path = shapes / "square" / "003.png"
    model = Model.open(run.model)
    assert model.predict(Image.open(path)) == model.predict(path)


def test_a_flag_that_may_be_left_out_takes_nothing_for_its_value():
    """pydantic, where something else has imported it, holds defaults against their kinds."""
    for command in ("train", "predict", "explain", "export", "audit"):
        for parameter in inspect.signature(app[command].default_command).parameters.values():
            if parameter.default is None:
                assert type(None) in typing.get_args(typing.get_args(parameter.annotation)[0]), f"{command} --{parameter.name}"
