"""All that an audit finds, from the facts of looking once and, where there is a pretrained network, from what it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sightline.auditing.copy_findings import copy_findings
from sightline.auditing.faces import Face
from sightline.auditing.files import file_findings
from sightline.auditing.finding import LEVELS, RELABEL, Finding
from sightline.auditing.gate import Usable
from sightline.auditing.labels import label_findings
from sightline.auditing.privacy import privacy_findings
from sightline.auditing.quality import quality_findings
from sightline.auditing.scenes import scene_findings
from sightline.auditing.shortcuts import find_shortcuts
from sightline.auditing.suspects import Judged, foreign_images, judge, suspect_labels
from sightline.data.split import units_of

IMAGE_IMBALANCE = "imbalance"


def all_findings(
    found: Usable, embeddings: NDArray[np.float32] | None, seed: int, faces: Mapping[str, Sequence[Face]] | None = None
) -> list[Finding]:
    """What is wrong, to be looked at, or good to know, in this order.

    embeddings  (n, d) of the usable images, or None: then nothing is said of suspect labels and of foreign images
    faces       those that were found, by the image's name; None where none were looked for
    """
    facts, names = found.store.facts, found.names
    # Of boxes and label maps, what labels are audited for is which of them each image shows.
    data = found.dataset.as_tags()
    judged = None if embeddings is None else judge(embeddings, data, found.links, seed)
    findings: list[Finding | None] = [
        *file_findings(found.refused, found.notes),
        *copy_findings(found.dataset, names, found.copies, found.straddling),
        *_of_labels(found),
        _shortcut(found, judged, seed),
        *(() if judged is None else (suspect_labels(judged, data, names), foreign_images(judged, names, found.links, seed))),
        *quality_findings(facts, names),
        *privacy_findings(facts, names, faces),
    ]
    told = [_without_suggestions(finding) if found.dataset.is_scenes else finding for finding in findings if finding is not None]
    return sorted(told, key=lambda finding: LEVELS.index(finding.level))


def _of_labels(found: Usable) -> list[Finding]:
    """Of boxes and label maps, how common classes are is not counted in images."""
    if not found.dataset.is_scenes:
        return label_findings(found.dataset)
    return [*(finding for finding in label_findings(found.dataset.as_tags()) if finding.kind != IMAGE_IMBALANCE), *scene_findings(found)]


def _without_suggestions(finding: Finding) -> Finding:
    """Without new labels for images, where labels are those of objects or pixels."""
    items = [replace(item, suggestion="", label="") if item.suggestion == RELABEL else item for item in finding.items]
    return replace(finding, items=items)


def _shortcut(found: Usable, judged: Judged | None, seed: int) -> Finding | None:
    data = found.dataset
    # What has to be pointed at is not guessed from the light or the size of a picture.
    if data.targets is None or len(data.labels) < 2 or data.is_scenes:
        return None
    images = None if judged is None else judged.probabilities
    units = units_of(data, found.links)
    told = find_shortcuts(found.store.facts, found.names, data.targets, data.labels, images, units, seed)
    return None if told is None else told.finding()
