"""The command line: flags to ``pipeline``, results to stdout, errors to one sentence and an exit code. No logic of its own."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from sightline.config import (
    AuditConfig,
    BulkConfig,
    CatalogueConfig,
    EmbedConfig,
    EngineConfig,
    ExplainConfig,
    ExportConfig,
    LookConfig,
    PredictConfig,
    ReadConfig,
    RuntimeConfig,
    ServeConfig,
    ShareConfig,
    SignConfig,
    TrainSettings,
    VerifyConfig,
)
from sightline.console import print_each, print_json, show
from sightline.errors import RequirementNotMet
from sightline.exits import exit_code
from sightline.flags import Debug, ImagePaths, Json, ModelPath, SomeModel, app, verb


@verb(*TrainSettings.stages(), ShareConfig)
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

    refused = None
    try:
        run = pipeline.train(data, resume=resume, started=process_start(), **settings)
    except RequirementNotMet as error:
        if error.done is None:
            raise
        refused, run = error, error.done  # a model that is not what was required is there all the same
    if json:
        print_json(run.to_json())
    else:
        show(f"{run.to_json()['verdict']}\nModel   {run.model}\nReport  {run.report}")
    if refused is not None:
        raise refused


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
        return print_json(found.to_json())
    for line in found.lines():
        print(line)
    return None


@verb(ReadConfig, RuntimeConfig, EngineConfig)
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
        return print_json(result)
    print(f"{result['n']} images of the {result['split']} split")
    for name, value in result["metrics"].items():
        interval = result["intervals"].get(name)
        print(f"{name:<10} {value:.4f}" + (f"   95% interval {interval[0]:.4f} to {interval[1]:.4f}" if interval else ""))
    return None


@verb(PredictConfig, RuntimeConfig, BulkConfig)
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

    answers = pipeline.predict(model, images, top=top, **settings)
    if not isinstance(answers, Generator):
        return print_json(answers.to_json()) if json else print(answers)
    with closing(answers):
        return print_each(answers, json, lambda path, found: told(path, found, top), said)


@verb(EmbedConfig, RuntimeConfig, BulkConfig)
def embed(model: ModelPath, images: ImagePaths, /, *, json: Json = False, debug: Debug = False, **settings: Any) -> None:
    """Write the embedding of each image: the numbers that the network's last layer sees, near for images that are alike."""
    from sightline.bulk import run

    done = run.embed(model, images, **settings)
    print_json(done.to_json()) if json else print(done)


@verb(ExplainConfig, RuntimeConfig, EngineConfig)
def explain(model: ModelPath, images: ImagePaths, /, *, json: Json = False, debug: Debug = False, **settings: Any) -> None:
    """Show which parts of images speak for an answer, tested, beside the nearest training images; writes a PNG and JSON of each."""
    from sightline import pipeline

    answers = pipeline.explain(model, images, **settings)
    print_each(
        answers, json, lambda _, found: found.to_json(), lambda found: f"{found.label} {found.score:.1%} by {found.method}; {found.picture}"
    )


@verb(VerifyConfig)
def verify(model: ModelPath, /, *, json: Json = False, debug: Debug = False, **settings: Any) -> None:
    """Replay the images a bundle carries: does this machine compute what was measured?"""
    from sightline import pipeline

    result = pipeline.verify(model, **settings)
    if json:
        return print_json(result)
    print(f"{model}: sound. {result['n']} images replayed, largest difference {result['max_difference']:.1e}.")
    return None


@verb(SignConfig)
def sign(model: SomeModel = None, /, *, json: Json = False, debug: Debug = False, **settings: Any) -> None:
    """Sign a bundle, so that others can ask for your signature with --require-signature; or make the pair of keys for it."""
    from sightline import signing

    done = signing.sign(model, **settings)
    print_json(done.to_json()) if json else print(done)


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
        print_json(result.to_json())
    elif result is not None:
        for line in result.lines():
            console.say(line)
        for variant in result.variants:
            print(f"Model   {variant.model}")
    if refused is not None:
        raise refused


@verb(ServeConfig)
def serve(
    models: Annotated[tuple[Path, ...], Parameter(help="One or several *.sight bundles; the first is the default.")],
    /,
    *,
    json: Json = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Answer requests over HTTP, with a page at the same address, until Ctrl-C or SIGTERM."""
    from sightline import pipeline

    def ready(facts: Mapping[str, Any]) -> None:
        if json:
            return print_json(facts)
        print(f"Serving {', '.join(facts['models'])} at {facts['address']}", flush=True)
        return None

    pipeline.serve(models, ready=ready, **settings)


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
        return print_json(found.to_json())
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
        return print_json(found.to_json())
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
    print_json(found) if json else print("\n".join(lines(found)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(_exit_code(sys.argv[1:] if arguments is None else arguments))


def _exit_code(arguments: Sequence[str]) -> int:
    return exit_code(app, arguments)


if __name__ == "__main__":
    main()
