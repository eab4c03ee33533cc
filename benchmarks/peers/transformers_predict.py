"""transformers labels a folder of images with its ``image-classification`` pipeline, in batches and with loading processes.

The network is timm's, in timm's layout, which transformers wraps; settings after its documentation of pipelines ("Pipeline batching").
"""

from __future__ import annotations

import json

import peer
from transformers import pipeline

BATCH = 16

args = peer.arguments(model=peer.Path(), out=peer.Path("labels.json"))
files = sorted(args.data.glob("*.jpg"))
classify = pipeline("image-classification", model=str(args.model), device="cpu")
answers = classify([str(file) for file in files], batch_size=BATCH, num_workers=peer.workers(), top_k=1)
args.out.write_text(json.dumps({file.name: answer[0]["label"] for file, answer in zip(files, answers, strict=True)}))
peer.say(n=len(files))
