"""Ultralytics trains its smallest detector from its architecture file for a given time, by its own ``time`` setting.

Settings after docs.ultralytics.com, "Model Training with Ultralytics YOLO": the library's defaults, data in YOLO's format, the network
built from its YAML and from no weights; ``--size`` is the longer side of the images. Nothing is validated between epochs, which spares
it time. What it finds on the test images is written as COCO results, with the settings of its own validation. AGPL-3.0: measured here,
used by nothing of ours.
"""

from __future__ import annotations

import json
import tempfile

import coco_judge
import peer
from ultralytics import YOLO, settings

# Those of the library's validation, which its prediction does not take by itself.
FAINTEST, OVERLAP, MOST = 0.001, 0.7, 300

args = peer.arguments(seconds=1800.0, size=416, truth=peer.Path(), out=peer.Path("yolo.json"))
settings.update({"sync": False})
with tempfile.TemporaryDirectory() as scratch:
    model = YOLO("yolo26n.yaml")
    model.train(
        data=str(args.data.resolve()), time=(args.seconds - peer.spent()) / 3600, imgsz=args.size, pretrained=False, device="cpu",
        seed=args.seed, workers=peer.workers(), val=False, plots=False, verbose=False, project=scratch, name="run",
    )  # fmt: skip
    peer.say(event="trained", seconds=round(peer.spent(), 2))
    scenes, names = coco_judge.read_scenes(args.truth)
    numbers = {name: number for number, name in names.items()}
    found = []
    for scene in scenes:
        (given,) = model.predict(scene.path, imgsz=args.size, conf=FAINTEST, iou=OVERLAP, max_det=MOST, device="cpu", verbose=False)
        categories = [numbers[given.names[int(label)]] for label in given.boxes.cls.tolist()]
        found += coco_judge.results(scene.number, given.boxes.xyxy.tolist(), given.boxes.conf.tolist(), categories)
args.out.write_text(json.dumps(found))
peer.say(n=len(scenes), **coco_judge.precision(args.truth, found))
