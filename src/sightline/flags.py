"""How a verb gets its flags: from the fields of the stages of configuration that it takes."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter

app = App(
    name="sightline",
    help="From a folder of images to a recogniser you can trust, ship and keep up to date.",
    help_format="plaintext",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # exits.py tells of it
)

Json = Annotated[bool, Parameter(negative="", help="Print the result as JSON.")]
Debug = Annotated[bool, Parameter(negative="", help="Show the traceback of an error.")]
ImagePaths = Annotated[tuple[Path, ...], Parameter(help="Image files, or folders and archives of them.")]
ModelPath = Annotated[Path, Parameter(help="A *.sight bundle.")]
SomeModel = Annotated[Path | None, Parameter(help="A *.sight bundle.")]


def verb(*stages: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command whose ``**settings`` are the fields of these configuration stages, as flags with their help and defaults."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [parameter for parameter in signature.parameters.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
        flags = [_flag(stage, entry, place) for place, stage in enumerate(stages) for entry in fields(stage)]
        function.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
        function.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *flags]}
        app.command(function)
        return function

    return register


def _flag(stage: type, entry: Field[Any], place: int) -> inspect.Parameter:
    kind = typing.get_type_hints(stage)[entry.name]
    if choices := entry.metadata["choices"]:
        # Where pydantic is imported, by whatever else runs in the process, defaults are held against this as well.
        kind = Literal[choices] if entry.default is not None else Literal[choices] | None
    group = Group((stage.__doc__ or "").rstrip("."), sort_key=place)
    annotation = Annotated[kind, Parameter(help=entry.metadata["help"], group=group)]
    return inspect.Parameter(entry.name, inspect.Parameter.KEYWORD_ONLY, default=entry.default, annotation=annotation)
