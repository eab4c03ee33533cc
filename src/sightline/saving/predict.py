"""What ``predict`` does with each image: a prediction, written to what was asked for, if the model can give it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline import console
from sightline.config import PARQUET, PredictConfig
from sightline.data.decode import Limits, read_size
from sightline.data.given import given_images
from sightline.data.windows import Tiling
from sightline.errors import ConfigError, ImageError
from sightline.predictions import Prediction
from sightline.records import ImageRef
from sightline.runtime import Model
from sightline.saving.formats import FORMATS, OF_BOXES, Writer
from sightline.saving.pictures import PictureFolder


def check_wanted(config: PredictConfig, task: str, scenes: str | None, *, tiled: bool) -> None:
    """Raises ConfigError, with all that does not go together; ``scenes`` as ``Task.SCENES``, ``tiled`` for a model of tiles."""
    problems = []
    if config.format and not config.out:
        place = "FOLDER" if config.format == "yolo" else "FILE.json"
        problems.append(f"--format {config.format}: say where to write with --out {place}.")
    if config.out and not config.format:
        problems.append(f"--out {config.out}: say in what form with --format {', '.join((*FORMATS, PARQUET))}; --save is for pictures.")
    if config.overlap is not None and config.tile is None and not tiled:
        problems.append(f"--overlap {config.overlap}: is what tiles share; give --tile as well.")
    if config.format in OF_BOXES and scenes != "boxes":
        problems.append(f"--format {config.format}: holds boxes, and this model is for {task}; use --format json.")
    if config.save and scenes is None:
        problems.append(f"--save: this model is for {task} and finds no places that could be drawn; use 'sightline explain'.")
    if config.tile and scenes is None:
        problems.append(f"--tile {config.tile}: this model is for {task} and answers for whole images; leave it out.")
    if problems:
        raise ConfigError(problems)


def tell_tiles(tiling: Tiling | None, config: PredictConfig) -> None:
    """Say that images are looked at in the model's own tiles, where it has some and no others are asked for."""
    if config.tile is None and tiling is not None:
        console.say(f"The model was trained on tiles of {tiling.side} pixels, so it looks at images in such; --tile N takes others.")


def predicted(
    model: Model, images: Sequence[str | Path], config: PredictConfig, limits: Limits, batch_size: int, top: int | None = None
) -> Generator[tuple[str, Prediction | ImageError]]:
    """(path, prediction or error) for each image that is meant, written to all that was asked for; what was written is said at the end,
    which may also be that of one who closes this before. ``top`` limits the classes that are written of an image.

    Raises ConfigError before anything is read.
    """
    check_wanted(config, model.manifest.task, model.task.SCENES, tiled=model.tiling is not None)
    refs = given_images(images, limits)
    tell_tiles(model.tiling, config)
    sources = at_full_size(refs, limits) if config.full_size else refs
    stream = model.stream(sources, batch_size=batch_size, limits=limits, tile=config.tile, overlap=config.overlap)
    return _written(zip(refs, console.track(stream, len(refs), "Predicting"), strict=True), _writers(config, model, limits, top))


def at_full_size(refs: Iterable[ImageRef], limits: Limits) -> Iterator[ImageRef]:
    """The same images as windows that show all of them: windows are cut from pixels that were not reduced."""
    for ref in refs:
        try:
            width, height = read_size(ref, limits)
        except ImageError:  # which decoding it says again, in its turn
            yield ref
        else:
            yield replace(ref, window=(0, 0, width, height))


def _written(answers: Iterable[tuple[ImageRef, Prediction | ImageError]], asked: Sequence[Writer]) -> Generator[tuple[str, Any]]:
    with ExitStack() as closing:  # also when stopped, so that what was found by then is kept
        for writer in reversed(asked):
            closing.callback(lambda writer: console.say(writer.close()), writer)
        for ref, found in answers:
            for writer in asked:
                try:
                    writer.add(ref, found)
                except ImageError as error:  # it was there when it was predicted
                    console.warn(f"{ref}: {error.reason}; not written.")
            yield str(ref), found


def _writers(config: PredictConfig, model: Model, limits: Limits, top: int | None) -> list[Writer]:
    asked: list[Writer] = []
    if config.save:
        asked.append(PictureFolder(Path(config.save), model.labels, model.prepare.reading, limits))
    if config.format and config.out:
        asked.append(FORMATS[config.format](Path(config.out), model.labels, limits, top))
    return asked
