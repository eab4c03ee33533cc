"""Can the heat maps be trusted? What they point at is taken away and put back, and the network's weights are forgotten."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.intervals import bootstrap_intervals
from sightline.explanation.grid import heat_of
from sightline.explanation.nearest import nearest
from sightline.explanation.sheet import Laid, pair
from sightline.explanation.subject import Images, Method, Subject, label_to_explain, scores_of
from sightline.explanation.tested import LEAST_SCORE, STEPS, Tested, delete_and_insert, random_maps, rank_correlation
from sightline.predictions import Decision
from sightline.records import Infer
from sightline.tasks import Task
from sightline.trust.report_part import ReportPart

if TYPE_CHECKING:
    from sightline.reference import Known

# Images whose answers are looked at, most that are tested, fewest for a verdict; random maps an image where images are few.
LOOKED, MOST, FEWEST, MOST_MAPS = 96, 64, 10, 5
# Measured on photographs, maps of a trained and of a random network have a rank correlation of 0.1 to 0.2, as random maps have;
# those of an explainer that does not look at the weights have 1.
ALIKE = 0.5
# The share of the allowance after which no more images are looked at, and that which is planned with: the rest is for what was
# measured badly.
LOOKING, PLANNED = 0.15, 0.85
# Pictures of right and of wrong answers, their side in pixels, and how many nearest images each names.
SHOWN, SIDE, NAMED = 6, 200, 3
AGREEING = 4
PART = "explanations"

Maps = Callable[[Images, NDArray[np.int64]], NDArray[np.float32]]


@dataclass(frozen=True)
class Looked:
    """Images in random order with what the model says: the answer's index, text and probability; ``right`` in [0, 1]."""

    images: Images
    answers: NDArray[np.int64]
    scores: NDArray[np.float64]
    outcomes: Sequence[dict[str, Any]]
    embeddings: NDArray[np.float32]


def explanations(
    infer: Infer,
    random_infer: Infer,
    images: Images,
    targets: NDArray[Any],
    labels: Sequence[str],
    task: Task,
    decision: Decision,
    *,
    method: Method,
    seconds: float,
    known: Known | None = None,
    grad_cam: Maps | None = None,
    seed: int = 0,
) -> ReportPart:
    """How heat maps by ``method`` do on test images, as many as fit into about so many seconds.

    infer         gives "logits", "embedding" and "features"; ``random_infer`` is the same network with random weights, giving "logits"
                  and "features" (``model.shuffled``)
    images        prepared test images (n, size, size, channels) uint8, with their ``targets``
    known         training images, whose nearest are named below the pictures
    grad_cam      maps by the trained network itself, which CAM by ``infer`` is held against; raises ValueError where there are none
    """
    started = time.monotonic()
    subject = Subject(infer, task, labels, decision)
    looked = _looked(subject, images, targets, seed, started + LOOKING * seconds)
    if not len(looked.images):
        return ReportPart({"method": method.name, "trusted": None, "reason": "No test image has an answer that could be explained."})
    other = Subject(random_infer, task, labels, decision)
    trial = _Trial(subject, other, method, method.forgetting(seed), looked, seed)
    maps, results = trial.until(started, seconds)
    numbers = {
        "method": method.name,
        "random_maps": maps,
        **figures([result for result in results if result.sound]),
        **_agreement(trial, grad_cam),
    }
    examples, pictures = _examples(trial, known, [result.evidence for result in results])
    return ReportPart({**numbers, **verdict(numbers), "examples": examples}, pictures)


def _looked(subject: Subject, images: Images, targets: NDArray[Any], seed: int, until: float) -> Looked:
    """A random sample, without images of which nothing can be said; no more than can be looked at ``until`` then."""
    order, found = np.random.default_rng(seed).permutation(len(images))[:LOOKED], []
    for start in range(0, len(order), subject.batch):
        found.append(subject.raw(images[order[start : start + subject.batch]]))
        if time.monotonic() > until:
            break
    if not found:
        return Looked(images, np.zeros(0, np.int64), np.zeros(0), [], np.zeros((0, 1), np.float32))
    raw = {name: np.concatenate([one[name] for one in found]) for name in ("logits", "embedding")}
    order = order[: len(raw["logits"])]
    answers = [(label_to_explain(said), scores_of(said)) for said in subject.predictions(raw)]
    scores = np.array([of[answer] for answer, of in answers])
    indices = np.array([list(subject.labels).index(answer) for answer, _ in answers], np.int64)
    outcomes = subject.task.outcomes(raw, targets[order], subject.labels, subject.decision)
    kept = np.flatnonzero(np.isfinite(raw["logits"]).all(axis=1) & (scores >= LEAST_SCORE))
    return Looked(images[order[kept]], indices[kept], scores[kept], [outcomes[row] for row in kept], raw["embedding"][kept])


@dataclass(frozen=True)
class Result:
    """One image's map and its test, and the rank correlation of the map with that of the random network."""

    evidence: NDArray[np.float32]
    tested: Tested
    likeness: float

    @property
    def sound(self) -> bool:
        return bool(np.isfinite(self.tested.deletion).all() and np.isfinite(self.tested.insertion).all() and np.isfinite(self.likeness))


@dataclass(frozen=True)
class _Trial:
    subject: Subject
    other: Subject
    method: Method
    forgetting: Method
    looked: Looked
    seed: int

    def evidence(self, place: int) -> NDArray[np.float32]:
        chosen = slice(place, place + 1)
        return self.method.evidence(self.subject, self.looked.images[chosen], self.looked.answers[chosen])[0]

    def one(self, place: int, maps: int) -> Result:
        """The image at a place, tested against so many random maps."""
        chosen, target = slice(place, place + 1), self.looked.answers[place]
        evidence = self.evidence(place)
        random = random_maps(maps, evidence.shape, [self.seed, place])
        found = delete_and_insert(lambda images: self.subject.probabilities(images)[:, target], self.looked.images[place], evidence, random)
        forgotten = self.forgetting.evidence(self.other, self.looked.images[chosen], self.looked.answers[chosen])[0]
        return Result(evidence, found, abs(rank_correlation(evidence, forgotten)))

    def until(self, started: float, seconds: float) -> tuple[int, list[Result]]:
        """Against how many random maps each image was tested, and the results of as many images as fitted into what was left."""
        begun = time.monotonic()
        self.one(0, 1)
        count, maps = affordable(seconds * PLANNED - (time.monotonic() - started), time.monotonic() - begun, len(self.looked.images))
        results = []
        for place in range(count):
            results.append(self.one(place, maps))
            if time.monotonic() - started > seconds:  # the machine has become slower since it was measured
                break
        return maps, results


def affordable(seconds: float, each: float, available: int) -> tuple[int, int]:
    """How many images to test, and against how many random maps each, when one against one takes ``each`` seconds."""
    affordable = max(1, int(seconds / max(each, 1e-6)))
    return min(affordable, available, MOST), max(1, min(affordable // max(available, 1), MOST_MAPS))


def figures(results: Sequence[Result]) -> dict[str, Any]:
    """Areas, curves and wins over images, and the likeness to the random network's maps."""
    if not results:
        return {"n": 0}
    found: dict[str, Any] = {"n": len(results)}
    for name, sign in (("deletion", -1), ("insertion", 1)):
        curves = np.stack([getattr(result.tested, name) for result in results])
        areas = np.stack([result.tested.areas()[name == "insertion"] for result in results])
        gains = sign * (areas[:, 0] - areas[:, 1:].mean(axis=1))
        shares = np.linspace(0, 1, STEPS + 1).tolist()
        found[name] = {
            "area": float(areas[:, 0].mean()), "random_area": float(areas[:, 1:].mean()), "wins": int((gains > 0).sum()),
            "gain": float(gains.mean()), "interval": _interval_of_mean(gains),
            "curve": list(map(list, zip(shares, curves[:, 0].mean(axis=0).tolist(), strict=True))),
            "random_curve": list(map(list, zip(shares, curves[:, 1:].mean(axis=(0, 1)).tolist(), strict=True))),
        }  # fmt: skip
    found["likeness"] = float(np.mean([result.likeness for result in results]))
    return found | {"likeness_bound": ALIKE}


def _interval_of_mean(values: NDArray[np.float64]) -> list[float]:
    """95% interval over images, by bootstrap."""
    low, high = bootstrap_intervals(lambda weights: np.array([np.average(values, weights=weights)]), len(values))[0]
    return [float(low), float(high)]


def _agreement(trial: _Trial, grad_cam: Maps | None) -> dict[str, Any]:
    """The largest difference of CAM from the network's own Grad-CAM, as a share of its largest value."""
    if grad_cam is None or trial.method.name != "CAM":
        return {}
    chosen = slice(0, AGREEING)
    images, answers = trial.looked.images[chosen], trial.looked.answers[chosen]
    try:
        theirs = grad_cam(images, answers)
    except ValueError as error:  # a network that gives a copy of its map, which no gradient goes through
        return {"grad_cam_reason": str(error)}
    ours, theirs = trial.method.evidence(trial.subject, images, answers), theirs * theirs[0].size
    return {"grad_cam_difference": float(np.abs(ours - theirs).max() / max(float(np.abs(theirs).max()), 1e-12))}


def verdict(numbers: dict[str, Any]) -> dict[str, Any]:
    """``trusted`` (None where too little is known) and the sentence that says so."""
    n = numbers["n"]
    if n < FEWEST:
        reason = f"Only {n} test image{'s' * (n != 1)} could be tested, too few to say whether the heat maps can be trusted."
        return {"trusted": None, "reason": reason, "sentence": reason}
    faults = []
    for name, what in (("deletion", "taking away what they point at first"), ("insertion", "starting from what they point at")):
        if numbers[name]["interval"][0] <= 0:
            won = f"it does on {numbers[name]['wins']} of {n} images"
            faults.append(f"{what} does not clearly tell more than random places do ({won})")
    if numbers["likeness"] > ALIKE:
        faults.append(
            f"they hardly change when the network's weights are random (rank correlation {numbers['likeness']:.2f}), so they show the "
            "image and not what was learned"
        )
    if faults:
        return {"trusted": False, "sentence": f"Do not rely on this model's heat maps: {'; '.join(faults)}."}
    sentence = (
        f"The heat maps passed their tests: what they point at matters more than random places on {numbers['deletion']['wins']} "
        f"(taken away) and {numbers['insertion']['wins']} (put back) of {n} images, and the maps of the same network with random "
        f"weights are different ones (rank correlation {numbers['likeness']:.2f})."
    )
    return {"trusted": True, "sentence": sentence}


def _examples(trial: _Trial, known: Known | None, made: Sequence[NDArray[np.float32]]) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Some right and some wrong answers with their heat maps, and the labels of the nearest training images.

    ``made`` are the maps of the first images; of others they are only made where that costs a single pass.
    """
    looked, examples, pictures = trial.looked, [], {}
    right = np.array([outcome["right"] == 1 for outcome in looked.outcomes])
    shown = np.arange(len(right)) < (len(right) if trial.method.passes == 1 else len(made))
    for kind, places in (("right", np.flatnonzero(right & shown)), ("wrong", np.flatnonzero(~right & shown))):
        for number, place in enumerate(places[:SHOWN].tolist()):
            key = f"{PART}/{kind}-{number}"
            pictures[key] = heat_picture(looked.images[place], made[place] if place < len(made) else trial.evidence(place))
            near = nearest(known, looked.embeddings[place], trial.subject.labels, NAMED) if known else []
            examples.append({
                "key": key, "right": kind == "right", "truth": looked.outcomes[place]["truth"],
                "label": trial.subject.labels[looked.answers[place]], "score": float(looked.scores[place]),
                "nearest": [", ".join(neighbour.labels) for neighbour in near],
            })  # fmt: skip
    return examples, pictures


def heat_picture(image: Images, evidence: NDArray[np.float32], box: Sequence[float] | None = None) -> bytes:
    """A JPEG of what the network saw beside the heat map, with a box (left, top, right, bottom) that is explained."""
    file = io.BytesIO()
    laid = Laid(heat_of(evidence), np.eye(2, 3), image.shape[:2], None if box is None else (box[0], box[1], box[2], box[3]))
    pair(image, laid, SIDE).save(file, "JPEG", quality=82, optimize=True)
    return file.getvalue()
