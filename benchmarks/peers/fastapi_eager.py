"""A plain FastAPI endpoint as most tutorials have it: a file comes in, Pillow opens it, timm prepares it, eager torch answers.

The endpoint is a ``def``, which FastAPI runs in its threads, so that the loop is not held up; torch uses the processors it is given.
"""

from __future__ import annotations

import io
import json

import peer
import timm
import torch
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

args = peer.arguments(port=8000)
torch.set_num_threads(peer.workers())
network = timm.create_model(f"local-dir:{args.data}", pretrained=True).eval()
labels = json.loads((args.data / "config.json").read_text())["label_names"]
transform = create_transform(**resolve_model_data_config(network), is_training=False)
app = FastAPI()


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/predict")
def predict(file: UploadFile) -> dict[str, object]:
    image = Image.open(io.BytesIO(file.file.read())).convert("RGB")
    with torch.inference_mode():
        scores = network(transform(image)[None]).softmax(1)[0]
    best = int(scores.argmax())
    return {"label": labels[best], "score": float(scores[best])}


uvicorn.run(app, host="127.0.0.1", port=args.port, access_log=False, log_level="warning")
