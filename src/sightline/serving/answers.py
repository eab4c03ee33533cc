"""What a request for predictions is answered: for each image exactly what ``predict --json`` prints, and what else was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sightline.errors import ImageError
from sightline.saving.formats import told
from sightline.scenes import Segmentation
from sightline.serving.batching import Found
from sightline.serving.body import Given
from sightline.serving.declined import GONE, Declined, Receive
from sightline.serving.explained import explained
from sightline.serving.masks import mask_of
from sightline.serving.models import Models, Served

Value = TypeVar("Value")


@dataclass(frozen=True)
class Wanted:
    """What is told of each image: so many classes; why, of the first image; and where each class of a label map is."""

    top: int
    explain: bool = False
    mask: bool = False


async def answered(models: Models, served: Served, given: Sequence[Given], wanted: Wanted) -> list[dict[str, Any]]:
    """A result for each image, in order. Raises Declined where there is no room for another explanation."""
    found = await asyncio.gather(*(_found(served, image) for image in given))
    results = await asyncio.gather(*(_told(models, image, answer, wanted) for image, answer in zip(given, found, strict=True)))
    if wanted.explain and isinstance(found[0], Found):
        results[0]["explanation"] = await _explanation(models, served, given[0])
    return results


async def _found(served: Served, image: Given) -> Found | ImageError:
    if image.data is None:
        return ImageError(image.name, "its data are not base64")
    return await served.batcher.predict(image.data)


async def _told(models: Models, image: Given, found: Found | ImageError, wanted: Wanted) -> dict[str, Any]:
    if isinstance(found, ImageError):
        return told(image.name, found)
    prediction, size = found.prediction, {"size": list(found.size)} if wanted.explain or wanted.mask else {}
    if not isinstance(prediction, Segmentation):
        return told(image.name, prediction, wanted.top) | size

    def counted() -> dict[str, Any]:
        return told(image.name, prediction, wanted.top) | size | (mask_of(prediction) if wanted.mask else {})

    return await asyncio.get_running_loop().run_in_executor(models.decoding, counted)  # it looks at every pixel


async def _explanation(models: Models, served: Served, image: Given) -> dict[str, Any]:
    def why() -> dict[str, Any]:
        assert image.data is not None
        return explained(served.explainer, image.data, image.name, models.limits)

    if not served.facts["explains"]:
        raise Declined(400, f"{served.name} cannot be explained, as its bundle gives no feature maps: leave 'explain' out.")
    with models.explanations.enter():
        return await asyncio.get_running_loop().run_in_executor(models.explaining, why)


async def in_time(work: Awaitable[Value], receive: Receive, seconds: float) -> Value:
    """What the work gives, unless the client goes or the time is over first: then it is cancelled, and Declined is raised."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        done, _ = await asyncio.wait((task, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if gone in done:
            raise Declined(GONE, "The client has gone.")
        raise Declined(504, f"The request took longer than {seconds:g} seconds: send fewer images, or again later.")
    finally:
        task.cancel()
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
