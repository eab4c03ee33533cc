"""Claim: a bundle is data. Whatever is done to its bytes, it is refused in one sentence or does what a bundle does, and nothing else.

    python benchmarks/fuzz_bundles.py [--seeds 0 1...] [--count N] [--way bytes|hashes] [--first 0] [--only NUMBER] [--add] [--quick]

Two ways. "bytes": any byte of the file is changed, which the checksums should find. "hashes": the manifest, the graph, the arrays or the
report are changed and all sizes and hashes made to fit, so that what lies behind the checks is reached: then the bundle is opened,
verified, predicts an image and explains it. ONNX Runtime may take no more than a gigabyte in this.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import fuzzing
import mutations
import numpy as np
from numpy.random import Generator
from odd_graphs import change_graph, operators
from odd_members import change_arrays, change_bytes, change_json, change_report

from sightline import pipeline
from sightline.bundle import Bundle
from sightline.config import ExplainConfig
from sightline.engines import adapters
from sightline.explanation.explain import Explainer
from sightline.processor import memory_bytes
from sightline.records import ImageRef
from sightline.runtime import Model
from sightline.saving.formats import told

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures"
GRAPH_MEMORY, MEMORY = 1 << 30, 3 << 30


@lru_cache(1)
def samples() -> tuple[dict[str, bytes], ...]:
    """The members of a sound bundle of each task, the manifest among them."""
    found = []
    for path in sorted(FIXTURES.glob("*.sight")):
        with zipfile.ZipFile(path) as archive:
            found.append({name: archive.read(name) for name in archive.namelist()})
    return tuple(found)


@lru_cache(1)
def files() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(FIXTURES.glob("*.sight")))


def prepare() -> None:
    """Everything imported and used once, and ONNX Runtime's memory bounded."""
    adapters.MEMORY_SHARE = GRAPH_MEMORY / memory_bytes()
    operators()
    for path in FIXTURES.glob("*.sight"):
        pipeline.verify(path, threads=1)
        Explainer.open(path, ExplainConfig(random_maps=1), engine="onnxruntime", threads=1)


def use(path: Path, folder: Path) -> None:
    """Everything that a bundle is opened for."""
    with Bundle.open(path) as bundle:
        bundle.numbers()
        model = Model.of(bundle, engine="onnxruntime", threads=1)
    image = np.full((40, 50, 3), 90, np.uint8)
    shown = told("it", model.predict(image), 5)
    json.dumps(shown, allow_nan=False)
    pipeline.verify(path, threads=1)
    file = folder / "image.png"
    if not file.exists():
        from PIL import Image

        Image.fromarray(image).save(file)
    explainer = Explainer.open(path, ExplainConfig(out=str(folder / "explained"), random_maps=1), engine="onnxruntime", threads=1)
    found = explainer(ImageRef(str(file)))
    for written in (found.picture, found.picture.with_suffix(".json")):
        written.unlink()


def attempt_bytes(seed: int, number: int, folder: Path) -> None:
    rng = np.random.default_rng([seed, number])
    data = bytearray(files()[number % len(files())])
    kind = int(rng.integers(len(mutations.PLAIN) + 1))
    if kind < len(mutations.PLAIN):
        mutations.PLAIN[kind](rng, data)
    else:
        mutations.splice(rng, data, files())
    path = folder / "it.sight"
    path.write_bytes(data)
    use(path, folder)


def attempt_hashes(seed: int, number: int, folder: Path) -> None:
    path = folder / "it.sight"
    path.write_bytes(with_hashes(np.random.default_rng([seed, number]), samples()[number % len(samples())]))
    use(path, folder)


def with_hashes(rng: Generator, members: dict[str, bytes]) -> bytes:
    """A bundle whose members were changed and whose sizes and hashes fit."""
    made = dict(members)
    manifest = json.loads(made.pop("manifest.json"))
    name = WEIGHTED[rng.integers(len(WEIGHTED))]
    if name == "manifest.json":
        for _ in range(rng.integers(1, 3)):
            change_json(rng, manifest if rng.integers(8) == 0 else {key: manifest[key] for key in manifest if key != "members"}, manifest)
    else:
        ways = CHANGES[name]
        made[name] = ways[rng.integers(len(ways))](rng, made[name])
    for member in manifest["members"] if isinstance(manifest.get("members"), list) else []:
        if isinstance(member, dict) and name == member.get("name"):
            member.update(size=len(made[name]), sha256=hashlib.sha256(made[name]).hexdigest())
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, data in made.items():
            archive.writestr(name, data)
    return sink.getvalue()


CHANGES: dict[str, tuple[Callable[[Generator, bytes], bytes], ...]] = {
    "model.onnx": (change_bytes, change_graph, change_graph), "reference.npz": (change_bytes, change_arrays, change_arrays),
    "replay.npz": (change_bytes, change_arrays, change_arrays), "report.json": (change_bytes, change_report),
}  # fmt: skip
WEIGHTED = ("manifest.json", "manifest.json", "model.onnx", "model.onnx", "model.onnx", "reference.npz", "replay.npz", "report.json")


if __name__ == "__main__":
    claim = "Whatever is done to a bundle, it is refused in one sentence or does what a bundle does."
    ways = {"bytes": (attempt_bytes, 100_000), "hashes": (attempt_hashes, 5_000)}
    fuzzing.main(__file__, __doc__, "fuzz_bundles", claim, ways, MEMORY, prepare)
