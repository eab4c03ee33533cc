"""Claim: a standalone file gives, in Node too, the probabilities of the runtime on large photographs, within 0.001.

    python benchmarks/standalone.py [--model MODEL] [--node FOLDER] [--seeds 0] [--add] [--quick]

The photographs are the clothing data's test images, enlarged to 1600x1200 and more, with grain, as JPEG; MODEL is a bundle for them;
without one a network is trained for five minutes first. With --node, a copy of examples/node in which `npm install` was run, Node is
asked as well. Beside that stand what decoding at reduced size, which predict does unless it is told otherwise, changes and saves.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from measure import DATA, WEIGHTS, Check, Record, arguments, finish, need_data, results_folder, run_sightline
from PIL import Image

import sightline
from sightline.data.decode import decode

PHOTOGRAPHS, SIZES = 50, ((1600, 1200), (1200, 1600), (2048, 1536), (4000, 3000))
TOLERANCE = 1e-3
ALONE, NODE, REDUCED = "standalone in ONNX Runtime", "standalone in Node", "predict at reduced size"
TIMED = "one photograph of 4000x3000, processor time"


def photographs(folder: Path, count: int, seed: int) -> list[Path]:
    sources = sorted((DATA / "clothing" / "test").glob("*/*.jpg"))
    rng = np.random.default_rng(seed)
    files = []
    for number, place in enumerate(rng.permutation(len(sources))[:count].tolist()):
        width, height = SIZES[number % len(SIZES)]
        picture = Image.open(sources[place]).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        grained = np.asarray(picture).astype(np.int16) + rng.integers(-10, 11, (height, width, 3), np.int8)
        files.append(folder / f"{number:02d}.jpg")
        Image.fromarray(np.clip(grained, 0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def trained(folder: Path, quick: bool) -> Path:
    how = ["--epochs", "1", "--no-trial"] if quick else ["--budget", "5m", "--no-trial"]
    return Path(run_sightline("train", DATA / "clothing", "--weights", WEIGHTS, *how, "--out", folder / "run").last["model"])


def scores(predictions: list[dict[str, float]], labels: tuple[str, ...]) -> np.ndarray:
    return np.array([[found[label] for label in labels] for found in predictions])


def by_runtime(model: sightline.Model, files: list[Path], *, full_size: bool) -> tuple[np.ndarray, float]:
    """(n, k) probabilities, and the processor seconds that one of the last size took."""
    found, seconds = [], []
    for file in files:
        started = time.process_time()
        pixels = decode(file.read_bytes()) if full_size else file
        prediction = model.predict(pixels)
        if Image.open(file).size == SIZES[-1]:
            seconds.append(time.process_time() - started)
        found.append(dict(zip(prediction.labels, prediction.scores, strict=True)))
    return scores(found, model.labels), median(seconds)


def by_file(graph: Path, files: list[Path]) -> tuple[np.ndarray, float]:
    """The same of the standalone file, decoding included."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    found, seconds = [], []
    for file in files:
        started = time.process_time()
        found.append(session.run(["probabilities"], {"image": decode(file.read_bytes())})[0])
        if Image.open(file).size == SIZES[-1]:
            seconds.append(time.process_time() - started)
    return np.stack(found), median(seconds)


def by_node(folder: Path, graph: Path, files: list[Path], labels: tuple[str, ...]) -> np.ndarray:
    words = ["node", "classify.mjs", graph, *files]
    done = subprocess.run(words, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return scores([{entry["label"]: entry["score"] for entry in line["predictions"]} for line in lines], labels)


def compared(ours: np.ndarray, expected: np.ndarray) -> dict[str, float | int]:
    return {"difference": float(np.abs(ours - expected).max()), "changed": int((ours.argmax(1) != expected.argmax(1)).sum())}


def checks(record: Record) -> list[Check]:
    worst = {side: max(record.values(side, "difference")) for side in (ALONE, NODE) if record.values(side, "difference")}
    return [
        Check(f"{side}: largest difference of a probability", f"at most {TOLERANCE:g}", f"{found:.2g}", found <= TOLERANCE)
        for side, found in worst.items()
    ]


def main() -> None:
    parser = arguments(__doc__, [0])
    parser.add_argument("--model", type=Path, help="a bundle for the clothing data, instead of training one")
    parser.add_argument("--node", type=Path, help="a copy of examples/node with its packages installed")
    args = parser.parse_args()
    need_data()
    count = len(SIZES) if args.quick else PHOTOGRAPHS
    claim = "A standalone file gives the runtime's probabilities, in Node too."
    record = Record("standalone", claim, f"{count} photographs", {"sizes": SIZES, "node": args.node is not None})
    results = results_folder(args)
    if args.add:
        record.restore(results)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = args.model or trained(folder, args.quick)
        graph = sightline.export(bundle, standalone=True, out=folder / "it.onnx").model
        model = sightline.Model.open(bundle, engine="onnxruntime", threads=1)
        for seed in args.seeds:
            files = photographs(folder, count, seed)
            expected, whole = by_runtime(model, files, full_size=True)
            alone, by_itself = by_file(graph, files)
            record.add(ALONE, seed, **compared(alone, expected))
            if args.node:
                record.add(NODE, seed, **compared(by_node(args.node, graph, files, model.labels), expected))
            reduced, quickly = by_runtime(model, files, full_size=False)
            record.add(REDUCED, seed, **compared(reduced, expected))
            milliseconds = {"full_size_ms": whole, "standalone_ms": by_itself, "reduced_ms": quickly}
            record.add(TIMED, seed, **{name: round(1000 * seconds, 1) for name, seconds in milliseconds.items()})
    record.write(results, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
