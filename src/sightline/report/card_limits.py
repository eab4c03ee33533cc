"""The card's caveats: only what follows from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.report import amounts
from sightline.report.markdown import plain, points
from sightline.requirements import at

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
        "Its heat maps failed their tests: do not take them for reasons" if at(report, "explanations", "trusted") is False else "",
    ])  # fmt: skip


def classes_of(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """What was measured of each class, or of each label of tags."""
    return at(report, "test", "classes") or at(report, "test", "labels") or ()


def skill(entry: Mapping[str, Any]) -> float:
    """How well a class with test images is found (recall), or a label told apart (average precision)."""
    return float(entry["ap" if "ap" in entry else "recall"])


def _few_images(report: Mapping[str, Any]) -> list[str]:
    n = report["test"]["n"]
    few = [f"{plain(entry['label'])} ({entry['n']})" for entry in classes_of(report) if 0 < entry["n"] < FEW_OF_A_CLASS]
    return [
        f"There were only {amounts.number_of(n, 'test image')}: all figures are rough" if n < FEW_IMAGES else "",
        f"Fewer than {FEW_OF_A_CLASS} test images, so that little is known of them: {named(few)}" if few else "",
    ]


def named(words: Sequence[str], most: int = MOST_NAMED) -> str:
    """Words in a row, the first of them where they are many."""
    rest = f" and {amounts.count(len(words) - most)} more" if len(words) > most else ""
    return ", ".join(words[:most]) + rest


def _weakest_class(report: Mapping[str, Any]) -> str:
    known = [entry for entry in classes_of(report) if entry["n"]]
    weakest = min(known, key=skill, default=None)
    if weakest is None or skill(weakest) == max(map(skill, known)):
        return ""
    tags = "ap" in weakest
    low, high = weakest["ap_interval" if tags else "recall_interval"]
    return (
        f"The weakest {'label' if tags else 'class'} is {plain(weakest['label'])}: {'average precision' if tags else 'found'} "
        f"{amounts.share(skill(weakest))} (95% interval {amounts.share(low)} to {amounts.share(high)}), "
        f"{amounts.number_of(weakest['n'], 'test image')}"
    )


def worse_at(report: Mapping[str, Any]) -> list[str]:
    """Conditions and groups in which it is clearly worse, by name."""
    conditions = [plain(entry["name"]) for entry in at(report, "robustness", "weakest") or ()]
    return conditions + [
        f"{plain(entry['group'])} ({plain(entry['of'])})" for entry in at(report, "groups", "slices") or () if entry["real"]
    ]


def _groups(section: Mapping[str, Any]) -> list[str]:
    """The groups that are served worse, as far as chance does not explain it, and those too small to tell."""
    worse = [
        f"{plain(entry['group'])} ({plain(entry['of'])}): right for {amounts.share(entry['right'])} of {entry['n']}"
        for entry in section.get("slices", ()) if entry["real"]
    ]  # fmt: skip
    small = [
        f"{plain(group['group'])} ({plain(entry['attribute'])}, {group['n']})"
        for entry in section.get("attributes", ()) for group in entry["too_small"]
    ]  # fmt: skip
    more = sum(entry["more_too_small"] for entry in section.get("attributes", ()))
    return [
        f"Served worse than others, more than chance explains: {named(worse)}" if worse else "",
        f"Groups too small to be judged, of fewer than {section['smallest']} test images: {named(small)}"
        f"{f', besides {amounts.count(more)} others' if more else ''}" if small else "",
    ]  # fmt: skip


def _conditions(section: Mapping[str, Any]) -> list[str]:
    lost = [
        f"{plain(entry['name'])} (right for {amounts.share(entry['right'], 0)} at strength {entry['strength']} of 5, "
        f"{amounts.share(entry['clean'], 0)} without)"
        for entry in section.get("weakest", ())
    ]
    return [f"Clearly worse in {named(lost)}"] if lost else []
