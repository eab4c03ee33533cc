"""What is said of groups of images: the verdict, and a few sentences on each difference that is more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sightline.report import amounts

Numbers = Mapping[str, Any]


class Said(NamedTuple):
    """What is compared between groups, as ``tasks/measures.py`` names it: of all images, above bars, in the verdict, of one group, and
    what of a group's labels is found."""

    overall: str
    title: str
    verdict: str
    one: str
    found: str


SAID = {
    "right": Said("right", "Right answers", "how often it is right", "{right} are right, of all others {others}", "right"),
    "overlap": Said(
        "mean overlap of given and true labels", "Overlap of labels", "how well its labels fit",
        "given and true labels overlap by {right}, those of all others by {others}", "of its labels found",
    ),
    "boxes": Said(
        "mean F1 of an image's boxes", "F1 of boxes", "the F1 of its boxes",
        "the F1 of an image's boxes is {right}, that of all others {others}", "of the classes it shows found",
    ),
    "pixels": Said(
        "mean share of right pixels", "Right pixels", "the share of right pixels",
        "{right} of an image's pixels are right, of all others {others}", "of the classes it shows found",
    ),
}  # fmt: skip
# Names in a sentence; the tables have all.
NAMED = 4
# A p-value below this is not told more exactly: there are not enough draws.
SMALLEST_P = 0.001
REMEDIES = {
    "stays": "The gap is there among images of the same class, too: add images of the weaker kind to the training data, or do not rely on "
    "the model for them.",
    "explained": "Among images of the same class hardly anything of it is left: the groups hold more or fewer of the classes that are hard "
    "for the model, and those are what to work on.",
    "open": "There are too few images to tell whether the classes in the groups are the reason: add images of the weaker kind to test and "
    "training data.",
}


def said(section: Numbers) -> Said:
    """In the words of what was measured; older reports did not name it."""
    return SAID[section.get("measure") or ("overlap" if section["several"] else "right")]


def real_gaps(section: Numbers) -> list[Numbers]:
    """Attributes by which what is right differs by more than chance explains."""
    return [one for one in section["attributes"] if one["gap"]["real"]]


def unequal_recalls(section: Numbers) -> list[Numbers]:
    """Attributes by which a label is found more or less often, although what is right in all does not differ."""
    return [one for one in section["attributes"] if one["recall_gap"] and one["recall_gap"]["real"] and not one["gap"]["real"]]


def new_pairs(section: Numbers) -> list[Numbers]:
    """Pairs that tell more than their attributes, of which both may have a gap of their own."""
    real = {one["attribute"] for one in real_gaps(section)}
    return [pair for pair in section["pairs"]["found"] if not set(pair["attributes"]) <= real]


def poor_answers(section: Numbers) -> list[Numbers]:
    """Answers that are right less often than others by more than chance explains. They are no groups that an attribute parts."""
    return [entry for entry in section["slices"] if entry["real"] and entry.get("answered")]


def verdict(section: Numbers) -> str:
    """One sentence or a few on all groups of a section that is not empty, and on answers that are poorer than others."""
    if "reason" in section:
        return f"Groups of images were not compared. {section['reason']}"
    looked_at = [one["attribute"] for one in section["attributes"]]
    counted = f"{amounts.number_of(len(looked_at), 'attribute')} {_was(len(looked_at))} looked at: {_named(looked_at)}"
    real, unequal = [one["attribute"] for one in real_gaps(section)], [one["recall_gap"]["label"] for one in unequal_recalls(section)]
    pairs = [" with ".join(pair["attributes"]) for pair in new_pairs(section)]
    poor = _quoted([entry["group"] for entry in poor_answers(section)], last="or")
    if not (real or unequal or pairs):
        if not poor:
            return f"No group was found to do worse than chance explains. {counted}."
        return f"By no attribute was a group found to do worse than chance explains, but images that it answers {poor} for do. {counted}."
    parts = [f"{said(section).verdict} depends on {_named(real)}"] if real else []
    parts += [f"how often {_quoted(unequal)} is found differs between groups"] if unequal else []
    parts += [f"{_named(pairs)} together make a difference that neither alone does"] if pairs else []
    also = f" Images that it answers {poor} for do worse, too." if poor else ""
    return f"The model does not serve all images alike: {'; '.join(parts)}, by more than chance explains. {counted}.{also}"


def _related(related: Numbers | None) -> str:
    """What it means that images belong together, such as those of a patient."""
    if not related:
        return ""
    held = f"The test images come from {amounts.number_of(related['n'], 'group')} of related ones"
    if related["counted"]:
        return f"{held}, which may be right or wrong together: intervals and chance allow for that."
    return f"{held}. That is too few to say more than how the model does on these: with others it may be different."


def _or_few_related(section: Numbers) -> str:
    counted = section["related"] and section["related"]["counted"]
    return " or of too few groups of related images" if counted else ""


def too_few(section: Numbers) -> list[str]:
    """Sentences on what was not judged, and on related images; "" for those that there is no need of."""
    small = [f"{entry['group']} ({one['attribute']})" for one in section["attributes"] for entry in one["too_small"]]
    more = sum(one["more_too_small"] for one in section["attributes"])
    left_out = [entry["attribute"] for entry in section["left_out"]]
    return [
        _related(section["related"]),
        f"Too few images to judge, under {section['smallest']}{_or_few_related(section)}: {_named(small, more)}." if small else "",
        f"Not compared: {_named(left_out)}; the last table says why." if left_out else "",
    ]


def gap_sentences(one: Numbers, section: Numbers) -> str:
    """Which group differs, how far, whether by chance, and what to do."""
    out = one["standing_out"]
    sign = -1 if out["difference"] < 0 else 1
    low, high = sorted(sign * end for end in out["interval"])
    right, others = amounts.share(out["right"]), amounts.share(out["others"])
    here, more = f"Images with {one['attribute']} {out['group']!r}", "less" if sign < 0 else "more"
    what = f"{here}: {said(section).one.format(right=right, others=others)}"
    sentences = [
        f"{what}, which is {points(sign * out['difference'])} {more} (95% interval {span(low, high)}).",
        f"Chance alone shows such a gap in {_chance(one['gap']['corrected'])} of cases.",
        _promise(one, out["group"]),
        REMEDIES[out["within_classes"]["verdict"]],
        _worst_label(one),
    ]
    return " ".join(filter(None, sentences))


def _worst_label(one: Numbers) -> str:
    """The label whose recall differs most; "" where chance may explain it."""
    gap = one["recall_gap"]
    if not gap or not gap["real"]:
        return ""
    low, high = (next(group["recall"] for group in gap["groups"] if group["group"] == gap[end]) for end in ("low", "high"))
    found = f"found in {amounts.share(low)} with {gap['low']!r} and in {amounts.share(high)} with {gap['high']!r}"
    if one["standing_out"]["within_classes"]["verdict"] == "explained":
        return f"Even so, {gap['label']!r} is {found}."
    return f"It is clearest for {gap['label']!r}, {found}."


def _promise(one: Numbers, group: str) -> str:
    """Whether the scores of a group are to be believed; "" where they are as right as they say, or nobody knows."""
    calibration = next(entry for entry in one["groups"] if entry["group"] == group)["calibration"]
    if not calibration or not calibration["real"]:
        return ""
    level = "high" if calibration["difference"] > 0 else "low"
    return f"Its scores there are {points(abs(calibration['difference']))} too {level} on average."


def recall_sentences(one: Numbers, section: Numbers) -> str:
    """Of a label that is found more often in one group than in another: how far, whether by chance, and what to do."""
    gap = one["recall_gap"]
    low, high = gap["interval"]
    return (
        f"Of images that truly {'show' if section['several'] else 'are'} {gap['label']!r}, {points(gap['difference'])} fewer are found "
        f"with {one['attribute']} {gap['low']!r} "
        f"than with {gap['high']!r} (95% interval {span(low, high)}). Chance alone shows such a gap in {_chance(gap['corrected'])} of "
        f"cases. Add images of {gap['label']!r} with {one['attribute']} {gap['low']!r} to the training data."
    )


def pair_sentences(pair: Numbers, section: Numbers) -> str:
    first, second = pair["attributes"]
    worst = min(pair["groups"], key=lambda group: group["right"])
    return (
        f"{capital(first)} and {second} together make a difference that neither alone explains, and chance in "
        f"{_chance(pair['corrected'])} of cases. Lowest are images with {worst['group']!r}, with "
        f"{amounts.share(worst['right'])}, and all together have {amounts.share(section['right'])}: add such images to the training data."
    )


def answer_sentences(entry: Numbers, section: Numbers) -> str:
    """Of an answer that is right less often than others: how often, whether by chance, and what to do."""
    n, all_images = entry["n"], section["n"]
    others = (section["right"] * all_images - entry["right"] * n) / (all_images - n)
    compared = said(section).one.format(right=amounts.share(entry["right"]), others=amounts.share(others))
    return (
        f"Images that it answers {entry['group']!r} for: {compared}. Chance alone shows so few in {_chance(entry['corrected'])} of cases. "
        f"See what it takes for {entry['group']!r}, and add images of that to the training data."
    )


def points(difference: float) -> str:
    return f"{100 * difference:.1f} points"


def span(low: float, high: float) -> str:
    """``-1.0 to 9.0``; never ``-0.0``."""
    return " to ".join(f"{round(100 * end, 1) + 0.0:.1f}" for end in (low, high))


def _chance(p: float) -> str:
    return f"under {SMALLEST_P:.1%}" if p < SMALLEST_P else amounts.share(p)


def _named(names: Sequence[str], more: int = 0, last: str = "and") -> str:
    """The first of the names as a list in a sentence, and how many more there are."""
    few = NAMED if len(names) + more > NAMED + 1 else NAMED + 1
    shown, rest = list(names[:few]), len(names[few:]) + more
    shown += [f"{amounts.count(rest)} more"] if rest else []
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}"


def _quoted(names: Sequence[str], last: str = "and") -> str:
    """The names between quotation marks, each once; "" for none."""
    return _named([repr(name) for name in dict.fromkeys(names)], last=last) if names else ""


def _was(n: int) -> str:
    return "was" if n == 1 else "were"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
