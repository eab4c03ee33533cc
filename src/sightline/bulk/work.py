"""What a worker does: it holds an opened model and turns images into rows, whoever asks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sightline.bulk.parts import EMBED, Row, embedding_row, prediction_row, write_part
from sightline.bulk.plan import Chunk
from sightline.bulk.tables import is_table, read_cells, table_refs
from sightline.bundle import Bundle
from sightline.data.container import is_archive, members
from sightline.data.decode import Limits
from sightline.errors import DataError, ImageError, UsageError
from sightline.records import ImageRef
from sightline.runtime import Model, Source
from sightline.saving.predict import at_full_size


@dataclass(frozen=True)
class Job:
    """What is made of every image.

    verb     "predict" or "embed"
    folder   where parts go
    base     the folder that relative names of images start from; workers may stand elsewhere
    opening  as ``Model.of`` takes it: threads, engine, precision, batch_size
    limits   what an image may take
    top      classes in a row of predictions, at most
    tiles    as ``Model.stream`` takes them: tile, overlap
    column   of parquet tables, the one that holds images
    """

    verb: str
    folder: Path
    base: Path
    opening: dict[str, Any]
    limits: Limits
    top: int | None = None
    tiles: dict[str, Any] | None = None
    full_size: bool = False
    column: str | None = None

    @property
    def place(self) -> Path:
        """The folder of parts, wherever one stands."""
        return self.base / self.folder


class Work:
    """A job with its opened model."""

    def __init__(self, job: Job, model: Model) -> None:
        self.job = job
        self.model = model

    @classmethod
    def open(cls, job: Job, path: Path) -> Work:
        """Raises what ``Model.open`` does, ModelFileError for a graph that gives no embedding when that is wanted."""
        with Bundle.open(path) as bundle:
            return cls.of(job, bundle)

    @classmethod
    def of(cls, job: Job, bundle: Bundle) -> Work:
        outputs = ("embedding",) if job.verb == EMBED else ()
        return cls(job, Model.of(bundle, many=True, outputs=outputs, **job.opening))

    def write(self, chunk: Chunk) -> int:
        """Make a chunk's part; how many rows it has. To be done twice does no harm: the second part takes the place of the same."""
        rows = self.rows(chunk.refs)
        write_part(self.job.place, chunk.number, self.job.verb, rows)
        return len(rows)

    def rows(self, refs: Sequence[ImageRef]) -> list[Row]:
        """A row for each image, in order; of one that cannot be read, the reason."""
        ready = sources(refs, self.job)
        able = [source for source in ready if not isinstance(source, ImageError)]
        found = iter(self._found(able))
        make = embedding_row if self.job.verb == EMBED else partial(prediction_row, top=self.job.top)
        return [make(ref, source if isinstance(source, ImageError) else next(found)) for ref, source in zip(refs, ready, strict=True)]

    def _found(self, images: Sequence[Any]) -> Iterator[Any]:
        """The prediction or embedding of each image, or its error, in order."""
        job, batch_size = self.job, self.job.opening["batch_size"]
        if job.verb != EMBED:
            seen = at_full_size(images, job.limits) if job.full_size else images
            yield from self.model.stream(seen, batch_size=batch_size, limits=job.limits, **(job.tiles or {}))
            return
        for batch in self.model.raw(images, batch_size=batch_size, limits=job.limits):
            found = dict(batch.errors) | (dict(zip(batch.positions, batch.raw["embedding"], strict=True)) if batch.positions else {})
            yield from (found[place] for place in sorted(found))


def sources(refs: Sequence[ImageRef], job: Job) -> list[Source | ImageError]:
    """What is to be decoded for each image: the bytes in a table's rows, otherwise the file or member; or why there is nothing."""
    found = [replace(ref, path=os.path.join(job.base, ref.path)) for ref in refs]
    rows: dict[str, list[int]] = {}
    for ref in found:
        if is_table(ref.path) and ref.member is not None:
            rows.setdefault(ref.path, []).append(int(ref.member))
    if job.full_size and rows:
        raise UsageError("--full-size: is for images that are files; those in a table are read as its bytes, so leave it out.")
    cells = {path: read_cells(path, wanted, job.column) for path, wanted in rows.items()}
    return [cells[ref.path][int(ref.member)] if ref.path in cells and ref.member else _whole(ref, job) for ref in found]


def _whole(ref: ImageRef, job: Job) -> ImageRef | ImageError:
    """The reference, unless it is a place that could not be listed: then the reason."""
    if ref.member is None and (is_table(ref.path) or is_archive(ref.path)):
        try:
            list(table_refs(ref.path, job.column) if is_table(ref.path) else members(ref.path))
        except (DataError, UsageError) as error:
            return ImageError(str(ref), str(error))
        return ImageError(str(ref), "holds no image files")
    return ref
