"""The audit inside ``train``: what is found goes into the run's folder and its report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sightline import console
from sightline.auditing.effect import effect_of_decisions
from sightline.auditing.embedding import embed
from sightline.auditing.finding import NOTE
from sightline.auditing.findings import all_findings
from sightline.auditing.gate import Gated
from sightline.data.store import Store
from sightline.model.choose import Choice
from sightline.records import Dataset

UNMEASURED = "What the decisions changed was not measured, as without them a class has no training image to be learned from."


def audit_of_run(original: Dataset, store: Store, gated: Gated, choice: Choice, seed: int, *, decided: bool, quick: bool) -> dict[str, Any]:
    """The report's ``audit`` section: ``findings`` on what passed the gate, what ``decisions`` changed, and what was left out and why.

    original, store  the data as they came, and all their images
    decided          whether a person's decisions were applied
    quick            without what needs a network to look at every image
    """
    # A run that goes on has no weights file any more: a network built without it would see nothing.
    looks = choice.weights is not None and not quick
    embeddings = embed(store.select(store.facts.readable), choice) if looks else None
    rows = np.cumsum(store.facts.readable) - 1
    own = {str(ref): row for row, ref in enumerate(original.refs)}
    seen = None if embeddings is None else embeddings[[rows[own[str(ref)]] for ref in gated.dataset.refs]]
    findings = all_findings(gated, seen, seed)
    for finding in findings:
        if finding.level != NOTE:
            console.warn(f"{finding.title}: {finding.sentence}")
    left_out = "" if looks else _left_out(choice, quick, decided)
    effect = None
    if decided and embeddings is not None:
        effect = effect_of_decisions(original.as_tags(), store, embeddings, replace(gated, dataset=gated.dataset.as_tags()))
        left_out = left_out if "before" in effect else UNMEASURED
    return {"findings": [finding.to_json() for finding in findings], "decisions": effect, "left_out": left_out}


def _left_out(choice: Choice, quick: bool, decided: bool) -> str:
    """What was not looked for, and why."""
    why = "to keep the budget" if choice.pretrained and quick else "as there are no pretrained weights to compare images with"
    what = "wrong labels and foreign images were not looked for" + (", and what the decisions changed was not measured" if decided else "")
    return f"{what[0].upper()}{what[1:]}, {why}; 'sightline audit DATA' looks for them."
