"""Parquet tables with a column of images: their paths, or the bytes of their files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import DataError, ImageError, UsageError, did_you_mean
from sightline.records import ImageRef

if TYPE_CHECKING:
    import pyarrow.parquet as pq

TABLE = ".parquet"
# What columns of images are called, the likeliest first; of a struct, such as ``{"bytes", "path"}``, the bytes are taken.
COLUMNS = ("image", "images", "img", "jpg", "png", "webp", "bytes", "path", "image_path", "file", "file_name", "filename")
BYTES = "bytes"
ROWS_AT_ONCE = 65_536


def check_library() -> None:
    """Raises UsageError where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UsageError("Parquet files need pyarrow, which is not installed: pip install 'sightline[scale]'.") from error


def is_table(path: str | Path) -> bool:
    return str(path).lower().endswith(TABLE)


def table_refs(path: str | Path, column: str | None = None) -> Iterator[ImageRef]:
    """An image for each row: the file that a path names, from where the table lies, or, of bytes, row n as ``TABLE!n``.

    Raises DataError for what is no table, UsageError for a column that it does not have.
    """
    check_library()
    with _reading(path):
        file = _opened(str(path))
        chosen = image_column(path, file, column)
        if _holds_bytes(file, chosen):
            yield from (ImageRef(str(path), member=str(row)) for row in range(file.metadata.num_rows))
            return
        row, folder = 0, os.path.dirname(path)
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=[chosen]):
            for value in batch.column(0).to_pylist():
                yield ImageRef(os.path.join(folder, value)) if value else ImageRef(str(path), member=str(row))
                row += 1


def image_column(path: str | Path, file: pq.ParquetFile, asked: str | None) -> str:
    """The name of the column that holds images."""
    import pyarrow as pa

    schema = file.schema_arrow
    if asked is not None:
        if asked not in schema.names:
            raise UsageError(f"--column {asked}: {path} has no such column.{did_you_mean(asked, schema.names)}")
        return asked
    able = [name for name in COLUMNS if name in schema.names]
    able += [field.name for field in schema if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)]
    if not able:
        raise UsageError(f"{path}: none of its columns ({', '.join(schema.names)}) is known to hold images; name it with --column.")
    return able[0]


def read_cells(path: str, rows: Sequence[int], column: str | None) -> dict[int, bytes | ImageError]:
    """The bytes in some rows of a table, or why there are none; a row group is in memory at a time."""
    found: dict[int, bytes | ImageError] = {row: ImageError(f"{path}!{row}", "the table has no such row") for row in rows}
    try:
        with _reading(path):
            file = _opened(path)
            chosen, start = image_column(path, file, column), 0
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                if inside := [row for row in rows if start <= row < end]:
                    values = file.read_row_group(group, columns=[chosen]).column(0)
                    found.update((row, _cell(f"{path}!{row}", values[row - start].as_py())) for row in inside)
                start = end
    except DataError as error:
        found.update((row, ImageError(f"{path}!{row}", str(error))) for row in rows)
    return found


def _cell(name: str, value: Any) -> bytes | ImageError:
    value = value.get(BYTES) if isinstance(value, dict) else value
    return value if isinstance(value, bytes) and value else ImageError(name, "the table holds nothing here")


def _holds_bytes(file: pq.ParquetFile, column: str) -> bool:
    import pyarrow as pa

    kind = file.schema_arrow.field(column).type
    return not (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _opened(path: str) -> pq.ParquetFile:
    found = os.stat(path)
    return _kept_open(path, found.st_size, found.st_mtime_ns)


@lru_cache(4)
def _kept_open(path: str, size: int, mtime_ns: int) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, memory_map=True)


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Turns what pyarrow raises into a DataError that names the table."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as a parquet table ({str(error).splitlines()[0][:100]}).") from error
