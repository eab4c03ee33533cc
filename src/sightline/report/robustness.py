"""The report's part on harder conditions: what night, fog, blur, noise and the like cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sightline.report import amounts
from sightline.tasks.blocks import Block, Curves, Difference, Differences, Gallery, Picture, Table, Text, Tile, Tiles
from sightline.tasks.measures import measure_in

STRENGTHS = "1 is hardly visible, 3 is plain to see, and at 5 a person can still just recognise the image."


def robustness_blocks(section: Mapping[str, Any]) -> list[Block]:
    """The verdict, the figures, curves over the strengths, pictures, and every number in a table that starts closed."""
    if not section:
        return []
    if "reason" in section:
        return [Text("In short", [section["reason"]])]
    return [
        Text("In short", [section["sentence"], _left_out(section)]),
        _tiles(section),
        *_curves(section),
        _looks(section),
        _turned(section),
        *_hardening(section),
        _numbers(section),
        _meanings(section),
    ]


def _left_out(section: Mapping[str, Any]) -> str:
    """Conditions that were not tried, and why."""
    names = section.get("left_out", ())
    return f"Not tried: {', '.join(names)}, as that moves what an image shows, and what is known of where it is with it." if names else ""


def _tiles(section: Mapping[str, Any]) -> Tiles:
    clean, weakest = section["clean"], section["weakest"][:1]
    tiles = [
        Tile("Images as they are", amounts.share(clean["right"], 0), _interval(clean["interval"])),
        Tile("In harder conditions", amounts.share(section["robust_accuracy"], 0), _interval(section["robust_interval"])),
    ]
    tiles += [
        Tile(
            f"Weakest: {entry['name']}",
            amounts.share(entry["right"], 0),
            f"at strength {entry['strength']}; {_points(-entry['loss'], 0)} points, {_points_interval(entry['interval'], 0)}",
        )
        for entry in weakest
    ]
    note = (
        f"The {measure_in(section).meaning}, on {_sample(section)}, the same for every condition; in harder conditions it is the mean "
        f"over all of them and all strengths. Ranges are 95% intervals."
    )
    return Tiles("What harder conditions cost", tiles, note)


def _sample(section: Mapping[str, Any]) -> str:
    if section["n"] == section["of"]:
        return f"all {amounts.number_of(section['n'], 'test image')}"
    return f"a sample of {section['n']} of {amounts.number_of(section['of'], 'test image')}, chosen to fit the time"


def _curves(section: Mapping[str, Any]) -> list[Curves]:
    """A plot a family, its weakest condition drawn strongest."""
    families: dict[str, list[Mapping[str, Any]]] = {}
    for entry in section["conditions"]:
        families.setdefault(entry["family"], []).append(entry)
    start = (0.0, 100 * section["clean"]["right"])
    measure = measure_in(section)
    return [
        Curves(
            family.capitalize(),
            "strength; 0 is the image as it is",
            measure.axis,
            {
                entry["name"]: [start, *((at["strength"], 100 * at["right"]) for at in entry["strengths"])]
                for entry in sorted(entries, key=lambda entry: -entry["loss"])
            },
            note=f"How the {measure.meaning} changes as the condition becomes stronger: {STRENGTHS}",
        )
        for family, entries in families.items()
    ]


def _looks(section: Mapping[str, Any]) -> Gallery:
    looks = [Picture(look["key"], look["condition"] or "as it is") for look in section["looks"]]
    strength = max(look["strength"] for look in section["looks"])
    return Gallery("What the conditions look like", looks, f"One test image in every condition at strength {strength} of 5.")


def _turned(section: Mapping[str, Any]) -> Gallery:
    measure = measure_in(section)
    told = _answer if measure.whole or section["measure"] == "overlap" else partial(_share, measure.name)
    pictures = [
        Picture(
            entry["key"],
            f"{told(entry['clean'])}; in {entry['condition']}: {told(entry['harder'])}",
            f"strength {entry['strength']} of 5; truth: {entry['truth'] or 'no label'}",
        )
        for entry in section["pictures"]
    ]
    note = (
        "Images that were right as they are (left) and turned wrong (right), in the weakest conditions, at the lowest strength that did it."
        if told is _answer
        else f"Images whose {measure.name} fell most from as they are (left) to the weakest conditions (right), at the lowest strength "
        "that did it."
    )
    return Gallery("Where the weakest conditions turn right into wrong", pictures, note, wide=True)


def _answer(answer: Mapping[str, Any]) -> str:
    return f"{answer['predicted'] or 'no label'}, {answer['score']:.0%} sure"


def _share(name: str, answer: Mapping[str, Any]) -> str:
    return f"{name} {answer['right']:.0%}, {answer['predicted'] or 'nothing'} given"


def _hardening(section: Mapping[str, Any]) -> list[Differences]:
    """What ``--robust`` cost and won; nothing of a network that was trained without it."""
    if "hardening" not in section:
        return []
    found = section["hardening"]
    named = [("as they are", found["clean"]), ("all conditions", found["harder"])]
    named += [(entry["name"], entry) for entry in found["conditions"]]
    rows = []
    for name, entry in named:
        low, high = entry["interval"]
        change = f"{amounts.share(entry['before'], 0)} to {amounts.share(entry['after'], 0)}"
        rows.append(Difference(name, entry["difference"], low, high, change))
    note = (
        f"{found['sentence']} The whiskers are 95% intervals. It learned from these very conditions up to strength 3 and may gain less in "
        f"others."
    )
    return [Differences("What learning from harder images cost and won", rows, "worse than before", "better than before", note)]


def _numbers(section: Mapping[str, Any]) -> Table:
    rows = [
        (
            entry["name"],
            str(at["strength"]),
            amounts.share(at["right"]),
            _points(at["difference"]),
            _points_interval(at["interval"]),
            str(at["lost"]),
            str(at["gained"]),
        )
        for entry in section["conditions"]
        for at in entry["strengths"]
    ]
    columns = ("Condition", "Strength", measure_in(section).name, "Points", "95% interval", "Worse", "Better")
    note = (
        f"Points are the difference to the same {section['n']} images as they are ({amounts.share(section['clean']['right'])}); worse and "
        f"better count the images whose answer changed that way. Where the interval holds 0, the difference may be chance."
    )
    return Table("Every condition and strength", columns, rows, note, folded=True)


def _meanings(section: Mapping[str, Any]) -> Table:
    rows = [(entry["name"], entry["words"], entry["source"] or amounts.NOTHING) for entry in section["conditions"]]
    note = f"Of the strengths, {STRENGTHS} Named corruptions in five strengths are an idea of Hendrycks and Dietterich (2019)."
    return Table("What is done to the images", ("Condition", "What the strengths mean", "First tested by"), rows, note, folded=True)


def _points(difference: float, digits: int = 1) -> str:
    """A difference of shares in points: ``-12.5``, ``+1.0``."""
    return f"{100 * difference:+.{digits}f}"


def _points_interval(interval: Sequence[float], digits: int = 1) -> str:
    return f"{_points(interval[0], digits)} to {_points(interval[1], digits)}"


def _interval(interval: Sequence[float]) -> str:
    return f"{amounts.share(interval[0], 0)} to {amounts.share(interval[1], 0)}"
