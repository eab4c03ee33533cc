"""segmentation-models-pytorch's Unet on MobileNetV2's weights, in as many epochs as fit into the time.

Data are ``SPLIT/{images,masks}`` of one size and a ``classes.json`` with a list of names, the last of which, "void", does not count. The
network is made as the library's README shows, with timm's encoder; images enlarged by up to a half and mirrored at random,
cross-entropy without weights of classes, AdamW at 5e-4, for what is new at 2e-3, falling linearly, 8 images a step. Images stay decoded
in memory, which spares it time. The confusion of each test image is written, (n, k, k) with the truth in rows, and the images' names.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import numpy as np
import peer
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

BATCH, RATE, NEW_RATE, LARGEST, IGNORED, VOID = 8, 5e-4, 2e-3, 1.5, 255, "void"
# The library's networks take images whose sides this divides.
DIVISOR = 32

Example = tuple[str, Tensor, Tensor]


def read(split: str) -> list[Example]:
    """Name, image (3, h, w) in the range and scale of the weights, and the class of each pixel (h, w) int64, of a split."""
    found = []
    for file in sorted((args.data / split / "images").iterdir()):
        with Image.open(file) as image, Image.open(args.data / split / "masks" / f"{file.stem}.png") as mask:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255
            classes = torch.from_numpy(np.array(mask)).long()
        found.append((file.name, (pixels - mean) / std, torch.where(classes == names.index(VOID), IGNORED, classes)))
    return found


def padded(image: Tensor) -> Tensor:
    """(n, c, h, w) with enough of it mirrored at the right and lower edges for the network."""
    height, width = image.shape[2:]
    return functional.pad(image, (0, -width % DIVISOR, 0, -height % DIVISOR), mode="reflect")


def augmented(image: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Enlarged, cropped to its size again, and mirrored, at random."""
    height, width = classes.shape
    scale = 1 + (LARGEST - 1) * torch.rand(1).item()
    size = (round(height * scale), round(width * scale))
    top, left = (int(torch.randint(0, now - before + 1, (1,))) for now, before in zip(size, (height, width), strict=True))
    image = functional.interpolate(image[None], size, mode="bilinear")[0]
    classes = functional.interpolate(classes[None, None].float(), size, mode="nearest-exact")[0, 0].long()
    image, classes = (values[..., top : top + height, left : left + width] for values in (image, classes))
    return (image.flip(2), classes.flip(1)) if torch.rand(1) < 0.5 else (image, classes)


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Of one epoch."""
    for rows in torch.randperm(len(training)).split(BATCH):
        images, classes = zip(*(augmented(*training[row][1:]) for row in rows.tolist()), strict=True)
        yield torch.stack(images), torch.stack(classes)


def new() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(args.seed)
    model = smp.Unet("tu-mobilenetv2_100", encoder_weights=True, classes=len(names) - 1, **given).train()
    fresh = [*model.decoder.parameters(), *model.segmentation_head.parameters()]
    return model, torch.optim.AdamW([{"params": model.encoder.parameters(), "lr": RATE}, {"params": fresh, "lr": NEW_RATE}])


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, classes: Tensor) -> None:
    logits = model(padded(images))[:, :, : classes.shape[1], : classes.shape[2]]
    loss = functional.cross_entropy(logits, classes, ignore_index=IGNORED)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def timed() -> float:
    """Seconds of a step, of a network that is thrown away."""
    (model, optimizer), ahead = new(), itertools.chain.from_iterable(batches() for _ in itertools.count())
    return peer.step_seconds(lambda: step(model, optimizer, *next(ahead)), args.timing)


def train() -> tuple[nn.Module, int]:
    """The network, and the epochs it took."""
    per_epoch = -(-len(training) // BATCH)
    epochs = peer.fitting_epochs(args.seconds, timed() * per_epoch)
    model, optimizer = new()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - done / (epochs * per_epoch))
    done = 0
    while done < epochs and (not done or peer.spent() < args.seconds):  # the machine may have become slower than it was when timed
        for images, classes in batches():
            step(model, optimizer, images, classes)
            schedule.step()
        done += 1
    return model.eval(), done


@torch.inference_mode()
def confusion(model: nn.Module, image: Tensor, classes: Tensor) -> np.ndarray:
    """(k, k) pixels of each class in the truth (rows) and as predicted (columns)."""
    k = len(names) - 1
    found = model(padded(image[None]))[0, :, : classes.shape[0], : classes.shape[1]].argmax(0)
    counted = classes != IGNORED
    return torch.bincount(classes[counted] * k + found[counted], minlength=k * k).reshape(k, k).numpy()


args = peer.arguments(seconds=1200.0, weights=peer.Path(), timing=peer.TIMING_SECONDS, out=peer.Path("unet.npz"))
names = json.loads((args.data / "classes.json").read_text())
if names.index(VOID) != len(names) - 1:
    raise SystemExit(f"{args.data / 'classes.json'}: {VOID} must be the last of the names.")
given = peer.mobilenet_arguments(args.weights)
mean, std = (torch.tensor(given["pretrained_cfg_overlay"][name])[:, None, None] for name in ("mean", "std"))
training, testing = read("train"), read("test")
network, epochs_done = train()
torch.save(network.state_dict(), args.out.with_suffix(".pt"))
peer.say(event="trained", seconds=round(peer.spent(), 2))
confusions = np.stack([confusion(network, image, classes) for _, image, classes in testing])
np.savez(args.out, confusions=confusions, names=np.array([name for name, _, _ in testing]))
total = confusions.sum(axis=0)
either = total.sum(axis=0) + total.sum(axis=1) - total.diagonal()
peer.say(miou=float((total.diagonal()[either > 0] / either[either > 0]).mean()), n=len(testing), epochs=epochs_done)
