"""Boxes and masks with backbones of several families: a bundle's graph gives what the torch network gives, and finds the same."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from conftest import SCENE_LABELS, render_scene
from made_bundles import write_bundle
from sightline.data.prepare import Prepare
from sightline.model.assembly import assembled
from sightline.model.backbone import BackboneSpec, build
from sightline.model.export import export_graph, weights_bytes
from sightline.model.heads import detect, segment
from sightline.model.network import Network, torch_infer
from sightline.predictions import Decision
from sightline.runtime import Model, raw_outputs

pytestmark = pytest.mark.usefixtures("one_thread")
BACKBONES = ("resnet18", "convnext_atto", "efficientnet_b0", "torchvision/mobilenet_v3_small")
LABELS = {"detect": SCENE_LABELS, "segment": ("ground", *SCENE_LABELS)}
# Wider than high, and of pictures that are neither: padded, so that answers have to find their way back.
PREPARE = Prepare(96, "pad", height=64)


def files(numbers: range) -> list[bytes]:
    """Rendered scenes as PNG files."""
    made = []
    for number in numbers:
        sink = io.BytesIO()
        render_scene(number, seed=3, side=80)[0].save(sink, "PNG")
        made.append(sink.getvalue())
    return made


def opinionated(name: str, task: str) -> tuple[Network, BackboneSpec]:
    """A network of random weights that has met the pictures' statistics, and whose head says much of them: half of what it could."""
    torch.manual_seed(0)
    spec = BackboneSpec(name, 96)
    network = assembled(build(spec), {"detect": detect, "segment": segment}[task], len(LABELS[task]), 0.0, PREPARE)
    pictures = np.stack([PREPARE(render_scene(number, seed=3, side=80)[0])[0] for number in range(8)])
    last = network.head.score if task == "detect" else network.head.logits
    torch.nn.init.normal_(last.weight, std=0.5)
    seen: list[torch.Tensor] = []
    hook = last.register_forward_hook(lambda _, __, values: seen.append(values.mean((0, 2, 3))))
    with torch.no_grad():
        for _ in range(20):
            network.train()(torch.from_numpy(pictures))
        seen.clear()
        network.eval()(torch.from_numpy(pictures))
        last.bias -= torch.stack(seen).mean(0)
    hook.remove()
    return network, spec


@pytest.mark.parametrize("task", ["detect", "segment"])
@pytest.mark.parametrize("name", BACKBONES)
def test_the_bundle_gives_what_the_network_gives_and_finds_the_same(name, task, tmp_path):
    network, spec = opinionated(name, task)
    pictures = files(range(100, 104))
    path = write_bundle(
        tmp_path / "it.sight", export_graph(network, PREPARE.shape), pictures[:1], PREPARE, task=task, labels=LABELS[task],
        backbone=spec.to_json(), weights=weights_bytes(network),
    )  # fmt: skip
    model = Model.open(path, engine="onnxruntime", threads=1)
    (given,) = model.raw(pictures)
    ours = torch_infer(network, torch.device("cpu"), model.task.OUTPUTS)
    (expected,) = raw_outputs(ours, PREPARE, pictures)
    for output in model.task.OUTPUTS:
        np.testing.assert_allclose(given.raw[output], expected.raw[output], rtol=0, atol=1e-4)
    for found, known in zip(model.predict(pictures), model.task.decode(expected.raw, LABELS[task], Decision()), strict=True):
        assert found.labels == known.labels
        assert set(found.labels) == set(LABELS[task])
        if task == "detect":
            assert len(found) > 5
            np.testing.assert_allclose(found.boxes, known.boxes, atol=0.011)  # both are rounded to hundredths
            np.testing.assert_allclose(found.scores, known.scores, atol=1e-4)
        else:
            assert (found.classes != known.classes).sum() <= 1  # two classes of a pixel may be equal but for the rounding
