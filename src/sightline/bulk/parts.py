"""Rows of answers as parquet: a row an image, by its key, with what was found or the reason why it could not be read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.bulk.plan import PART, Plan, parts_done, write_whole
from sightline.errors import ImageError, ResourceError
from sightline.predictions import Prediction
from sightline.records import ImageRef
from sightline.saving.names import writing

if TYPE_CHECKING:
    import pyarrow as pa

# A row as plain values, by the names of its columns.
Row = dict[str, Any]
PREDICT, EMBED = "predict", "embed"


def key_of(ref: ImageRef) -> str:
    """What an image is called in the output, as ``predict`` calls it; bytes of a name that are not UTF-8 are spelt out."""
    return str(ref).encode("utf-8", "backslashreplace").decode()


def refused(ref: ImageRef, reason: str) -> Row:
    """The row of an image that could not be read."""
    return {"key": key_of(ref), "error": reason}


def prediction_row(ref: ImageRef, found: Prediction | ImageError, top: int | None) -> Row:
    """``label`` and ``score`` of the first of the ``predictions``, which are JSON as ``predict --json`` has them, at most ``top``."""
    if isinstance(found, ImageError):
        return refused(ref, found.reason)
    entries = found.to_json(top)
    first = entries[0] if entries else {}
    caution = found.caution.to_json() if found.caution else {}
    return {"key": key_of(ref), "label": first.get("label"), "score": first.get("score"),
            "predictions": json.dumps(entries, ensure_ascii=False), **caution}  # fmt: skip


def embedding_row(ref: ImageRef, found: NDArray[np.floating] | ImageError) -> Row:
    """``embedding`` (d,) float32, as the network gives it."""
    return refused(ref, found.reason) if isinstance(found, ImageError) else {"key": key_of(ref), "embedding": found.astype(np.float32)}


def schema_of(verb: str) -> pa.Schema:
    """The columns of a verb's rows. All but the key may be empty."""
    import pyarrow as pa

    answer = [
        ("label", pa.string()), ("score", pa.float64()), ("abstained", pa.bool_()), ("unfamiliar", pa.bool_()),
        ("candidates", pa.list_(pa.string())), ("predictions", pa.string()),
    ]  # fmt: skip
    columns = answer if verb == PREDICT else [("embedding", pa.list_(pa.float32()))]
    return pa.schema([pa.field("key", pa.string(), nullable=False), *columns, ("error", pa.string())])


def table_of(verb: str, rows: Sequence[Row]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema=schema_of(verb))


def write_part(folder: Path, number: int, verb: str, rows: Sequence[Row]) -> None:
    """Write a chunk's part, which has its name only once it is whole; raises ResourceError where the folder takes no file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table_of(verb, rows), sink, compression="zstd")
    with writing("--out", folder):
        write_whole(folder / PART.format(number), sink.getvalue().to_pybytes())


def counted(folder: Path, plan: Plan) -> tuple[int, int]:
    """(rows, rows with an error) of all parts, from their footers.

    Raises ResourceError for a part that does not hold as many rows as its chunk has images: something else has changed it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = errors = 0
    for number in sorted(parts_done(folder)):
        path = folder / PART.format(number)
        try:
            footer = pq.read_metadata(path)
        except pa.ArrowException:
            footer = None
        if footer is None or number >= plan.chunks or footer.num_rows != plan.size(number):
            raise ResourceError(f"{path}: is not what was written there; delete it, and run again to have it made anew.")
        rows += footer.num_rows
        errors += footer.num_rows - _nulls(footer)
    return rows, errors


def _nulls(footer: Any) -> int:
    """Rows without an error."""
    last = footer.num_columns - 1
    return sum(footer.row_group(group).column(last).statistics.null_count for group in range(footer.num_row_groups))


def write_file(path: Path, rows: Iterable[Sequence[Row]]) -> tuple[int, int]:
    """Embeddings as a single file, .parquet or .npz, which has its name only once it is whole; (rows, rows with an error)."""
    return (_write_arrays if path.suffix.lower() == ".npz" else _write_table)(path, rows)


def _write_table(path: Path, chunks: Iterable[Sequence[Row]]) -> tuple[int, int]:
    import pyarrow.parquet as pq

    count = errors = 0
    temporary = path.with_name(f".{path.name}.begun")
    try:
        with pq.ParquetWriter(temporary, schema_of(EMBED), compression="zstd") as file:
            for rows in chunks:
                file.write_table(table_of(EMBED, rows))
                count += len(rows)
                errors += sum("error" in row for row in rows)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count, errors


def _write_arrays(path: Path, chunks: Iterable[Sequence[Row]]) -> tuple[int, int]:
    """``keys`` (n,) and ``embeddings`` (n, d) float32 of the images that could be read, ``refused`` and ``errors`` (m,) of the rest."""
    rows = [row for each in chunks for row in each]
    good = [row for row in rows if "error" not in row]
    bad = [row for row in rows if "error" in row]
    embeddings = np.stack([row["embedding"] for row in good]) if good else np.zeros((0, 0), np.float32)
    keys, refused = (np.array([row["key"] for row in some], np.str_) for some in (good, bad))
    errors = np.array([row["error"] for row in bad], np.str_)
    temporary = path.with_name(f".{path.name}.begun.npz")
    try:
        np.savez(temporary, embeddings=embeddings, keys=keys, refused=refused, errors=errors)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return len(rows), len(bad)
