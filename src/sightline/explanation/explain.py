"""What ``sightline explain`` does with each image: a heat map, its test, the nearest training images, a picture and its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.bundle import Bundle
from sightline.config import ExplainConfig
from sightline.data.decode import Header, Limits, decode_with_header, read_bytes
from sightline.errors import ImageError, ResourceError, UsageError, did_you_mean
from sightline.explanation.cam import why_no_cam
from sightline.explanation.grid import covered, heat_of
from sightline.explanation.methods import best_method
from sightline.explanation.nearest import Neighbour, nearest
from sightline.explanation.occlusion import Occlusion
from sightline.explanation.scenes import CELLS, Aimed, aim_at
from sightline.explanation.scenes import scores_of as scores_at
from sightline.explanation.sheet import SIDE, Laid, sheet
from sightline.explanation.subject import Images, Method, Subject, label_to_explain, scores_of
from sightline.explanation.tested import LEAST_SCORE, Score, delete_and_insert, random_maps
from sightline.explanation.words import caption
from sightline.predictions import Prediction
from sightline.records import ImageRef
from sightline.reference import Known, reference_of
from sightline.runtime import Model
from sightline.saving.names import free_name, stem_of
from sightline.scenes import frame_of, laid_back

OUTPUTS = ("embedding", "features")
SECTION = "explanations"


@dataclass(frozen=True)
class Explained:
    """One image, explained.

    label, score   what is explained and its probability; ``answer`` is what the model says, or its best guess where it ``abstained``
    method         in words: "CAM" or "occlusion"
    heat           (rows, columns) in [0, 1]: evidence above the image's mean as a share of the largest; all 0 where there is none
    box            (left, top, right, bottom) of the heat in pixels of the original image; beyond its border where that was padded
    object         that of the object whose box is explained, likewise; None where a label of the image or an area is
    whole          whether the network saw all of the image
    tested         areas under deletion and insertion, the random maps' and how many of these are beaten; or ``{"reason"}``
    trust          the report's verdict on this model's heat maps: ``{"trusted", "sentence"}``; None where it has none for the method
    nearest        the training images that are nearest in the network's eyes; empty where the bundle keeps none
    picture        the PNG; its JSON has the same name
    """

    path: str
    label: str
    score: float
    answer: str
    abstained: bool
    method: str
    heat: NDArray[np.float32]
    box: tuple[float, float, float, float]
    whole: bool
    tested: Mapping[str, Any]
    trust: Mapping[str, Any] | None
    nearest: tuple[Neighbour, ...]
    picture: Path
    object: tuple[float, float, float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path, "label": self.label, "score": self.score, "answer": self.answer, "abstained": self.abstained,
            "method": self.method, "heat": [[round(value, 4) for value in row] for row in self.heat.tolist()], "box": list(self.box),
            **({} if self.object is None else {"object": [round(side, 2) for side in self.object]}),
            "tested": dict(self.tested), "trust": None if self.trust is None else dict(self.trust),
            "nearest": [neighbour.to_json() for neighbour in self.nearest], "picture": str(self.picture),
        }  # fmt: skip


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
        self, model: Model, source: Path, config: ExplainConfig, known: Mapping[str, NDArray[Any]], report: Mapping[str, Any]
    ) -> None:
        """``known`` are the arrays of the bundle's reference, ``report`` its report's numbers; both empty where it has none.

        Raises UsageError for a label that the model does not have, and for a method that it does not allow.
        """
        self.model, self.source, self.config = model, source, config
        self.subject = Subject(model.infer, model.task, model.labels, model.manifest.decision)
        self.known = Known.of(known)
        if config.label is not None and config.label not in model.labels:
            hint = did_you_mean(config.label, model.labels) or f" It has {_listed(model.labels)}."
            raise UsageError(f"--label {config.label}: the model has no such label.{hint}")
        self.method = self._method(known.get("head_weight"))
        verdict = report.get(SECTION)
        fits = isinstance(verdict, dict) and verdict.get("method") == self.method.name and isinstance(verdict.get("sentence"), str)
        trusted = verdict.get("trusted") if fits and isinstance(verdict.get("trusted"), bool) else None
        self.trust = {"trusted": trusted, "sentence": verdict["sentence"]} if fits else None

    @classmethod
    def open(cls, path: Path, config: ExplainConfig, *, require_signature: str | None = None, **settings: Any) -> Explainer:
        """Of a ``*.sight`` file; ``settings`` as ``Model.of`` takes them. Raises ModelFileError too, as ``Model.open`` does."""
        with Bundle.open(path, require_signature=require_signature) as bundle:
            model = Model.of(bundle, **settings, outputs=OUTPUTS)
            known, report = reference_of(bundle), bundle.numbers()
        return cls(model, path, config, known, report)

    @cached_property
    def folder(self) -> Path:
        """Where the pictures go, made when the first is there."""
        name = self.source.stem if self.source.stem != "model" else self.source.resolve().parent.name
        wanted = Path(self.config.out) if self.config.out else free_name(Path("runs", "explain", name))
        wanted.mkdir(parents=True, exist_ok=True)
        return wanted

    def stream(self, refs: Iterable[ImageRef], limits: Limits = Limits()) -> Iterator[Explained | ImageError]:
        """An explanation for each image in order, or why it could not be read."""
        for ref in refs:
            try:
                yield self(ref, limits)
            except ImageError as error:
                yield error

    def __call__(self, ref: ImageRef, limits: Limits = Limits()) -> Explained:
        """Explain an image and write its PNG and JSON. Raises ImageError, or ResourceError where they cannot be written."""
        prepare, data = self.model.prepare, read_bytes(ref, limits)
        how: dict[str, Any] = {"frame": ref.frame, "limits": limits, "reading": prepare.reading}
        header, pixels = decode_with_header(data, str(ref), min_side=prepare.min_side, **how)
        image, back = prepare(pixels)
        shown = pixels if max(pixels.shape[:2]) >= SIDE else decode_with_header(data, str(ref), min_side=SIDE, **how)[1]
        height, width = pixels.shape[:2]
        frame = frame_of(back, prepare.shape, (width, height), (header.width, header.height))
        found = self._explained(str(ref), image, _stretched(back, header.width / width, header.height / height), header, frame)
        enlarged = (shown.shape[1] / header.width, shown.shape[0] / header.height) * 2
        drawn = found.object and tuple(side * factor for side, factor in zip(found.object, enlarged, strict=True))
        laid = Laid(found.heat, _stretched(back, shown.shape[1] / width, shown.shape[0] / height), prepare.shape, drawn or None)
        try:
            picture = free_name(self.folder / f"{stem_of(ref)}.png", ".json")
            picture.write_bytes(sheet(shown, laid, caption(found), found.nearest))
            written = replace(found, picture=picture)
            picture.with_suffix(".json").write_text(json.dumps(written.to_json(), ensure_ascii=False) + "\n", "utf-8", "backslashreplace")
        except OSError as error:
            where = error.filename or self.config.out
            raise ResourceError(f"{where}: could not be written ({error.strerror}); make room or give another --out.") from error
        return written

    def _explained(
        self, path: str, image: Images, back: NDArray[np.float64], header: Header, frame: NDArray[np.float64]
    ) -> Explained:  # fmt: skip
        raw = {**self.subject.raw(image[None]), "frame": frame[None]}
        (prediction,) = self.model.decode(raw)
        about = self._of_scene(raw) if self.model.task.SCENES else self._of_image(prediction)
        (evidence,) = self.method.evidence(about.subject, image[None], np.array([about.target]))
        neighbours = nearest(self.known, raw["embedding"][0], self.model.labels, self.config.nearest) if self.known else []
        left, top, right, bottom = box = covered(back, self.model.prepare.shape)
        whole = left <= 0 and top <= 0 and right >= header.width and bottom >= header.height
        found = self._tested(image, about, evidence)
        return Explained(
            path=path, label=about.label, score=about.score, answer=about.answer,
            abstained=prediction.caution is not None and prediction.caution.abstained,
            method=self.method.name, heat=heat_of(evidence), box=box, whole=whole, tested=found, trust=self.trust,
            nearest=tuple(neighbours), picture=Path(), object=about.object,
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


def _stretched(back: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    """The way back to an image so many times as wide and as high."""
    return np.array([[x], [y]]) * back


def _listed(labels: tuple[str, ...], most: int = 10) -> str:
    return ", ".join(map(repr, labels[:most])) + (f" and {len(labels) - most} more" if len(labels) > most else "")
