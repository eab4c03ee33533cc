"""timm labels a folder of images: eager torch, fp32, and torch's DataLoader with as many processes as there are processors.

The network is read from a folder in timm's own layout, by ``local-dir:``; transform and batch are those of timm's ``inference.py``.
"""

from __future__ import annotations

import json

import peer
import timm
import torch
from timm.data import ImageDataset, create_transform, resolve_model_data_config
from torch.utils.data import DataLoader

BATCH = 64


class Files(ImageDataset):
    """Images and their places."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return super().__getitem__(index)[0], index


args = peer.arguments(model=peer.Path(), out=peer.Path("labels.json"))
network = timm.create_model(f"local-dir:{args.model}", pretrained=True).eval()
labels = json.loads((args.model / "config.json").read_text())["label_names"]
files = Files(str(args.data), transform=create_transform(**resolve_model_data_config(network), is_training=False))
found: dict[str, str] = {}
with torch.inference_mode():
    for images, places in DataLoader(files, BATCH, num_workers=peer.workers()):
        for place, answer in zip(places.tolist(), network(images).argmax(1).tolist(), strict=True):
            found[files.filename(place, basename=True)] = labels[answer]
args.out.write_text(json.dumps(found))
peer.say(n=len(found))
