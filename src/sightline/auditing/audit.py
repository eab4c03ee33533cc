"""``sightline audit``: read, look, find, and write down what was found: a page, its numbers, and decisions to be edited."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.auditing.cleaning import check_new, write_clean
from sightline.auditing.decisions import FILE, decisions_text
from sightline.auditing.embedding import choose_for_audit, embed
from sightline.auditing.faces import Detector, Face
from sightline.auditing.finding import LEVELS, NOTE, PROBLEM, Finding
from sightline.auditing.findings import all_findings
from sightline.auditing.gate import Usable, usable
from sightline.auditing.page import audit_page
from sightline.auditing.privacy import find_faces
from sightline.config import RAY, AuditConfig, LookConfig, NetworkConfig, ReadConfig
from sightline.data.container import is_archive, stem
from sightline.data.decode import Limits
from sightline.data.folder import read_unlabelled
from sightline.data.look import median_size
from sightline.data.part import Part
from sightline.data.readers import by_path, read_dataset
from sightline.data.reading import Reading
from sightline.data.store import look_once
from sightline.data.table import is_table
from sightline.errors import ConfigError, DataError, UsageError
from sightline.model.choose import Choice
from sightline.processor import processors
from sightline.records import Dataset
from sightline.report.build import now
from sightline.training.run import RUNS, check_outside, new_run

FORMAT = 1
PART = "Leave out --where and --limit for an audit of all images."


@dataclass(frozen=True)
class Audited:
    """What ``audit`` leaves: a folder with ``audit.html``, ``audit.json`` and ``decisions.csv``; the numbers, and copies that were made."""

    folder: Path
    numbers: dict[str, Any]
    copies: tuple[Path, ...] = ()

    @property
    def page(self) -> Path:
        return self.folder / "audit.html"

    @property
    def decisions(self) -> Path:
        return self.folder / FILE

    def to_json(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "page": str(self.page), "decisions": str(self.decisions),
                "copies": list(map(str, self.copies)), **self.numbers}  # fmt: skip

    def lines(self) -> list[str]:
        """For a terminal: the verdict, a line for each finding, and where to go on."""
        found = [f"{entry['level'].upper():<8} {entry['title']}: {entry['sentence']}" for entry in self.numbers["findings"]]
        places = [f"Page       {self.page}", f"Decisions  {self.decisions}", *(f"Copy       {copy}" for copy in self.copies)]
        return [self.numbers["verdict"], *found, *places]


def audit(data: Path, reading: ReadConfig, looking: LookConfig, config: AuditConfig) -> Audited:
    """Audit the images at ``data``; see ``pipeline.audit``."""
    _check_folders(data, config)
    part = Part.asked(looking.where, looking.limit)
    detector = _detector(config)
    limits, read_as = Limits(looking.max_pixels, looking.max_bytes), Reading.of(looking.window, looking.bands)
    dataset, unread = _read(data, reading, limits)
    choice = choose_for_audit(NetworkConfig(config.backbone, config.weights, config.size), median_size(dataset, limits), read_as)
    with _looking(looking, config) as workers:
        how = {"limits": limits, "workers": workers, "limit_bytes": looking.store_limit * 1e9, "reading": read_as}
        store = look_once(dataset, choice.store_side, **how)
    if not store.facts.readable.any():
        raise DataError(f"{data}: none of its {len(dataset)} files can be used as an image ({store.facts.error[0]}).")
    rows, said = part.rows(dataset, store.facts, config.seed)
    if said:
        console.say(said)
        unread.append(Finding("part", NOTE, "Part of the images", f"Of these alone the audit speaks. {said}", PART))
    found = usable(dataset.select(rows), store.select(rows))
    refs = dict(zip(found.names, found.dataset.refs, strict=True))
    faces = None if detector is None else find_faces(detector, refs, limits, read_as)
    findings = [*unread, *all_findings(found, _embeddings(found, choice, config), config.seed, faces)]
    numbers = _numbers(found, findings, choice, config, faces)
    run = new_run(config.out, "audit", stem(data))
    run.write_json("audit.json", numbers)
    run.write_text("audit.html", audit_page(numbers, findings, found))
    run.write_text(FILE, decisions_text(findings, found.dataset, found.names))
    return Audited(run.folder, numbers, _clean_copies(config, found, faces, limits))


def _looking(looking: LookConfig, config: AuditConfig) -> AbstractContextManager[int]:
    """How many workers look at images, here or over Ray; ConfigError for an address without Ray."""
    if config.engine != RAY:
        if config.address is not None:
            raise ConfigError([f"--address {config.address}: is for --engine ray."])
        return nullcontext(looking.workers or processors())
    from sightline.bulk.looking import looking_over_ray

    return looking_over_ray(config.address, looking.workers)


def _check_folders(data: Path, config: AuditConfig) -> None:
    """UsageError for what would be written among the data, which the next run would take for data, and for copies into folders in use, or
    that will be by then: a copy is the only thing in its folder."""
    check_outside("--out", config.out or RUNS, data)
    own = Path(config.out) if config.out else Path(RUNS, "audit", stem(data))
    copies = {flag: Path(to) for flag, to in (("--strip-metadata", config.strip_metadata), ("--blur-faces", config.blur_faces)) if to}
    for flag, folder in copies.items():
        check_outside(flag, folder, data)
        check_new(folder)
        if own.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{flag} {folder}: the audit is written to {own}, and a clean copy into a folder of its own; name another.")
    places = [folder.resolve() for folder in copies.values()]
    if any(one.is_relative_to(other) for one, other in permutations(places, 2)):
        raise UsageError(
            "--strip-metadata and --blur-faces: name two folders, neither of them in the other; "
            "the copy with blurred faces has no metadata either."
        )


def _detector(config: AuditConfig) -> Detector | None:
    """The face detector, opened before anything takes time; UsageError where it is needed and not named."""
    if config.blur_faces and not config.face_detector:
        raise UsageError("--blur-faces: name the model that finds them with --face-detector FILE (a YuNet model, .onnx).")
    return Detector.open(Path(config.face_detector)) if config.face_detector else None


def _read(data: Path, reading: ReadConfig, limits: Limits) -> tuple[Dataset, list[Finding]]:
    """The data set, or all images without labels where these cannot be read, and a finding that says why."""
    try:
        dataset, said = read_dataset(data, reading, limits=limits)
    except DataError as error:
        if is_table(data) or not data.exists() or not (data.is_dir() or is_archive(data)):
            raise
        dataset = read_unlabelled(data)
        console.warn(f"{error} Audited without labels.")
        advice = "If the images have labels, put each into a folder of its label's name, or write a table of paths and labels."
        sentence = f"The images were audited without labels: {error}"
        return by_path(dataset).replace(targets=None), [Finding("no-labels", NOTE, "No labels", sentence, advice)]
    console.say(said)
    return dataset, []


def _embeddings(found: Usable, choice: Choice, config: AuditConfig) -> NDArray[np.float32] | None:
    if not choice.pretrained:
        console.warn(
            "Without pretrained weights, nothing is said of wrong labels and foreign images: --weights FILE or --weights hub gives them."
        )
        return None
    for reason in choice.reasons[:2]:
        console.say(reason)
    return embed(found.store, choice, size=config.size)


def _numbers(
    found: Usable, findings: Sequence[Finding], choice: Choice, config: AuditConfig, faces: Mapping[str, Sequence[Face]] | None
) -> dict[str, Any]:
    """``audit.json``."""
    data = found.dataset
    counted = Counter(finding.level for finding in findings)
    return {
        "format": FORMAT, "sightline": importlib.metadata.version("sightline"), "created": now(), "seed": config.seed,
        "title": stem(data.root), "n": len(data), "refused": len(found.refused), "labels": list(data.labels), "task": data.task or None,
        "network": choice.spec.name if choice.pretrained else None, "faces_looked_for": faces is not None,
        "verdict": _verdict(findings, len(data)), "counts": {level: counted[level] for level in LEVELS},
        "findings": [finding.to_json() for finding in findings],
    }  # fmt: skip


def _verdict(findings: Sequence[Finding], n: int) -> str:
    problems = [finding.title.lower() for finding in findings if finding.level == PROBLEM]
    others = len(findings) - len(problems)
    more = f" {others} other finding{'s' * (others != 1)} to look at." if others else ""
    if problems:
        return f"In {n} images there is what spoils a model or its figures: {'; '.join(problems)}.{more}"
    return f"Nothing was found in {n} images that would spoil a model or its figures.{more}"


def _clean_copies(config: AuditConfig, found: Usable, faces: Mapping[str, Sequence[Face]] | None, limits: Limits) -> tuple[Path, ...]:
    refs, made = dict(zip(found.names, found.dataset.refs, strict=True)), []
    for folder, blurred in ((config.strip_metadata, None), (config.blur_faces, faces)):
        if folder:
            copy = write_clean(refs, Path(folder), strip_metadata=True, faces=blurred, limits=limits)
            copy.announce()
            made.append(copy.folder)
    return tuple(made)
