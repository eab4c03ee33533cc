"""The card: what a run measured, in Markdown that model hubs read."""

from __future__ import annotations

import re

import pytest
from huggingface_hub import ModelCard

import example_report
from carded import classified, detected, headings, rendered, segmented, tagged, trial, words
from sightline.report import amounts
from sightline.report.card import card
from sightline.report.card_trial import MOST_ROWS, PARTS
from sightline.report.card_words import METRICS
from sightline.report.markdown import split_front
from sightline.report.requirements import requirements_section
from sightline.requirements import parse


def test_the_card_of_a_run_says_what_was_measured(run):
    text = card(run.numbers)
    page = rendered(text)
    assert headings(page)[:4] == [run.numbers["title"], "Model details", "Intended use", "Out-of-scope use"]
    for title in ("Metrics", "Evaluation data", "Training data", "Quantitative analyses", "Licences", "Energy and time", "To reproduce"):
        assert title in headings(page)
    accuracy, (low, high) = run.numbers["test"]["metrics"]["accuracy"], run.numbers["test"]["intervals"]["accuracy"]
    assert f"| Accuracy | {accuracy:.1%} | {low:.1%} to {high:.1%} |" in text
    assert run.numbers["verdict"]["sentence"] in words(page)
    for entry in run.numbers["test"]["classes"]:
        assert f"| {entry['label']} | {entry['recall']:.1%} |" in text
    for part in PARTS:
        assert (part.title in headings(page)) == (part.name in run.numbers)
    assert "--epochs=2" in text
    assert "--out" not in text


def test_the_size_of_the_input_is_width_and_height(run):
    network = run.numbers["network"]
    assert [network[side] for side in ("size", "width", "height")] == [32, 32, 32]
    assert "reads images of 32 × 32 pixels" in card(run.numbers)
    tall = classified()
    tall["network"] |= {"size": 320, "width": 224, "height": 320}
    assert "reads images of 224 × 320 pixels" in card(tall)


def test_model_hubs_read_the_front_matter(run):
    known = ModelCard(card(run.numbers)).data.to_dict()
    assert known["library_name"] == "sightline"
    assert known["pipeline_tag"] == "image-classification"
    assert known["metrics"] == ["accuracy", "precision", "recall", "f1"]
    assert "license" not in known  # nobody told
    assert "multi-label-image-classification" in ModelCard(card(tagged())).data.to_dict()["tags"]
    bare = classified()
    bare["test"]["metrics"] = {}
    assert "metrics" not in ModelCard(card(bare)).data.to_dict()


def test_what_was_not_measured_is_called_so():
    text = card(classified())
    assert "Not measured: groups of images, harder conditions, what its certainty is worth, simpler methods, explanations." in text
    assert "- Energy: not measured\n" in text
    assert "| F1 | 80.0% | not measured |" in text
    assert "## Factors" not in text
    assert "## Requirements" not in text


def test_the_card_tells_what_the_trial_found():
    text = card({**classified(), **trial()})
    page = words(rendered(text))
    assert [part.title for part in PARTS] == [found for found in headings(rendered(text)) if found in {part.title for part in PARTS}]
    for said in (
        "Groups of images by camera",
        "Not compared: year (All images have the same value.)",
        "The largest gap is by camera: 70.0% right of phone, 90.0% of scanner, 20.0 points apart (95% interval 5.0 to 35.0), more than "
        "chance explains",
        "Weakest in fog. Condition Right Points lost More than chance fog 30.0% 50.0 yes noise 79.0% 1.0 not shown",
        "Calibration error 2.0%, 9.0% before calibration, which was made on 80 images kept for that alone",
        "It answers 93.0% of the test images, those with a score from 83.0% on, and 98.5% (95% interval 95.0% to 99.5%) of the answers are "
        "right; 99% is promised",
        "Its lists of candidates hold the truth of 91.0% of the test images",
        "No embeddings of training images were kept",
        "The network does not clearly beat an RBF machine.",
        "One was left out.",
        "Heat maps by CAM. Do not rely on this model's heat maps.",
        "Its heat maps failed their tests",
        "Served worse than others, more than chance explains: phone (camera): right for 70.0% of 60",
        "Answers that are poorer than others, more than chance explains: fox: right for 60.0% of 40",
        "Groups too small to be judged, of fewer than 20 test images: film (camera, 3), besides 2 others",
        "What it is clearly worse at, where that matters (see Caveats): fog, phone (camera)",
        "Clearly worse in fog (right for 25% at strength 3 of 5, 80% without)",
        "It is not clearly better than a simpler method",
        "Energy: 2.0 Wh (counters of the processor (RAPL))",
        "Processor time: 3 min 05 s",
    ):
        assert said in page, said
    assert "dog (answer)" not in page  # chance explains it
    assert "Not measured:" not in page


@pytest.mark.parametrize("name", [part.name for part in PARTS])
def test_a_part_that_could_not_be_measured_gives_its_reason(name):
    report = {**classified(), **trial(), name: {"reason": "There were <no> test images."}}
    assert "There were <no> test images." in words(rendered(card(report)))


def test_gaps_that_chance_explains_are_said_to():
    report = {**classified(), **trial()}
    report["groups"]["attributes"][0]["gap"]["real"] = False
    assert "(95% interval 5.0 to 35.0), which may be chance" in words(rendered(card(report)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"promise": None, "asked": None}, "It always gives an answer"),
        (
            {"promise": None, "asked": None, "familiar": {"called_unfamiliar": 0.03}},
            "It answers every image that is not unlike the training images, however unsure it is: no share of right answers could be",
        ),
        ({"answered_accuracy": None, "answered_interval": None}, "It answered none of the test images"),
        ({"own_images": False}, "80 images of validation"),
        ({"conformal": {"reason": "Too few to promise."}}, "Too few to promise."),
        ({"familiar": {"called_unfamiliar": 0.03}}, "not answered: 3.0% of the test images"),
    ],
)
def test_certainty_in_words(changes, said):
    report = {**classified(), **trial()}
    report["confidence"] |= changes
    assert said in words(rendered(card(report)))


def test_an_unfit_model_says_so_first():
    report = classified()
    report["requirements"] = requirements_section(parse("accuracy>=0.9, ece<=10%, worst_group_recall>=0.8"), report)
    text = card(report, "For a museum.")
    lines = split_front(text)[1].splitlines()
    assert lines[0] == "# Pets"
    assert lines[2].startswith("> **Unfit for use.** The model does not meet 2 of 3 requirements: accuracy is 80.0%")
    assert "| accuracy | at least 90% | 80.00% | no |" in text
    assert "| worst_group_recall | at least 80% | not measured | no |" in text
    assert "supports no use yet" in text
    fit = {**report, "requirements": requirements_section(parse("accuracy>=0.5"), report)}
    assert "Unfit" not in card(fit)
    assert "The model meets its requirement." in card(fit)


def test_a_poor_model_supports_no_use():
    report = classified()
    assert "What was measured supports one use: naming the class of images like the 120 test images." in card(report)
    report["verdict"]["level"] = "poor"
    assert "What was measured supports no use yet." in card(report)


def test_what_the_maker_states_stands_apart_from_what_was_measured():
    assert "Its maker stated none." in card(classified())
    assert "Its maker stated none." in card(classified(), "  ")
    text = card(classified(), "Sorting photographs\n\n# at home <b>only</b>")
    assert "<blockquote>\n<p>Sorting photographs # at home &lt;b&gt;only&lt;/b&gt;</p>\n</blockquote>" in rendered(text)


def test_tags_have_their_own_words():
    text = card({**tagged(), **trial()})
    assert "| fog | 61.0% | 50.0% to 70.0% | 25.0% | 60.0% | 50.0% | 25 |" in text
    assert "| rain | – | – | – | – | – | 0 |" in text
    assert "It gives an image any of 2 labels, or none: fog, rain" in text
    assert "What has no test image: rain" in text
    assert "overlap" in text
    assert "giving labels to" in text


def test_caveats_follow_from_the_figures():
    few = card(classified(n=12))
    assert "There were only 24 test images" in few
    assert "Fewer than 20 test images, so that little is known of them: cat (12), dog (12)" in few
    many = card(classified(n=600))
    assert "rough" not in many
    assert "The weakest class is dog: found 70.0% (95% interval 60.0% to 75.0%), 600 test images" in many
    alike = card(classified(recalls=(0.9, 0.9), n=600))
    assert "weakest" not in alike
    assert "## Caveats" not in alike


def test_what_is_odd_about_the_data_is_said():
    report = example_report.clothing().report
    report["test"]["without_leaks"] = {"n": 213, "metrics": {"accuracy": 0.851}, "intervals": {}}
    page = words(rendered(card(report)))
    for said in (
        "1 copy of test images lies in other splits, which flatters the figures; without them: Accuracy 85.1%",
        "3 files could not be read and took no part",
        "By a person's decisions 3 images were dropped and 5 relabelled",
        "Labels that may be wrong. 2 images look less like their label than like another.",
        "Foreign images were not looked for, to keep the budget.",
        "Most of t-shirt (280), fewest of",
        "The pretrained weights that it started from: Apache-2.0",
    ):
        assert said in page, said
    report["network"]["weights_licence"] = None
    assert "it started from: unknown" in card(report)
    assert "groups of images lie in the test split" not in page
    report["data"]["straddling"] = [{"group": "ward 7", "splits": ["train", "test"]}]
    assert "1 group of images lies in the test split and in others" in card(report)


def test_many_classes_are_cut_to_the_weakest():
    labels = tuple(f"species {index}" for index in range(60))
    report = classified(labels, tuple(index / 60 for index in range(60)))
    text = card(report)
    assert f"The weakest {MOST_ROWS} of 60; `report.json` has all." in text
    assert "| species 39 |" in text
    assert "| species 40 |" not in text
    assert "and 20 more" in text


def test_every_metric_of_the_tasks_has_its_words():
    for report in (classified(), tagged(), detected(), segmented()):
        assert set(report["test"]["metrics"]) <= set(METRICS)


def test_the_card_of_a_detector_speaks_of_boxes():
    report = detected()
    report["suspects"] = {"items": [{}, {}], "counts": {"missing": 1200, "swapped class": 34, "badly placed": 0}}
    text = card(report)
    assert ModelCard(text).data.to_dict()["pipeline_tag"] == "object-detection"
    for said in (
        "It puts boxes around the objects of 2 classes on an image: cat, dog",
        "What was measured supports one use: finding objects on images like the 40 test images.",
        "| Counting error | 1.25 |",
        "| cat | 80.0% | 70.0% to 90.0% | 50.0% | 70.0% | 90.0% | 90 |",
        "The weakest class is dog: average precision at an IoU of 0.5 60.0% (95% interval 70.0% to 90.0%), 30 test objects",
        "An image is right to the share that is the F1 of its boxes",
        "1,234 annotations of the validation and test images may be wrong",
    ):
        assert said in text
    assert "| eel | – |" in text
    assert "names one of" not in text


def test_the_card_of_a_segmenter_speaks_of_pixels():
    text = card(segmented())
    assert ModelCard(text).data.to_dict()["pipeline_tag"] == "image-segmentation"
    assert ModelCard(text).data.to_dict()["metrics"] == ["mean_iou", "accuracy"]
    assert "| Right pixels | 95.0% | not measured | share of the pixels whose class is named |" in text
    assert "| sky | 80.0% | 70.0% to 90.0% | 90.0% | 85.0% | 40.0% | 40 |" in text
    assert "the share of its pixels that are given their true class" in text


def test_the_command_is_what_was_asked():
    report = classified()
    report["settings"] = {
        "data": {"near_copies": False, "val_fraction": 0.15, "workers": 3, "decisions": "/home/me/my decisions.csv"},
        "training": {"epochs": 5, "optimizer": "sgd", "unheard_of": 4},
        "augment": {"flip": True},
        "run": {"out": "/home/me/run", "seed": 7},
    }
    (command,) = re.findall(r"```sh\n(.*)\n```", card(report))
    assert command == "sightline train DATA --seed=7 --no-near-copies --decisions='my decisions.csv' --epochs=5 --optimizer=sgd --flip"


def test_energy_in_a_readers_units():
    assert [amounts.energy(joules) for joules in (None, 3.6, 7920, 9_000_000)] == ["–", "0.0010 Wh", "2.2 Wh", "2.50 kWh"]
