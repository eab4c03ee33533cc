"""Why a served model says what it says of one image: heat map, its test, and the nearest training images. Nothing is written."""

from __future__ import annotations

import base64
from typing import Any

from sightline.bundle import Bundle
from sightline.config import ExplainConfig
from sightline.data.limits import Limits
from sightline.explanation.explain import Explained, Explainer
from sightline.explanation.nearest import Neighbour
from sightline.explanation.words import METHODS, tested_sentence
from sightline.runtime import Model

# Half of what ``sightline explain`` holds a map against: a person waits.
RANDOM_MAPS = 5


def explainer_of(bundle: Bundle, model: Model) -> Explainer:
    """What explains a served model's answers; the ``model`` was opened with ``explanation.explain.OUTPUTS``. Computes a blank image."""
    return Explainer.of(bundle, model, ExplainConfig(random_maps=RANDOM_MAPS))


def explained(explainer: Explainer, data: bytes, name: str, limits: Limits = Limits()) -> dict[str, Any]:
    """An image's explanation as the server tells it, from its file's bytes; ``name`` is only told. Raises ImageError."""
    return told_why(explainer.explained(data, name, limits))


def told_why(found: Explained) -> dict[str, Any]:
    """What ``explain --json`` prints of an image, without names of files, and with what a page needs to show it:

    size                width and height of the upright original image
    how, tested.sentence  what the method does, and how the map fared, in words
    tested.passed       whether it beat most of the random maps, both in deletion and in insertion; None where it was not tested
    whole               whether the network saw all of the image
    nearest             training images with their labels as one text, and a thumbnail where the bundle holds images
    """
    plain = found.to_json()
    told = ("label", "score", "answer", "given", "method", "heat", "box", "object", "trust")
    kept: dict[str, Any] = {key: plain[key] for key in told if key in plain}
    wins = [found.tested[f"{way}_wins"] for way in ("deletion", "insertion") if f"{way}_wins" in found.tested]
    return {
        **kept,
        "size": list(found.size),
        "whole": found.whole,
        "how": METHODS[found.method],
        "tested": {**plain["tested"], "passed": min(wins) > 0.5 if wins else None, "sentence": tested_sentence(found)},
        "nearest": [_neighbour(neighbour) for neighbour in found.nearest],
    }


def _neighbour(neighbour: Neighbour) -> dict[str, Any]:
    thumb = f"data:image/jpeg;base64,{base64.b64encode(neighbour.thumb).decode('ascii')}" if neighbour.thumb else None
    return {"label": ", ".join(neighbour.labels), "similarity": round(neighbour.similarity, 4), "thumb": thumb}
