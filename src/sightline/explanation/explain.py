"""What is found on an image that is explained: a heat map, its test, the nearest training images; and what ``sightline explain`` writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.bundle import Bundle
from sightline.config import ExplainConfig
from sightline.data.decode import Header, Limits, decode_with_header, read_bytes
from sightline.errors import ImageError, UsageError, did_you_mean
from sightline.explanation.cam import why_no_cam
from sightline.explanation.grid import covered, heat_of, is_whole
from sightline.explanation.methods import best_method
from sightline.explanation.nearest import Neighbour, nearest
from sightline.explanation.occlusion import Occlusion
from sightline.explanation.scenes import CELLS, Aimed, aim_at
from sightline.explanation.scenes import scores_of as scores_at
from sightline.explanation.sheet import SIDE
from sightline.explanation.subject import Images, Method, Subject, label_to_explain, scores_of
from sightline.explanation.tested import LEAST_SCORE, Score, delete_and_insert, random_maps
from sightline.explanation.written import Written, drawn
from sightline.predictions import Prediction
from sightline.records import ImageRef
from sightline.reference import Known, reference_of
from sightline.runtime import Model
from sightline.saving.names import stem_of
from sightline.scenes import frame_of, laid_back

OUTPUTS = ("embedding", "features")
SECTION = "explanations"


@dataclass(frozen=True)
class Explained:
    """One image, explained.

    label, score   what is explained and its probability
    given          the labels that the model gives, the surest first, of a map the largest area first, or its best guess where it
                   ``abstained``; empty where it gives no label or no box
    answer         what is explained where no label is asked for: the surest label or box, given or not, of a map its smallest area of note
    method         in words: "CAM" or "occlusion"
    heat           (rows, columns) in [0, 1]: evidence above the image's mean as a share of the largest; all 0 where there is none
    box            (left, top, right, bottom) of the heat in pixels of the original image; beyond its border where that was padded
    object         that of the object whose box is explained, likewise; None where a label of the image or an area is
    whole          whether the network saw all of the image
    tested         areas under deletion and insertion, the random maps' and how many of these are beaten; or ``{"reason"}``
    trust          the report's verdict on this model's heat maps: ``{"trusted", "sentence"}``; None where it has none for the method
    nearest        the training images that are nearest in the network's eyes; empty where the bundle keeps none
    size           width and height of the upright original image
    picture        the PNG, whose JSON has the same name; None where nothing was written
    scenes         what lies on the image, as its task has it: "boxes" or "maps"; None where labels are those of the whole image
    """

    path: str
    label: str
    score: float
    answer: str
    given: tuple[str, ...]
    abstained: bool
    method: str
    heat: NDArray[np.float32]
    box: tuple[float, float, float, float]
    whole: bool
    tested: Mapping[str, Any]
    trust: Mapping[str, Any] | None
    nearest: tuple[Neighbour, ...]
    size: tuple[int, int]
    picture: Path | None = None
    object: tuple[float, float, float, float] | None = None
    scenes: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path, "label": self.label, "score": self.score, "answer": self.answer, "given": list(self.given),
            "abstained": self.abstained, "method": self.method,
            "heat": [[round(value, 4) for value in row] for row in self.heat.tolist()], "box": list(self.box),
            **({} if self.object is None else {"object": [round(side, 2) for side in self.object]}),
            "tested": dict(self.tested), "trust": None if self.trust is None else dict(self.trust),
            "nearest": [neighbour.to_json() for neighbour in self.nearest],
            **({} if self.picture is None else {"picture": str(self.picture)}),
        }  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """An image as the network sees it, ``image``, and the ``pixels`` (h, w, channels) uint8 that it was made of, upright and perhaps
    decoded at a reduced size; ``back`` (2, 3) is the affine from the one to the other, ``header`` what the file says."""

    header: Header
    pixels: Images
    image: Images
    back: NDArray[np.float64]

    def back_to(self, width: float, height: float) -> NDArray[np.float64]:
        """The (2, 3) affine from the network's input to the image at this size."""
        rows, columns = self.pixels.shape[:2]
        return np.array([[width / columns], [height / rows]]) * self.back


@dataclass(frozen=True)
class _About:
    """What is explained: the place of its score among the subject's probabilities, its label and score, and its box in the original."""

    subject: Subject | Aimed
    target: int
    label: str
    score: float
    answer: str
    object: tuple[float, float, float, float] | None = None


class Explainer:
    """A bundle, opened to be explained: call it with an image, or give it many."""

    def __init__(
        self, model: Model, source: Path, config: ExplainConfig, known: Mapping[str, NDArray[Any]], report: Mapping[str, Any],
        batch_size: int = Subject.batch,
    ) -> None:  # fmt: skip
        """``known`` are the arrays of the bundle's reference, ``report`` its report's numbers; both empty where it has none. So many
        images are computed at once.

        Raises UsageError for a label that the model does not have, and for a method that it does not allow.
        """
        self.model, self.source, self.config = model, source, config
        self.subject = Subject(model.infer, model.task, model.labels, model.manifest.decision, batch_size)
        self.known = Known.of(known)
        self.written = Written(config.out, source)
        if config.label is not None and config.label not in model.labels:
            hint = did_you_mean(config.label, model.labels) or f" It has {_listed(model.labels)}."
            raise UsageError(f"--label {config.label}: the model has no such label.{hint}")
        self.method = self._method(known.get("head_weight"))
        verdict = report.get(SECTION)
        fits = isinstance(verdict, dict) and verdict.get("method") == self.method.name and isinstance(verdict.get("sentence"), str)
        trusted = verdict.get("trusted") if fits and isinstance(verdict.get("trusted"), bool) else None
        self.trust = {"trusted": trusted, "sentence": verdict["sentence"]} if fits else None

    @classmethod
    def open(
        cls, path: Path, config: ExplainConfig, *, require_signature: str | None = None, batch_size: int = Subject.batch, **settings: Any
    ) -> Explainer:
        """Of a ``*.sight`` file; ``settings`` as ``Model.of`` takes them. Raises ModelFileError too, as ``Model.open`` does."""
        with Bundle.open(path, require_signature=require_signature) as bundle:
            return cls.of(bundle, Model.of(bundle, **settings, batch_size=batch_size, outputs=OUTPUTS), config, batch_size)

    @classmethod
    def of(cls, bundle: Bundle, model: Model, config: ExplainConfig, batch_size: int = Subject.batch) -> Explainer:
        """Of a bundle that is open already, and may be closed afterwards, and its model, opened to give ``OUTPUTS`` too."""
        return cls(model, bundle.path, config, reference_of(bundle), bundle.numbers(), batch_size)

    def stream(self, refs: Iterable[ImageRef], limits: Limits = Limits()) -> Iterator[Explained | ImageError]:
        """An explanation for each image in order, or why it could not be read."""
        for ref in refs:
            try:
                yield self(ref, limits)
            except ImageError as error:
                yield error

    def __call__(self, ref: ImageRef, limits: Limits = Limits()) -> Explained:
        """Explain an image and write its PNG and JSON. Raises ImageError, or ResourceError where they cannot be written."""
        data, name = read_bytes(ref, limits), str(ref)
        seen = self._seen(data, name, limits, ref.frame)
        found = self._explained(name, seen)
        how: dict[str, Any] = {"frame": ref.frame, "limits": limits, "reading": self.model.prepare.reading}
        large = max(seen.pixels.shape[:2]) >= SIDE
        shown = seen.pixels if large else decode_with_header(data, name, min_side=SIDE, **how)[1]
        back = seen.back_to(shown.shape[1], shown.shape[0])
        return self.written(found, stem_of(ref), lambda: drawn(found, shown, back, self.model.prepare.shape))

    def explained(self, data: bytes, name: str, limits: Limits = Limits(), frame: int = 0) -> Explained:
        """Explain an image from its file's bytes; ``name`` is told, never opened, and nothing is written. Raises ImageError."""
        return self._explained(name, self._seen(data, name, limits, frame))

    def _seen(self, data: bytes, name: str, limits: Limits, frame: int) -> Seen:
        prepare = self.model.prepare
        how: dict[str, Any] = {"frame": frame, "limits": limits, "reading": prepare.reading}
        header, pixels = decode_with_header(data, name, min_side=prepare.min_side, **how)
        return Seen(header, pixels, *prepare(pixels))

    def _explained(self, name: str, seen: Seen) -> Explained:
        prepare, header, image = self.model.prepare, seen.header, seen.image
        size = header.width, header.height
        frame = frame_of(seen.back, prepare.shape, seen.pixels.shape[1::-1], size)
        raw: dict[str, NDArray[Any]] = {**self.subject.raw(image[None]), "frame": frame[None]}
        (prediction,) = self.model.decode(raw)
        about = self._of_scene(raw) if self.model.task.SCENES else self._of_image(prediction)
        (evidence,) = self.method.evidence(about.subject, image[None], np.array([about.target]))
        neighbours = nearest(self.known, raw["embedding"][0], self.model.labels, self.config.nearest) if self.known else []
        box = covered(seen.back_to(*size), prepare.shape)
        return Explained(
            path=name, label=about.label, score=about.score, answer=about.answer, given=_given(prediction),
            abstained=prediction.caution is not None and prediction.caution.abstained, method=self.method.name, heat=heat_of(evidence),
            box=box, whole=is_whole(box, *size), tested=self._tested(image, about, evidence),
            trust=self.trust, nearest=tuple(neighbours), size=size, object=about.object, scenes=self.model.task.SCENES,
        )  # fmt: skip

    def _of_image(self, prediction: Prediction) -> _About:
        answer, scores = label_to_explain(prediction), scores_of(prediction)
        label = self.config.label or answer
        return _About(self.subject, list(self.model.labels).index(label), label, scores[label], answer)

    def _of_scene(self, raw: Mapping[str, NDArray[Any]]) -> _About:
        """The surest box, or the smallest area of note; of a label, where one is asked for."""
        labels, first = self.model.labels, aim_at(self.subject, raw)
        aim = first if self.config.label is None else aim_at(self.subject, raw, labels.index(self.config.label))
        score = float(scores_at(self.subject, raw, aim)[0])
        box = None if aim.box is None else tuple(laid_back(aim.box[None, None], raw["frame"])[0, 0].tolist())
        return _About(Aimed(self.subject, aim), 0, labels[aim.label], score, labels[first.label], box)

    def _tested(self, image: Images, about: _About, evidence: NDArray[np.float32]) -> dict[str, Any]:
        if not self.config.random_maps:
            return {"reason": "Not tested, as --random-maps is 0."}
        if about.score < LEAST_SCORE:
            return {"reason": f"Not tested: with a score below {LEAST_SCORE:.0%} there is nothing that taking pixels away could lose."}
        random = random_maps(self.config.random_maps, evidence.shape, seed=0)
        score: Score = lambda images: about.subject.probabilities(images)[:, about.target]  # noqa: E731
        return delete_and_insert(score, image, evidence, random).to_json()

    def _method(self, weight: NDArray[np.float32] | None) -> Method:
        """The method asked for, or the best that the network allows, which a blank image tells."""
        prepare = self.model.prepare
        if self.model.task.SCENES:
            if self.config.method == "cam":
                raise UsageError(f"--method cam: tells nothing of where {self.source} says that things are; use --method occlusion.")
            return Occlusion(CELLS)
        features = self.model.infer(np.zeros((1, *prepare.shape, prepare.channels), np.uint8))["features"]
        if self.config.method == "cam" and (why := why_no_cam(weight, features)):
            raise UsageError(f"--method cam: {self.source} allows no CAM, as {why}; use --method occlusion.")
        return Occlusion() if self.config.method == "occlusion" else best_method(weight, features)


def _given(prediction: Prediction) -> tuple[str, ...]:
    """The labels that are given, each once, in the prediction's order."""
    return tuple(dict.fromkeys(entry["label"] for entry in prediction.to_json() if entry["label"] in prediction.answer))


def _listed(labels: tuple[str, ...], most: int = 10) -> str:
    return ", ".join(map(repr, labels[:most])) + (f" and {len(labels) - most} more" if len(labels) > most else "")
