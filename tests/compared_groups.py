"""Test images that are right or wrong, in groups: the trial's numbers of them, and what is read from those."""

from __future__ import annotations

import json

import numpy as np

from sightline.predictions import Decision
from sightline.report.groups import groups_blocks
from sightline.report.html import Page, render_page
from sightline.report.sections import Section, without_empty
from sightline.tasks import load_task
from sightline.trust.groups import groups

LABELS = ("disc", "square", "cross")


def classified(right, targets, attributes, scores=None, related=None, seed=0):
    """The numbers for images that are right or not, with logits that say so."""
    n = len(targets)
    answers = np.where(right, targets, (targets + 1) % 3)
    logits = np.zeros((n, 3))
    # Two others share what is left of the score.
    logits[np.arange(n), answers] = np.log(2 * scores / (1 - scores)) if scores is not None else 3.0
    task = load_task("classify")
    outcomes = task.outcomes({"logits": logits}, targets, LABELS, Decision())
    return groups(attributes, outcomes, targets, LABELS, [f"{row}.png" for row in range(n)], related=related, seed=seed).numbers


def tagged(given, truth, attributes, labels=LABELS):
    raw = {"logits": np.where(given, 2.0, -2.0)}
    outcomes = load_task("tag").outcomes(raw, truth, labels, Decision())
    return groups(attributes, outcomes, truth, labels, [f"{row}.png" for row in range(len(truth))]).numbers


def attribute(numbers, name):
    return next(one for one in numbers["attributes"] if one["attribute"] == name)


def claims(numbers) -> bool:
    """Whether any gap is said to be more than chance: in what is right, in recall, or of a pair."""
    gaps = [gap for one in numbers["attributes"] for gap in (one["gap"], one["recall_gap"]) if gap]
    return any(gap["real"] for gap in gaps) or bool(numbers["pairs"]["found"])


def text_of(numbers) -> str:
    """All words of the page, which is rendered on the way."""
    json.dumps(numbers, allow_nan=False)
    sections = without_empty([Section("groups", "Groups", groups_blocks(numbers))])
    return render_page(Page("t", "t", "s", [], sections, "2026-01-01T00:00:00+00:00", "0"), {})
