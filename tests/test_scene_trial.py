"""The trial of models that say where things are, with networks of which it is known what they go by."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import planted_scenes
from conftest import write_boxes, write_maps
from planted_scenes import AREAS, LABELS, by_colour, by_pixel, maps_of, scenes
from sightline.evaluation.corruptions import CORRUPTIONS
from sightline.explanation.scenes import Aimed, aim_at, scores_of
from sightline.explanation.subject import Subject
from sightline.predictions import Decision
from sightline.records import Dataset, ImageRef, column_of
from sightline.report.robustness import robustness_blocks
from sightline.report.sections import has_content
from sightline.report.suspects import COLUMNS, suspects_blocks, suspects_text
from sightline.scenes import Objects, frame_of
from sightline.tasks import classify, detect, segment, tag
from sightline.tasks.measures import MEASURES, measure_of
from sightline.trust.attributes import OBJECT_SIZE, OBJECTS, object_columns
from sightline.trust.robustness import robustness
from sightline.trust.scene_baselines import scene_baselines
from sightline.trust.scene_explanations import scene_explanations
from sightline.trust.scene_suspects import Unlearned, scene_suspects

# No box below 0.5, as the planted detector is calibrated.
DECISION = Decision()


def given(task, numbers):
    """Images, targets, frames, labels and a network of a task."""
    images, objects, frames = scenes(numbers)
    if task is detect:
        return images, objects, frames, LABELS, by_colour
    return images, maps_of(objects), frames, AREAS, by_pixel


def kept(task, numbers, change=lambda targets: targets):
    images, targets, frames, labels, infer = given(task, numbers)
    targets = change(targets)
    return task.compact({**infer(images), "frame": frames}, targets), targets, labels


def test_images_are_grouped_by_how_many_objects_they_have_and_how_large_those_are():
    _, objects, _ = scenes([1, 2, 8])
    data = Dataset(Path("x"), "detect", LABELS, [ImageRef(str(number)) for number in range(3)], objects)
    facts = SimpleNamespace(width=np.full(3, 64), height=np.full(3, 64))
    found = object_columns(data, facts, np.arange(3))
    assert found[OBJECTS] == [str(len(each)) for each in objects]
    assert found[OBJECT_SIZE][2] == ""
    assert float(found[OBJECT_SIZE][0]) == pytest.approx(np.sqrt(np.median(objects[0].areas)) / 64, abs=1e-3)
    assert object_columns(data.as_tags(), facts, np.arange(3)) == {}


def test_each_task_has_its_measure():
    assert [measure_of(task) for task in (classify, tag, detect, segment)] == list(MEASURES)
    assert [measure.axis for measure in MEASURES.values()] == ["right, in %", "overlap, in %", "F1 of boxes, in %", "right pixels, in %"]


@pytest.mark.parametrize("task", [detect, segment])
def test_harder_conditions_are_tried_but_for_those_that_move_what_is_seen(task):
    images, targets, frames, labels, infer = given(task, range(1, 21))
    found = robustness(infer, images, targets, labels, task, DECISION, seconds=120.0, frames=frames)
    numbers = found.numbers
    assert [entry["name"] for entry in numbers["conditions"]] == [name for name in CORRUPTIONS if name != "rotation"]
    assert numbers["left_out"] == ["rotation"]
    assert numbers["clean"]["right"] == pytest.approx(1, abs=0.02)
    by_name = {entry["name"]: entry for entry in numbers["conditions"]}
    assert by_name["fog"]["loss"] > 0.1  # what goes by colour fails where colours fade
    assert MEASURES[measure_of(task)].says.format(numbers["robust_accuracy"]) in numbers["sentence"]
    blocks = robustness_blocks(numbers)
    assert "Not tried: rotation" in blocks[0].paragraphs[1]
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers


def test_the_commonest_class_everywhere_is_what_a_segmenter_has_to_beat():
    raw, targets, labels = kept(segment, range(1, 21))
    numbers = scene_baselines(segment, raw, targets, targets, labels, DECISION).numbers
    majority, network = numbers["methods"]
    shares = [each.pixels[0] / each.pixels.sum() for each in targets]
    assert majority["right"] == pytest.approx(np.mean(shares))
    assert network["right"] == pytest.approx(1, abs=0.01)
    assert numbers["beaten"]
    assert "calling every pixel 'ground'" in numbers["sentence"]
    same = scene_baselines(segment, raw, targets, maps_of(scenes(range(0, 8, 8))[1]), labels, DECISION).numbers
    assert same["label"] == "ground"


def test_nothing_simple_puts_boxes_around_objects_and_that_is_said():
    raw, targets, labels = kept(detect, range(1, 9))
    assert "no simple rule puts boxes" in scene_baselines(detect, raw, targets, targets, labels, DECISION).numbers["reason"]


def spoilt(targets):
    """The objects of images with one left out (image 0), one of the other class (1) and one moved by half its size (2)."""
    changed = list(targets)
    changed[0] = targets[0].select(np.arange(1, len(targets[0])))
    one = targets[1]
    changed[1] = Objects.of(one.boxes, np.where(np.arange(len(one)) == 0, 1 - one.labels, one.labels))
    moved = targets[2].boxes.copy()
    moved[0] += np.tile((moved[0, 2:] - moved[0, :2]) * 0.45, 2)
    changed[2] = Objects.of(moved, targets[2].labels)
    return column_of(changed)


def test_missing_swapped_and_badly_placed_boxes_are_found_and_nothing_else(tmp_path):
    write_boxes(tmp_path, n=12)
    raw, targets, labels = kept(detect, range(1, 8), spoilt)
    names = [f"images/{number:03d}.png" for number in range(1, 8)]
    images = Unlearned(names, [ImageRef(str(tmp_path / name)) for name in names], targets, raw)
    found = scene_suspects(detect, images, labels, DECISION)
    items = found.numbers["items"]
    assert {(item["key"], item["kind"]) for item in items} == set(zip(names[:3], ("missing", "swapped class", "badly placed"), strict=True))
    true = scenes(range(1, 8))[1]
    by_kind = {item["kind"]: item for item in items}
    assert by_kind["missing"]["box"] == true[0].boxes[0].tolist()
    assert by_kind["missing"]["suggestion"] == f"add {LABELS[true[0].labels[0]]}"
    assert by_kind["swapped class"]["suggestion"] == f"relabel {LABELS[true[1].labels[0]]}"
    assert by_kind["badly placed"]["box"] == true[2].boxes[0].tolist()
    assert all(found.pictures[item["picture"]].startswith(b"\xff\xd8\xff") for item in items)
    assert all(has_content(block) for block in suspects_blocks(found.numbers))
    table = list(csv.reader(io.StringIO(suspects_text(items))))
    assert tuple(table[0]) == COLUMNS
    assert len(table) == 4
    assert len(table[1][3].split()) == 4


def test_what_is_found_is_counted_before_the_list_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr("sightline.trust.scene_suspects.LISTED", 2)
    write_boxes(tmp_path, n=12)
    raw, targets, labels = kept(detect, range(1, 8), spoilt)
    names = [f"images/{number:03d}.png" for number in range(1, 8)]
    images = Unlearned(names, [ImageRef(str(tmp_path / name)) for name in names], targets, raw)
    numbers = scene_suspects(detect, images, labels, DECISION).numbers
    assert len(numbers["items"]) == 2
    assert numbers["counts"] == {"missing": 1, "swapped class": 1, "badly placed": 1}
    assert "sure of 3 boxes that the annotations contradict" in numbers["sentence"]
    text, _, table = suspects_blocks(numbers)
    assert "suspects.csv lists the surest 2 of 3, to be corrected" in text.paragraphs[1]
    assert table.title == "The surest 2"


@pytest.mark.parametrize(("threshold", "kinds"), [(0.35, []), (0.5, ["badly placed"])])
def test_an_object_that_a_box_given_is_on_is_not_doubted_however_unsure_the_network_is_of_it(tmp_path, threshold, kinds):
    """A right box with a score of 0.45, and one with 0.55 that overlaps the object by 0.4."""
    write_boxes(tmp_path, n=1)
    refs, targets = [ImageRef(str(tmp_path / "images" / "000.png"))], column_of([Objects.of([(10, 10, 30, 30)], [0])])
    scores = np.array([[0.45, 0.55]])
    raw = {
        "boxes": np.array([[(10, 10, 30, 29), (10, 10, 18, 30)]], np.float32),
        "scores": np.log(scores / (1 - scores)).astype(np.float32), "labels": np.zeros((1, 2), np.int64),
    }  # fmt: skip
    decision = Decision(thresholds=dict.fromkeys(LABELS, threshold))
    found = scene_suspects(detect, Unlearned(["000.png"], refs, targets, raw), LABELS, decision)
    assert [item["kind"] for item in found.numbers["items"]] == kinds


def test_a_mask_of_other_classes_than_the_picture_is_found(tmp_path):
    write_maps(tmp_path, n=12)
    swap = np.array([0, 2, 1])
    numbers = [number for number in range(1, 12) if len(scenes([number])[1][0])]
    raw, targets, labels = kept(segment, numbers, lambda maps: column_of([maps[0].relabelled(swap), *maps[1:]]))
    names = [f"images/{number:03d}.png" for number in numbers]
    images = Unlearned(names, [ImageRef(str(tmp_path / name)) for name in names], targets, raw)
    found = scene_suspects(segment, images, labels, DECISION)
    assert [item["key"] for item in found.numbers["items"]] == names[:1]
    assert "look like" in found.numbers["items"][0]["suggestion"]
    assert list(found.pictures) == ["suspects/0"]
    assert suspects_blocks(found.numbers)[1].wide


def test_annotations_that_a_network_agrees_with_are_left_alone(tmp_path):
    write_boxes(tmp_path, n=9)
    raw, targets, labels = kept(detect, range(1, 9))
    images = Unlearned([""] * 8, [ImageRef("")] * 8, targets, raw)
    found = scene_suspects(detect, images, labels, DECISION)
    assert found.numbers["items"] == []
    assert found.numbers["sentence"].startswith("Nothing on 8 validation and test images")
    assert suspects_blocks({}) == []


def blind(batch):
    """A network that has learned nothing: it says the same of everything."""
    answers = by_colour(batch)
    return {**answers, "scores": np.full_like(answers["scores"], -4.0)}


def blind_areas(batch):
    return {**by_pixel(batch), "logits": np.zeros((len(batch), 3, *batch.shape[1:3]), np.float32)}


@pytest.mark.parametrize(("task", "other"), [(detect, blind), (segment, blind_areas)])
def test_heat_maps_of_what_is_known_to_matter_pass_their_tests(task, other):
    images, targets, frames, labels, infer = given(task, [number for number in range(40) if number % 8][:16])
    found = scene_explanations(infer, other, images, frames, targets, labels, task, DECISION, seconds=60.0)
    numbers = found.numbers
    assert numbers["n"] >= 10
    assert numbers["deletion"]["interval"][0] > 0
    assert numbers["likeness"] < numbers["likeness_bound"]
    assert numbers["trusted"], numbers["sentence"]
    assert {example["key"] for example in numbers["examples"]} == set(found.pictures)
    assert all(example["right"] for example in numbers["examples"])


def test_the_heat_of_a_box_lies_on_its_object():
    from sightline.explanation.occlusion import Occlusion

    images, objects, _ = scenes([1])
    subject = Subject(by_colour, detect, LABELS, DECISION)
    raw = subject.raw(images)
    aim = aim_at(subject, raw, int(objects[0].labels[0]))
    assert scores_of(subject, raw, aim)[0] > 0.9
    (heat,) = Occlusion(16).evidence(Aimed(subject, aim), images, np.zeros(1, np.int64))
    left, top, right, bottom = aim.box
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    side = planted_scenes.SIDE / len(heat)
    assert left - side < (column + 0.5) * side < right + side
    assert top - side < (row + 0.5) * side < bottom + side


def test_what_pads_an_image_is_not_explained():
    """An upright image in the middle of a square input; a stripe of the padding looks like the rarest class."""
    logits = np.zeros((1, 3, 8, 8), np.float32)
    logits[:, 0], logits[:, 1, 5:], logits[:, 2, :, 0] = 1, 2, 3
    frame = frame_of(np.array([[1.0, 0, -2], [0, 1, 0]]), (8, 8), (4, 8), (4, 8))
    subject = Subject(by_pixel, segment, AREAS, DECISION)
    raw = {"logits": logits, "frame": frame[None]}
    aim = aim_at(subject, raw)
    assert aim.label == 1
    assert np.argwhere(aim.area).min(axis=0).tolist() == [5, 2]
    assert np.argwhere(aim.area).max(axis=0).tolist() == [7, 5]
    assert not aim_at(subject, raw, 2).area[:, [0, 1, 6, 7]].any()


def test_what_nothing_is_given_for_has_no_explanation():
    images, targets, frames = scenes([0, 8, 16])
    found = scene_explanations(blind, blind, images, frames, targets, LABELS, detect, DECISION, seconds=20.0)
    assert found.numbers["trusted"] is None
    assert "On no test image" in found.numbers["reason"]
