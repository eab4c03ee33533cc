"""The images in a request's body: a multipart form, read as it comes, or JSON with base64. They stay in memory, and names stay text.

How large a body and the heads of its parts may be is the guard's to say, which sees it first.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from sightline.config import ServeConfig
from sightline.serving.declined import Declined
from sightline.serving.places import Stay

FIELD = "files"
# Brackets and commas that JSON may have for each image, in names too; base64 has none. Each may stand for a value, and of empty ones
# 64 MB would be 2 GB once parsed.
SIGNS = 64
HOW = 'send images as multipart/form-data in \'files\', or as JSON {"images": [{"name": "a.jpg", "data": "<base64>"}]}'


@dataclass
class Given:
    """An image as it was sent: its name and its file's bytes, or None where these cannot be told."""

    name: str
    data: bytes | None


async def images_of(chunks: AsyncIterator[bytes], kind: str, config: ServeConfig, stay: Stay, parsing: Executor) -> list[Given]:
    """The images of a body of the content type ``kind``, for each of which ``stay`` gets a place; JSON is read in ``parsing``.

    Raises Declined.
    """
    from python_multipart.multipart import parse_options_header

    media, options = parse_options_header(kind)
    if media == b"multipart/form-data":
        if not options.get(b"boundary"):
            raise Declined(400, "The multipart body has no boundary in its content-type.")
        form = Form(options[b"boundary"], config, stay)
        async for chunk in chunks:
            form.take(chunk)
        found = form.done()
    elif media == b"application/json":
        text = bytearray()
        async for chunk in chunks:
            text += chunk
        found = await asyncio.get_running_loop().run_in_executor(parsing, _from_json, text, _most(config))
        _check_count(len(found), config)
        stay.grow(max(0, len(found) - stay.images))
    else:
        raise Declined(415, f"The content type is not one that is read: {HOW}.")
    if not found:
        raise Declined(400, f"There is no image in the request: {HOW}.")
    return found


def _most(config: ServeConfig) -> int:
    """Images that a request may hold."""
    return min(config.max_files, config.queue)


def _check_count(count: int, config: ServeConfig) -> None:
    most = _most(config)
    if count > most:
        raise Declined(413, f"A request may hold {most} images at most: send the others in another.", close=True)


@dataclass
class _Part:
    name: bytes = b""
    value: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: list[bytes] = field(default_factory=list)


class Form:
    """A multipart form, piece by piece."""

    def __init__(self, boundary: bytes, config: ServeConfig, stay: Stay) -> None:
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser

        self.given: list[Given] = []
        self._config, self._stay, self._fault = config, stay, FormParserError
        self._part = _Part()
        self._ended = False
        try:
            self._parser = MultipartParser(boundary, {
                "on_part_begin": self._begin, "on_header_field": self._field, "on_header_value": self._value, "on_header_end": self._next,
                "on_headers_finished": self._headed, "on_part_data": self._data, "on_part_end": self._finished, "on_end": self._end,
            })  # fmt: skip
        except FormParserError as error:
            raise Declined(400, "The multipart body has a boundary that cannot be used.") from error

    def take(self, chunk: bytes) -> None:
        """Raises Declined."""
        try:
            self._parser.write(chunk)
        except self._fault as error:
            raise Declined(400, "The multipart body is not whole: its parts cannot be told apart.", close=True) from error

    def done(self) -> list[Given]:
        if not self._ended:
            raise Declined(400, "The multipart body is not whole: its last boundary is missing.")
        return self.given

    def _begin(self) -> None:
        self._part = _Part()
        count = len(self.given) + 1
        _check_count(count, self._config)
        if count > self._stay.images:
            self._stay.grow(1)

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._part.name += data[start:end]

    def _value(self, data: bytes, start: int, end: int) -> None:
        self._part.value += data[start:end]

    def _next(self) -> None:
        part = self._part
        part.headers[part.name.lower()] = part.value
        part.name = part.value = b""

    def _headed(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._part.headers.get(b"content-disposition"))
        if options.get(b"name") != FIELD.encode():
            raise Declined(400, f"A field of the form is not {FIELD!r}: {HOW}.", close=True)
        self.given.append(Given(_text(options.get(b"filename", b"")) or f"image-{len(self.given) + 1}", b""))

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._part.data.append(data[start:end])

    def _finished(self) -> None:
        self.given[-1].data = b"".join(self._part.data)
        self._part.data.clear()

    def _end(self) -> None:
        self._ended = True


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _from_json(text: bytearray, most: int) -> list[Given]:
    if sum(map(text.count, (b"{", b"[", b","))) > SIGNS * (most + 2):
        raise Declined(413, f"The JSON holds more than {most} images can need: send fewer, and only their names and data.")
    try:
        body: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Declined(400, f"The body is not JSON: {HOW}.") from error
    images = body.get("images") if isinstance(body, dict) else None
    if not isinstance(images, list) or not all(isinstance(entry, dict) and isinstance(entry.get("data"), str) for entry in images):
        raise Declined(400, f"The JSON has no list of images with their data: {HOW}.")
    names = [entry.get("name", f"image-{place}") for place, entry in enumerate(images, 1)]
    if not all(isinstance(name, str) for name in names):
        raise Declined(400, "The name of an image must be text.")
    return [Given(name, _decoded(entry["data"])) for name, entry in zip(names, images, strict=True)]


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
