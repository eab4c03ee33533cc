"""effect: what decisions changed is measured on images that neither probe has seen, or said not to be."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sightline.auditing import inside
from sightline.auditing.effect import _come_back, effect_of_decisions
from sightline.auditing.gate import gate
from sightline.config import DataConfig
from sightline.data.decode import Limits
from sightline.data.store import look_once
from sightline.records import Dataset, ImageRef
from sightline.report.audit import audit_blocks
from sightline.tasks.blocks import Text

pytestmark = pytest.mark.usefixtures("empty_cache", "decoded")


def looked(folder, pictures, targets, **columns):
    """A data set of noise, of which equal ``pictures`` are the same file, with its store."""
    refs = []
    for row, seed in enumerate(pictures):
        path = folder / f"{row:03d}.png"
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)).save(path)
        refs.append(ImageRef(str(path)))
    dataset = Dataset(folder, "classify", ("healthy", "rust"), refs, np.array(targets, np.int64), **columns)
    return dataset, look_once(dataset, 32, limits=Limits(), workers=1, limit_bytes=1e9)


@pytest.mark.parametrize("came_split", [True, False])
def test_what_is_tied_to_an_image_that_was_held_out_does_not_come_back(tmp_path, came_split):
    # Rows 0 and 2 are copies of row 1, of which 0 is the first of its kind; row 3 is of the group of row 4; row 5 is alone.
    splits = np.array(["train", "test", "train", "train", "test", "train", "train", "validation"])
    groups = np.array(["", "", "", "ann", "ann", "bob", "bob", ""])
    came, store = looked(tmp_path, [0, 0, 0, 1, 2, 3, 4, 5], [0, 1] * 4, groups=groups, splits=splits if came_split else None)
    assert _come_back(came, store, np.array([1, 4, 6, 7]), np.array([7, 1, 4])).tolist() == [5]
    assert _come_back(came, store, np.arange(8), np.array([7, 1, 4])).tolist() == []


def test_a_class_that_had_no_training_image_before_is_said_to_leave_the_effect_unmeasured(tmp_path, monkeypatch):
    came, store = looked(tmp_path, range(25), [0] * 24 + [1])
    cleaned = came.replace(targets=np.array([0] * 12 + [1] * 13))
    parted = [gate(cleaned, store, DataConfig(), seed) for seed in range(20)]
    own = str(came.refs[24])
    held, learned = (
        next(gated for gated in parted if (gated.dataset.splits[list(map(str, gated.dataset.refs)).index(own)] == "train") == learns)
        for learns in (False, True)
    )
    embeddings = np.random.default_rng(0).normal(size=(25, 4)).astype(np.float32)
    assert effect_of_decisions(came, store, embeddings, held) == {"dropped": 0, "relabelled": 12}
    assert effect_of_decisions(came, store, embeddings, learned)["relabelled"] == 12

    monkeypatch.setattr(inside, "embed", lambda store, choice: embeddings)
    choice = SimpleNamespace(weights="file", pretrained=True)
    audit = inside.audit_of_run(came, store, held, choice, 0, decided=True, quick=False)
    said = {block.title: block.paragraphs for block in audit_blocks(audit) if isinstance(block, Text)}
    assert said["Not looked for"] == [inside.UNMEASURED]
    assert said["What the decisions changed"] == ["0 images dropped, 12 relabelled."]
    assert "was not measured, as without them a class has no training image" in inside.UNMEASURED
