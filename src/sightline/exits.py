"""How a command ends: an error as one sentence on stderr, and an exit code."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import time
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from sightline.console import printable
from sightline.errors import Interrupted, ResourceError, SightlineError, UsageError
from sightline.processor import launched

# How long a process that has nothing to tell waits for its launcher to end it.
GRACE_SECONDS = 10.0


def exit_code(app: App, arguments: Sequence[str]) -> int:
    """Run a command of ``app``; its exit code (``errors.py``), an error being told on stderr, behind its traceback with ``--debug``."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _spell_out()
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        return _report(UsageError(f"{_sentence(error)} See 'sightline {_command(app, arguments)}--help'."), arguments)
    except SightlineError as error:
        return _report(error, arguments)
    except KeyboardInterrupt as error:
        return _report(Interrupted("Stopped."), arguments, error)
    except BrokenPipeError:  # the reader of our output, such as ``head``, has seen enough; the rest, written on leaving, goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError as error:
        return _report(ResourceError("There is not enough memory; try a smaller --batch-size or --size."), arguments, error)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "is full; make room" if full else f"cannot be read or written ({error.strerror}); mend that"
        return _report(ResourceError(f"{error.filename or 'The disk'}: {what} and run again."), arguments, error)
    except Exception as error:
        fault = f"This is a fault of Sightline, not yours ({type(error).__name__}: {error})"
        return _report(SightlineError(f"{fault}; run again with --debug and report what it prints."), arguments, error)
    return 0


def _spell_out() -> None:
    """Names of files and labels come from anywhere: what the terminal's encoding lacks is spelt out, and ends nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _report(error: SightlineError, arguments: Sequence[str], cause: BaseException | None = None) -> int:
    if _is_told_elsewhere(cause or error):
        # The launcher ends us when the one that tells has ended; were we first, it would end that one before it has told.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(GRACE_SECONDS)
        return error.exit_code
    if "--debug" in arguments:
        import traceback

        traceback.print_exception(cause or error)
    print(printable(f"sightline: {error}"), file=sys.stderr)
    return error.exit_code


def _is_told_elsewhere(error: BaseException) -> bool:
    """Whether another of the processes that train together tells of what ended them; the first one, until they have come together."""
    return bool(getattr(error, "told_elsewhere", (launched() or (0, 1))[0] > 0))


def _sentence(error: CycloptsError) -> str:
    """The parser's message on one line."""
    text = " ".join(str(error).split())
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _command(app: App, arguments: Sequence[str]) -> str:
    return f"{arguments[0]} " if arguments and arguments[0] in app else ""
