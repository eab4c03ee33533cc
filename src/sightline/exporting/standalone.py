"""A bundle as one plain ONNX file: decoded pixels of any size in, probabilities out, the same in every language.

Cropping and resizing are in the graph (``resizing.py``), and what makes probabilities of its outputs behind it, so that whoever runs it has
nothing to get wrong but the decoding: upright, red, green and blue, all pixels that the file has. What a program wants to know of the
model stands in its ``metadata_props``, as text and JSON.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.bundle import Bundle
from sightline.config import ExportConfig
from sightline.data.decode import Limits, decode
from sightline.data.prepare import Prepare
from sightline.data.reading import Reading
from sightline.engines.acceptance import replay_of
from sightline.errors import DataError, ImageError, ModelFileError, RequirementNotMet, UsageError
from sightline.evaluation.fading import LEAST
from sightline.evaluation.promises import NEIGHBOURS
from sightline.exporting.formulas import Formulas, Value
from sightline.exporting.material import Images
from sightline.exporting.resizing import prepared
from sightline.exporting.wanted import place_for
from sightline.predictions import Decision
from sightline.records import ImageRef
from sightline.reference import embeddings_of
from sightline.runtime import Model
from sightline.saving.names import free_name, writing
from sightline.tasks import load_task

IMAGE, PROBABILITIES = "image", "probabilities"
# Largest difference of a probability from the runtime's on the same pixels. Sums that are added up in another order give a thousandth
# of it, a wrong filter, crop or rounding far more.
TOLERANCE = 1e-3
NAMED_IMAGES = 5
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Standalone:
    """The file that was written, and how it was held against the runtime on n images.

    difference  the largest of a probability, given the same pixels
    reduced     the same when the runtime reads the files itself, and JPEG much larger than the input at reduced size
    """

    model: Path
    n: int
    difference: float
    reduced: float

    @property
    def variants(self) -> tuple[Standalone, ...]:
        """Itself, as the only file that was written."""
        return (self,)

    def to_json(self) -> dict[str, Any]:
        return {"model": str(self.model), "n": self.n, "max_difference": self.difference, "tolerance": TOLERANCE,
                "max_difference_to_files": self.reduced}  # fmt: skip

    def lines(self) -> list[str]:
        said = f"Its probabilities are within {self.difference:.2g} of the runtime's on {self.n} images, given the same pixels."
        if self.reduced <= TOLERANCE:
            return [said]
        how = "predict decodes a JPEG much larger than the input at reduced size, unless it is given --full-size"
        return [said, f"On the files themselves they differ by up to {self.reduced:.2g}: {how}."]


def write_standalone(bundle: Bundle, config: ExportConfig, test: Images | None, limits: Limits) -> Standalone:
    """Make the file, hold it against the runtime, and write it: to ``config.out``, into that folder, or beside the bundle. None is
    overwritten.

    test  images to replay beside those that the bundle carries

    Raises UsageError for a bundle that cannot be such a file, RequirementNotMet, and nothing is written, where it computes something else.
    """
    if importlib.util.find_spec("onnx") is None:
        raise UsageError("--standalone: needs onnx, which is not installed: pip install 'sightline[train]'.")
    wanted = place_for(config.out, bundle.path.with_name(f"{bundle.path.stem}-standalone.onnx"))
    graph = standalone_graph(bundle)
    run = _session(graph, bundle.path, config.threads)
    n, difference, reduced = _judged(bundle, run, () if test is None else test.refs, limits, config.threads)
    path = free_name(wanted)
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    with writing("--out", path):
        try:
            temporary.write_bytes(graph)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return Standalone(path, n, difference, reduced)


def standalone_graph(bundle: Bundle) -> bytes:
    """The ONNX file: ``image`` (height, width, 3) uint8 to ``probabilities`` (k,) float32."""
    from onnx import TensorProto, compose, helper, load_from_string

    task, prepare, decision = load_task(bundle.manifest.task), Prepare.from_json(bundle.manifest.prepare), bundle.manifest.decision
    if task.SCENES:
        raise UsageError(
            f"--standalone: {bundle.path} answers with {task.SCENES}, which are made of its graph's outputs outside of it; "
            "only models for whole images (classify, tag) can stand alone."
        )
    if prepare.reading != Reading():
        raise UsageError(f"--standalone: {bundle.path} chooses bands or levels of its files, which decoded pixels have no longer.")
    network = compose.add_prefix(load_from_string(bundle.read("graph")), "network/")
    before, after = Formulas("prepare/"), Formulas("decide/")
    before("Identity", before("Unsqueeze", prepared(before, Value(IMAGE, before), prepare), [0]), output=network.graph.input[0].name)
    logits = after.cast(Value("network/logits", after), "float32") / np.float32(decision.temperature)
    if decision.fades_over is not None and (known := embeddings_of(bundle)) is not None:
        logits = logits * _fading(after, known, decision)
    scores = after("Softmax", logits, axis=1) if task.ONE_LABEL else after("Sigmoid", logits)
    after("Squeeze", scores, [0], output=PROBABILITIES)
    graph = helper.make_graph(
        [*before.nodes, *network.graph.node, *after.nodes], "standalone",
        [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["height", "width", 3])],
        [helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [len(bundle.manifest.labels)])],
        [*before.constants, *network.graph.initializer, *after.constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=network.opset_import, ir_version=network.ir_version, functions=network.functions)
    helper.set_model_props(model, _metadata(bundle))
    return bytes(model.SerializeToString(deterministic=True))


def _fading(after: Formulas, known: NDArray[np.floating], decision: Decision) -> Value:
    """``fading`` by the image's similarity to the (m, d) known training images, (1, 1) float32."""
    assert decision.familiar_from is not None
    assert decision.fades_over is not None
    embedding = after.cast(Value("network/embedding", after), "float32")
    length = after("Max", after("ReduceL2", embedding, [1], keepdims=1), np.float32(1e-30))
    rows, lengths = known.astype(np.float16), np.linalg.norm(known.astype(np.float32), axis=1)
    products = (embedding / length) @ after.cast(after.constant(np.ascontiguousarray(rows.T)), "float32")
    products = products / np.where(lengths > 0, lengths, 1).astype(np.float32)
    nearest = after("TopK", products, [min(NEIGHBOURS, len(known))], unused=1, axis=1)
    similarity = after("ReduceMean", nearest, [1], keepdims=1)
    distance = after("Min", similarity - np.float32(decision.familiar_from), np.float32(0)) / np.float32(decision.fades_over)
    return after("Max", after("Exp", distance), np.float32(LEAST))


def _metadata(bundle: Bundle) -> dict[str, str]:
    """Texts by name; all but the task, the time and the hash are JSON."""
    manifest = bundle.manifest
    with bundle.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    decision = {name: value for name, value in asdict(manifest.decision).items() if value is not None}
    told = {"labels": list(manifest.labels), "prepare": manifest.prepare, "decision": decision, "licences": manifest.licences,
            "unfit": list(manifest.unfit)}  # fmt: skip
    texts = {name: json.dumps(value, sort_keys=True, ensure_ascii=False) for name, value in told.items()}
    return {"task": manifest.task, "created": manifest.created, "source_sha256": digest, **texts}


def _session(graph: bytes, source: Path, threads: int | None) -> Run:
    """The file in ONNX Runtime, as anyone would run it; ModelFileError where the bundle's parts do not make one graph."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is imported
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has types of its own
        raise ModelFileError(f"{source}: its parts do not fit together ({error}); copy or train it again.") from error
    return lambda pixels: np.asarray(session.run([PROBABILITIES], {IMAGE: pixels})[0])


def _judged(bundle: Bundle, run: Run, refs: Iterable[ImageRef], limits: Limits, threads: int | None) -> tuple[int, float, float]:
    """How many images could be read, and the largest differences as ``Standalone`` has them; RequirementNotMet beyond the tolerance."""
    model = Model.of(bundle, engine="onnxruntime", precision="fp32", threads=threads)
    carried = replay_of(bundle, model.task.OUTPUTS).files
    images: list[tuple[str, bytes | ImageRef]] = [(f"image {number} in the bundle", file) for number, file in enumerate(carried, 1)]
    images += [(str(ref), ref) for ref in refs]
    apart, reduced = [], 0.0
    for name, source in console.track(images, len(images), "Replaying images"):
        try:
            pixels = decode(source, name=name, limits=limits)
        except ImageError as error:
            console.warn(f"{error}; left out.")
            continue
        raw = next(model.raw([pixels, source], limits=limits)).raw
        ours, (same, from_file) = run(pixels), model.task.probabilities(model.kept(raw), model.manifest.decision)
        apart.append((float(np.abs(ours - same).max()), name))
        reduced = max(reduced, float(np.abs(ours - from_file).max()))
    if not apart:
        raise DataError(f"{bundle.path}: none of {len(images)} images to replay could be read, so that nothing is known of such a file.")
    wrong = sorted((entry for entry in apart if not entry[0] <= TOLERANCE), reverse=True)
    if wrong:
        named = "; ".join(f"{name} by {difference:.2g}" for difference, name in wrong[:NAMED_IMAGES])
        raise RequirementNotMet(
            f"{bundle.path}: not written to stand alone, because {len(wrong)} of {len(apart)} images get other probabilities than the "
            f"runtime gives them, beyond {TOLERANCE:g} ({named}); use the bundle, and compare the versions that 'sightline doctor' lists."
        )
    return len(apart), max(difference for difference, _ in apart), reduced
