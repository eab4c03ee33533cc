"""The card's caveats: only what follows from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.report import amounts
from sightline.report.card_words import Words, words_of
from sightline.report.markdown import plain, points
from sightline.requirements import at
from sightline.tasks.measures import measure_in

# Of fewer images a share is known to ten or twenty points at best.
FEW_IMAGES, FEW_OF_A_CLASS = 100, 20
MOST_NAMED = 12


def limits(report: Mapping[str, Any]) -> str:
    """What a user has to know before trusting the figures, as a list."""
    return points([
        *_few_images(report),
        _weakest_class(report),
        *_groups(at(report, "groups") or {}),
        *_conditions(at(report, "robustness") or {}),
        "It is not clearly better than a simpler method: see Against simpler methods" if at(report, "baselines", "beaten") is False else "",
        _doubts(at(report, "suspects") or {}),
        "Its heat maps failed their tests: do not take them for reasons" if at(report, "explanations", "trusted") is False else "",
    ])  # fmt: skip


def _doubts(section: Mapping[str, Any]) -> str:
    """Annotations that the model is sure are wrong, which every figure takes for right."""
    n = sum(section.get("counts", {}).values())
    if not n:
        return ""
    return f"{amounts.number_of(n, 'annotation')} of the validation and test images may be wrong, and every figure takes them for right"


def classes_of(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """What was measured of each class, or of each label of tags."""
    return at(report, "test", "classes") or at(report, "test", "labels") or ()


def measured(entry: Mapping[str, Any], words: Words) -> bool:
    """Whether there is anything to say of a class: it was tested, and what counts has a value."""
    return bool(entry["n"]) and entry.get(words.skill_name) is not None


def skill(entry: Mapping[str, Any], words: Words) -> float:
    """How well a class that was measured does, by what counts for the task."""
    return float(entry[words.skill_name])


def _few_images(report: Mapping[str, Any]) -> list[str]:
    n, counted = report["test"]["n"], words_of(report).counted
    few = [f"{plain(entry['label'])} ({entry['n']})" for entry in classes_of(report) if 0 < entry["n"] < FEW_OF_A_CLASS]
    return [
        f"There were only {amounts.number_of(n, 'test image')}: all figures are rough" if n < FEW_IMAGES else "",
        f"Fewer than {FEW_OF_A_CLASS} {counted}s, so that little is known of them: {named(few)}" if few else "",
    ]


def named(words: Sequence[str], most: int = MOST_NAMED) -> str:
    """Words in a row, the first of them where they are many."""
    rest = f" and {amounts.count(len(words) - most)} more" if len(words) > most else ""
    return ", ".join(words[:most]) + rest


def _weakest_class(report: Mapping[str, Any]) -> str:
    words = words_of(report)
    known = [entry for entry in classes_of(report) if measured(entry, words)]
    weakest = min(known, key=lambda entry: skill(entry, words), default=None)
    if weakest is None or skill(weakest, words) == max(skill(entry, words) for entry in known):
        return ""
    interval = weakest[words.interval_name]
    within = f" (95% interval {amounts.share(interval[0])} to {amounts.share(interval[1])})" if interval and None not in interval else ""
    return (
        f"The weakest {words.noun} is {plain(weakest['label'])}: {words.skill} {amounts.share(skill(weakest, words))}{within}, "
        f"{amounts.number_of(weakest['n'], words.counted)}"
    )


def worse_at(report: Mapping[str, Any]) -> list[str]:
    """Conditions and groups in which it is clearly worse, by name."""
    conditions = [plain(entry["name"]) for entry in at(report, "robustness", "weakest") or ()]
    return conditions + [
        f"{plain(entry['group'])} ({plain(entry['of'])})" for entry in at(report, "groups", "slices") or () if entry["real"]
    ]


def _groups(section: Mapping[str, Any]) -> list[str]:
    """The groups that are served worse, and the answers that are, as far as chance does not explain it, and groups too small to tell."""
    worse, poor = [], []
    for entry in (entry for entry in section.get("slices", ()) if entry["real"]):
        figures = f"{_right(section, entry['right'], 1)} of {entry['n']}"
        if entry.get("answered"):
            poor.append(f"{plain(entry['group'])}: {figures}")
        else:
            worse.append(f"{plain(entry['group'])} ({plain(entry['of'])}): {figures}")
    small = [
        f"{plain(group['group'])} ({plain(entry['attribute'])}, {group['n']})"
        for entry in section.get("attributes", ()) for group in entry["too_small"]
    ]  # fmt: skip
    more = sum(entry["more_too_small"] for entry in section.get("attributes", ()))
    return [
        f"Served worse than others, more than chance explains: {named(worse)}" if worse else "",
        f"Answers that are poorer than others, more than chance explains: {named(poor)}" if poor else "",
        f"Groups too small to be judged, of fewer than {section['smallest']} test images: {named(small)}"
        f"{f', besides {amounts.count(more)} others' if more else ''}" if small else "",
    ]  # fmt: skip


def _right(section: Mapping[str, Any], share: float, digits: int) -> str:
    """``right for 80%``, or the share of what is measured otherwise: ``F1 of boxes 80%``, over the images that are named."""
    measure = measure_in(section)
    return f"right for {amounts.share(share, digits)}" if measure.whole else f"{measure.name} {amounts.share(share, digits)}"


def _conditions(section: Mapping[str, Any]) -> list[str]:
    lost = [
        f"{plain(entry['name'])} ({_right(section, entry['right'], 0)} at strength {entry['strength']} of 5, "
        f"{amounts.share(entry['clean'], 0)} without)"
        for entry in section.get("weakest", ())
    ]
    return [f"Clearly worse in {named(lost)}"] if lost else []
