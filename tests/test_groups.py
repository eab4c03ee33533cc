"""Groups of images in a trial: attributes from data and facts, gaps that are planted and gaps that are not, bad input, the report."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sightline.data.store import Facts
from sightline.evaluation.intervals import wilson_interval
from sightline.predictions import Decision
from sightline.records import Dataset, ImageRef
from sightline.report.group_words import verdict
from sightline.report.groups import groups_blocks
from sightline.report.html import Page, render_page
from sightline.report.sections import Section, without_empty
from sightline.tasks import load_task
from sightline.tasks.blocks import Bars
from sightline.trust.attributes import as_texts, attributes_of
from sightline.trust.groups import groups

LABELS = ("disc", "square", "cross")


def facts_of(n: int, **columns) -> Facts:
    empty = {
        entry.name: np.full(n, "") if entry.type == "Texts" else np.zeros((n, 2) if entry.name == "border" else n)
        for entry in fields(Facts)
    }
    return Facts(**{**empty, **{name: np.asarray(column) for name, column in columns.items()}})


def dataset_of(n: int, groups=None, **attributes) -> Dataset:
    refs = [ImageRef(f"/data/{row}.png") for row in range(n)]
    return Dataset(Path("/data"), "classify", LABELS, refs, np.zeros(n, np.int64), groups=groups, attributes=attributes)


def classified(right, targets, attributes, scores=None, related=None, seed=0):
    """The numbers for images that are right or not, with logits that say so."""
    n = len(targets)
    answers = np.where(right, targets, (targets + 1) % 3)
    logits = np.zeros((n, 3))
    # Two others share what is left of the score.
    logits[np.arange(n), answers] = np.log(2 * scores / (1 - scores)) if scores is not None else 3.0
    task = load_task("classify")
    outcomes = task.outcomes({"logits": logits}, targets, LABELS, Decision())
    return groups(attributes, outcomes, targets, LABELS, [f"{row}.png" for row in range(n)], related=related, seed=seed).numbers


def tagged(given, truth, attributes, labels=LABELS):
    raw = {"logits": np.where(given, 2.0, -2.0)}
    outcomes = load_task("tag").outcomes(raw, truth, labels, Decision())
    return groups(attributes, outcomes, truth, labels, [f"{row}.png" for row in range(len(truth))]).numbers


def attribute(numbers, name):
    return next(one for one in numbers["attributes"] if one["attribute"] == name)


def claims(numbers) -> bool:
    """Whether any gap is said to be more than chance: in what is right, in recall, or of a pair."""
    gaps = [gap for one in numbers["attributes"] for gap in (one["gap"], one["recall_gap"]) if gap]
    return any(gap["real"] for gap in gaps) or bool(numbers["pairs"]["found"])


def text_of(numbers) -> str:
    """All words of the page, which is rendered on the way."""
    json.dumps(numbers, allow_nan=False)
    sections = without_empty([Section("groups", "Groups", groups_blocks(numbers))])
    return render_page(Page("t", "t", "s", [], sections, "2026-01-01T00:00:00+00:00", "0"), {})


def test_random_groups_claim_a_gap_in_one_of_twenty_cases():
    rng = np.random.default_rng(1)
    claimed = []
    for number in range(1000):
        targets = rng.integers(0, 3, 500)
        column = rng.integers(0, rng.integers(2, 5), 500).astype(str)
        claimed.append(claims(classified(rng.random(500) < rng.uniform(0.6, 0.95), targets, {"x": column}, seed=number)))
    assert 0.03 <= np.mean(claimed) <= 0.065


def test_more_attributes_do_not_claim_more():
    rng = np.random.default_rng(2)
    claimed = []
    for number in range(60):
        columns = {f"a{i}": rng.integers(0, 3, 400).astype(str) for i in range(5)}
        claimed.append(claims(classified(rng.random(400) < 0.85, rng.integers(0, 3, 400), columns, seed=number)))
    assert np.mean(claimed) <= 0.12


def test_a_planted_gap_of_15_points_is_found():
    rng = np.random.default_rng(3)
    site = np.repeat(["north", "south"], 200)
    found = []
    for number in range(200):
        numbers = classified(rng.random(400) < np.where(site == "south", 0.75, 0.9), rng.integers(0, 3, 400), {"site": site}, seed=number)
        found.append(attribute(numbers, "site")["gap"]["real"])
    assert np.mean(found) >= 0.9


def of_patients(rng, patients, images):
    """Images of patients for some of whom the model is often right and for some it is not; sex has no part in it."""
    n = patients * images
    patient = np.repeat(np.arange(patients), images)
    sex = rng.choice(["f", "m"], patients)[patient]
    return rng.random(n) < rng.beta(3, 1, patients)[patient], rng.integers(0, 3, n), {"sex": sex}, [f"p{number}" for number in patient]


def test_a_few_unlucky_patients_make_no_gap():
    rng = np.random.default_rng(16)
    claimed = []
    for number in range(150):
        right, targets, columns, patients = of_patients(rng, 40, 12)
        claimed.append([claims(classified(right, targets, columns, related=one, seed=number)) for one in (patients, None)])
    with_patients, without = np.mean(claimed, axis=0)
    assert with_patients <= 0.1
    assert without > 0.2


def test_the_report_says_that_images_are_related():
    right, targets, columns, patients = of_patients(np.random.default_rng(17), 40, 12)
    numbers = classified(right, targets, {**columns, "group": patients, "ward": ["A"] * 40 + ["B"] * 440}, related=patients)
    assert numbers["related"] == {"n": 40, "counted": True}
    text = text_of(numbers)
    assert "come from 40 groups of related ones, which may be right or wrong together" in text
    # Forty images of four patients; and images of one patient are no group of patients.
    assert [entry["attribute"] for entry in numbers["left_out"]] == ["group", "ward"]


def test_a_handful_of_groups_says_little_of_others():
    right, targets, columns, cameras = of_patients(np.random.default_rng(18), 4, 60)
    numbers = classified(right, targets, {"group": cameras, "half": ["u", "v"] * 120}, related=cameras)
    assert numbers["related"] == {"n": 4, "counted": False}
    assert len(attribute(numbers, "group")["groups"]) == 4
    assert "too few to say more than how the model does on these" in text_of(numbers)
    alone = classified(right, targets, columns, related=[""] * 240)
    assert alone["related"] is None


@pytest.fixture(scope="module")
def planted():
    """900 images: half of those from the south dark and often wrong, where discs suffer most; scores that hold elsewhere."""
    rng = np.random.default_rng(4)
    targets = rng.integers(0, 3, 900)
    light = rng.choice(["dark", "bright"], 900)
    ward = rng.choice(["A", "B"], 900)
    chance = np.where(light == "dark", np.where(targets == 0, 0.45, 0.8), 0.92)
    scores = np.full(900, 0.92)
    return classified(rng.random(900) < chance, targets, {"light": light, "ward": ward}, scores)


def test_the_planted_gap_is_described(planted):
    light = attribute(planted, "light")
    dark, bright = light["groups"]
    assert (dark["group"], bright["group"]) == ("dark", "bright")
    assert dark["interval"] == pytest.approx(wilson_interval(round(dark["right"] * dark["n"]), dark["n"]))
    gap = light["gap"]
    assert (gap["low"], gap["high"], gap["real"]) == ("dark", "bright", True)
    assert gap["difference"] == pytest.approx(bright["right"] - dark["right"])
    assert gap["interval"][0] > 0.1
    out = light["standing_out"]
    assert (out["group"], out["difference"]) == ("dark", pytest.approx(-gap["difference"]))
    assert out["within_classes"]["verdict"] == "stays"
    assert not attribute(planted, "ward")["gap"]["real"]
    counts = [(round(group["right"] * group["n"]), group["n"]) for group in attribute(planted, "ward")["groups"]]
    theirs = stats.chi2_contingency([[right, n - right] for right, n in counts], correction=False).pvalue
    assert attribute(planted, "ward")["gap"]["p"] == pytest.approx(theirs, abs=0.1)


def test_equal_opportunity_names_the_class(planted):
    gap = attribute(planted, "light")["recall_gap"]
    assert (gap["label"], gap["low"], gap["high"], gap["real"]) == ("disc", "dark", "bright", True)
    assert 0.3 < gap["difference"] < 0.6
    assert [group["group"] for group in gap["groups"]] == ["dark", "bright"]


def test_calibration_of_each_group(planted):
    dark, bright = (group["calibration"] for group in attribute(planted, "light")["groups"])
    assert dark["real"]
    assert dark["difference"] > 0.15
    assert not bright["real"]


def test_the_worst_slice_comes_first_with_examples(planted):
    worst = planted["slices"][0]
    assert worst["real"]
    assert "dark" in worst["group"]
    assert len(worst["examples"]) == 3
    assert all(entry["n"] >= 20 for entry in planted["slices"])


def test_the_figures_for_a_requirement(planted):
    dark, bright = attribute(planted, "light")["groups"]
    assert planted["worst_group_recall"] == dark["right"] == planted["worst_group"]["recall"]
    assert planted["worst_group"]["group"] == "dark"
    assert planted["largest_gap"] == pytest.approx(bright["right"] - dark["right"])
    assert planted["largest_gap_between"]["attribute"] == "light"


def test_the_report_says_it_in_words(planted):
    assert verdict(planted) == (
        "The model does not serve all images alike: how often it is right depends on light, by more than chance explains. "
        "2 attributes were looked at: light and ward. Images that it answers 'square' for do worse, too."
    )
    text = text_of(planted)
    assert "Images with light &#39;dark&#39;:" in text
    assert "among images of the same class, too" in text
    assert "clearest for &#39;disc&#39;" in text
    assert "too high on average" in text
    assert [block.title for block in groups_blocks(planted) if isinstance(block, Bars)] == ["Right answers by light"]


def test_without_a_gap_the_report_says_so():
    rng = np.random.default_rng(5)
    columns = {"ward": rng.choice(["A", "B"], 300), "id": [f"p{i}" for i in range(300)], "rare": ["x"] * 150 + ["y"] * 140 + ["z"] * 10}
    numbers = classified(rng.random(300) < 0.9, rng.integers(0, 3, 300), columns)
    assert verdict(numbers) == "No group was found to do worse than chance explains. 2 attributes were looked at: ward and rare."
    text = text_of(numbers)
    assert "Too few images to judge, under 20: z (rare)." in text
    assert "Not compared: id; the last table says why." in text
    assert not any(isinstance(block, Bars) for block in groups_blocks(numbers))


def unsure_of_squares(**columns):
    """Images of which discs are often taken for squares, whatever the columns say of them."""
    rng = np.random.default_rng(20)
    targets = rng.integers(0, 3, 900)
    right = rng.random(900) < np.where(targets == 0, 0.6, 0.95)
    return classified(right, targets, {name: rng.choice(values, 900) for name, values in columns.items()})


def test_an_answer_that_is_poorer_than_others_is_told_apart_from_the_groups_of_an_attribute():
    numbers = unsure_of_squares(ward=["A", "B"])
    assert not claims(numbers)
    square = numbers["slices"][0]
    assert (square["group"], square["answered"], square["real"]) == ("square", True, True)
    assert verdict(numbers) == (
        "By no attribute was a group found to do worse than chance explains, but images that it answers 'square' for do. "
        "1 attribute was looked at: ward."
    )
    others = (numbers["right"] * 900 - square["right"] * square["n"]) / (900 - square["n"])
    text = text_of(numbers)
    assert f"answers &#39;square&#39; for: {100 * square['right']:.1f}% are right, of all others {100 * others:.1f}%" in text
    assert "See what it takes for &#39;square&#39;" in text


def test_a_column_named_answer_is_a_column():
    rng = np.random.default_rng(21)
    answer = rng.choice(["yes", "no"], 900)
    numbers = classified(rng.random(900) < np.where(answer == "yes", 0.7, 0.95), rng.integers(0, 3, 900), {"answer": answer})
    worst = numbers["slices"][0]
    assert (worst["of"], worst["group"], worst["answered"], worst["real"]) == ("answer", "yes", False, True)
    assert "depends on answer, by more than chance explains" in verdict(numbers)
    assert "that it answers" not in verdict(numbers)


def test_an_answer_that_is_poorer_is_told_beside_a_gap():
    rng = np.random.default_rng(22)
    targets, site = rng.integers(0, 3, 1200), rng.choice(["north", "south"], 1200)
    right = rng.random(1200) < np.where(targets == 0, 0.6, 0.97) * np.where(site == "south", 0.75, 1)
    said = verdict(classified(right, targets, {"site": site}))
    assert "depends on site, by more than chance explains" in said
    assert said.endswith("Images that it answers 'square' for do worse, too.")


def test_nothing_was_measured_nothing_is_drawn():
    assert groups_blocks({}) == []


def test_classes_that_are_hard_explain_a_gap_of_groups_that_hold_more_of_them():
    rng = np.random.default_rng(6)
    site = rng.choice(["north", "south"], 1500)
    targets = np.where(rng.random(1500) < np.where(site == "south", 0.8, 0.2), 2, 0)
    numbers = classified(rng.random(1500) < np.where(targets == 2, 0.6, 0.95), targets, {"site": site})
    site = attribute(numbers, "site")
    assert site["gap"]["real"]
    assert site["standing_out"]["within_classes"]["verdict"] == "explained"
    assert not site["recall_gap"]["real"]
    assert "classes that are hard" in text_of(numbers)


def test_classes_may_explain_a_gap_on_the_whole_and_one_of_them_not():
    rng = np.random.default_rng(19)
    site = rng.choice(["north", "south"], 3000)
    targets = np.where(rng.random(3000) < np.where(site == "south", 0.75, 0.25), 2, rng.integers(0, 2, 3000))
    shift = np.where(site == "south", 0.2, -0.2) * np.select([targets == 0, targets == 1], [1, -1], 0)
    numbers = classified(rng.random(3000) < np.where(targets == 2, 0.55, 0.75) + shift, targets, {"site": site})
    out = attribute(numbers, "site")["standing_out"]
    assert out["within_classes"]["verdict"] == "explained"
    text = text_of(numbers)
    assert "clearest for" not in text
    assert "Even so, " in text


def test_classes_that_no_two_groups_share_leave_it_open():
    rng = np.random.default_rng(7)
    targets = np.repeat([0, 1], 300)
    site = np.where(targets == 0, "north", "south")
    numbers = classified(rng.random(600) < np.where(targets == 0, 0.7, 0.95), targets, {"site": site})
    out = attribute(numbers, "site")["standing_out"]
    assert (out["within_classes"]["verdict"], out["within_classes"]["difference"]) == ("open", None)
    assert attribute(numbers, "site")["recall_gap"] is None


def test_recall_may_differ_where_accuracy_does_not():
    rng = np.random.default_rng(18)
    targets, site = rng.integers(0, 2, 1600), rng.choice(["north", "south"], 1600)
    weak = (targets == 0) == (site == "north")
    numbers = classified(rng.random(1600) < np.where(weak, 0.7, 0.9), targets, {"site": site})
    site = attribute(numbers, "site")
    assert not site["gap"]["real"]
    assert site["recall_gap"]["real"]
    assert "is found differs between groups" in verdict(numbers)
    assert "to the training data" in text_of(numbers)


def test_a_pair_may_differ_where_neither_attribute_does():
    rng = np.random.default_rng(9)
    light, camera = rng.choice(["dark", "bright"], 1600), rng.choice(["X", "Y"], 1600)
    weak = (light == "dark") == (camera == "X")
    numbers = classified(rng.random(1600) < np.where(weak, 0.75, 0.93), rng.integers(0, 3, 1600), {"light": light, "camera": camera})
    assert [pair["attributes"] for pair in numbers["pairs"]["found"]] == [["light", "camera"]]
    assert "light with camera together make a difference" in verdict(numbers)
    assert "Right answers by light and camera" in text_of(numbers)
    assert numbers["slices"][0]["of"] == "light and camera"
    assert numbers["slices"][0]["real"]


def test_tags_are_compared_by_overlap_and_by_label():
    rng = np.random.default_rng(10)
    n = 1200
    truth = rng.random((n, 3)) < 0.4
    light = rng.choice(["dark", "bright"], n)
    missed = rng.random((n, 3)) < np.where((light == "dark")[:, None] & (np.arange(3) == 1), 0.6, 0.05)
    given = truth & ~missed
    numbers = tagged(given, truth, {"light": light, "ward": rng.choice(["A", "B"], n)})
    found = attribute(numbers, "light")
    assert found["gap"]["real"]
    assert (found["recall_gap"]["label"], found["recall_gap"]["low"]) == ("square", "dark")
    dark = light == "dark"
    assert numbers["worst_group_recall"] == pytest.approx(given[dark].sum() / truth[dark].sum())
    overlap = np.where((given | truth).any(axis=1), (given & truth).sum(axis=1) / np.maximum(1, (given | truth).sum(axis=1)), 1)
    assert found["groups"][0]["right"] == pytest.approx(overlap[dark].mean())
    assert not attribute(numbers, "ward")["gap"]["real"]
    assert "Overlap of labels by light" in text_of(numbers)


def test_random_groups_of_tagged_images_claim_few_gaps():
    rng = np.random.default_rng(11)
    claimed = []
    for _ in range(100):
        truth = rng.random((300, 3)) < 0.4
        given = truth ^ (rng.random((300, 3)) < 0.1)
        claimed.append(claims(tagged(given, truth, {"x": rng.integers(0, 3, 300).astype(str)})))
    assert np.mean(claimed) <= 0.1


def test_labels_with_the_separator_are_not_taken_apart():
    labels = ("a|b", "c")
    truth = np.tile([[True, False], [True, True]], (40, 1))
    numbers = tagged(truth, truth, {"x": ["u", "u", "v", "v"] * 20}, labels)
    assert numbers["worst_group_recall"] == 1


@pytest.mark.parametrize("share", [0, 1])
def test_all_right_or_all_wrong(share):
    targets = np.arange(120) % 3
    numbers = classified(np.full(120, bool(share)), targets, {"x": ["u"] * 60 + ["v"] * 60, "y": ["u", "v"] * 60})
    assert numbers["worst_group_recall"] == share
    assert numbers["largest_gap"] == 0
    assert not claims(numbers)
    assert numbers["slices"] == []
    assert "No group was found" in text_of(numbers)


@pytest.mark.parametrize(
    ("n", "attributes", "reason"),
    [
        (100, {}, "Nothing is known of the images that could part them into groups."),
        (5, {"x": list("uuvvv")}, "With 5 test images no two groups of 20 can be compared."),
        (0, {"x": []}, "With 0 test images no two groups of 20 can be compared."),
        (60, {"x": ["u"] * 59 + ["v"], "y": ["u"] * 60}, "No attribute has two groups of at least 20 test images."),
        (60, {"x": [""] * 60}, "No attribute has two groups of at least 20 test images."),
    ],
)
def test_what_cannot_be_compared_has_a_reason_instead_of_figures(n, attributes, reason):
    numbers = classified(np.ones(n, bool), np.arange(n) % 3, attributes)
    assert numbers["reason"] == reason
    assert numbers["worst_group_recall"] is None
    assert numbers["largest_gap"] is None
    assert [entry["attribute"] for entry in numbers["left_out"]] == list(attributes)
    assert "Groups of images were not compared." in text_of(numbers)


def test_scores_that_are_no_numbers_leave_only_calibration_out():
    rng = np.random.default_rng(12)
    targets = np.arange(200) % 3
    outcomes = load_task("classify").outcomes({"logits": rng.normal(0, 3, (200, 3))}, targets, LABELS, Decision())
    for row, outcome in enumerate(outcomes):
        outcome["score"] = float("nan") if row < 100 or row % 2 else outcome["score"]
    columns = {"x": ["u"] * 100 + ["v"] * 100}
    numbers = groups(columns, outcomes, targets, LABELS, [str(row) for row in range(200)]).numbers
    first, second = attribute(numbers, "x")["groups"]
    assert first["calibration"] is None
    assert second["calibration"]["n"] == 50
    assert first["right"] == np.mean([outcome["right"] for outcome in outcomes[:100]])
    text_of(numbers)


def test_images_without_a_value_are_counted_and_not_compared():
    right = np.r_[np.ones(40, bool), np.zeros(40, bool), np.ones(40, bool)]
    numbers = classified(right, np.arange(120) % 3, {"x": ["u"] * 40 + [" "] * 40 + ["v"] * 40})
    found = attribute(numbers, "x")
    assert (found["n"], found["not_given"]) == (80, 40)
    assert [group["group"] for group in found["groups"]] == ["u", "v"]
    assert not found["gap"]["real"]
    assert numbers["largest_gap"] == 0


def test_strange_names_and_very_many_values():
    rng = np.random.default_rng(13)
    n = 2000
    odd = np.array(["<script>alert(1)</script>", "a{b}%s", "\u202egnp.exe", "x" * 400])[rng.integers(0, 4, n)]
    many = rng.permutation(np.arange(n) % 1000).astype(str)
    targets = rng.integers(0, 3, n)
    numbers = classified(rng.random(n) < np.where(odd == odd[0], 0.7, 0.9), targets, {'a "quoted" & <b>': odd, "many": many})
    assert numbers["left_out"] == [{"attribute": "many", "reason": "none of its 1000 values has enough images"}]
    text = text_of(numbers)
    assert "<script>" not in text
    assert "\u202e" not in text


def test_many_groups_too_small_are_counted():
    rng = np.random.default_rng(14)
    column = ["large"] * 50 + ["other"] * 50 + [f"small {i}" for i in range(200)]
    numbers = classified(rng.random(300) < 0.9, rng.integers(0, 3, 300), {"x": column})
    found = attribute(numbers, "x")
    assert len(found["too_small"]) + found["more_too_small"] == 200
    assert "and 196 more." in text_of(numbers)


def test_the_same_seed_gives_the_same_numbers(planted):
    rng = np.random.default_rng(15)
    right, targets, columns = rng.random(300) < 0.8, rng.integers(0, 3, 300), {"x": rng.choice(["u", "v", "w"], 300)}
    assert classified(right, targets, columns, seed=5) == classified(right, targets, columns, seed=5)


def test_attributes_come_from_the_data_and_from_the_facts():
    n = 90
    facts = facts_of(
        n,
        brightness=np.linspace(0.1, 0.9, n),
        width=np.r_[np.full(45, 200), np.full(45, 400)].astype(np.int64),
        height=np.full(n, 100, np.int64),
        camera=["Canon"] * 30 + [""] * 60,
        taken=["2024-05-01T23:30:00", "2024-05-01T04:59:59", "2024-05-01T05:00:00", "2024-05-01T12:00:00", "2024-05-01T17:00:00", ""] * 15,
    )
    ward = np.array(["A", "B"] * 45)
    found = attributes_of(dataset_of(n, groups=np.array(["p1", "p2", "p3"] * 30), ward=ward), facts, np.arange(n))
    assert list(found) == ["ward", "group", "brightness", "image size", "camera", "hour of capture"]
    assert found["ward"] == ward.tolist()
    assert found["group"][:3] == ["p1", "p2", "p3"]
    assert [found["brightness"].count(part) for part in dict.fromkeys(found["brightness"])] == [30, 30, 30]
    assert (found["brightness"][0], found["brightness"][-1]) == ("dark (up to 37% of white)", "bright (over 63% of white)")
    assert (found["image size"][0], found["image size"][-1]) == ("small (up to 20,000 pixels)", "large (over 20,000 pixels)")
    assert found["camera"] == ["Canon"] * 30 + [""] * 60
    assert [hour.split(" ")[0] for hour in found["hour of capture"][:6]] == ["night", "night", "morning", "day", "evening", ""]


def test_only_the_rows_asked_for_are_described():
    facts = facts_of(6, brightness=[0.0, 0.5, 1.0, 0.2, 0.5, 0.8])
    found = attributes_of(dataset_of(6, ward=np.array(list("abcdef"))), facts, np.array([5, 3, 4]))
    assert found["ward"] == ["f", "d", "e"]
    assert [text.split(" ")[0] for text in found["brightness"]] == ["bright", "dark", "middle"]
    assert all(len(column) == 0 for column in attributes_of(dataset_of(6), facts, np.empty(0, np.int64)).values())


def test_a_fact_does_not_take_the_place_of_a_column():
    found = attributes_of(dataset_of(2, Camera=np.array(["c", "d"])), facts_of(2, camera=["x", "y"]), np.arange(2))
    assert found["Camera"] == ["c", "d"]
    assert found["camera (measured)"] == ["x", "y"]


def test_facts_that_are_the_same_everywhere_are_named_as_such():
    n = 60
    facts = facts_of(n, brightness=np.full(n, 0.5), width=np.full(n, 32, np.int64), height=np.full(n, 32, np.int64))
    found = attributes_of(dataset_of(n), facts, np.arange(n))
    numbers = classified(np.ones(n, bool), np.arange(n) % 3, found)
    assert {entry["attribute"]: entry["reason"] for entry in numbers["left_out"]} == {
        "brightness": "every image has the same value, '50% of white'",
        "image size": "every image has the same value, '1,024 pixels'",
        "camera": "no image has a value",
        "hour of capture": "no image has a value",
    }


def test_many_different_numbers_become_bands():
    ages = np.r_[np.arange(17, 91), np.nan, np.arange(17, 91)].astype(np.float64)
    found = as_texts(ages)
    assert found[74] == ""
    assert list(dict.fromkeys(text for text in found if text)) == ["17 to 35", "36 to 53", "54 to 72", "73 to 90"]
    assert found[0] == found[18] == "17 to 35"
    fine = as_texts(np.r_[np.linspace(1.00001, 1.00002, 50), np.nan])
    assert len(set(fine)) == 5


def test_few_different_numbers_stay_as_they_are():
    assert as_texts(np.array([1.0, 2.0, np.nan, 2.5, np.inf])) == ["1", "2", "", "2.5", ""]
    assert as_texts(np.array([True, False])) == ["yes", "no"]
    assert as_texts(np.array(["a", None, 3, float("nan")], object)) == ["a", "", "3", ""]
    # Most are the same: what is left of the four bands.
    assert set(as_texts(np.r_[np.zeros(80), np.arange(1, 21)])) == {"0", "1 to 20"}


def test_whole_numbers_that_are_all_different_are_names():
    assert as_texts(np.arange(1000, 1100)) == [str(number) for number in range(1000, 1100)]


def test_facts_with_errors_have_zeros_and_do_no_harm():
    facts = replace(facts_of(3), width=np.array([0, 10, 10]), height=np.array([0, 10, 10]))
    assert attributes_of(dataset_of(3), facts, np.arange(3))["image size"][0].startswith("small (up to 0 pixels")
