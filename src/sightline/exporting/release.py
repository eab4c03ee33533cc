"""Variants of a bundle: made, replayed from their very files, and given their names only where they keep what their source does."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightline import console, replay
from sightline.bundle import Bundle
from sightline.config import ExportConfig
from sightline.data.decode import Limits
from sightline.engines.acceptance import Replay, replay_of
from sightline.engines.adapters import onnx_infer
from sightline.errors import DeviceError, ModelFileError, RequirementNotMet, ResourceError, SightlineError, UsageError
from sightline.exporting.agreement import SOURCE, Agreement, Replayed, Side, replayed_beside
from sightline.exporting.cards import variant_card
from sightline.exporting.forms import FORMS, Content, Opened, placed, work_of
from sightline.exporting.halved import halved
from sightline.exporting.int8 import in_int8, int8_facts
from sightline.exporting.judging import Figures, Judge, Loss, Speed, speeds
from sightline.exporting.material import Images, Material
from sightline.exporting.outcome import Exported, Variant
from sightline.exporting.wanted import Wanted, targets_of
from sightline.processor import processors
from sightline.report.build import library_versions, now
from sightline.runtime import Model

NAMED_IMAGES = 5
# Added to a variant's name: it in the engine that is fastest here, where that is another than the one it is held to its source in.
HERE = ", as here"
# What may be wrong with one variant without losing the others.
FAULTS = (ModelFileError, RequirementNotMet, DeviceError, UsageError)


FLOATS = ("fp32", "fp16")
# The least gap that counts as a near tie; more where more than half of it is allowed to each of two probabilities.
TIE = 1e-3
# Of what is allowed, what weights in fp16 alone may take as ONNX Runtime computes them: other forms fold, and so round, other numbers.
ALONE = 0.5
# Where images have several labels each, a threshold may be crossed by a hair: the share of images, of which one always may.
CROSSED = 0.02


@dataclass(frozen=True)
class Draft:
    """A variant that has no name yet."""

    wanted: Wanted
    path: Path
    opened: Opened
    samples: Agreement
    float_layers: tuple[str, ...]
    rests: bool


def released(
    source: Bundle, making: Sequence[Wanted], material: Material | Images | None, config: ExportConfig, limits: Limits
) -> Exported:
    """Make, judge and write the variants; those refused are told of in the result, and nothing of them is written.

    material  divided for INT8; the test images alone where nothing is quantised; None to judge by the images in the bundle only

    Raises what is wrong with the source or with all of them: ModelFileError, ResourceError, DataError, RequirementNotMet.
    """
    threads, targets = config.threads or processors(), targets_of(making, config, source.path)
    original = Side(source.manifest, onnx_infer(work_of(source.manifest, source.read("graph"), str(source.path), threads)))
    samples = _sound(source, original)
    refused: dict[Wanted, SightlineError] = {}
    test = material.test if isinstance(material, Material) else material
    rests = any(one.precision == "fp16" for one in making) and _rests_needed(source, original, samples, test, config, limits)
    with _workshop(next(iter(targets.values())).parent) as folder:
        contents = _contents(source, making, material, config, limits, threads, rests, refused)
        drafts = []
        for place, (one, content) in enumerate(contents.items()):
            try:
                drafts.append(_drafted(one, content, original, samples, Path(folder, str(place)), config))
            except FAULTS as error:
                refused[one] = error
        tested = _tested(original, drafts, test, limits) if test is not None and drafts else None
        judged = [(draft, *_judged(draft, original, tested, source.path, config)) for draft in drafts]
        refused |= {draft.wanted: error for draft, _, error in judged if error is not None}
        passed = [(draft, loss) for draft, loss, error in judged if error is None]
        figures = _figures(source, original, [draft for draft, _ in passed], tested, samples, config, threads)
        variants = [
            _written(source, draft, loss, (figures[0], row), targets[draft.wanted], config)
            for (draft, loss), row in zip(passed, figures[1:], strict=True)
        ]
    return Exported(tuple(variants), tuple(figures), {one: refused[one] for one in making if one in refused}, config.max_loss)


@contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """A hidden place for drafts in the folder of the variants, which is made where it is not there and goes again if nothing came of it."""
    is_new = not folder.is_dir()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{folder}: the folder of the variants cannot be made ({error.strerror}); give another --out.") from error
    try:
        with tempfile.TemporaryDirectory(prefix=".sightline-", dir=folder) as drafts:
            yield Path(drafts)
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _sound(source: Bundle, original: Side) -> Replay:
    """The images in the bundle, on which this machine has to compute what was recorded before anything is measured against it."""
    _, difference = replay.largest_difference(source, Model(source.manifest, original.infer))
    if not difference <= replay.TOLERANCE:
        raise RequirementNotMet(
            f"{source.path}: its predictions on this machine differ by up to {difference:.3g} from what was recorded, so that nothing "
            "can be measured against it; see 'sightline verify'."
        )
    return replay_of(source, original.task.OUTPUTS)


def _contents(
    source: Bundle, making: Sequence[Wanted], material: Material | Images | None, config: ExportConfig, limits: Limits, threads: int,
    rests: bool, refused: dict[Wanted, SightlineError],
) -> dict[Wanted, Content]:  # fmt: skip
    """What each variant is made of; where there is no INT8 graph, those in INT8 are ``refused``."""
    graph = source.read("graph")
    of = {"graph_sha256": hashlib.sha256(graph).hexdigest(), "created": source.manifest.created}
    made = replace(source.manifest, created=now(), versions=library_versions(), members=())
    quantised, facts = graph, {}
    if isinstance(material, Material):
        try:
            chosen = in_int8(source, material, config, limits, threads)
            quantised, facts = chosen.graph, int8_facts(chosen, material, config)
        except FAULTS as error:
            refused |= {one: error for one in making if one.precision == "int8"}
    found = {}
    for one in making:
        if one not in refused:
            own = {"int8": facts, "fp16": {"rests": rests}}.get(one.precision, {})
            said = {"precision": one.precision, "form": one.form, "of": of, **own}
            found[one] = Content(source, replace(made, variant=said), quantised if one.precision == "int8" else graph, threads)
    return found


def _rests_needed(source: Bundle, original: Side, samples: Replay, test: Images | None, config: ExportConfig, limits: Limits) -> bool:
    """Whether weights in fp16 alone would move an output by too much, on the images in the bundle or the test images."""
    work = work_of(source.manifest, halved(source.read("graph")), str(source.path), config.threads or processors())
    side = {"fp16": Side(source.manifest, onnx_infer(work))}
    replays = [(samples.files, _names(samples))]
    if test is not None:
        replays.append((test.refs, [str(ref) for ref in test.refs]))
    most = 0.0
    for images, names in replays:
        most = max(most, replayed_beside(original, side, images, names, limits=limits, what="Trying fp16").agreements["fp16"].largest)
        if not most <= ALONE * config.max_difference:
            console.say(f"Weights in fp16 alone move an output by {most:.2g}, so that 8 bits more are stored of each.")
            return True
    return False


def _names(samples: Replay) -> list[str]:
    return [f"image {place + 1} in the bundle" for place in range(len(samples.files))]


def _drafted(one: Wanted, content: Content, original: Side, samples: Replay, folder: Path, config: ExportConfig) -> Draft:
    """A variant written, read back and replayed on the images in the bundle, each by itself, so that one that fails fails alone."""
    folder.mkdir()
    console.say(f"Writing {one}.")
    form, source = FORMS[one.form], content.source.path
    path = form.write(content, folder)
    opened = form.open(path, config.engine, content.threads)
    try:
        found = replayed_beside(original, {one.name: opened.side}, samples.files, _names(samples), what=f"Replaying {one}")
    except Exception as error:  # engines raise what they like
        raise RequirementNotMet(f"{source}: not released in {one}, because it cannot be replayed ({error}).") from error
    float_layers = content.manifest.variant.get("float_layers", ())
    return Draft(one, path, opened, found.agreements[one.name], tuple(float_layers), content.rests)


def _tested(original: Side, drafts: Sequence[Draft], test: Images, limits: Limits) -> Replayed:
    """All variants on the test images, each file read once; a bundle also in the engine that is fastest here."""
    sides = {draft.wanted.name: draft.opened.side for draft in drafts}
    for draft in drafts:
        if draft.opened.fastest is not draft.opened.side.infer:
            sides[draft.wanted.name + HERE] = Side(draft.opened.side.manifest, draft.opened.fastest)
    names = [str(ref) for ref in test.refs]
    return replayed_beside(original, sides, test.refs, names, test.targets, limits=limits, what="Replaying the test images")


def _judged(
    draft: Draft, original: Side, tested: Replayed | None, source: Path, config: ExportConfig
) -> tuple[Loss | None, RequirementNotMet | None]:
    """What a variant loses on test images, in the worse of its engines, and why it is not released."""
    name = draft.wanted.name
    loss, worst, named = None, None, draft.samples
    if tested is not None:
        named = tested.agreements[name]
        losses = {side: _loss(tested, side, draft, original) for side in (name, name + HERE) if side in tested.agreements}
        worst = max(losses, key=lambda side: losses[side].points)
        loss = losses[worst]
    reason = _differing(draft, original, config) or (tested and _differing(draft, original, config, tested.agreements[name]))
    if loss is not None and worst is not None and not loss.points <= config.max_loss + 1e-9:
        named = tested.agreements[worst] if tested else named
        reason = (
            f"it loses {loss.points:.2f} points of {original.task.METRIC} on the {loss.n} test images, more than "
            f"--max-loss {config.max_loss:g} ({loss.changed} answers changed)"
        )
    if not reason:
        return loss, None
    said = f"{source}: not released in {draft.wanted}, because {reason}; farthest off: {named.farthest(NAMED_IMAGES)}."
    return loss, RequirementNotMet(said)


def _loss(tested: Replayed, side: str, draft: Draft, original: Side) -> Loss:
    assert tested.targets is not None
    before = Judge(original.task, original.manifest).score(tested.raws[SOURCE], tested.targets)[0]
    after = Judge(original.task, draft.opened.side.manifest).score(tested.raws[side], tested.targets)[0]
    return Loss(100 * (before - after), int(tested.agreements[side].changed.sum()), len(tested.targets))


def _differing(draft: Draft, original: Side, config: ExportConfig, agreement: Agreement | None = None) -> str | None:
    """How a float variant differs from its source on single images by more than it may; INT8 is judged by what it loses."""
    agreement, most = agreement or draft.samples, config.max_difference
    if draft.wanted.precision not in FLOATS:
        return None
    if not agreement.largest <= most:
        return f"its outputs differ by up to {agreement.largest:.3g} from the bundle's, more than {most:g} (--max-difference)"
    changed = int((agreement.changed & (agreement.gaps >= max(TIE, 2 * most))).sum())
    if changed > (0 if original.task.ONE_LABEL else max(1, CROSSED * len(agreement.names))):
        return f"it gives other answers on {changed} of {len(agreement.names)} images, where none was near a tie"
    return None


def _figures(
    source: Bundle, original: Side, drafts: Sequence[Draft], tested: Replayed | None, samples: Replay, config: ExportConfig, threads: int
) -> list[Figures]:
    """The table: the source, then each variant, as what is fastest here answers and takes its time."""
    if not drafts:
        return []
    before = Model.of(source, threads=threads, engine=config.engine)
    infers = {SOURCE: before.infer, **{draft.wanted.name: draft.opened.fastest for draft in drafts}}
    prepare = original.prepare
    speed = speeds(infers, (*prepare.shape, prepare.channels))
    rows = [_row(SOURCE, SOURCE, len(source.read("graph")), None, original, tested, len(samples.files), before.engine, speed[SOURCE])]
    for draft in drafts:
        name, opened = draft.wanted.name, draft.opened
        shown = name + HERE if tested is not None and name + HERE in tested.agreements else name
        rows.append(_row(name, shown, opened.size, draft, opened.side, tested, len(samples.files), opened.engine, speed[name]))
    return rows


def _row(
    name: str, shown: str, size: int, draft: Draft | None, side: Side, tested: Replayed | None, count: int, engine: str, speed: Speed
) -> Figures:  # fmt: skip
    """``shown`` is the side whose answers the row is of."""
    agreements: Mapping[str, Agreement] = {} if tested is None else tested.agreements
    agreement = None if draft is None else agreements.get(shown, draft.samples)
    exact = None if draft is None else agreements.get(name, draft.samples)
    value = interval = None
    if tested is not None and tested.targets is not None:
        value, interval = Judge(side.task, side.manifest).score(tested.raws[shown], tested.targets)
        count = len(tested.targets)
    return Figures(
        name, size / 1e6, side.task.METRIC, value, interval, 0.0 if agreement is None else float(agreement.changed.mean()),
        0.0 if exact is None else exact.largest, count, engine, speed,
    )  # fmt: skip


def _written(source: Bundle, draft: Draft, loss: Loss | None, rows: tuple[Figures, Figures], target: Path, config: ExportConfig) -> Variant:
    """The variant under its name, with its figures and its card."""
    measured: dict[str, Any] = {"samples": draft.samples.largest, "figures": [row.to_json() for row in rows]}
    card = variant_card(source, draft.wanted, rows, loss, draft.float_layers, config.max_loss, draft.rests)
    FORMS[draft.wanted.form].finished(draft.path, {**measured, **({"loss": loss.points} if loss else {})}, card)
    path = placed(draft.path, target)
    return Variant(draft.wanted, path, draft.samples, loss, draft.float_layers, draft.rests)
