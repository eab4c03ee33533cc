"""requirements: what is asked of a model is understood or refused in whole, and what was not measured never passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import planted_scenes
from sightline.errors import ConfigError, RequirementNotMet, UsageError
from sightline.figures import FIGURES, TASKS
from sightline.predictions import Decision
from sightline.report.requirements import requirement_rows, requirements_blocks, requirements_section
from sightline.requirements import (
    RELATIONS,
    Requirement,
    check_task,
    checked,
    figures_of,
    intervals_of,
    parse,
    reasons_of,
    refuse_unmet,
    summary,
)
from sightline.tasks import TASKS as ALL_TASKS
from sightline.tasks import load_task

REPORT = {
    "test": {
        "metrics": {"accuracy": 0.871, "precision": 0.86, "recall": 0.85, "f1": 0.85, "ece": 0.031},
        "intervals": {"accuracy": [0.83, 0.902]},
        "classes": [{"label": "a", "n": 20, "recall": 0.9}, {"label": "b", "n": 10, "recall": 0.7}, {"label": "c", "n": 0, "recall": 0.0}],
    },
    "confidence": {"coverage": 0.93, "answered_accuracy": 0.99, "conformal": {"coverage": 0.905}},
    "groups": {"worst_group_recall": 0.64, "largest_gap": 0.21},
    "robustness": {"robust_accuracy": 0.55},
    "baselines": {
        "methods": [
            {"name": "majority", "right": 0.2, "behind": {"difference": 0.67, "interval": [0.6, 0.7]}},
            {"name": "rbf", "right": 0.75, "behind": {"difference": 0.12, "interval": [0.08, 0.16]}},
            {"name": "network", "right": 0.87},
        ],
    },
}


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert isinstance(caught.value, ConfigError)
    return caught.value.problems


def test_the_example_of_the_issue():
    assert parse("accuracy>=0.9, ece<=0.05, worst_group_recall>=0.8") == (
        Requirement("accuracy", ">=", 0.9),
        Requirement("ece", "<=", 0.05),
        Requirement("worst_group_recall", ">=", 0.8),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy>=90%", Requirement("accuracy", ">=", 0.9)),
        ("accuracy >= 99.9 %", Requirement("accuracy", ">=", 0.999)),
        (" ece\t<\n.05 ,", Requirement("ece", "<", 0.05)),
        ("baseline_margin>-0.01", Requirement("baseline_margin", ">", -0.01)),
        ("accuracy<=1", Requirement("accuracy", "<=", 1.0)),  # of no use, and not wrong
        ("accuracy<=-0", Requirement("accuracy", "<=", 0.0)),
    ],
)
def test_how_one_may_be_written(text, expected):
    (found,) = parse(text)
    assert found == expected
    assert str(found.bound)[0] != "-" or found.bound < 0


@given(
    st.lists(
        st.builds(Requirement, st.sampled_from(sorted(FIGURES)), st.sampled_from(sorted(RELATIONS)), st.floats(0.001, 0.999)),
        min_size=1,
        max_size=6,
        unique_by=lambda asked: asked.metric,
    )
)
def test_what_is_written_out_is_read_back(asked):
    assert parse(", ".join(map(str, asked))) == tuple(asked)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_words(text):
    try:
        found, problems = parse(text), ()
    except ConfigError as error:
        found, problems = (), error.problems
    assert bool(found) != bool(problems)
    assert all(problem.startswith("--require") for problem in problems)


def test_all_mistakes_are_told_together():
    problems = problems_of("acuracy>=0.9, ece==0.05, recall>=much, f1>=90, precision>=0.9, precision<=0.5, coverage")
    assert len(problems) == 6
    for words in ("Did you mean 'accuracy'", "'==' is none of the relations >=, >, <=, <", "'much' is no number", "Did you mean 90%?",
                  "nothing is both precision>=0.9 and precision<=0.5", "quote the whole text"):  # fmt: skip
        assert sum(words in problem for problem in problems) == 1, words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" , ,", "is empty"),
        ("mAP>=0.5", "Did you mean 'map'"),
        ("Worst-Group-Recall>=0.5", "Did you mean 'worst_group_recall'"),
        ("xyzzy>=0.5", "There are accuracy, top5"),
        (">=0.5", "there is no figure ''"),
        ("accuracy>=", "'' is no number"),
        ("accuracy=>0.9", "'=>' is none of the relations"),
        ("accuracy>=0.9>=0.8", "'0.9>=0.8' is no number"),
        ("accuracy>=nan", "'nan' is no number"),
        ("accuracy>=inf", "'inf' is no number"),
        ("accuracy>=1e999", "lies between 0 and 1"),
        ("accuracy>=1,5", "'5' is no requirement"),
        ("accuracy>=-0.1", "lies between 0 and 1"),
        ("accuracy>1", "no model can do that"),
        ("ece<0", "no model can do that"),
        ("baseline_margin>=-1.5", "lies between -1 and 1"),
        ("accuracy>=0.9, accuracy>=0.8", "accuracy more than once: accuracy>=0.9 and accuracy>=0.8"),
        ("ece<=0.1, ece<=0.1", "ece more than once"),
        ("accuracy>0.9, accuracy<=0.9", "contradicts itself"),
        ("accuracy>=0.9, accuracy<0.9", "contradicts itself"),
    ],
)
def test_what_is_refused(text, words):
    (problem,) = problems_of(text)
    assert words in problem


def test_a_figure_may_be_bounded_from_both_sides():
    assert len(parse("accuracy>=0.9, accuracy<=0.9, ece>=0.01, ece<0.5")) == 4


def test_what_a_task_never_has_is_refused_before_training():
    check_task(parse("accuracy>=0.9, top5>=0.9"), "classify", 10)
    with pytest.raises(ConfigError, match=r"has no map; it has accuracy, precision.*has no top5"):
        check_task(parse("map>=0.9, top5>=0.9, ece<=0.1"), "classify", 3)
    with pytest.raises(ConfigError, match=r"--require accuracy>=0\.9: the task tag of 3 labels has no accuracy; it has map"):
        check_task(parse("accuracy>=90%"), "tag", 3)


def answered(task: str) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    """What is kept of a perfect model's outputs, targets and labels of a task."""
    if task in ("classify", "tag"):
        n = 8
        targets = np.arange(n) if task == "classify" else np.eye(n, dtype=bool)
        return {"logits": np.eye(n, dtype=np.float32)}, targets, [f"label {index}" for index in range(n)]
    images, objects, frames = planted_scenes.scenes(range(12))
    boxes = task == "detect"
    targets = objects if boxes else planted_scenes.maps_of(objects)
    raw = (planted_scenes.by_colour if boxes else planted_scenes.by_pixel)(images)
    labels = planted_scenes.LABELS if boxes else planted_scenes.AREAS
    return load_task(task).compact({**raw, "frame": frames}, targets), targets, list(labels)


@pytest.mark.parametrize("task", sorted(ALL_TASKS))
def test_the_names_are_the_metrics_that_tasks_have(task):
    assert set(TASKS) == set(ALL_TASKS)
    raw, targets, labels = answered(task)
    test = load_task(task).evaluate(raw, targets, labels, Decision(), [str(place) for place in range(len(targets))])
    named = {name for name, figure in FIGURES.items() if figure.place[:2] == ("test", "metrics") and task in figure.tasks}
    # Boxes of 64 pixels' images are small, so that nothing is known of larger ones.
    assert named - {"map_medium", "map_large"} == set(test["metrics"]) - {"map_medium", "map_large"}
    assert load_task(task).METRIC in named
    assert figures_of({"test": test})["worst_class_recall"] == min(entry["recall"] for entry in test.get("classes") or test["labels"])
    assert ("top5" in test["metrics"]) == (task == "classify")


def test_a_number_of_objects_is_no_share():
    (asked,) = parse("count_error<=1.5")
    (verdict,) = checked([asked], {"count_error": 1.53})
    assert verdict.sentence == "count_error is 1.53, while at most 1.5 is required"
    assert not verdict.met
    row = requirement_rows({"rows": [verdict.to_json()]})[0]
    assert row == ("count_error", "at most 1.5", "1.53", "no")
    check_task([asked], "detect", 2)
    with pytest.raises(ConfigError, match="the task segment of 2 labels has no count_error"):
        check_task([asked], "segment", 2)


def test_figures_come_from_the_report():
    found = figures_of(REPORT)
    assert set(found) == set(FIGURES)
    assert found["worst_class_recall"] == 0.7  # a class without test images is not the weakest
    assert (found["coverage"], found["answered_accuracy"], found["conformal_coverage"]) == (0.93, 0.99, 0.905)
    assert (found["worst_group_recall"], found["largest_gap"], found["robust_accuracy"]) == (0.64, 0.21, 0.55)
    assert (found["baseline_margin"], found["map"], found["top5"]) == (0.12, None, None)


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"test": {}},
        {"test": None},
        {"groups": [], "confidence": {"conformal": None, "coverage": float("nan")}},
        {"test": {"metrics": {"accuracy": True}, "classes": [{"n": 3, "recall": None}]}},
        {"baselines": {"reason": "There are no test images."}},
        {"baselines": {"methods": [{"name": "network"}]}},
    ],
)
def test_what_a_report_lacks_is_none(report):
    assert set(figures_of(report).values()) == {None}


def test_intervals_stand_beside_their_figures():
    groups = {"worst_group": {"recall_interval": [0.5, 0.75]}, "largest_gap_between": {"interval": [0.1, 0.3]}}
    assert intervals_of({**REPORT, "groups": groups}) == {
        "accuracy": (0.83, 0.902), "worst_group_recall": (0.5, 0.75), "largest_gap": (0.1, 0.3), "baseline_margin": (0.08, 0.16),
    }  # fmt: skip
    assert intervals_of({}) == {}


def test_reasons_are_the_reports_own():
    report = {"groups": {"reason": "The data have no attributes."}, "confidence": {"reason": "outer", "conformal": {"reason": "inner"}}}
    report["robustness"] = {"reason": "Not measured: with 5 test images a loss cannot be told from chance."}
    found = reasons_of(report)
    assert found == {
        "worst_group_recall": "The data have no attributes",
        "largest_gap": "The data have no attributes",
        "robust_accuracy": "with 5 test images a loss cannot be told from chance",
        "coverage": "outer",
        "answered_accuracy": "outer",
        "conformal_coverage": "inner",
    }


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("relation", sorted(RELATIONS))
def test_what_was_not_measured_is_not_met(value, relation):
    (verdict,) = checked([Requirement("accuracy", relation, 0.5)], {"accuracy": value})
    assert not verdict.met
    assert verdict.reached is None
    assert verdict.sentence == "accuracy could not be measured, so it is not met"
    (missing,) = checked([Requirement("accuracy", relation, 0.5)], {}, {"accuracy": "no test image has a label"})
    assert missing.sentence == "accuracy could not be measured (no test image has a label), so it is not met"


@given(st.floats(0, 1), st.floats(0.001, 0.999))
def test_a_figure_meets_a_floor_or_misses_it_like_the_ceiling_below(value, bound):
    met = {relation: checked([Requirement("recall", relation, bound)], {"recall": value})[0].met for relation in RELATIONS}
    assert met[">="] != met["<"]
    assert met["<="] != met[">"]
    assert met[">="] == (value >= bound - 1e-9)


def test_a_bound_reached_but_for_rounding_is_reached():
    value = float(np.mean([0.8, 1.0, 0.9]))
    assert Requirement("recall", ">=", 0.9).holds(0.1 * 3 + 0.6)
    assert Requirement("recall", ">=", 0.9).holds(value)
    assert not Requirement("recall", ">", 0.9).holds(np.nextafter(0.9, 1))


def test_the_sentence_has_the_figure_the_interval_and_what_was_asked():
    met, missed, close = checked(
        parse("recall>=0.5, accuracy>=0.9, ece<=3.09%"), {"recall": 0.8, "accuracy": 0.871, "ece": 0.031}, {}, {"accuracy": (0.83, 0.902)}
    )
    assert met.sentence == "recall is 80.0%, at least 50% as required"
    assert missed.sentence == "accuracy is 87.1% (95% interval 83.0% to 90.2%), while at least 90% is required"
    assert close.sentence == "ece is 3.10%, while at most 3.09% is required"  # not "3.1% ... at most 3.1%"


def test_an_interval_that_reaches_beyond_the_bound_is_said():
    (verdict,) = checked(parse("accuracy>=0.85"), {"accuracy": 0.871}, {}, {"accuracy": (0.83, 0.902)})
    assert verdict.met
    assert verdict.sentence.endswith("; by its interval other images of the same kind may miss that")


def test_the_section_says_it_all_and_the_gate_closes():
    section = requirements_section(parse("accuracy>=0.9, ece<=0.05, top5>=0.9"), REPORT)
    assert not section["met"]
    assert [row["met"] for row in section["rows"]] == [False, True, False]
    assert section["rows"][0] | {"sentence": ""} == {
        "metric": "accuracy", "relation": ">=", "bound": 0.9, "reached": 0.871, "met": False, "sentence": "",
    }  # fmt: skip
    assert section["sentence"].startswith("The model does not meet 2 of 3 requirements: accuracy is 87.1%")
    assert "top5 could not be measured" in section["sentence"]
    assert "label more images" in section["sentence"]
    with pytest.raises(RequirementNotMet, match=r"2 of 3 requirements.*marked as unfit.*model\.sight") as caught:
        refuse_unmet(section, Path("runs") / "model.sight", "the run")
    assert (caught.value.exit_code, caught.value.done) == (7, "the run")


def test_a_gate_that_holds_lets_through():
    section = requirements_section(parse("accuracy>=0.8"), REPORT)
    assert section["met"]
    assert section["sentence"] == "The model meets its requirement."
    refuse_unmet(section, Path("model.sight"))
    assert requirements_section((), REPORT) == {}
    refuse_unmet({}, Path("model.sight"))
    assert summary(checked(parse("accuracy>=0.8, ece<=0.1"), figures_of(REPORT))) == "The model meets all 2 requirements."


def test_the_report_shows_what_was_asked_beside_what_was_reached():
    assert requirements_blocks({}) == []
    (table,) = requirements_blocks(requirements_section(parse("accuracy>=0.9, ece<=5%, top5>0.99"), REPORT))
    assert [list(row) for row in table.rows] == [
        ["accuracy", "at least 90%", "87.10%", "no"],
        ["ece", "at most 5%", "3.10%", "yes"],
        ["top5", "more than 99%", "not measured", "no"],
    ]
    assert table.note.startswith("The model does not meet 2 of 3")
