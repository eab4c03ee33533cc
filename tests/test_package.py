"""package: the bundle is judged on the original files, each of which is read once for both sides."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import sightline
from conftest import QUICK
from sightline import runtime
from sightline.trust import judged

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_test_image_is_read_once_for_the_bundle_and_the_network(shapes, tmp_path, monkeypatch):
    read = Counter()
    decode = runtime.decode_picture

    def counted(source, **options):
        read[str(source)] += 1
        return decode(source, **options)

    monkeypatch.setattr(runtime, "decode_picture", counted)
    monkeypatch.setattr(judged, "record", lambda model, files, rendered: b"")  # replays the images that the bundle carries
    run = sightline.train(shapes, out=str(tmp_path / "run"), **QUICK)
    assert len(read) >= run.numbers["test"]["n"]
    assert set(read.values()) == {1}
    assert 0 <= run.numbers["export"]["max_difference"] < judged.TOLERANCE


def test_a_bundle_that_answers_otherwise_than_the_network_is_refused(shapes, tmp_path, monkeypatch):
    honest = judged.torch_infer

    def other(network, device, outputs):
        infer = honest(network, device, outputs)
        return lambda batch: {name: values + np.arange(values.shape[1], dtype=np.float32) for name, values in infer(batch).items()}

    monkeypatch.setattr(judged, "torch_infer", other)
    with pytest.raises(sightline.errors.RequirementNotMet, match="The exported graph was refused"):
        sightline.train(shapes, out=str(tmp_path / "run"), **QUICK)
    assert not (tmp_path / "run" / "model.sight").exists()
