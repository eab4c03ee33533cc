"""Groups of images in a trial: gaps that are planted are found and described, and those that are not are not claimed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from compared_groups import attribute, claims, classified, tagged, text_of
from sightline.evaluation.intervals import wilson_interval
from sightline.report.group_words import gap_sentences, verdict
from sightline.report.groups import groups_blocks
from sightline.tasks.blocks import Bars


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


@pytest.mark.parametrize(
    ("difference", "interval", "says"),
    [
        (-0.04, [-0.09, 0.01], "which is 4.0 points less (95% interval -1.0 to 9.0)."),
        (0.04, [-0.01, 0.09], "which is 4.0 points more (95% interval -1.0 to 9.0)."),
        (-0.04, [-0.08, 0.0004], "which is 4.0 points less (95% interval 0.0 to 8.0)."),
        (-0.2, [-0.3, -0.1], "which is 20.0 points less (95% interval 10.0 to 30.0)."),
    ],
)
def test_an_interval_that_reaches_across_nought_keeps_its_sign(planted, difference, interval, says):
    light = attribute(planted, "light")
    out = {**light["standing_out"], "difference": difference, "interval": interval}
    assert says in gap_sentences({**light, "standing_out": out}, planted)


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
