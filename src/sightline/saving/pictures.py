"""What was found on images, drawn on them; of label maps also the classes themselves, as indexed PNG."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from sightline.data.decode import Limits, decode
from sightline.data.reading import Reading
from sightline.drawing.maps import table_of
from sightline.drawing.predictions import draw_prediction
from sightline.records import ImageRef
from sightline.saving.names import free_name, stem_of, writing
from sightline.scenes import Segmentation

JPEG_SUFFIXES, JPEG_QUALITY = (".jpg", ".jpeg"), 92
MAP_ENDING, CLASSES = "-classes.png", "classes.json"


class PictureFolder:
    """A folder with a picture for each image: a JPEG of a JPEG, otherwise a PNG.

    Of a label map ``NAME-classes.png`` holds the index of each pixel's class, in the picture's colours, and ``classes.json`` the classes.
    """

    def __init__(self, folder: Path, labels: Sequence[str], reading: Reading = Reading(), limits: Limits = Limits()) -> None:
        self.folder, self.labels, self.reading, self.limits = folder, labels, reading, limits
        self.count = 0
        with writing("--save", folder):
            folder.mkdir(parents=True, exist_ok=True)

    def add(self, ref: ImageRef, found: Any) -> None:
        """Draw what was found on an image, or nothing where that is an error. Raises ImageError if it cannot be read any more."""
        if isinstance(found, Exception):
            return
        drawn = draw_prediction(decode(ref, limits=self.limits, reading=self.reading), found, self.labels)
        suffix = Path(ref.member or ref.path).suffix.lower()
        endings = (".jpg", ".png", MAP_ENDING)
        with writing("--save", self.folder):
            path = free_name(self.folder / f"{stem_of(ref)}{'.jpg' if suffix in JPEG_SUFFIXES else '.png'}", *endings)
            drawn.save(path, quality=JPEG_QUALITY)  # PNG has none, and takes no notice
            if isinstance(found, Segmentation):
                self._write_map(found, path.with_name(path.stem + MAP_ENDING))
        self.count += 1

    def _write_map(self, found: Segmentation, path: Path) -> None:
        indexed = Image.fromarray(found.classes)
        indexed.putpalette(table_of(self.labels).tobytes())
        indexed.save(path)
        names = json.dumps(list(self.labels), ensure_ascii=False)
        table = self.folder / CLASSES
        if not (table.exists() and table.read_text("utf-8") == names) and not self.count:
            free_name(table).write_text(names, "utf-8")

    def close(self) -> str:
        """What was done, in a sentence."""
        return f"{self.count} picture{'s'[: self.count != 1]} saved in {self.folder}."
