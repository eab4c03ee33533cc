"""The command line: flags to ``pipeline``, results to stdout, errors to one sentence and an exit code. No logic of its own."""

from __future__ import annotations

import errno
import json as jsonlib
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import CycloptsError, Parameter
from cyclopts.validators import Number

from sightline.config import (
    AuditConfig,
    CatalogueConfig,
    ExplainConfig,
    ExportConfig,
    LookConfig,
    PredictConfig,
    ReadConfig,
    RuntimeConfig,
    TrainSettings,
    VerifyConfig,
)
from sightline.errors import DataError, Interrupted, RequirementNotMet, ResourceError, SightlineError, UsageError
from sightline.flags import Debug, ImagePaths, Json, ModelPath, app, verb


@verb(*TrainSettings.stages())
def train(
    data: Annotated[
        Path | None,
        Parameter(help="A folder or archive (.zip, .tar) with a folder of images a class, or a table (.csv, .tsv, .jsonl) of paths."),
    ] = None,
    *,
    resume: Annotated[Path | None, Parameter(help="A run's folder: go on after its last finished epoch, as it was started.")] = None,
    json: Json = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Check, split and learn a folder of images; writes a run with the bundle and the report."""
    from sightline import pipeline
    from sightline.training.budget import process_start

    run = pipeline.train(data, resume=resume, started=process_start(), **settings)
    if json:
        _print_json(run.to_json())
    else:
        print(run.to_json()["verdict"])
        print(f"Model   {run.model}\nReport  {run.report}")


@verb(ReadConfig, LookConfig, AuditConfig)
def audit(
    data: Annotated[Path, Parameter(help="A folder or archive of images, in a folder for each class or not, or a table of paths.")],
    /,
    *,
    json: Json = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Check images and labels before anything is learned from them; writes a page, and decisions.csv to be edited."""
    from sightline import pipeline

    found = pipeline.audit(data, **settings)
    if json:
        return _print_json(found.to_json())
    for line in found.lines():
        print(line)
    return None


@verb(ReadConfig, RuntimeConfig)
def evaluate(
    model: ModelPath,
    data: Annotated[Path, Parameter(help="A labelled folder, archive or table.")],
    /,
    *,
    split: Annotated[str | None, Parameter(help="train, validation, test or all; the test images when not given.")] = None,
    json: Json = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Measure a bundle on labelled images."""
    from sightline import pipeline

    result = pipeline.evaluate(model, data, split=split, **settings)
    if json:
        return _print_json(result)
    print(f"{result['n']} images of the {result['split']} split")
    for name, value in result["metrics"].items():
        interval = result["intervals"].get(name)
        print(f"{name:<10} {value:.4f}" + (f"   95% interval {interval[0]:.4f} to {interval[1]:.4f}" if interval else ""))
    return None


@verb(PredictConfig, RuntimeConfig)
def predict(
    model: ModelPath,
    images: ImagePaths,
    /,
    *,
    top: Annotated[int, Parameter(help="How many classes to list for an image.", validator=Number(gte=1))] = 5,
    json: Json = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Tell what is on images, one line for each."""
    from sightline import pipeline
    from sightline.saving.formats import told

    def said(found: Any) -> str:
        words: str = found.in_words(top)
        return f"{found.caution}: {words}" if found.caution and found.caution.abstained else words

    _print_each(pipeline.predict(model, images, **settings), json, lambda path, found: told(path, found, top), said)


@verb(ExplainConfig, RuntimeConfig)
def explain(model: ModelPath, images: ImagePaths, /, *, json: Json = False, debug: Debug = False, **settings: Any) -> None:
    """Show which parts of images speak for an answer, tested, beside the nearest training images; writes a PNG and JSON of each."""
    from sightline import pipeline

    answers = pipeline.explain(model, images, **settings)
    _print_each(
        answers, json, lambda _, found: found.to_json(), lambda found: f"{found.label} {found.score:.1%} by {found.method}; {found.picture}"
    )


@verb(VerifyConfig)
def verify(model: ModelPath, /, *, json: Json = False, debug: Debug = False, **settings: Any) -> None:
    """Replay the images a bundle carries: does this machine compute what was measured?"""
    from sightline import pipeline

    result = pipeline.verify(model, **settings)
    if json:
        return _print_json(result)
    print(f"{model}: sound. {result['n']} images replayed, largest difference {result['max_difference']:.1e}.")
    return None


@verb(ReadConfig, ExportConfig)
def export(model: ModelPath, /, *, json: Json = False, debug: Debug = False, **settings: Any) -> None:
    """Write variants of a bundle, smaller, faster or for other engines, each only if it keeps what the bundle does."""
    from sightline import console, pipeline

    refused = None
    try:
        result = pipeline.export(model, **settings)
    except RequirementNotMet as error:
        refused, result = error, error.done  # the variants that were written are told of all the same
    if result is not None and json:
        _print_json(result.to_json())
    elif result is not None:
        for line in result.lines():
            console.say(line)
        for variant in result.variants:
            print(f"Model   {variant.model}")
    if refused is not None:
        raise refused


@verb(CatalogueConfig)
def backbones(
    pattern: Annotated[
        str | None, Parameter(help="A part of a name, a shell pattern such as 'vit_*', or a full name for all about it.")
    ] = None,
    /,
    *,
    json: Json = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """List backbones with their size, speed and licence; a few well-known ones without a pattern."""
    from sightline import console, pipeline

    found = pipeline.backbones(pattern, **settings)
    for problem in filter(None, (entry.problem for entry in found.entries)):
        console.warn(problem)
    if json:
        return _print_json(found.to_json())
    if found.matching == 1:
        for name, value in found.entries[0].to_json().items():
            print(f"{name.replace('_', ' '):<18} {'-' if value is None else value}")
        return None
    console.show_table(found.rows(), right=("million", "px", "images/s"))
    for sentence in found.hints():
        console.say(sentence)
    return None


@verb()
def compare(
    runs: Annotated[tuple[Path, ...], Parameter(help="Runs' folders, or the bundles inside them; the others are held against the first.")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="File for the page; compare.html when not given, -2 behind a name that is taken.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare finished runs on the same test images; writes a page with where they disagree."""
    from sightline import pipeline

    found = pipeline.compare(runs, out=out)
    if json:
        return _print_json(found.to_json())
    from sightline.comparison.tables import terminal_lines

    print("\n".join(terminal_lines(found)))
    if found.page:
        print(f"\nPage  {found.page}")
    return None


@verb()
def doctor(*, json: Json = False, debug: Debug = False) -> None:
    """List versions, processor and devices, and what is missing."""
    from sightline.diagnosis import examine, lines

    found = examine()
    if json:
        return _print_json(found)
    print("\n".join(lines(found)))
    return None


def _print_each(answers: Iterable[tuple[str, Any]], json: bool, in_json: Callable[[str, Any], Any], in_words: Callable[[Any], str]) -> None:
    """A line an image, those that could not be read on stderr or as JSON with their reason; DataError where all are such."""
    good = 0
    for path, found in answers:
        failed = isinstance(found, DataError)
        good += not failed
        if json:
            _print_json({"path": path, "error": found.reason} if failed else in_json(path, found))
        else:
            print(f"{path}: {found.reason if failed else in_words(found)}", file=sys.stderr if failed else sys.stdout)
    if not good:
        raise DataError("None of the images could be read.")


def _print_json(value: Any) -> None:
    print(jsonlib.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _report(UsageError(f"{_sentence(error)} See 'sightline {_command(arguments)}--help'."), arguments)
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
    print(f"sightline: {error}", file=sys.stderr)
    return error.exit_code


def _sentence(error: CycloptsError) -> str:
    """The parser's message on one line."""
    text = " ".join(str(error).split())
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _command(arguments: Sequence[str]) -> str:
    return f"{arguments[0]} " if arguments and arguments[0] in app else ""


if __name__ == "__main__":
    main()
