"""The report's part on what the scores are worth: calibration, when the model answers, candidates, unfamiliar images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.report import amounts
from sightline.tasks.blocks import Block, Curves, Table, Text, Tile, Tiles
from sightline.tasks.measures import measure_in

# An expected calibration error above this makes a score worth little as a probability.
WELL_CALIBRATED = 0.03
FADES = "; the less like them it is, the nearer are its scores to equal shares"


def confidence_blocks(found: Mapping[str, Any]) -> list[Block]:
    """Tiles with what a user may rely on, the sentences behind them, and the two curves."""
    if not found:
        return []
    return [
        _tiles(found),
        Text("How to read a score", _sentences(found), listed=True),
        Curves(
            "Are the scores right?",
            "score",
            "how often it is so",
            {"this model": [(entry["score"], entry["right"]) for entry in found["reliability"]], "perfect": [(0.0, 0.0), (1.0, 1.0)]},
            note="Statements of the model by their score: below the dashed line it is surer than it should be.",
        ),
        Curves(
            "What answering only the sure ones gains",
            "share of images that are answered",
            measure_in(found).promised,
            {"this model": [tuple(point) for point in found["risk_coverage"]]},
            mark=found["coverage"] if found["promise"] is not None else None,
            mark_name="this model's threshold",
            note="The surest test images first: at the right end every image is answered.",
        ),
        Table(
            "What could be promised",
            (
                f"{_capital(measure_in(found).promised)}, promised",
                "Score from which to answer",
                "Test images answered",
                "Kept",
                "95% interval",
            ),
            [_promise_row(entry) for entry in found["promises"]],
            f"Chosen on {amounts.number_of(found['n_calibration'], 'calibration image')}, at least half of which have to be answered, and "
            "held against the test images. Train with --promise 0.95, for instance, to choose one.",
            folded=True,
        ),
    ]


def _tiles(found: Mapping[str, Any]) -> Tiles:
    conformal, tiles, measure, promise = found["conformal"], [], measure_in(found), found["promise"]
    if promise is not None or found["coverage"] < 1:
        rest = "the others are called unfamiliar" if promise is None else f"{measure.promised} of {amounts.promised(promise)} promised"
        tiles.append(Tile("Answered", f"{found['coverage']:.1%}", f"of the test images; {rest}"))
        if found["n_answered"]:
            low, high = found["answered_interval"]
            note = f"95% interval {low:.1%} to {high:.1%}"
            tiles.append(Tile(f"{measure.name} when it answers", f"{found['answered_accuracy']:.1%}", note))
    if found["ece"] is not None:
        tiles.append(Tile("Calibration error", f"{found['ece']:.1%}", f"{amounts.share(found['ece_before'])} before calibration"))
    if "coverage" in conformal:
        note = f"hold the truth for {conformal['coverage']:.1%} of test images; {conformal['level']:.0%} promised"
        tiles.append(Tile("Candidates", f"{conformal['mean_size']:.1f}", f"labels on average, which {note}"))
    if "called_unfamiliar" in found["familiar"]:
        tiles.append(Tile("Called unfamiliar", f"{found['familiar']['called_unfamiliar']:.1%}", "of the test images, wrongly"))
    return Tiles("What you may rely on", tiles)


def _sentences(found: Mapping[str, Any]) -> list[str]:
    sentences = [_calibrated(found), _when_it_answers(found)]
    conformal = found["conformal"]
    if "coverage" in conformal:
        sentences.append(
            "Where one answer is not enough, the candidates are a list of labels, as short as can be, that holds the truth for "
            f"{conformal['level']:.0%} of images."
        )
    else:
        sentences.append(conformal["reason"])
    familiar = found["familiar"]
    if "called_unfamiliar" in familiar:
        sentences.append(
            f"An image less like the training images than {1 - familiar['expected']:.0%} of familiar ones is called unfamiliar and "
            f"not answered{FADES if familiar.get('fades') else ''}."
        )
    return [*sentences, "All of this holds for images taken as the test images were, not for another camera, place or season."]


def _when_it_answers(found: Mapping[str, Any]) -> str:
    """Below which score it gives no answer, or why it gives one however unsure it is."""
    if found["promise"] is not None:
        return (
            f"Below a score of {amounts.share(found['answer_from'])} the model says that it does not know (abstains), so that "
            f"{_kept(found)}. Its best guess is still listed."
        )
    answers = (
        "answers every image that is not unlike the training images, however unsure it is" if "called_unfamiliar" in found["familiar"]
        else "always answers"
    )  # fmt: skip
    asked = f"a {measure_in(found).promised}" if found["asked"] is None else f"the {amounts.promised(found['asked'])} that was asked for"
    return (
        f"The model {answers}: {asked} could not be promised for half of the images, going by "
        f"{amounts.number_of(found['n_calibration'], 'calibration image')}."
    )


def _calibrated(found: Mapping[str, Any]) -> str:
    """What a score is worth."""
    what, holds = measure_in(found).stated
    if found["ece"] is None:
        return f"On the test images the model states hardly any {what}, so that nothing is known of what its scores are worth."
    calibrated = (
        f"a{'n' * (what[0] in 'aeiou')} {what} with a score of 80% is {holds} about 8 times in 10" if found["ece"] <= WELL_CALIBRATED
        else f"no score was found to be off, as far as {found['n']} test images can show"
        if found["ece"] <= found["ece_by_chance"]
        else f"scores are off by {found['ece']:.0%} on average, so do not take them for probabilities"
    )  # fmt: skip
    where = (
        f"{amounts.number_of(found['n_calibration'], 'image')} kept for this alone" if found["own_images"]
        else f"{amounts.number_of(found['n_calibration'], 'validation image')} in turns, too few to keep some for this alone"
    )  # fmt: skip
    return f"After calibration {calibrated}. The scores were adjusted on {where}."


def _kept(found: Mapping[str, Any]) -> str:
    """What the promise is, once it is kept; the score of an image's answer is what its own share right is expected to be."""
    measure, promise = measure_in(found), amounts.promised(found["promise"])
    if measure.whole:
        return f"{promise} of the answers it gives are right"
    return f"the {measure.promised} is {promise} where it answers"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _promise_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    promise = amounts.promised(entry["promise"])
    if entry["answer_from"] is None:
        return promise, "cannot be promised", "–", "–", "–"
    if entry["answered_accuracy"] is None:
        return promise, f"{entry['answer_from']:.1%}", "0.0%", "–", "–"
    low, high = entry["answered_interval"]
    accuracy = f"{entry['answered_accuracy']:.1%}"
    return promise, f"{entry['answer_from']:.1%}", f"{entry['coverage']:.1%}", accuracy, f"{low:.1%} to {high:.1%}"
