"""Ultralytics trains its smallest classifier from scratch for a given time, by its own ``time`` setting.

Settings after docs.ultralytics.com, "CIFAR-10 dataset": images of 32 px and the library's defaults; the network is built from its YAML.
Nothing is validated while training, which spares it time. AGPL-3.0: measured here, used by nothing of ours.
"""

from __future__ import annotations

import tempfile

import peer
from ultralytics import YOLO, settings

args = peer.arguments(seconds=600.0, size=32)
settings.update({"sync": False})
with tempfile.TemporaryDirectory() as scratch:
    model = YOLO("yolo26n-cls.yaml")
    model.train(
        data=str(args.data.resolve()), time=(args.seconds - peer.spent()) / 3600, imgsz=args.size, pretrained=False, device="cpu",
        seed=args.seed, workers=peer.workers(), val=False, plots=False, verbose=False, project=scratch, name="run",
    )  # fmt: skip
    peer.say(event="trained")
    found = model.val(
        data=str(args.data.resolve()), split="test", imgsz=args.size, device="cpu", plots=False, verbose=False, project=scratch
    )
n = sum(1 for _ in (args.data / "test").glob("*/*"))
peer.say(accuracy=float(found.top1), n=n)
