"""A comparison as one offline page: the sentence, the differences, the runs, and pictures of where they disagree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sightline.comparison import tables
from sightline.comparison.pairs import Comparison, Pair, in_words
from sightline.comparison.runs import Answer, FinishedRun
from sightline.data.container import is_archive
from sightline.data.content import content_id
from sightline.data.decode import decode
from sightline.data.webdataset import is_pattern, member_of
from sightline.errors import ImageError, ResourceError
from sightline.records import ImageRef
from sightline.report import amounts
from sightline.report.build import THUMBNAIL_DECODE_SIDE, library_versions, now
from sightline.report.html import Page, render_page
from sightline.report.pictures import thumbnail
from sightline.report.sections import Section, without_empty
from sightline.tasks import load_task
from sightline.tasks.blocks import Block, Differences, Gallery, Picture, Table, Text
from sightline.tasks.measures import MEASURES, SCENES, measure_of

NAME = "compare.html"
SHOWN = 24
# How a window is told from others behind the name of its picture.
WINDOW = re.compile(r"@(\d+),(\d+),(\d+),(\d+)\Z")
SAME_TEST = "Copies of an image count once. Runs on data that did not come split share all their test images when they share the seed."

Common = tuple[Answer, Answer]


def write_page(comparison: Comparison, out: Path | None = None) -> Path:
    """Write the page to ``out`` (a folder gets ``compare.html``), with -2, -3... behind a name that is taken; returns where it is.

    Raises ResourceError when it cannot be written, ModuleNotFoundError when Jinja2 is not installed.
    """
    text = html(comparison)
    wanted = out or Path(NAME)
    wanted = wanted / NAME if wanted.is_dir() else wanted
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        return _write_new(wanted, text)
    except OSError as error:
        raise ResourceError(
            f"{error.filename or wanted}: could not be written ({error.strerror}); make room or give another --out."
        ) from error


def _write_new(wanted: Path, text: str) -> Path:
    """Write under the first name that is free, whole or not at all."""
    number, path = 1, wanted
    while True:
        try:
            file = path.open("x", encoding="utf-8")
        except FileExistsError:
            number += 1
            path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
            continue
        try:
            with file:
                file.write(text)
        except OSError:
            path.unlink()
            raise
        return path


def html(comparison: Comparison) -> str:
    """The page as text; pictures are made from the original files where they still are."""
    reference = comparison.runs[0]
    galleries = [_galleries(pair, reference.task) for pair in comparison.pairs]
    pictures = _thumbnails(comparison, galleries)
    title = f"Comparison of {in_words([run.name for run in comparison.runs])}"
    sections = [
        Section("runs", "The runs", _run_blocks(comparison)),
        Section("differences", "On the same images", _difference_blocks(comparison), _method(comparison)),
        *(
            Section(f"pair{number}", f"{reference.name} and {pair.run}", blocks, _disagreement(pair, blocks, pictures, reference))
            for number, (pair, blocks) in enumerate(zip(comparison.pairs, galleries, strict=True), 1)
        ),
    ]
    created = now()
    return render_page(
        Page(
            title=title,
            window=title,
            sentence=comparison.sentence,
            facts=[("Runs", str(len(comparison.runs))), ("Task", reference.task), ("Compared with", reference.name),
                   ("Created", amounts.moment(created))],
            sections=without_empty(sections),
            created=created,
            version=library_versions()["sightline"],
        ),
        pictures,
    )  # fmt: skip


def _method(comparison: Comparison) -> str:
    paired = comparison.pairs[0].paired
    text = f"Only images that are test images of both runs count. Interval: {paired.method}, 95%. Test of chance: {paired.test}"
    n = len(comparison.pairs)
    return f"{text}, with Holm's correction for {n} comparisons." if n > 1 else f"{text}."


def _difference_blocks(comparison: Comparison) -> list[Block]:
    first = comparison.runs[0].name
    sentences = [pair.sentence for pair in comparison.pairs] if len(comparison.pairs) > 1 else []
    return [
        Differences(
            f"{_share(comparison)}, less that of {first}",
            [tables.difference_of(pair) for pair in comparison.pairs],
            worse=f"{first} is better",
            better=f"{comparison.runs[1].name} is better" if len(comparison.pairs) == 1 else "the other is better",
            note="The dot is the difference, the whisker its 95% interval.",
        ),
        Text("In words", sentences, listed=True),
        Table("In numbers", *tables.difference_table(comparison)),
        Table("Test images used", *tables.image_table(comparison), note=SAME_TEST),
    ]


def _share(comparison: Comparison) -> str:
    """What the difference is of."""
    measure = MEASURES[measure_of(load_task(comparison.runs[0].task))]
    return "Share right" if measure.whole or measure is MEASURES["overlap"] else measure.name


def _run_blocks(comparison: Comparison) -> list[Block]:
    columns = ("run", *(run.name for run in comparison.runs))
    return [
        Table("What they are", columns, tables.fact_rows(comparison)),
        Table(
            "Metrics", columns, tables.metric_rows(comparison), note="Each run on all its own test images, with 95% intervals in brackets."
        ),
        Table("What differs", columns, tables.setting_rows(comparison), note="Settings and versions that are not the same in all runs."),
    ]


def _galleries(pair: Pair, task: str) -> list[Block]:
    """Where only one of the two is right, or neither, the most confident mistakes first."""
    lost = sorted((both for both in pair.common if both[1].right < both[0].right), key=lambda both: (_gain(both), -both[1].score))
    gained = sorted((both for both in pair.common if both[1].right > both[0].right), key=lambda both: (-_gain(both), -both[0].score))
    neither = sorted(
        (both for both in pair.common if both[0].right < 1 and both[1].right < 1),
        key=lambda both: (both[0].right + both[1].right, -both[0].score - both[1].score),
    )
    whole = all(answer.right in (0, 1) for both in pair.common for answer in both)
    titles = (
        (f"Only {pair.reference} is right", f"Only {pair.run} is right", "Neither is right")
        if whole
        else (f"{pair.reference} is more right", f"{pair.run} is more right", "Neither is wholly right")
    )
    return [_gallery(title, found, pair, task) for title, found in zip(titles, (lost, gained, neither), strict=True)]


def _gain(both: Common) -> float:
    return both[1].right - both[0].right


def _gallery(title: str, found: Sequence[Common], pair: Pair, task: str) -> Gallery:
    note = amounts.number_of(len(found), "image")
    if len(found) > SHOWN:
        note += f", of which the {SHOWN} with the gravest and most confident mistakes are shown"
    pictures = [
        Picture(ours.path, f"truth: {ours.truth or 'nothing'}", f"{_said(pair.reference, ours, task)}\n{_said(pair.run, theirs, task)}")
        for ours, theirs in found[:SHOWN]
    ]
    return Gallery(title, pictures, f"{note}.")


def _said(name: str, answer: Answer, task: str) -> str:
    measure = measure_of(load_task(task))
    if measure in SCENES:
        return f"{name}: {MEASURES[measure].name} {answer.right:.0%}, {answer.score:.0%} expected"
    share = f", {answer.right:.0%} right" if 0 < answer.right < 1 else ""
    return f"{name}: {answer.predicted or 'nothing'}, {answer.score:.0%} sure{share}"


def _disagreement(pair: Pair, blocks: Sequence[Block], pictures: Mapping[str, bytes], reference: FinishedRun) -> str:
    """The lead over a pair's galleries, which says so when picture files are gone."""
    keys = {picture.key for picture in _pictures(blocks)}
    if not keys:
        return ""
    text = f"Where they disagree on their {amounts.number_of(pair.paired.n, 'common test image')}, and where both are wrong."
    if missing := len(keys - pictures.keys()):
        gone = f"{amounts.number_of(missing, 'picture')} of {len(keys)} cannot be shown"
        text += f" {gone}: the files are gone from {reference.root}, or were changed."
    return text


def _pictures(blocks: Iterable[Block]) -> Iterator[Picture]:
    for block in blocks:
        if isinstance(block, Gallery):
            yield from block.pictures


def _thumbnails(comparison: Comparison, galleries: Sequence[Sequence[Block]]) -> dict[str, bytes]:
    """Small pictures by the reference's name for the image, of those whose file is where one of the two runs had it."""
    roots, reference = {run.name: run.root for run in comparison.runs}, comparison.runs[0]
    found: dict[str, bytes] = {}
    for pair, blocks in zip(comparison.pairs, galleries, strict=True):
        wanted = {picture.key for picture in _pictures(blocks)} - found.keys()
        for ours, theirs in pair.common:
            if ours.path in wanted:
                refs = [image_at(roots[pair.reference], ours.path), image_at(roots[pair.run], theirs.path)]
                if picture := _thumbnail(refs, ours.content_id, reference):
                    found[ours.path] = picture
    return found


def image_at(root: Path, name: str) -> ImageRef:
    """Where the image is that a row of ``predictions.csv`` names: below a folder, in an archive or in a shard; or the window."""
    if found := WINDOW.search(name):
        left, top, right, bottom = map(int, found.groups())
        return replace(image_at(root, name[: found.start()]), window=(left, top, right, bottom))
    if shard := member_of(name):
        return ImageRef(str((root.parent if is_pattern(root) else root) / shard[0]), member=shard[1])
    if is_archive(root) and not root.is_dir():
        return ImageRef(str(root), member=name)
    return ImageRef(str(root / name))


def _thumbnail(refs: Sequence[ImageRef], wanted: str, seen_by: FinishedRun) -> bytes | None:
    """A thumbnail as the run saw it, from the first file with this very content, which a run from elsewhere cannot ask for without
    having it."""
    for ref in dict.fromkeys(refs):
        try:
            if content_id(ref, seen_by.limits) == wanted:
                return thumbnail(decode(ref, min_side=THUMBNAIL_DECODE_SIDE, limits=seen_by.limits, reading=seen_by.reading))
        except ImageError:
            continue
    return None
