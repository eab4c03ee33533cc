"""Engines behind the ``Infer`` seam: an ONNX graph in ONNX Runtime or OpenVINO, on the processor.

ONNX Runtime is in the base install and computes in fp32. OpenVINO is an extra; it reads the same graph and also computes in
bf16, on processors that have instructions for it. A new engine is a function here and a row in ``KINDS``.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.engines.load_cost import load_cost
from sightline.engines.outputs import checked
from sightline.errors import DeviceError, ModelFileError, UsageError, did_you_mean
from sightline.onnx_check import check_graph, graph_io
from sightline.processor import bf16_features, memory_bytes, processor_name
from sightline.records import Infer

# An engine's name on the command line, which is also its package's: what it is called in words.
ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
PRECISIONS = ("fp32", "bf16")
INSTALL = "pip install 'sightline[fast]'"
# Of the memory that this process may use, what ONNX Runtime's graphs may take.
MEMORY_SHARE = 0.5
_STARTING = threading.Lock()
# What is made of a graph while it is loaded may take so much, and so many times what the graph itself takes.
LOAD_BYTES, LOAD_TIMES = 256 << 20, 4
# Weights that are stored in three bytes take twenty while they are made whole (exporting/halved.py), each of which is known beforehand.
WHOLE_TIMES = 8


@dataclass(frozen=True)
class Work:
    """What is to be computed.

    graph    the bytes of an ONNX file with one input, uint8 (n, *shape)
    outputs  names of the outputs that are wanted
    source   begins the messages of errors
    shape    height, width and channels of an image
    threads  processor threads to compute with
    batch    images that will mostly be computed at once, in each stream
    streams  batches that are computed beside each other, each called from a thread of its own, with their share of the threads:
             one has a batch done soonest, as many as there are threads get most done, because no thread waits for another
    int8     whether the graph rounds to eight bits, in which case engines differ by more than in float
    shapes   sizes behind the first of outputs by name: numbers, or names of sizes that are the same wherever the name stands
    """

    graph: bytes
    outputs: tuple[str, ...]
    source: str
    shape: tuple[int, int, int]
    threads: int
    batch: int = 16
    streams: int = 1
    int8: bool = False
    shapes: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """An engine at a precision, and what makes it ready for some work."""

    engine: str
    precision: str
    load: Callable[[Work], Infer]

    @property
    def name(self) -> str:
        """In the words of the flags, such as "openvino bf16"."""
        return f"{self.engine} {self.precision}"

    def __str__(self) -> str:
        return f"{ENGINES.get(self.engine, self.engine)} {version_of(self.engine) or ''}".rstrip() + f" in {self.precision}"


def onnx_infer(work: Work) -> Infer:
    """The graph in ONNX Runtime, in fp32; ModelFileError when it cannot run it."""
    images = _image_input(work)
    # Read when the library is imported; nothing this process does is reported to anyone.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, work.threads // work.streams)
    # Threads that spin while they wait take the processor from those that decode (decision 008).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    # Otherwise a file that is both would be read as ONNX Runtime's own format, which nothing here checks.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    _bound_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    # What depends on no image is computed while the graph is loaded, outside of that bound; versions before 1.27 know no limit.
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(_most_folded(work.graph)))
    try:
        session = onnxruntime.InferenceSession(work.graph, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:
        reason = f"ONNX Runtime cannot load its graph ({_lines(error)[0]})"
        raise ModelFileError(f"{work.source}: {reason}; upgrade onnxruntime or export again.") from error
    names = list(work.outputs)

    def infer(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(names, session.run(names, {images: batch}), strict=True))

    return checked(infer, work)


def _most_folded(graph: bytes) -> int:
    """Bytes that each operator which depends on no image may give while the graph is loaded, so that all together stay within bounds; what
    makes weights whole has a bound of its own, or is counted with the others where there is more of it."""
    cost = load_cost(graph)
    counted = cost.constants - (cost.plain if cost.made <= WHOLE_TIMES * len(graph) else 0)
    return max(1, (LOAD_BYTES + LOAD_TIMES * len(graph)) // max(1, counted))


@lru_cache(1)
def _bound_memory() -> None:
    """Let all of this process's graphs together take no more than a share of the memory: a graph from elsewhere may ask for any amount,
    and the system would end the process, or another one."""
    import onnxruntime

    where = onnxruntime.OrtMemoryInfo("Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT)
    # Grown by what is asked for (1), the rest as it is otherwise (-1). Grown by powers of two it ends at exactly the bound, and weights
    # that are laid out for another graph, which count but are not bounded, would take what is left below nought: to no bound at all.
    most = onnxruntime.OrtArenaCfg(int(MEMORY_SHARE * memory_bytes()), 1, -1, -1)
    onnxruntime.create_and_register_allocator(where, most)


def openvino_infer(work: Work) -> Infer:
    """The graph in OpenVINO, in fp32; ModelFileError when it cannot run it, UsageError when it cannot be imported."""
    return _openvino_infer(work, "f32")


def openvino_bf16_infer(work: Work) -> Infer:
    """As ``openvino_infer``, in bf16; DeviceError where it would be emulated."""
    return _openvino_infer(work, "bf16")


def _openvino_infer(work: Work, precision: str) -> Infer:
    _image_input(work)
    return compiled_in_openvino(lambda _: _of_onnx(work.graph), work, precision)


def _of_onnx(graph: bytes) -> Any:
    """A graph as ONNX and nothing else: by itself OpenVINO tries a file as each of its formats, of which nothing here checks the others."""
    reader = import_openvino().frontend.FrontEndManager().load_by_framework("onnx")
    return reader.convert(reader.load(io.BytesIO(graph)))


def compiled_in_openvino(read: Callable[[Any], Any], work: Work, precision: str = "f32") -> Infer:
    """What ``read`` gives of an OpenVINO core, a model of a single input, computing ``work``, whose graph is not looked at.

    Raises as ``openvino_infer`` does.
    """
    # Where no precision is stated OpenVINO takes bf16 by itself. Threads are those asked for, not one a core, and are not pinned:
    # two processes with one thread each would otherwise share a core and leave another idle.
    options = {
        "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": work.threads, "ENABLE_HYPER_THREADING": True,
        "ENABLE_CPU_PINNING": False, "NUM_STREAMS": work.streams,
    }  # fmt: skip
    openvino = import_openvino()
    try:
        core = _core(openvino)
        model = read(core)
        for result in model.get_results():
            if not result.input(0).get_source_output().get_names() & set(work.outputs):
                model.remove_result(result)
        compiled = core.compile_model(model, "CPU", options)
    except Exception as error:
        raise ModelFileError(f"{work.source}: OpenVINO cannot load its graph ({_said(error)}); use --engine onnxruntime.") from error
    if (given := compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()) != precision:
        raise DeviceError(f"OpenVINO computes in {given} on this processor where {precision} was asked for; use --engine onnxruntime.")
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()  # a request holds its inputs and outputs, so each serves one call at a time
    for _ in range(work.streams):
        requests.put(compiled.create_infer_request())

    def infer(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        if batch.dtype != np.uint8 or batch.shape[1:] != work.shape:  # it would compute something
            raise ValueError(f"The graph takes (n, {', '.join(map(str, work.shape))}) uint8, not {batch.shape} {batch.dtype}.")
        request = requests.get()
        try:
            request.infer({0: batch})
            return {name: request.get_tensor(name).data.copy() for name in work.outputs}
        finally:
            requests.put(request)

    return checked(infer, work)


def _core(openvino: Any) -> Any:
    """One for the process, never let go of. Where there is AMX, OpenVINO gives the thread that first asks for it a stack for signals; were
    it let go of in another thread, as a server does, that memory would go and the stack stay: the next Ctrl-C or SIGTERM was a segmentation
    fault (2026.4).
    """
    with _STARTING:
        return _started(openvino)


@cache
def _started(openvino: Any) -> Any:
    # What arrays are is asked of numpy when the first tensor becomes one. Two threads whose first ones come at once wait for each other
    # for ever (2026.4): one has the interpreter and waits for the answer, the other has asked and waits for the interpreter.
    _ = openvino.Tensor(np.zeros(1, np.uint8)).data
    return openvino.Core()


def _said(error: Exception) -> str:
    """What is wrong, from OpenVINO: its messages begin with its own source files and end in a summary or the cause."""
    lines = _lines(error)
    return next((line.removeprefix("-- ") for line in reversed(lines) if line.startswith("-- ")), lines[-1]).rstrip(".")


def import_openvino() -> Any:
    """The library without its telemetry, which sends when it is imported and has no switch; OpenVINO goes on without it."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
        import openvino.frontend
    except (ImportError, OSError) as error:
        raise UsageError(f"OpenVINO is installed but cannot be imported ({_lines(error)[0]}); install it again: {INSTALL}.") from error
    return openvino


def _image_input(work: Work) -> str:
    """The name of the graph's input, after the graph was checked; ModelFileError when it does not fit the work."""
    check_graph(work.graph, work.source)
    if (weights := load_cost(work.graph, work.source).weights) > LOAD_BYTES + LOAD_TIMES * len(work.graph):
        raise ModelFileError(f"{work.source}: its graph uses the same weights so often that they take {weights >> 20} MB; do not use it.")
    inputs, available = graph_io(work.graph, work.source)
    missing = set(work.outputs) - {value.name for value in available}
    if len(inputs) != 1 or missing:
        raise ModelFileError(f"{work.source}: its graph lacks {', '.join(sorted(missing)) or 'a single input'}; export the model again.")
    stated = inputs[0].shape
    pairs = [] if stated is None else list(zip(stated[1:], work.shape, strict=False))
    if any(isinstance(size, int) and size != ours for size, ours in pairs):
        raise ModelFileError(f"{work.source}: its graph does not take the images of {work.shape} that it prepares; export the model again.")
    return inputs[0].name


def _lines(error: Exception) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]


# Every engine and precision there is; the first is the one that the others are held against.
KINDS = (
    Candidate("onnxruntime", "fp32", onnx_infer),
    Candidate("openvino", "fp32", openvino_infer),
    Candidate("openvino", "bf16", openvino_bf16_infer),
)


def version_of(engine: str) -> str | None:
    """The version installed, without importing it."""
    try:
        return importlib.metadata.version(engine)
    except importlib.metadata.PackageNotFoundError:
        return None


def candidates(engine: str = "auto", precision: str = "auto") -> list[Candidate]:
    """What may compute on this machine, of what was asked for; at least one.

    Raises UsageError for an engine that there is not, is not installed or lacks the precision, DeviceError for bf16 on a
    processor without instructions for it.
    """
    for flag, value, known in (("engine", engine, tuple(ENGINES)), ("precision", precision, PRECISIONS)):
        if value not in ("auto", *known):
            raise UsageError(f"--{flag} {value}: must be one of auto, {', '.join(known)}.{did_you_mean(value, known)}")
    able = set(PRECISIONS if bf16_features() else PRECISIONS[:1])
    if precision == "bf16" and precision not in able:
        raise DeviceError(
            f"--precision bf16: this processor ({processor_name()}) has no instructions for it, and emulated it would be a thousand "
            "times slower; use --precision fp32."
        )
    asked = [kind for kind in KINDS if engine in ("auto", kind.engine) and precision in ("auto", kind.precision)]
    if not asked:
        raise UsageError(f"--engine {engine}: computes in fp32 only; use --precision fp32, or --engine openvino ({INSTALL}).")
    found = [kind for kind in asked if kind.precision in able and version_of(kind.engine)]
    if not found:
        flag = f"--precision {precision}" if engine == "auto" else f"--engine {engine}"
        raise UsageError(f"{flag}: {ENGINES[asked[0].engine]} is not installed; {INSTALL}.")
    return found
