"""What a person is told while something runs: lines and progress bars, on stderr only. And results on stdout: JSON, lines, a table."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sightline.errors import DataError

Item = TypeVar("Item")

# What would move a terminal's cursor or change its colours, were it printed as it is: names of files and labels come from anywhere.
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
# A bar for something short would only flicker.
PATIENCE_SECONDS = 2.0
PLAIN_INTERVAL_SECONDS = 30.0


def printable(text: str) -> str:
    """The text with control characters spelt out, apart from ends of lines and tabs."""
    return text.translate(CONTROLS)


@dataclass
class _Voice:
    hushed: bool = False
    listener: Callable[[str], None] | None = None


_VOICE = _Voice()


def hush() -> None:
    """Say nothing more in this process: it is one of several that do the same, and another one tells of it."""
    _VOICE.hushed = True


def say_to(listener: Callable[[str], None]) -> None:
    """Give each line to ``listener``, as the user sits before another process, which says it there."""
    _VOICE.listener = listener


def say(text: str) -> None:
    """One line to the user."""
    if _VOICE.hushed:
        return
    if _VOICE.listener is not None:
        _VOICE.listener(text)
    else:
        print(printable(text), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """One line that should not be overlooked."""
    say(f"! {text}")


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """The same items; a progress bar once it takes over two seconds, or a plain line now and then without a terminal."""
    if sys.stderr.isatty() and not _VOICE.hushed:
        yield from _bar(items, total, what)
        return
    start = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - said > PLAIN_INTERVAL_SECONDS:
            said = now
            left = f", {_clock((now - start) / done * (total - done))} left" if done else ""
            say(f"{what}: {done} of {total}{left}")
        yield item


def _bar(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Lines that go to stdout are results, and rich would write them to its own console.
    progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
    start, shown = time.monotonic(), False
    task = progress.add_task(what, total=total)
    try:
        for item in items:
            if not shown and time.monotonic() - start > PATIENCE_SECONDS:
                progress.start()
                shown = True
            yield item
            progress.advance(task)
    finally:
        if shown:
            progress.stop()


def show(text: str) -> None:
    """A line of a result, on stdout."""
    if not _VOICE.hushed:
        print(text, flush=True)


def print_json(value: Any) -> None:
    """A result on a line of stdout."""
    # What is spelt out in another encoding would be no JSON.
    readable = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    show(json.dumps(value, ensure_ascii=not readable, allow_nan=False))


def print_each(
    answers: Iterable[tuple[str, Any]], as_json: bool, in_json: Callable[[str, Any], Any], in_words: Callable[[Any], str]
) -> None:
    """A line an image, those that could not be read on stderr or as JSON with their reason; DataError where all are such."""
    good = 0
    for path, found in answers:
        failed = isinstance(found, DataError)
        good += not failed
        if as_json:
            print_json({"path": path, "error": found.reason} if failed else in_json(path, found))
        else:
            print(printable(f"{path}: {found.reason if failed else in_words(found)}"), file=sys.stderr if failed else sys.stdout)
    if not good:
        raise DataError("None of the images could be read.")


def show_table(rows: Sequence[Mapping[str, str]], *, right: Sequence[str] = ()) -> None:
    """Rows under the headings that are their keys, the columns in ``right`` aligned for numbers; without a terminal each is one line."""
    headings = list(rows[0])
    if not sys.stdout.isatty():
        lines = [{heading: heading for heading in headings}, *rows]
        widths = {heading: max(len(line[heading]) for line in lines) for heading in headings}
        for row in lines:
            cells = (row[heading].rjust(width) if heading in right else row[heading].ljust(width) for heading, width in widths.items())
            print("  ".join(cells).rstrip())
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    Console(markup=False, highlight=False).print(table)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"
