"""What harder conditions cost: models whose right answers are known, and data of which nothing can be said."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.evaluation.corruptions import CORRUPTIONS, FAMILIES
from sightline.evaluation.intervals import wilson_interval
from sightline.evaluation.paired import tango_interval
from sightline.predictions import Decision
from sightline.report.html import Page, render_page
from sightline.report.robustness import robustness_blocks
from sightline.report.sections import Section, has_content, without_empty
from sightline.tasks import classify, tag
from sightline.tasks.blocks import Curves, Differences, Gallery, Table
from sightline.trust import conditions
from sightline.trust.conditions import stratified
from sightline.trust.robustness import Before, difference_interval, mean_interval, robustness

LABELS = ("dark", "bright")
LIMIT = 60


def by_brightness(batch: np.ndarray) -> dict[str, np.ndarray]:
    """A classifier that knows dark from bright and nothing else."""
    brightness = batch.reshape(len(batch), -1).mean(axis=1)
    return {"logits": np.stack([LIMIT - brightness, brightness - LIMIT], axis=1).astype(np.float32)}


def lit_images(n: int, seed: int = 0, side: int = 24, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Images of which four in five are bright."""
    rng = np.random.default_rng(seed)
    targets = (np.arange(n) % 5 > 0).astype(np.int64)
    levels = np.where(targets, rng.integers(110, 190, n), 20)
    return (levels[:, None, None, None] + rng.integers(-15, 16, (n, side, side, channels))).astype(np.uint8), targets


def evidence(infer=by_brightness, n: int = 40, task=classify, **given):
    images, targets = lit_images(n)
    arguments = {"images": images, "targets": targets, "labels": LABELS, "decision": Decision(), "seconds": 60.0, **given}
    return robustness(infer, task=task, **arguments)


@pytest.fixture(scope="module")
def by_light():
    return evidence()


def test_a_model_that_goes_by_brightness_is_weakest_at_night(by_light):
    numbers = by_light.numbers
    assert numbers["clean"]["right"] == 1
    night = numbers["weakest"][0]
    assert (night["name"], night["strength"], night["clean"]) == ("night", 3, 1.0)
    assert night["loss"] == pytest.approx(1 - night["right"])
    assert night["interval"][0] < -night["loss"] < night["interval"][1] < 0
    assert numbers["sentence"].startswith(
        f"Weakest in night: at strength 3 of 5 it is right {night['right']:.0%} of the time, against 100% "
    )
    assert "sample of 40 test images" in numbers["sentence"]


def test_a_condition_that_changes_nothing_it_looks_at_costs_nothing(by_light):
    by_name = {entry["name"]: entry for entry in by_light.numbers["conditions"]}
    for name in ("motion blur", "defocus", "low resolution", "rotation", "JPEG compression"):
        assert by_name[name]["loss"] == 0
        assert not by_name[name]["clear"]
        assert all(at["interval"] == list(tango_interval(0, 0, 40)) for at in by_name[name]["strengths"])


def test_every_condition_and_strength_has_its_figures(by_light):
    numbers = by_light.numbers
    assert [entry["name"] for entry in numbers["conditions"]] == list(CORRUPTIONS)
    assert (numbers["n"], numbers["of"], numbers["strengths"]) == (40, 40, [1, 2, 3, 4, 5])
    for entry in numbers["conditions"]:
        assert entry["right"] == pytest.approx(np.mean([at["right"] for at in entry["strengths"]]))
        for at in entry["strengths"]:
            assert at["difference"] == pytest.approx((at["gained"] - at["lost"]) / 40)
            assert at["right"] == pytest.approx(1 + at["difference"])
            assert at["interval"] == list(tango_interval(at["gained"], at["lost"], 40))
    assert numbers["robust_accuracy"] == pytest.approx(np.mean([entry["right"] for entry in numbers["conditions"]]))
    assert numbers["robust_interval"][0] <= numbers["robust_accuracy"] <= numbers["robust_interval"][1]
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers


def test_pictures_show_what_was_right_and_turned_wrong(by_light):
    numbers = by_light.numbers
    assert 1 <= len(numbers["pictures"]) <= 6
    for entry in numbers["pictures"]:
        assert entry["clean"]["predicted"] == entry["truth"] != entry["harder"]["predicted"]
        assert entry["condition"] in [weak["name"] for weak in numbers["weakest"]]
    assert numbers["pictures"][0]["condition"] == "night"
    assert {entry["key"] for entry in [*numbers["pictures"], *numbers["looks"]]} == set(by_light.pictures)
    assert all(key.startswith("robustness/") for key in by_light.pictures)
    pair = np.asarray(Image.open(io.BytesIO(by_light.pictures[numbers["pictures"][0]["key"]])).convert("L"), float)
    half = pair.shape[1] // 2
    assert pair.shape[1] > 2 * pair.shape[0]
    assert pair[:, half + 10 :].mean() < 60 < pair[:, : half - 10].mean()


def test_pictures_have_the_scores_that_the_bundle_gives_where_answers_fade(by_light):
    def from_afar(batch):
        return {**by_brightness(batch), "similarity": np.full(len(batch), 0.3)}

    faded = evidence(from_afar, decision=Decision(familiar_from=0.5, fades_over=0.02)).numbers
    assert faded["robust_accuracy"] == by_light.numbers["robust_accuracy"]
    assert all(pair["harder"]["score"] < 0.8 for pair in faded["pictures"])
    assert max(pair["harder"]["score"] for pair in by_light.numbers["pictures"]) > 0.99


def test_the_same_seed_and_sample_give_the_same_and_another_seed_other_scenes(by_light):
    def without_time(found):
        return {name: value for name, value in found.numbers.items() if name != "seconds"}

    again, other = evidence(), evidence(seed=1)
    assert without_time(again) == without_time(by_light)
    assert again.pictures == by_light.pictures
    assert other.pictures != by_light.pictures


def test_an_answer_does_not_depend_on_the_other_images_of_the_sample():
    images, targets = lit_images(200)
    sample = [
        conditions.Sample(rows, images[rows], targets[rows], np.zeros((len(rows), 10)), (3,), 0)
        for rows in (np.arange(50, 90), np.arange(60, 80))
    ]
    np.testing.assert_array_equal(sample[0].seen("rain", 3, 10), sample[1].seen("rain", 3, 0))


def test_a_model_that_nothing_confuses_is_said_to_be_so():
    images, _ = lit_images(30)
    found = evidence(
        lambda batch: {"logits": np.tile(np.float32([0, 1]), (len(batch), 1))}, images=images, targets=np.ones(30, np.int64)
    ).numbers
    assert found["weakest"] == []
    assert found["pictures"] == []
    assert found["robust_interval"] == list(wilson_interval(30, 30))  # and not a point
    assert found["sentence"].startswith("None of 11 harder conditions makes it clearly worse")
    assert found["sentence"].endswith("With 30 images these are rough figures.")


def test_of_a_model_that_guesses_no_condition_is_blamed():
    """Answers by lot, other ones for every image seen: whatever differs is chance."""
    rng = np.random.default_rng(5)
    blamed = [evidence(lambda batch: {"logits": rng.normal(size=(len(batch), 2)).astype(np.float32)}).numbers["weakest"] for _ in range(3)]
    assert blamed == [[], [], []]


def test_all_wrong_leaves_nothing_to_lose():
    found = evidence(lambda batch: {"logits": -by_brightness(batch)["logits"]})
    assert set(found.numbers) == {"of", "n", "reason"}
    assert found.numbers["reason"].startswith("The model is right on none of 40 test images")
    assert not found.pictures


@pytest.mark.parametrize("n", [0, 1, 5, 15])
def test_too_few_images_are_said_to_be_too_few(n):
    found = evidence(n=n)
    assert f"with {n} test image{'s' if n != 1 else ''} a loss cannot be told from chance" in found.numbers["reason"]
    assert set(found.numbers) == {"of", "reason"}


def test_one_label_only_says_nothing():
    found = evidence(labels=("only",), targets=np.zeros(40, np.int64))
    assert "one label only" in found.numbers["reason"]


def test_outputs_that_are_no_numbers_count_as_wrong():
    def broken(batch):
        logits = by_brightness(batch)["logits"]
        logits[batch.reshape(len(batch), -1).mean(axis=1) < 15] = np.nan  # which conditions bring about
        return {"logits": logits}

    images, _ = lit_images(40)
    found = evidence(broken, images=np.where(images < 60, 20, images), targets=np.zeros(40, np.int64), labels=LABELS).numbers
    night = next(entry for entry in found["conditions"] if entry["name"] == "night")
    assert night["strengths"][0]["lost"] == 0
    assert night["strengths"][4]["lost"] == 8  # the dark ones
    assert json.dumps(found, allow_nan=False)


def tags_by_brightness(batch):
    """Labels "lit" and "day" for bright images, "any" for all."""
    brightness = batch.reshape(len(batch), -1).mean(axis=1)
    return {"logits": np.stack([brightness - LIMIT, brightness - LIMIT, np.full(len(batch), 50)], axis=1).astype(np.float32) / 5}


def test_tags_are_measured_by_their_overlap():
    images, bright = lit_images(40)
    targets = np.stack([bright, bright, np.ones(40)], axis=1).astype(bool)
    found = evidence(tags_by_brightness, images=images, targets=targets, labels=("lit", "day", "any"), task=tag)
    numbers = found.numbers
    assert numbers["measure"] == "overlap"
    assert numbers["clean"]["right"] == 1
    assert numbers["weakest"][0]["name"] == "night"
    strongest = numbers["conditions"][0]["strengths"][4]
    assert strongest["right"] == pytest.approx(0.2 + 0.8 / 3)  # of the bright ones' three labels, one is still given
    assert -0.75 < strongest["interval"][0] < strongest["difference"] < strongest["interval"][1] < -0.3
    assert "the labels it gives overlap with the true ones by" in numbers["sentence"]
    assert numbers["pictures"][0]["truth"] == "lit|day|any"
    assert numbers["pictures"][0]["harder"]["predicted"] == "any"


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channels_than_colours(channels):
    images, targets = lit_images(20, channels=channels)
    found = evidence(images=images, targets=targets)
    assert found.numbers["weakest"][0]["name"] == "night"
    assert all(content.startswith(b"\xff\xd8\xff") for content in found.pictures.values())


@pytest.mark.parametrize(
    ("one_pass", "expected"), [(1e-5, (200, 5)), (0.005, (60, 5)), (0.019, (26, 3)), (0.04, (35, 1)), (0.09, None), (60.0, None)]
)
def test_the_sample_fits_the_time(monkeypatch, one_pass, expected):
    monkeypatch.setattr(conditions, "_pace", lambda infers, everything, judge: (one_pass, 1e-6))
    images, targets = lit_images(300, side=8)
    everything = conditions.Sample(np.arange(300), images, targets, np.zeros((300, 10)), (), 0)
    sample = conditions.chosen_sample([by_brightness], everything, conditions.Judge(classify, LABELS, Decision()), 20.0)
    if expected is None:
        assert sample is None
        return
    n, strengths = expected
    assert (len(sample), len(sample.strengths)) == (n, strengths)
    assert n * (1 + 11 * strengths) * one_pass <= 17.0


def test_no_time_is_a_reason():
    assert "take longer than the 0 seconds" in evidence(seconds=0.0).numbers["reason"]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=120), st.integers(0, 5))
@settings(max_examples=50)
def test_every_beginning_of_the_order_has_the_classes_in_proportion(targets, seed):
    classes = np.array(targets)
    order = stratified(classes, seed)
    assert sorted(order.tolist()) == list(range(len(classes)))
    for n in range(1, len(classes) + 1):
        shares = np.bincount(classes[order[:n]], minlength=7) - n * np.bincount(classes, minlength=7) / len(classes)
        assert np.abs(shares).max() < 4


def test_an_order_of_tagged_images_spreads_the_rare_ones_and_those_without_labels():
    targets = np.zeros((100, 3), bool)
    targets[:90, 0] = True
    targets[:10, 1] = True
    order = stratified(targets, 0)
    rare, none = np.isin(order, np.arange(10)), np.isin(order, np.arange(90, 100))
    for found in (rare, none):
        assert [int(part.sum()) for part in np.split(found, 2)] in ([5, 5], [4, 6], [6, 4])
    assert len(stratified(np.zeros((0, 3), bool), 0)) == 0


def test_intervals_know_doubt_where_nothing_varies():
    assert mean_interval(np.ones(20)) == list(wilson_interval(20, 20))
    assert mean_interval(np.full(20, 0.5)) == list(wilson_interval(10, 20))
    assert difference_interval(np.zeros(20)) == tango_interval(0, 0, 20)
    halves = np.tile([0.0, 0.25, 0.5, 1.0], 25)
    low, high = mean_interval(halves)
    error = 1.96 * halves.std() / 10
    assert (low, high) == pytest.approx((halves.mean() - error, halves.mean() + error), abs=0.02)
    assert difference_interval(-halves) == pytest.approx((-high, -low), abs=0.02)


def test_the_report_explains_every_figure(by_light):
    blocks = robustness_blocks(by_light.numbers)
    assert all(has_content(block) for block in blocks)
    curves = [block for block in blocks if isinstance(block, Curves)]
    assert [block.title for block in curves] == [family.capitalize() for family in FAMILIES]
    assert all(1 <= len(block.series) <= 6 for block in curves)
    assert all([x for x, _ in points] == [0, 1, 2, 3, 4, 5] for block in curves for points in block.series.values())
    assert next(iter(curves[0].series)) == "night"
    assert all(block.note for block in blocks if isinstance(block, Curves | Gallery | Table))
    keys = {picture.key for block in blocks if isinstance(block, Gallery) for picture in block.pictures}
    assert keys == set(by_light.pictures)
    table = next(block for block in blocks if isinstance(block, Table))
    assert table.folded
    assert len(table.rows) == 55
    html = page(by_light.numbers, by_light.pictures)
    assert by_light.numbers["sentence"] in html
    assert html.count("data:image/jpeg") == len(keys)


BRIGHT, ALL_BRIGHT = lit_images(50)[0][lit_images(50)[1] == 1], np.ones(40, np.int64)


def blind_in_the_dark(batch):
    """What ``by_brightness`` may have been before: it calls everything dark that is not very bright."""
    brightness = batch.reshape(len(batch), -1).mean(axis=1)
    return {"logits": np.stack([100 - brightness, brightness - 100], axis=1).astype(np.float32)}


def test_what_learning_from_harder_images_won_is_measured_on_the_same_images():
    found = evidence(images=BRIGHT, targets=ALL_BRIGHT, before=Before(blind_in_the_dark, Decision()))
    change = found.numbers["hardening"]
    for entry in (change["clean"], change["harder"], *change["conditions"]):
        low, high = entry["interval"]
        assert entry["difference"] == pytest.approx(entry["after"] - entry["before"])
        assert -1 <= low <= entry["difference"] <= high <= 1
    assert change["clean"] == {"before": 1.0, "after": 1.0, "difference": 0.0, "interval": list(tango_interval(0, 0, 40))}
    assert change["harder"]["after"] == pytest.approx(found.numbers["robust_accuracy"])
    night = change["conditions"][0]
    assert (night["name"], night["interval"][0] > 0.1) == ("night", True)
    points = 100 * change["harder"]["difference"]
    assert change["sentence"].startswith(f"Learning from harder images won {points:.1f} points (+")
    assert "changed nothing (-8.8 to +8.8, which may be chance) on the images as they are" in change["sentence"]
    assert found.numbers["robust_accuracy"] == evidence(images=BRIGHT, targets=ALL_BRIGHT).numbers["robust_accuracy"]
    (block,) = [block for block in robustness_blocks(found.numbers) if isinstance(block, Differences)]
    assert [row.label for row in block.rows] == ["as they are", "all conditions", *CORRUPTIONS]
    assert change["sentence"] in page(found.numbers, found.pictures)


def test_what_it_cost_is_said_as_well():
    change = evidence(blind_in_the_dark, images=BRIGHT, targets=ALL_BRIGHT, before=Before(by_brightness, Decision())).numbers["hardening"]
    assert f"cost {-100 * change['harder']['difference']:.1f} points (-" in change["sentence"]


def page(numbers, pictures) -> str:
    sections = without_empty([Section("robustness", "Harder conditions", robustness_blocks(numbers))])
    return render_page(Page("t", "t", "s", [], sections, "2026-01-01", "0"), pictures)


def test_the_report_of_nothing_and_of_a_reason():
    assert robustness_blocks({}) == []
    (block,) = robustness_blocks(evidence(n=5).numbers)
    assert block.paragraphs[0].startswith("Not measured")


def test_the_report_of_a_sample_says_so_and_one_without_losses_has_no_empty_picture():
    images, _ = lit_images(30)
    found = evidence(lambda batch: {"logits": np.tile(np.float32([0, 1]), (len(batch), 1))}, images=images, targets=np.ones(30, np.int64))
    text = page({**found.numbers, "of": 900}, found.pictures)
    assert "a sample of 30 of 900 test images, chosen to fit the time" in text
    assert "What the conditions look like" in text
    assert "turn right into wrong" not in text
