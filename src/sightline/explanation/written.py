"""What ``sightline explain`` writes: for each image a PNG and its JSON, under names that are free."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.errors import ResourceError
from sightline.explanation.sheet import Laid, sheet
from sightline.explanation.subject import Floats, Images
from sightline.explanation.words import caption
from sightline.saving.names import free_name

if TYPE_CHECKING:
    from sightline.explanation.explain import Explained


def drawn(found: Explained, shown: Images, back: Floats, shape: tuple[int, int]) -> bytes:
    """An explanation as a PNG over the image (h, w, channels), of any size; ``back`` and ``shape`` as in ``grid.laid_back``."""
    enlarged = (shown.shape[1] / found.size[0], shown.shape[0] / found.size[1]) * 2
    box = found.object and tuple(side * factor for side, factor in zip(found.object, enlarged, strict=True))
    return sheet(shown, Laid(found.heat, back, shape, box or None), caption(found), found.nearest)


class Written:
    """Writes what was found on one image after the other to the folder ``out``, or to one named after the model's file."""

    def __init__(self, out: str | None, source: Path) -> None:
        self.out, self.source = out, source

    @cached_property
    def folder(self) -> Path:
        """Where the pictures go, made when the first is there."""
        name = self.source.stem if self.source.stem != "model" else self.source.resolve().parent.name
        wanted = Path(self.out) if self.out else free_name(Path("runs", "explain", name))
        wanted.mkdir(parents=True, exist_ok=True)
        return wanted

    def __call__(self, found: Explained, stem: str, draw: Callable[[], bytes]) -> Explained:
        """Write the PNG that ``draw`` makes and its JSON; what was found, with the picture's path. Raises ResourceError."""
        try:
            picture = free_name(self.folder / f"{stem}.png", ".json")
            picture.write_bytes(draw())
            written = replace(found, picture=picture)
            picture.with_suffix(".json").write_text(json.dumps(written.to_json(), ensure_ascii=False) + "\n", "utf-8", "backslashreplace")
        except OSError as error:
            where = error.filename or self.out
            raise ResourceError(f"{where}: could not be written ({error.strerror}); make room or give another --out.") from error
        return written
