"""torchvision's FCOS on MobileNetV2's weights, in as many epochs as fit into the time.

Data are a folder of COCO files, ``train.json`` and ``test.json``. torchvision has no recipe for fine-tuning a detector of this size. The
network is put together as the docstring of its ``FCOS`` shows, on a pyramid of 128 channels with strides of 8 to 128; images of 320 px on
the short side, batch normalisation frozen, images mirrored and made brighter or darker at random, AdamW at 5e-4 falling linearly,
8 images a step. Its thresholds are the library's but for the score from which boxes are given, which is lowered for a better average
precision. Images stay decoded in memory, which spares it time, and it is tested after each epoch, beside the clock.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections import OrderedDict
from collections.abc import Iterator

import coco_judge
import numpy as np
import peer
import timm
import torch
from PIL import Image
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

BATCH, RATE, CHANNELS = 8, 5e-4, 128
# As torchvision's own default, 1333 for 800.
LONGEST = 1333 / 800
FAINTEST, BRIGHTNESS = 0.01, 0.3
OPSET = 17

Example = tuple[Tensor, dict[str, Tensor]]


class Pyramid(nn.Module):
    """Features of strides 8 to 128, as FCOS takes them."""

    out_channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        body = timm.create_model(
            "mobilenetv2_100", pretrained=True, features_only=True, out_indices=(2, 3, 4), **peer.mobilenet_arguments(args.weights)
        )
        self.body = freeze_batch_norm_2d(body)
        self.pyramid = FeaturePyramidNetwork(body.feature_info.channels(), CHANNELS, LastLevelP6P7(CHANNELS, CHANNELS))

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        return self.pyramid(OrderedDict((str(level), features) for level, features in enumerate(self.body(images))))


def new() -> FCOS:
    torch.manual_seed(args.seed)
    overlay = peer.mobilenet_arguments(args.weights)["pretrained_cfg_overlay"]
    return FCOS(
        Pyramid(), len(names), min_size=args.size, max_size=round(args.size * LONGEST), image_mean=list(overlay["mean"]),
        image_std=list(overlay["std"]), score_thresh=FAINTEST,
    )  # fmt: skip


@functools.cache
def pixels(path: peer.Path) -> Tensor:
    """(3, h, w) uint8"""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def example(scene: coco_judge.Scene) -> Example:
    """An image and its objects, at random mirrored and of another brightness; labels are places among the categories."""
    image, kept = pixels(scene.path) / 255, ~scene.crowd
    boxes = torch.from_numpy(scene.boxes[kept]).float()
    labels = torch.tensor([places[category] for category in scene.categories[kept].tolist()], dtype=torch.int64)
    image = (image * (1 + BRIGHTNESS * (2 * torch.rand(1) - 1))).clamp(0, 1)
    if torch.rand(1) < 0.5:
        image = image.flip(2)
        boxes = torch.stack([image.shape[2] - boxes[:, 2], boxes[:, 1], image.shape[2] - boxes[:, 0], boxes[:, 3]], dim=1)
    return image, {"boxes": boxes, "labels": labels}


def batches() -> Iterator[list[Example]]:
    """Of one epoch."""
    for rows in torch.randperm(len(training)).split(BATCH):
        yield [example(training[row]) for row in rows.tolist()]


def step(model: FCOS, optimizer: torch.optim.Optimizer, batch: list[Example]) -> None:
    images, targets = zip(*batch, strict=True)
    loss = sum(model(list(images), list(targets)).values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def timed() -> float:
    """Seconds of an epoch, from some steps of a network that is thrown away."""
    model, ahead = new().train(), itertools.chain.from_iterable(batches() for _ in itertools.count())
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    return peer.step_seconds(lambda: step(model, optimizer, next(ahead)), args.timing) * -(-len(training) // BATCH)


def train() -> FCOS:
    epochs = peer.fitting_epochs(args.seconds, timed())
    model = new()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    steps = epochs * -(-len(training) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - done / steps)
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in batches():
            step(model, optimizer, batch)
            schedule.step()
        seconds = round(peer.spent(), 2)
        with peer.aside():
            peer.say(event="epoch", epoch=epoch, seconds=seconds, **coco_judge.precision(args.data / "test.json", found(model)))
        if peer.spent() > args.seconds:  # the machine became slower than it was when timed
            break
    return model.eval()


@torch.inference_mode()
def found(model: FCOS) -> list[coco_judge.Result]:
    """What is found on the test images, in their own pixels."""
    model.eval()
    entries = []
    for scene in testing:
        (given,) = model([pixels(scene.path) / 255])
        categories = [numbers[label] for label in given["labels"].tolist()]
        entries += coco_judge.results(scene.number, given["boxes"].tolist(), given["scores"].tolist(), categories)
    return entries


def export(model: FCOS, file: peer.Path) -> None:
    """As ONNX, by the exporter that torchvision's detectors are written for: an image (3, h, w) of the first test image's size."""
    torch.onnx.export(
        model, ([pixels(testing[0].path) / 255],), file, input_names=["image"], output_names=["boxes", "scores", "labels"],
        dynamo=False, opset_version=OPSET,
    )  # fmt: skip


args = peer.arguments(
    seconds=1800.0, size=320, weights=peer.Path(), timing=peer.TIMING_SECONDS, out=peer.Path("fcos.json"), onnx=peer.Path()
)  # fmt: skip
training, names = coco_judge.read_scenes(args.data / "train.json")
testing, _ = coco_judge.read_scenes(args.data / "test.json")
numbers = sorted(names)
places = {number: place for place, number in enumerate(numbers)}
network = train()
torch.save(network.state_dict(), args.out.with_suffix(".pt"))
peer.say(event="trained", seconds=round(peer.spent(), 2))
entries = found(network)
args.out.write_text(json.dumps(entries))
if args.onnx != peer.Path():
    export(network, args.onnx)
peer.say(n=len(testing), **coco_judge.precision(args.data / "test.json", entries))
