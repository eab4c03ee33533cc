"""The card's analyses: every class, and what the trial of the model found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sightline.report import amounts
from sightline.report.card_limits import classes_of, measured, skill
from sightline.report.card_words import Words, words_of
from sightline.report.markdown import plain, points, table
from sightline.requirements import at
from sightline.tasks.measures import SCENES, measure_in

MOST_ROWS = 40


def factors(report: Mapping[str, Any]) -> str:
    """What the figures were looked at by: the groups and the conditions."""
    attributes = [plain(entry["attribute"]) for entry in at(report, "groups", "attributes") or ()]
    left_out = [f"{plain(entry['attribute'])} ({plain(entry['reason'])})" for entry in at(report, "groups", "left_out") or ()]
    conditions = [plain(entry["name"]) for entry in at(report, "robustness", "conditions") or ()]
    return points([
        f"Groups of images by {', '.join(attributes)}" if attributes else "",
        f"Not compared: {'; '.join(left_out[:MOST_ROWS])}" if left_out else "",
        f"Harder conditions: {', '.join(conditions)}" if conditions else "",
    ])  # fmt: skip


def analyses(report: Mapping[str, Any]) -> str:
    """A subsection for each part of the trial that was made, and a line on those that were not."""
    found = {part: part.written(at(report, part.name) or {}) for part in PARTS}
    bodies = {"By class": _by_class(report), **{part.title: body for part, body in found.items()}}
    missing = [part.words for part, body in found.items() if not body]
    left_out = f"Not measured: {', '.join(missing)}." if missing else ""
    return "\n\n".join(
        [part for part in (words_of(report).right, *(f"### {title}\n\n{body}" for title, body in bodies.items() if body), left_out) if part]
    )


def interval_text(interval: Sequence[float] | None) -> str:
    """An interval of shares; said where there is none."""
    return "not measured" if interval is None else f"{amounts.share(interval[0])} to {amounts.share(interval[1])}"


def _by_class(report: Mapping[str, Any]) -> str:
    """The classes, the weakest first where there are too many to list."""
    entries, words = classes_of(report), words_of(report)
    if not entries:
        return ""
    shown, cut = entries, ""
    if len(entries) > MOST_ROWS:
        known = (entry for entry in entries if measured(entry, words))
        shown = sorted(known, key=lambda entry: skill(entry, words))[:MOST_ROWS]
        cut = f"\n\nThe weakest {len(shown)} of {amounts.count(len(entries))}; `report.json` has all."
    columns = (words.noun.capitalize(), *words.columns.values(), f"{words.counted.capitalize()}s")
    return table(columns, [_class_row(entry, words) for entry in shown]) + cut


def _class_row(entry: Mapping[str, Any], words: Words) -> tuple[str, ...]:
    """A class without test images has no scores, which is not the same as scores of 0."""
    cells = [_cell(entry.get(name)) if entry["n"] else amounts.NOTHING for name in words.columns]
    return plain(entry["label"]), *cells, amounts.count(entry["n"])


def _cell(value: Any) -> str:
    if isinstance(value, Sequence):
        return amounts.NOTHING if None in value else interval_text(value)
    return amounts.share(value)


def _told(section: Mapping[str, Any]) -> str:
    """A part's own sentence, or its reason why it was not measured."""
    said = section.get("sentence") or section.get("reason") or ""
    return plain(said)


def _by_group(section: Mapping[str, Any]) -> str:
    """Every group that was judged, those of the widest gap first, and whether chance explains the gaps."""
    attributes = sorted(section.get("attributes", ()), key=lambda entry: -entry["gap"]["difference"])
    rows = [
        (plain(entry["attribute"]), plain(group["group"]), amounts.share(group["right"]), interval_text(group["interval"]),
         amounts.share(group["recall"]), amounts.count(group["n"]))
        for entry in attributes
        for group in entry["groups"]
    ]  # fmt: skip
    cut = f"The first {MOST_ROWS} of {amounts.count(len(rows))} groups; `report.json` has all." if len(rows) > MOST_ROWS else ""
    columns = ("Attribute", "Group", measure_in(section).name, "95% interval", _recall_name(section), "Test images")
    listed = table(columns, rows[:MOST_ROWS])
    return "\n\n".join(
        part for part in (_told(section), *(_gap_text(entry, _right(section)) for entry in attributes[:1]), listed, cut) if part
    )


def _recall_name(section: Mapping[str, Any]) -> str:
    """Of where things are, what is counted by group are the classes of an image, whatever their number and place."""
    return "Classes found" if section.get("measure") in SCENES else "Recall"


def _right(section: Mapping[str, Any]) -> str:
    return {"boxes": "F1 of boxes", "pixels": "of the pixels right"}.get(section.get("measure", ""), "right")


def _gap_text(entry: Mapping[str, Any], right: str) -> str:
    gap, groups = entry["gap"], {group["group"]: group["right"] for group in entry["groups"]}
    low, high = gap["interval"]
    real = "more than chance explains, corrected for all that was compared" if gap["real"] else "which may be chance"
    return (
        f"The largest gap is by {plain(entry['attribute'])}: {amounts.share(groups[gap['low']])} {right} of {plain(gap['low'])}, "
        f"{amounts.share(groups[gap['high']])} of {plain(gap['high'])}, {100 * gap['difference']:.1f} points apart "
        f"(95% interval {100 * low:.1f} to {100 * high:.1f}), {real}."
    )


def _conditions(section: Mapping[str, Any]) -> str:
    """Every condition's mean over its strengths, the costliest first."""
    found = sorted(section.get("conditions", ()), key=lambda entry: -entry["loss"])
    rows = [
        (plain(entry["name"]), amounts.share(entry["right"]), f"{100 * entry['loss']:.1f}", "yes" if entry["clear"] else "not shown")
        for entry in found
    ]
    columns = ("Condition", measure_in(section).name, "Points lost", "More than chance")
    return "\n\n".join(part for part in (_told(section), table(columns, rows)) if part)


def _certainty(section: Mapping[str, Any]) -> str:
    """Calibration, when the model does not answer, what its candidates hold, and what it calls unfamiliar."""
    if "ece" not in section:
        return _told(section)
    conformal, familiar = section.get("conformal", {}), section.get("familiar", {})
    return points([
        f"Calibration error {amounts.share(section['ece'])}, {amounts.share(section['ece_before'])} before calibration, which was made on "
        f"{amounts.number_of(section['n_calibration'], 'image')}{' kept for that alone' if section['own_images'] else ' of validation'}"
        if section["ece"] is not None else "Too little was given to say what a score is worth",
        _abstention(section),
        f"Its lists of candidates hold the truth of {amounts.share(conformal['coverage'])} of the test images (95% interval "
        f"{interval_text(conformal['interval'])}; {conformal['level']:.0%} is promised), {conformal['mean_size']:.1f} labels on average"
        if "coverage" in conformal else plain(conformal.get("reason", "")),
        f"Called unlike the training images, and not answered: {amounts.share(familiar['called_unfamiliar'])} of the test images, which "
        f"are like them" if "called_unfamiliar" in familiar else plain(familiar.get("reason", "")),
    ])  # fmt: skip


def _abstention(section: Mapping[str, Any]) -> str:
    measure = measure_in(section)
    if section["promise"] is None:
        knows = "called_unfamiliar" in section.get("familiar", {})
        answers = "answers every image that is not unlike the training images, however unsure it is" if knows else "always gives an answer"
        return f"It {answers}: no {measure.promised} could be promised for half of the images"
    if section["answered_accuracy"] is None:
        return f"It answered none of the test images, with {_promised(section)}"
    right = f"{amounts.share(section['answered_accuracy'])} (95% interval {interval_text(section['answered_interval'])})"
    kept = f"{right} of the answers are right" if measure.whole else f"the {measure.promised} is {right} there"
    return (
        f"It answers {amounts.share(section['coverage'])} of the test images, those with a score from "
        f"{amounts.share(section['answer_from'])} on, and {kept}; {amounts.promised(section['promise'])} is promised"
    )


def _promised(section: Mapping[str, Any]) -> str:
    measure, promise = measure_in(section), amounts.promised(section["promise"])
    return f"{promise} right answers promised" if measure.whole else f"a {measure.promised} of {promise} promised"


def _explanations(section: Mapping[str, Any]) -> str:
    method = f"Heat maps by {plain(section['method'])}. " if section.get("method") else ""
    return f"{method}{_told(section)}" if section else ""


def _simpler(section: Mapping[str, Any]) -> str:
    rows = [
        (_method(method["name"], section), amounts.share(method["right"]), interval_text(method["interval"]))
        for method in section.get("methods", ())
    ]
    reasons = [plain(reason) for reason in section.get("reasons", ())]
    return "\n\n".join(
        part for part in (_told(section), table(("Method", measure_in(section).name, "95% interval"), rows), *reasons) if part
    )


def _method(name: str, section: Mapping[str, Any]) -> str:
    if name == "majority" and "label" in section:
        return f"{plain(section['label'])} for every pixel"
    return METHODS.get(name, plain(name))


METHODS = {
    "majority": "The same answer for every image",
    "linear": "Linear machine on hand-crafted features",
    "rbf": "RBF machine on hand-crafted features",
    "network": "**This model**",
}


class Part(NamedTuple):
    """A part of the trial: its name in ``report.json``, its heading, what it is called where it is missing, and what is written of it."""

    name: str
    title: str
    words: str
    written: Callable[[Mapping[str, Any]], str]


PARTS = (
    Part("groups", "By group", "groups of images", _by_group),
    Part("robustness", "In harder conditions", "harder conditions", _conditions),
    Part("confidence", "Certainty", "what its certainty is worth", _certainty),
    Part("baselines", "Against simpler methods", "simpler methods", _simpler),
    Part("explanations", "Explanations", "explanations", _explanations),
)
