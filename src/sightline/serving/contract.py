"""What OpenAPI says of bodies and answers, as the routes read and write them."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
LABEL: Schema = {
    "type": "object", "required": ["label", "score"],
    "properties": {
        "label": TEXT, "score": {"type": "number", "minimum": 0, "maximum": 1},
        "box": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}, "share": {"type": "number"},
    },
}  # fmt: skip
RESULT: Schema = {
    "type": "object", "required": ["path"],
    "properties": {
        "path": TEXT, "error": TEXT, "predictions": {"type": "array", "items": LABEL}, "abstained": {"type": "boolean"},
        "unfamiliar": {"type": "boolean"}, "candidates": {"type": "array", "items": TEXT},
        "size": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}, "mask": TEXT,
        "colours": {"type": "object", "additionalProperties": TEXT}, "explanation": {"type": "object"},
    },
}  # fmt: skip
MODEL: Schema = {
    "type": "object", "required": ["name", "task", "labels", "sha256", "default"],
    "properties": {
        "name": TEXT, "task": TEXT, "labels": {"type": "array", "items": TEXT}, "sha256": TEXT, "created": TEXT,
        "default": {"type": "boolean"}, "unfit": {"type": "array", "items": TEXT}, "engine": TEXT,
        **{name: {"type": "boolean"} for name in ("report", "card", "nearest", "explains")},
    },
}  # fmt: skip


def _answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def said(description: str) -> dict[int | str, Schema]:
    """The answer of a route that tells a state."""
    return {200: _answer(description, _object(status=TEXT))}


PREDICT_BODY: Schema = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {
                "type": "object", "required": ["files"], "additionalProperties": False,
                "properties": {"files": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}},
            }},
            "application/json": {"schema": {
                "type": "object", "required": ["images"],
                "properties": {"images": {"type": "array", "minItems": 1, "items": {
                    "type": "object", "required": ["data"], "properties": {"name": TEXT, "data": {"type": "string", "format": "byte"}},
                }}},
            }},
        },
    }
}  # fmt: skip
PREDICTED: dict[int | str, Schema] = {
    200: _answer("A result for each image.", _object(model=TEXT, sha256=TEXT, results={"type": "array", "items": RESULT}))
}
MODELS: dict[int | str, Schema] = {
    200: _answer("The models.", _object(models={"type": "array", "items": MODEL}, token={"type": "boolean"}))
}
ERRORS: dict[int | str, Schema] = {
    status: _answer(what, _object(error=TEXT))
    for status, what in (
        (400, "What was sent is not understood."), (401, "The token is missing or wrong."), (403, "The Host or Origin is not allowed."),
        (404, "There is no such model."), (408, "What was sent came too slowly."), (413, "More was sent than is taken."),
        (415, "What was sent is of another type."), (503, "Busy or stopping: ask again after Retry-After seconds."),
        (504, "It took too long."),
    )
} | {"default": _answer("What went wrong, in a sentence.", _object(error=TEXT))}  # fmt: skip
