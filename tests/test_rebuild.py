"""A bundle's weights and its graph are the same network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sightline.bundle import Bundle
from sightline.errors import ModelFileError
from sightline.evaluation.metrics import softmax
from sightline.model.network import torch_infer
from sightline.model.rebuild import network_of
from sightline.runtime import Model, raw_outputs


def test_torch_and_the_runtime_give_the_same_probabilities(run, shapes):
    images = sorted(shapes.rglob("*.png"))
    with Bundle.open(run.model) as bundle:
        network, model = network_of(bundle), Model.of(bundle, engine="onnxruntime")
    infer = torch_infer(network, torch.device("cpu"), model.task.OUTPUTS)
    ours = np.concatenate([batch.raw["logits"] for batch in model.raw(images)])
    theirs = np.concatenate([batch.raw["logits"] for batch in raw_outputs(infer, model.prepare, images)])
    assert ours.shape == (60, 3)
    assert np.abs(softmax(ours) - softmax(theirs)).max() < 1e-4


def test_weights_of_another_network_are_refused(run, monkeypatch):
    with Bundle.open(run.model) as bundle:
        monkeypatch.setitem(bundle.manifest.backbone, "name", "resnet10t")
        with pytest.raises(ModelFileError, match="do not fit the network"):
            network_of(bundle)
