"""Backbones by name: what is listed is what gets built, with the licence of its weights, and speeds only where they are asked for."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import timm
import torch
import torchvision

import sightline
from sightline.cli import _exit_code
from sightline.config import CatalogueConfig
from sightline.errors import ConfigError, UsageError
from sightline.model import catalogue as module
from sightline.model.backbone import BackboneSpec, build, check_name
from sightline.model.catalogue import CURATED, catalogue, describe, matching_names

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    """No pretrained copies are on this machine."""
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path


def names(found) -> list[str]:
    return [entry.name for entry in found.entries]


def test_the_well_known_ones_are_there_and_their_weights_may_be_used():
    assert len(CURATED) == len(set(CURATED)) == 25
    for name in CURATED:
        assert check_name(name) == name
        contract = module.library_contract(name)
        assert module.has_weights(name)
        assert contract.permissive or (contract.licence is None and name.startswith("torchvision/"))


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "torchvision/squeezenet1_1", "torchvision/regnet_y_400mf", "mobilenetv3_small_050"]
)
def test_an_entry_is_true_of_the_network_that_is_built(name):
    entry = describe(name)
    backbone = build(BackboneSpec(name, entry.size))
    with torch.inference_mode():
        embedding, features = backbone.eval()(torch.zeros(1, 3, entry.size, entry.size))
    assert entry.parameters == sum(parameter.numel() for parameter in backbone.parameters())
    assert (entry.embedding, entry.features) == (embedding.shape[1], tuple(features.shape[1:]))
    assert entry.reduction in (None, 16, 32)
    assert (entry.images_per_second, entry.problem, entry.weights) == (None, None, "hub")


def test_counting_leaves_nothing_behind_that_a_real_network_would_stumble_over():
    describe("swin_tiny_patch4_window7_224")
    backbone = build(BackboneSpec("swin_tiny_patch4_window7_224", 64))
    assert {tensor.device.type for tensor in (*backbone.parameters(), *backbone.buffers())} == {"cpu"}


def test_parts_of_names_patterns_and_any_case():
    assert {"legacy_seresnet18", "seresnet18"} <= set(matching_names("SeResNet1"))
    assert matching_names("TEST_resnet") == ["test_resnet"]
    assert matching_names("test_vit*") == sorted(name for name in timm.list_models("test_vit*"))
    assert {"vgg13", "torchvision/vgg13", "torchvision/vgg13_bn"} <= set(matching_names("vgg13*"))
    assert set(matching_names("torchvision/")) == {f"torchvision/{name}" for name in torchvision.models.list_models(torchvision.models)}
    assert len(matching_names("*")) > 1000


def test_a_full_name_is_that_one_alone_and_the_one_that_training_takes():
    for name in ("alexnet", "vgg11", "inception_v3", "torchvision/vgg11", "resnet18.a1_in1k"):
        assert matching_names(name) == [check_name(name)]


def test_a_dot_looks_through_the_tags_of_weights():
    found = matching_names("resnet18.*")
    assert "resnet18.tv_in1k" in found
    assert all(name.startswith("resnet18.") for name in found)


@pytest.mark.parametrize(
    ("wrong", "near"), [("rasnet18", "'resnet18'"), ("alexnett", "'alexnet'"), ("*mobilnetv2_100*", "'mobilenetv2_100'")]
)
def test_a_name_that_nothing_matches_is_told_with_near_ones(wrong, near):
    with pytest.raises(UsageError, match="no backbone") as caught:
        catalogue(wrong, CatalogueConfig())
    assert near in str(caught.value)


def test_licences_are_those_of_the_weights():
    free, bound, unstated, without = map(describe, ("resnet18", "convnextv2_atto", "torchvision/resnet18", "efficientnetv2_s"))
    assert (free.licence, free.permissive) == ("apache-2.0", True)
    assert (bound.licence, bound.permissive, bound.row["licence"]) == ("cc-by-nc-4.0", False, "cc-by-nc-4.0 (caution)")
    assert (unstated.licence, unstated.permissive, unstated.row["licence"]) == (None, None, "not stated")
    assert (without.weights, without.licence, without.row["weights"]) == (None, None, "none")
    found = catalogue("convnextv2_at*", CatalogueConfig())
    assert any("not permissive" in sentence for sentence in found.hints())


def test_a_copy_on_this_machine_is_found(empty_caches):
    url = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT.url
    path = empty_caches / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir()
    path.touch()
    assert describe("torchvision/squeezenet1_1").weights == "here"


def test_one_that_cannot_be_built_is_listed_with_the_reason():
    entry = describe("crossvit_9_240")
    assert (entry.parameters, entry.embedding, entry.features) == (None, None, None)
    assert "several last feature maps" in entry.problem
    assert entry.row["million"] == "-"
    assert module.timed(entry, torch.device("cpu")) == entry


def test_the_limit_is_kept_and_what_it_left_out_is_said(monkeypatch):
    counted = []
    monkeypatch.setattr(module, "describe", lambda name: counted.append(name) or describe(name))
    found = catalogue("test_*", CatalogueConfig(limit=2))
    assert counted == names(found) == sorted(timm.list_models("test_*"))[:2]
    assert f"2 of the {found.matching} that match; --limit {found.matching} lists all." in found.hints()


def test_sorting_by_parameters_looks_at_all_that_match():
    found = catalogue("test_*", CatalogueConfig(limit=3, sort="parameters"))
    every = catalogue("test_*", CatalogueConfig(limit=1000))
    assert [entry.parameters for entry in found.entries] == sorted(entry.parameters for entry in every.entries)[:3]


def test_speeds_are_measured_only_when_asked_for(monkeypatch):
    monkeypatch.setattr(module, "TIMED_SECONDS", 0.05)
    plain = catalogue("test_resnet", CatalogueConfig(device="cpu"))
    assert plain.entries[0].images_per_second is None
    assert "images/s" not in plain.rows()[0]
    assert any("--time" in sentence for sentence in plain.hints())
    found = catalogue("test_*net", CatalogueConfig(time=True, sort="speed", device="cpu"))
    speeds = [entry.images_per_second for entry in found.entries]
    assert len(speeds) > 3
    assert all(speed > 0 for speed in speeds)
    assert speeds == sorted(speeds, reverse=True)
    assert all(row["images/s"] != "-" for row in found.rows())


@pytest.mark.parametrize(("rate", "cell"), [(12345.6, "12346"), (99.6, "100"), (9.87, "9.9"), (0.0512, "0.051"), (None, "-")])
def test_speeds_are_written_without_exponents(rate, cell):
    assert dataclasses.replace(describe("test_resnet"), images_per_second=rate).row["images/s"] == cell


def test_a_network_too_large_to_time_is_not_timed(monkeypatch):
    monkeypatch.setattr(module, "LARGEST_TIMED", 1000)
    (entry,) = catalogue("test_resnet", CatalogueConfig(time=True, device="cpu")).entries
    assert entry.images_per_second is None
    assert "not timed" in entry.problem


@pytest.mark.parametrize(("settings", "said"), [({}, "add --time"), ({"time": True, "limit": 2}, "narrow the pattern")])
def test_sorting_by_speed_needs_speeds_of_all(settings, said):
    with pytest.raises(UsageError, match=said):
        catalogue("test_*", CatalogueConfig(sort="speed", **settings))


# ---- the verb --------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_says_how_to_see_more_beside_it(capsys):
    assert _exit_code(["backbones", "test_vit*", "--limit", "2"]) == 0
    out, err = capsys.readouterr()
    heading, *rows = (line.split() for line in out.splitlines())
    assert heading == ["name", "million", "px", "weights", "licence"]
    assert [row[0] for row in rows] == matching_names("test_vit*")[:2]
    assert "that match; --limit" in err
    assert "--time measures" in err


def test_the_command_tells_all_of_a_full_name(capsys):
    assert _exit_code(["backbones", "test_resnet"]) == 0
    out, _ = capsys.readouterr()
    told = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (told["name"], told["embedding"], told["licence"]) == ("test_resnet", "96", "apache-2.0")


def test_json_is_one_object_with_every_field(capsys):
    assert _exit_code(["backbones", "test_resnet", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (entry,) = found["backbones"]
    assert (entry["name"], entry["embedding"], entry["features"][0], entry["reduction"]) == ("test_resnet", 96, 96, 32)
    assert found["matching"] == 1 < found["known"]


def test_what_is_wrong_is_one_sentence_and_an_exit_code(capsys):
    assert _exit_code(["backbones", "rasnet18"]) == 2
    assert capsys.readouterr().err.startswith("sightline: rasnet18: no backbone")
    with pytest.raises(ConfigError, match="limit must be at least 1"):
        sightline.backbones("test_resnet", limit=0)


@pytest.mark.parametrize("library", ["torch", "timm", "torchvision"])
def test_without_its_libraries_it_says_what_to_install(library):
    code = f"""
import sys
sys.modules["{library}"] = None
from sightline.cli import _exit_code
sys.exit(_exit_code(["backbones"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"sightline: Listing backbones needs {library}, which is not installed: pip install 'sightline[train]'.\n"
