"""Faces in pictures, found by YuNet, a detector of a third of a megabyte that the user names; ONNX Runtime computes it.

How its outputs become boxes is as OpenCV's FaceDetectorYN does it: every cell of three grids, of 8, 16 and 32 pixels, tells whether a face
is centred near it, and where its sides are. W. Wu, H. Peng, S. Yu: "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence
Research 20, 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.engines.adapters import Work, onnx_infer
from sightline.errors import ModelFileError
from sightline.onnx_check import check_graph, graph_io

STRIDES = (8, 16, 32)
# Of each output, the values of a cell.
OUTPUTS = {f"{kind}_{stride}": values for stride in STRIDES for kind, values in (("cls", 1), ("obj", 1), ("bbox", 4))}
# It knows faces of 10 to 300 pixels, so that each picture is looked at twice: its longer side at most this long.
SIDES = (1280, 320)
# Scores from which something may be a face, and from which it mostly is: of 364 pictures of blood cells 13 and 2 have one, of 170 of
# pedestrians 149 and 122.
SCORE, SURE = 0.7, 0.8
# Two boxes are of one face when they share so much of what both cover, or so much of one lies in the other: of a large face, parts look
# like small ones.
OVERLAP, INSIDE = 0.3, 0.7
MOST_CANDIDATES = 5000
# The largest known has 0.4 megabytes.
MAX_BYTES = 16 << 20
# Of the logarithm of a face's width in cells: a sound graph stays far below, and beyond float32 overflows.
MAX_LOG = 10.0
WHICH = "give --face-detector a YuNet .onnx file of 2023 or later"

Raw = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Face:
    """``box`` is (left, top, right, bottom) in pixels, inside the picture; ``score`` in [0, 1] how sure the detector is."""

    box: tuple[float, float, float, float]
    score: float


class Detector:
    """YuNet over a function from (1, 3, h, w) float32, blue first, 0 to 255, to its raw outputs; use ``Detector.open`` for a file.

    ``find`` may be called from several threads at once, and computes in the thread that calls it.
    """

    def __init__(self, raw: Callable[[NDArray[np.float32]], Raw], size: tuple[int, int] | None = None) -> None:
        """``size`` is (height, width) of the only images that the function takes, None when any multiple of 32 will do."""
        self.raw = raw
        self.size = size

    @classmethod
    def open(cls, path: str | Path) -> Detector:
        """The detector in an ONNX file; ModelFileError when it is missing, unsafe or not a YuNet graph."""
        path = Path(path)
        graph = _read(path)
        check_graph(graph, str(path))
        size = _size(graph, path)
        height, width = size or (64, 64)
        # The engine passes its input on as it is, so that it takes floats as well as the bytes of a bundle.
        infer = onnx_infer(Work(graph, tuple(OUTPUTS), str(path), (3, height, width), threads=1))
        try:
            raw = infer(np.zeros((1, 3, height, width), np.float32))
        except Exception as error:
            raise ModelFileError(f"{path}: this graph cannot be computed ({' '.join(str(error).split())[:200]}); {WHICH}.") from error
        stated = {name: (1, height * width // int(name.split("_")[1]) ** 2, values) for name, values in OUTPUTS.items()}
        if wrong := [name for name, shape in stated.items() if raw[name].shape != shape]:
            raise ModelFileError(f"{path}: is not a YuNet face detector (its output {wrong[0]} has another shape); {WHICH}.")
        return cls(infer, size)  # type: ignore[arg-type]

    def find(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """The faces in an upright picture (h, w, 3) uint8 RGB, the surest first."""
        picture = Image.fromarray(pixels)
        found = [self._look(picture, scale) for scale in self._scales(picture)]
        boxes, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        boxes = boxes.clip(0, [picture.width, picture.height] * 2)
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # false for what is no number
        boxes, scores = boxes[inside], scores[inside]
        return [Face((*boxes[row].tolist(),), float(scores[row])) for row in distinct(boxes, scores)]

    def _scales(self, picture: Image.Image) -> list[float]:
        """How much smaller the picture is looked at, from the largest on; never larger than it is."""
        if self.size is not None:
            return [min(1.0, self.size[0] / picture.height, self.size[1] / picture.width)]
        return sorted({min(1.0, side / max(picture.size)) for side in SIDES}, reverse=True)

    def _look(self, picture: Image.Image, scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes (n, 4), in pixels of the picture, and scores of what looks like a face at a scale."""
        width, height = (max(1, round(side * scale)) for side in picture.size)
        pixels = np.asarray(picture if scale == 1 else picture.resize((width, height), Image.Resampling.BILINEAR))
        tall, wide = self.size or (-(-height // STRIDES[-1]) * STRIDES[-1], -(-width // STRIDES[-1]) * STRIDES[-1])
        padded = np.zeros((1, 3, tall, wide), np.float32)
        padded[0, :, :height, :width] = pixels[:, :, ::-1].transpose(2, 0, 1)
        boxes, scores = candidates(self.raw(padded), wide)
        return boxes * ([picture.width / width, picture.height / height] * 2), scores


def candidates(raw: Raw, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes (n, 4) and scores (n,) of all cells that see a face, in a picture so wide; many see the same face."""
    boxes, scores = [], []
    for stride in STRIDES:
        seen, there = (raw[f"{kind}_{stride}"].ravel().clip(0, 1).astype(np.float64) for kind in ("cls", "obj"))
        cells = np.flatnonzero(np.sqrt(seen * there) >= SCORE)
        rows, columns = np.divmod(cells, width // stride)
        across, down, wide, high = raw[f"bbox_{stride}"].reshape(-1, 4)[cells].T.astype(np.float64)
        x, y = columns + across, rows + down
        half_width, half_height = np.exp(np.minimum(wide, MAX_LOG)) / 2, np.exp(np.minimum(high, MAX_LOG)) / 2
        boxes.append(stride * np.stack([x - half_width, y - half_height, x + half_width, y + half_height], axis=1))
        scores.append(np.sqrt(seen * there)[cells])
    return np.concatenate(boxes), np.concatenate(scores)


def distinct(boxes: NDArray[np.float64], scores: NDArray[np.float64]) -> list[int]:
    """Rows of the boxes (n, 4), the highest score first, that are left when of those of one face only the surest stays."""
    order = np.argsort(-scores, kind="stable")[:MOST_CANDIDATES]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    kept: list[int] = []
    while len(order):
        best, order = int(order[0]), order[1:]
        kept.append(best)
        corner, opposite = np.maximum(boxes[order, :2], boxes[best, :2]), np.minimum(boxes[order, 2:], boxes[best, 2:])
        shared = (opposite - corner).clip(0).prod(axis=1)
        together, smaller = areas[order] + areas[best] - shared, np.minimum(areas[order], areas[best])
        order = order[(shared <= OVERLAP * together) & (shared <= INSIDE * smaller)]
    return kept


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelFileError(f"{path}: holds more than {MAX_BYTES >> 20} MB, so it is not a YuNet face detector; {WHICH}.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: there is no such file; {WHICH}.") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror or error}); {WHICH}.") from error


def _size(graph: bytes, path: Path) -> tuple[int, int] | None:
    """Height and width of the images that a graph takes, None for any; ModelFileError when it cannot be YuNet's."""
    inputs, outputs = graph_io(graph, str(path))
    missing = sorted(set(OUTPUTS) - {value.name for value in outputs})
    shape = inputs[0].shape if len(inputs) == 1 and inputs[0].element == "float32" else None
    if missing or shape is None or len(shape) != 4 or shape[1] != 3:
        reason = f"it has no output {missing[0]}" if missing else "it does not take an image"
        raise ModelFileError(f"{path}: is not a YuNet face detector ({reason}); {WHICH}.")
    height, width = shape[2:]
    if isinstance(height, str) and isinstance(width, str):
        return None
    if isinstance(height, str) or isinstance(width, str) or height % STRIDES[-1] or width % STRIDES[-1] or not height * width:
        raise ModelFileError(f"{path}: takes images of {height} x {width}, which are no multiples of {STRIDES[-1]}; {WHICH}.")
    return height, width
