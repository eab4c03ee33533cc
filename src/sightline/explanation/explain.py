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
from sightline.explanation.sheet import SIDE, Laid, sheet
from sightline.explanation.subject import Images, Method, Subject, label_to_explain, scores_of
from sightline.explanation.tested import LEAST_SCORE, delete_and_insert, random_maps
from sightline.explanation.words import caption
from sightline.records import ImageRef
from sightline.reference import Known
from sightline.runtime import Model
from sightline.saving.names import free_name, stem_of

OUTPUTS = ("embedding", "features")
SECTION = "explanations"


@dataclass(frozen=True)
class Explained:
    """One image, explained.

    label, score   what is explained and its probability; ``answer`` is what the model says, or its best guess where it ``abstained``
    method         in words: "CAM" or "occlusion"
    heat           (rows, columns) in [0, 1]: evidence above the image's mean as a share of the largest; all 0 where there is none
    box            (left, top, right, bottom) of the heat in pixels of the original image; beyond its border where that was padded
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

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path, "label": self.label, "score": self.score, "answer": self.answer, "abstained": self.abstained,
            "method": self.method, "heat": [[round(value, 4) for value in row] for row in self.heat.tolist()], "box": list(self.box),
            "tested": dict(self.tested), "trust": None if self.trust is None else dict(self.trust),
            "nearest": [neighbour.to_json() for neighbour in self.nearest], "picture": str(self.picture),
        }  # fmt: skip


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
        verdict = report.get(SECTION, {})
        fits = verdict.get("method") == self.method.name and "sentence" in verdict
        self.trust = {"trusted": verdict.get("trusted"), "sentence": verdict["sentence"]} if fits else None

    @classmethod
    def open(cls, path: Path, config: ExplainConfig, **settings: Any) -> Explainer:
        """Of a ``*.sight`` file; ``settings`` as ``Model.of`` takes them. Raises ModelFileError too, as ``Model.open`` does."""
        with Bundle.open(path) as bundle:
            model = Model.of(bundle, **settings, outputs=OUTPUTS)
            known = bundle.arrays("reference") if bundle.has("reference") else {}
            report = json.loads(bundle.read("report_data")) if bundle.has("report_data") else {}
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
        found = self._explained(str(ref), image, _stretched(back, header.width / width, header.height / height), header)
        laid = Laid(found.heat, _stretched(back, shown.shape[1] / width, shown.shape[0] / height), prepare.size)
        try:
            picture = free_name(self.folder / f"{stem_of(ref)}.png", ".json")
            picture.write_bytes(sheet(shown, laid, caption(found), found.nearest))
            written = replace(found, picture=picture)
            picture.with_suffix(".json").write_text(json.dumps(written.to_json(), ensure_ascii=False) + "\n", "utf-8", "backslashreplace")
        except OSError as error:
            where = error.filename or self.config.out
            raise ResourceError(f"{where}: could not be written ({error.strerror}); make room or give another --out.") from error
        return written

    def _explained(self, path: str, image: Images, back: NDArray[np.float64], header: Header) -> Explained:
        raw = self.subject.raw(image[None])
        (prediction,) = self.model.decode(raw)
        answer, scores = label_to_explain(prediction), scores_of(prediction)
        label = self.config.label or answer
        target = list(self.model.labels).index(label)
        (evidence,) = self.method.evidence(self.subject, image[None], np.array([target]))
        neighbours = nearest(self.known, raw["embedding"][0], self.model.labels, self.config.nearest) if self.known else []
        left, top, right, bottom = box = covered(back, self.model.prepare.size)
        whole = left <= 0 and top <= 0 and right >= header.width and bottom >= header.height
        found = self._tested(image, target, evidence, scores[label])
        return Explained(
            path=path, label=label, score=scores[label], answer=answer,
            abstained=prediction.caution is not None and prediction.caution.abstained,
            method=self.method.name, heat=heat_of(evidence), box=box, whole=whole, tested=found, trust=self.trust,
            nearest=tuple(neighbours), picture=Path(),
        )  # fmt: skip

    def _tested(self, image: Images, target: int, evidence: NDArray[np.float32], score: float) -> dict[str, Any]:
        if not self.config.random_maps:
            return {"reason": "Not tested, as --random-maps is 0."}
        if score < LEAST_SCORE:
            return {"reason": f"Not tested: with a score below {LEAST_SCORE:.0%} there is nothing that taking pixels away could lose."}
        random = random_maps(self.config.random_maps, evidence.shape, seed=0)
        return delete_and_insert(lambda images: self.subject.probabilities(images)[:, target], image, evidence, random).to_json()

    def _method(self, weight: NDArray[np.float32] | None) -> Method:
        """The method asked for, or the best that the network allows, which a blank image tells."""
        prepare = self.model.prepare
        features = self.model.infer(np.zeros((1, prepare.size, prepare.size, prepare.channels), np.uint8))["features"]
        if self.config.method == "cam" and (why := why_no_cam(weight, features)):
            raise UsageError(f"--method cam: {self.source} allows no CAM, as {why}; use --method occlusion.")
        return Occlusion() if self.config.method == "occlusion" else best_method(weight, features)


def _stretched(back: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    """The way back to an image so many times as wide and as high."""
    return np.array([[x], [y]]) * back


def _listed(labels: tuple[str, ...], most: int = 10) -> str:
    return ", ".join(map(repr, labels[:most])) + (f" and {len(labels) - most} more" if len(labels) > most else "")
