"""Images a bundle carries with the outputs expected for them, so that any machine can check that it computes the same."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.bundle import Bundle, arrays_to_bytes
from sightline.data.channels import changed
from sightline.data.decode import Limits, decode
from sightline.data.reading import Reading
from sightline.engines.acceptance import replay_of
from sightline.errors import ImageError, ModelFileError
from sightline.records import ImageRef
from sightline.runtime import Model, raw_outputs

MAX_IMAGES = 64
# Photographs straight from a camera are large: as many are kept as fit into this, at least one.
MAX_BYTES = 16 << 20
RENDERED, RENDERED_SIDE = 16, 96
PNG_MODES = ("L", "LA", "RGB", "RGBA")
# What a network says of an image may be long, such as the boxes at every place: as many images are kept as fit into this, at least one.
MAX_OUTPUTS = 16 << 20
# Other processors and other versions of the JPEG decoder round differently; a wrong mean, size or channel order gives far more.
TOLERANCE = 2e-3


def rendered_images(count: int = RENDERED, bands: int = 3) -> list[bytes]:
    """Files of smooth random colours with so many bands: stand-ins for a bundle that is to hold no image of the user's."""
    side = (RENDERED_SIDE, RENDERED_SIDE)
    coarse = (np.random.default_rng(seed).integers(0, 256, (5, 5, bands), np.uint8) for seed in range(count))
    return [_file_of(changed(image, lambda plane: plane.resize(side, Image.Resampling.BICUBIC))) for image in coarse]


def _file_of(image: NDArray[np.uint8]) -> bytes:
    """A PNG, or a TIFF of more bands than that holds: whoever trained on such has tifffile."""
    sink, bands = io.BytesIO(), image.shape[2]
    if bands <= len(PNG_MODES):
        Image.fromarray(image.squeeze(), PNG_MODES[bands - 1]).save(sink, "PNG")
    else:
        import tifffile

        tifffile.imwrite(sink, image, photometric="minisblack", planarconfig="contig", compression="zlib")
    return sink.getvalue()


def file_of_window(ref: ImageRef, reading: Reading, limits: Limits = Limits()) -> bytes:
    """A file that is read as the window of another is, with its bands where ``reading`` looks for them; raises ImageError."""
    pixels = decode(ref, limits=limits, reading=reading)
    if reading.bands is None:
        return _file_of(pixels)
    laid = np.zeros((*pixels.shape[:2], max(reading.bands)), np.uint8)
    laid[:, :, np.array(reading.bands) - 1] = pixels
    return _file_of(laid)


def choose_images(files: Sequence[bytes]) -> list[bytes]:
    """The first of the files, up to ``MAX_IMAGES`` and ``MAX_BYTES``."""
    chosen: list[bytes] = []
    for data in files[:MAX_IMAGES]:
        if chosen and sum(map(len, chosen)) + len(data) > MAX_BYTES:
            break
        chosen.append(data)
    return chosen


def record(model: Model, files: Sequence[bytes], *, rendered: bool) -> bytes:
    """The ``replay.npz`` of a model: the files' bytes end to end, their lengths, and the raw outputs they give now.

    ``rendered`` notes that they are stand-ins, on which two answers that differ mean nothing.
    """
    files = files[: max(1, MAX_OUTPUTS // sum(values.nbytes for values in _raw(model, files[:1]).values()))]
    return arrays_to_bytes({
        "images": np.frombuffer(b"".join(files), np.uint8),
        "lengths": np.array([len(data) for data in files], np.int64),
        "rendered": np.array(rendered),
        **{f"raw_{name}": values for name, values in _raw(model, files).items()},
    })  # fmt: skip


def largest_difference(bundle: Bundle, model: Model) -> tuple[int, float]:
    """How many images were replayed, and the largest difference from what was recorded, as the task measures it.

    Raises ModelFileError when the bundle carries no replay or one that is not whole.
    """
    replay = replay_of(bundle, model.task.OUTPUTS)
    try:
        found = _raw(model, replay.files)
    except ImageError as error:
        raise ModelFileError(f"{bundle.path}: its replay is not whole ({error.reason}); copy or train it again.") from error
    if any(found[name].shape != values.shape for name, values in replay.expected.items()):
        raise ModelFileError(f"{bundle.path}: its replay is not whole (its outputs do not fit the graph's); copy or train it again.")
    return len(replay.files), model.task.difference(found, replay.expected, model.manifest.decision)


def _raw(model: Model, files: Sequence[bytes]) -> dict[str, NDArray[np.float32]]:
    found = []
    for batch in raw_outputs(model.infer, model.prepare, files, threads=model.threads):
        if batch.errors:
            raise batch.errors[0][1]
        found.append(batch.raw)
    return {name: np.concatenate([raw[name] for raw in found]) for name in model.task.OUTPUTS}
