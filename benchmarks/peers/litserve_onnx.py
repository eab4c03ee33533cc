"""LitServe with the same ONNX file in ONNX Runtime, prepared as its bundle says with Pillow, in batches of up to ``--batch``.

As its documentation has it: one worker on the processor, images decoded in ``decode_request``, batches that wait for at most 5 ms.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import litserve
import numpy as np
import onnxruntime
import peer
from PIL import Image


class Classifier(litserve.LitAPI):
    """``folder`` holds ``model.onnx`` and ``contract.json`` with the size, the share that is kept, and the labels."""

    def __init__(self, folder: Path, threads: int, **settings: object) -> None:
        super().__init__(**settings)
        self.folder, self.threads = folder, threads

    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.session = onnxruntime.InferenceSession(self.folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.contract = json.loads((self.folder / "contract.json").read_text())

    def decode_request(self, request):  # without types, which LitServe would take for what the body is
        image = Image.open(io.BytesIO(request["file"].file.read())).convert("RGB")
        side, kept = self.contract["size"], min(image.size) * self.contract["crop_fraction"]
        left, top = (image.width - kept) / 2, (image.height - kept) / 2
        return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, (left, top, left + kept, top + kept)))

    def predict(self, images: np.ndarray) -> np.ndarray:
        if images.ndim == 3:
            return self.session.run(["logits"], {"images": images[None]})[0][0]
        return self.session.run(["logits"], {"images": images})[0]

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def encode_response(self, logits):
        return {"label": self.contract["labels"][int(logits.argmax())]}


if __name__ == "__main__":
    args = peer.arguments(port=8000, batch=16)
    batching = {"max_batch_size": args.batch, "batch_timeout": 0.005} if args.batch > 1 else {}
    server = litserve.LitServer(Classifier(args.data, peer.workers(), **batching), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=args.port, generate_client_file=False, log_level="warning")
