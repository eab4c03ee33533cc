"""Variants of a bundle: made, replayed from their very files, and given their names only where they keep what their source does."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightline import console, replay
from sightline.bundle import Bundle
from sightline.config import ExportConfig
from sightline.data.decode import Limits
from sightline.engines.acceptance import Replay, replay_of
from sightline.engines.adapters import onnx_infer
from sightline.errors import DeviceError, ModelFileError, RequirementNotMet, SightlineError, UsageError
from sightline.exporting.agreement import SOURCE, Agreement, Replayed, Side, replayed_beside
from sightline.exporting.cards import variant_card
from sightline.exporting.forms import FORMS, Content, Opened, placed, work_of
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


@dataclass(frozen=True)
class Tolerance:
    """What is allowed of a float variant on every image: the task's difference, and the gap to the second answer below which another
    answer is a near tie."""

    difference: float
    tie: float


# In fp32 engines agree to about 1e-6. Weights in fp16 are rounded by up to 2^-12 of themselves: of 214 photographs the largest difference
# was 0.0025 to 0.009 with MobileNetV2 (decision 028). Allowed is what an engine in bf16, which rounds eight times as much and more than
# the weights, is taken at (engines/choice.py). An answer may be another where each of two probabilities moves by as much.
TOLERANCES = {"fp32": Tolerance(1e-4, 1e-3), "fp16": Tolerance(2e-2, 4e-2)}
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
    with tempfile.TemporaryDirectory(prefix=".sightline-", dir=next(iter(targets.values())).parent) as folder:
        contents = _contents(source, making, material, config, limits, threads, refused)
        drafts = []
        for place, (one, content) in enumerate(contents.items()):
            try:
                drafts.append(_drafted(one, content, original, samples, Path(folder, str(place)), config))
            except FAULTS as error:
                refused[one] = error
        test = material.test if isinstance(material, Material) else material
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
    refused: dict[Wanted, SightlineError],
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
            said = {"precision": one.precision, "form": one.form, "of": of, **(facts if one.precision == "int8" else {})}
            found[one] = Content(source, replace(made, variant=said), quantised if one.precision == "int8" else graph, threads)
    return found


def _drafted(one: Wanted, content: Content, original: Side, samples: Replay, folder: Path, config: ExportConfig) -> Draft:
    """A variant written, read back and replayed on the images in the bundle, each by itself, so that one that fails fails alone."""
    folder.mkdir()
    console.say(f"Writing {one}.")
    form, source = FORMS[one.form], content.source.path
    path = form.write(content, folder)
    opened = form.open(path, config.engine, content.threads)
    names = [f"image {place + 1} in the bundle" for place in range(len(samples.files))]
    try:
        found = replayed_beside(original, {one.name: opened.side}, samples.files, names, what=f"Replaying {one}")
    except Exception as error:  # engines raise what they like
        raise RequirementNotMet(f"{source}: not released in {one}, because it cannot be replayed ({error}).") from error
    float_layers = content.manifest.variant.get("float_layers", ())
    return Draft(one, path, opened, found.agreements[one.name], tuple(float_layers))


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
    reason = _differing(draft, original) or (tested and _differing(draft, original, tested.agreements[name]))
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


def _differing(draft: Draft, original: Side, agreement: Agreement | None = None) -> str | None:
    """How a float variant differs from its source on single images by more than it may; INT8 is judged by what it loses."""
    agreement, tolerance = agreement or draft.samples, TOLERANCES.get(draft.wanted.precision)
    if tolerance is None:
        return None
    if not agreement.largest <= tolerance.difference:
        return f"its outputs differ by up to {agreement.largest:.3g} from the bundle's, more than {tolerance.difference:g}"
    changed = int((agreement.changed & (agreement.gaps >= tolerance.tie)).sum())
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
    card = variant_card(source, draft.wanted, rows, loss, draft.float_layers, config.max_loss)
    FORMS[draft.wanted.form].finished(draft.path, {**measured, **({"loss": loss.points} if loss else {})}, card)
    path = placed(draft.path, target)
    return Variant(draft.wanted, path, draft.samples, loss, draft.float_layers)
