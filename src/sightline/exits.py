"""How a command ends: an error as one sentence on stderr, and an exit code."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from sightline.console import printable
from sightline.errors import Interrupted, ResourceError, SightlineError, UsageError


def exit_code(app: App, arguments: Sequence[str]) -> int:
    """Run a command of ``app``; its exit code (``errors.py``), an error being told on stderr, behind its traceback with ``--debug``."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _report(UsageError(f"{_sentence(error)} See 'sightline {_command(app, arguments)}--help'."), arguments)
    except SightlineError as error:
        return _report(error, arguments)
    except KeyboardInterrupt:
        return _report(Interrupted("Stopped."), arguments)
    except BrokenPipeError:  # the reader of our output, such as ``head``, has seen enough
        sys.stderr.close()
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


def _report(error: SightlineError, arguments: Sequence[str], cause: BaseException | None = None) -> int:
    if "--debug" in arguments:
        import traceback

        traceback.print_exception(cause or error)
    print(printable(f"sightline: {error}"), file=sys.stderr)
    return error.exit_code


def _sentence(error: CycloptsError) -> str:
    """The parser's message on one line."""
    text = " ".join(str(error).split())
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _command(app: App, arguments: Sequence[str]) -> str:
    return f"{arguments[0]} " if arguments and arguments[0] in app else ""
