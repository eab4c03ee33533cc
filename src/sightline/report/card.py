"""``card.md``: what the model is, what it may be used for and how well it did, from ``report.json`` alone.

The sections follow Mitchell et al. 2019, "Model Cards for Model Reporting"; the front matter is what model hubs read. What was not
measured has no section, or is called so.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from sightline.config import TrainSettings
from sightline.report import amounts
from sightline.report.card_limits import limits, named, worse_at
from sightline.report.card_trial import analyses, factors, interval_text
from sightline.report.card_words import metric, words_of
from sightline.report.html import printable
from sightline.report.markdown import code, plain, points, table
from sightline.report.requirements import COLUMNS, requirement_rows
from sightline.report.sections import tiles_said
from sightline.requirements import at

MOST_LABELS = 40
# Settings that say where something is on the machine of who trained, not what was done.
PLACES = ("out", "workers", "store_limit", "log")
FILES = ("weights", "decisions")


def card(report: Mapping[str, Any], intended_use: str | None = None) -> str:
    """The card as Markdown; ``intended_use`` is what the model's maker says of it."""
    sections = [
        ("Model details", _details(report)),
        ("Intended use", _intended_use(report, intended_use)),
        ("Out-of-scope use", _out_of_scope(report)),
        ("Factors", factors(report)),
        ("Metrics", _metrics(report)),
        ("Evaluation data", _evaluation_data(report)),
        ("Training data", _training_data(report)),
        ("Quantitative analyses", analyses(report)),
        ("Caveats and recommendations", limits(report)),
        ("Requirements", _requirements(report)),
        ("Licences", _licences(report)),
        ("Energy and time", _energy(report)),
        ("To reproduce", _reproduce(report)),
    ]
    written = [f"## {title}\n\n{body}" for title, body in sections if body]
    return "\n\n".join([_front(report), *_head(report), *written]) + "\n"


def _front(report: Mapping[str, Any]) -> str:
    """What hubs read, of what is known; the model's own licence is its maker's to choose, so none is named."""
    measured = [name for name in (metric(report, name)[2] for name in at(report, "test", "metrics") or {}) if name]
    pipeline, tag = words_of(report).hub
    lines = ["library_name: sightline", f"pipeline_tag: {pipeline}", "tags:", *(f"- {tag}" for tag in ("sightline", "onnx", tag))]
    return "\n".join(["---", *lines, *(["metrics:", *(f"- {name}" for name in measured)] if measured else []), "---"])


def _head(report: Mapping[str, Any]) -> list[str]:
    """Title and verdict; a model that misses what was asked of it says so before anything else."""
    unfit = f"> **Unfit for use.** {plain(report['requirements']['sentence'])}" if _is_unfit(report) else ""
    verdict = plain(at(report, "verdict", "sentence") or "")
    said = "Every figure below was measured by Sightline; what was not measured is called so or left out. Pictures are in `report.html`."
    return [part for part in (f"# {plain(report['title'])}", unfit, verdict, said) if part]


def _details(report: Mapping[str, Any]) -> str:
    network = report["network"]
    return points([
        f"It {_with_classes(report, words_of(report).does)}: {_labels(report['data']['labels'])}",
        f"Network: {code(network['backbone'])}, {amounts.parameters(network['parameters'])} parameters, reads images of "
        f"{amounts.input_size(network)}",
        f"Started from: {_weights(network)}",
        f"Made by Sightline {plain(report['sightline'])} on {plain(amounts.moment(report['created']))}",
        "Files: `model.sight` predicts on any machine with Sightline; `sightline verify model.sight` checks that it still does the same",
    ])  # fmt: skip


def _with_classes(report: Mapping[str, Any], text: str) -> str:
    """A sentence with how many classes there are."""
    noun = words_of(report).noun
    return text.format(classes=amounts.number_of(len(report["data"]["labels"]), noun, "classes" if noun == "class" else ""))


def _weights(network: Mapping[str, Any]) -> str:
    return "random weights" if network["weights"] == "random" else code(network["weights"])


def _labels(labels: Sequence[str]) -> str:
    return named([plain(label) for label in labels], MOST_LABELS)


def _intended_use(report: Mapping[str, Any], stated: str | None) -> str:
    """What its maker says, apart from what the figures support; a poor or unfit model supports no use."""
    what = words_of(report).use
    supported = "no use yet" if _is_unfit(report) or at(report, "verdict", "level") == "poor" else "one use"
    images = f"images like the {amounts.number_of(report['test']['n'], 'test image')}"
    measured = f"What was measured supports {supported}{f': {what} {images}' if supported == 'one use' else ''}."
    if stated is None or not stated.strip():
        return f"Its maker stated none. {measured}"
    return f"Its maker states:\n\n> {plain(stated)}\n\nSightline cannot check that. {measured}"


def _is_unfit(report: Mapping[str, Any]) -> bool:
    return at(report, "requirements", "met") is False


def _out_of_scope(report: Mapping[str, Any]) -> str:
    """What the task cannot do, and what was never looked at."""
    empty = [label for label in report["data"]["labels"] if not at(report, "data", "splits", "test", "classes", label)]
    untested = f"What has no test image: {_labels(empty)}" if empty and report["test"].get("n") else ""
    worse = f"What it is clearly worse at, where that matters (see Caveats): {named(worse_at(report))}" if worse_at(report) else ""
    return points(
        [
            *(_with_classes(report, text) for text in words_of(report).beyond),
            untested,
            worse,
            "Images taken otherwise than the test images, with other cameras, in other places or seasons: not measured",
        ]
    )


def _metrics(report: Mapping[str, Any]) -> str:
    """Every figure of the test images with its interval, where it has one."""
    intervals = report["test"].get("intervals", {})
    rows = [
        (metric(report, name)[0], amounts.figure(name, value), interval_text(intervals.get(name)), metric(report, name)[1])
        for name, value in report["test"]["metrics"].items()
    ]
    said = f"On {amounts.number_of(report['test']['n'], 'test image')} that took no part in training.{tiles_said(report)}"
    return f"{said}\n\n{table(('Figure', 'Value', '95% interval', 'What it is'), rows)}" if rows else said


def _evaluation_data(report: Mapping[str, Any]) -> str:
    data = report["data"]
    n_leaks = sum("test" in (leak["a_split"], leak["b_split"]) for leak in data.get("leaks", ()))
    n_groups = sum("test" in entry["splits"] for entry in data.get("straddling", ()))
    clean = at(report, "test", "without_leaks", "metrics") or {}
    without = ", ".join(f"{metric(report, name)[0]} {amounts.figure(name, value)}" for name, value in clean.items())
    return points([
        f"{_split(data, 'test')}, looked at once, when everything was decided",
        f"{_split(data, 'validation')}, on which it was chosen what to keep, and thresholds and calibration",
        plain(data["split_origin"]),
        f"{amounts.number_of(n_leaks, 'copy of test images lies', 'copies of test images lie')} in other splits, which flatters the "
        f"figures{'; without them: ' if without else ''}{without}" if n_leaks else "",
        f"{amounts.number_of(n_groups, 'group of images lies', 'groups of images lie')} in the test split and in others, which flatters "
        "the figures" if n_groups else "",
    ])  # fmt: skip


def _split(data: Mapping[str, Any], name: str) -> str:
    return f"{amounts.number_of(at(data, 'splits', name, 'n') or 0, f'{name} image')}"


def _training_data(report: Mapping[str, Any]) -> str:
    """How many images of what, what was refused and cleaned, and what the audit says of them."""
    data, classes = report["data"], at(report, "data", "splits", "train", "classes") or {}
    decisions = at(report, "audit", "decisions") or {}
    sizes = sorted(classes.items(), key=lambda entry: entry[1])
    said = points([
        f"{amounts.count(at(data, 'splits', 'train', 'n') or 0)} of {amounts.number_of(data['n'], 'image')} in {code(data['root'])}",
        f"Most of {plain(sizes[-1][0])} ({amounts.count(sizes[-1][1])}), fewest of {plain(sizes[0][0])} ({amounts.count(sizes[0][1])})"
        if sizes and sizes[0][1] != sizes[-1][1] else "",
        f"{amounts.number_of(len(data.get('refused', ())), 'file')} could not be read and took no part" if data.get("refused") else "",
        f"By a person's decisions {amounts.number_of(decisions['dropped'], 'image was', 'images were')} dropped and "
        f"{amounts.count(decisions['relabelled'])} relabelled" if decisions else "",
        "The pretrained weights learned from other images before, of which this card knows nothing"
        if report["network"]["weights"] != "random" else "",
    ])  # fmt: skip
    findings = [
        f"**{plain(entry['title'])}.** {plain(entry['sentence'])} {plain(entry['advice'])}"
        for entry in at(report, "audit", "findings") or ()
    ]
    left_out = plain(at(report, "audit", "left_out") or "")
    audited = "\n\n".join(part for part in (points(findings), left_out) if part)
    if at(report, "audit") is not None:
        said += f"\n\n### What the audit of the data found\n\n{audited or 'Nothing.'}"
    return said


def _requirements(report: Mapping[str, Any]) -> str:
    asked = at(report, "requirements") or {}
    return f"{plain(asked['sentence'])}\n\n{table(COLUMNS, requirement_rows(asked))}" if asked else ""


def _licences(report: Mapping[str, Any]) -> str:
    network = report["network"]
    started = (
        "none was used"
        if network["weights"] == "random"
        else plain(network["weights_licence"] or "unknown: ask whoever they come from before the model is passed on")
    )
    return points([
        "Sightline's code: Apache-2.0",
        f"The pretrained weights that it started from: {started}",
        "The trained model and the images: unknown to Sightline; their owner decides",
    ])  # fmt: skip


def _energy(report: Mapping[str, Any]) -> str:
    used, seconds = at(report, "energy") or {}, sum((at(report, "training", "seconds") or {}).values())
    joules, spent = used.get("joules"), used.get("processor_seconds")
    told = f" ({plain(used['source'])})" if used.get("source") else ""
    energy = plain(used.get("source") or "not measured") if joules is None else f"{amounts.energy(joules)}{told}"
    machine = report["environment"]
    return points([
        f"Energy: {energy}",
        f"Processor time: {amounts.duration(spent)}, over all processors" if spent is not None else "",
        f"Time: {amounts.duration(seconds)}, since the run was last started" if seconds else "",
        f"Machine: {plain(machine['processor'])}, {plain(machine['platform'])}",
    ])  # fmt: skip


def _reproduce(report: Mapping[str, Any]) -> str:
    """The command with every setting that is not the default, and the versions it ran with."""
    environment = report["environment"]
    versions = {"sightline": report["sightline"], **environment["versions"]}
    with_versions = ", ".join(f"{plain(name)} {plain(version)}" for name, version in versions.items())
    command = " ".join(["sightline train DATA", f"--seed={environment['seed']}", *_flags(report.get("settings", {}))])
    return "\n\n".join([
        f"```sh\n{command}\n```",
        f"Versions: {with_versions}.",
        "The manifest in `model.sight` holds every setting and the data's fingerprint.",
    ])  # fmt: skip


def _flags(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The settings that are not the defaults, as flags; of a file its name alone, whose folder says nothing to others."""
    defaults = asdict(TrainSettings())
    flags = []
    for stage, fields in settings.items():
        for name, value in fields.items():
            if name in PLACES or name == "seed" or value == defaults.get(stage, {}).get(name, value):
                continue
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                flags.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                text = PurePath(value).name if name in FILES else str(value)
                flags.append(f"--{flag}={shlex.quote(' '.join(printable(text).split()))}")
    return flags
