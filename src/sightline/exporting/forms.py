"""The forms that a variant is written in, each with what computes it: a file is judged as its users will run it.

A form is a class here and a row in ``FORMS``. What a file says of itself is a bundle's manifest in each of them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sightline import bundle as bundles
from sightline.bundle import Bundle, Part
from sightline.data.prepare import Prepare
from sightline.engines.acceptance import replay_of
from sightline.engines.adapters import ENGINES, Work, compiled_in_openvino, import_openvino, onnx_infer, version_of
from sightline.errors import ModelFileError
from sightline.exporting.agreement import Side
from sightline.exporting.halved import halved
from sightline.manifest import Manifest
from sightline.records import Infer
from sightline.replay import record
from sightline.runtime import Model
from sightline.tasks import load_task

DESCRIPTION = "sightline.json"
# What every installation has, and what a bundle is held to its source in.
REFERENCE = "onnxruntime"


@dataclass(frozen=True)
class Content:
    """What a variant is made of.

    source    the bundle it is of
    manifest  what the variant says of itself
    graph     the ONNX graph that it is made of: the source's own, or in INT8
    """

    source: Bundle
    manifest: Manifest
    graph: bytes
    threads: int

    @property
    def in_half(self) -> bool:
        return self.manifest.variant["precision"] == "fp16"

    @property
    def rests(self) -> bool:
        """Whether what fp16 rounds off is stored as well."""
        return bool(self.manifest.variant.get("rests"))

    @property
    def stored(self) -> bytes:
        """The graph with its weights as the variant stores them."""
        return halved(self.graph, self.rests) if self.in_half else self.graph


@dataclass(frozen=True)
class Opened:
    """A variant read back from its file.

    side     computed by what the file is made for, in fp32 or INT8
    fastest  computed by what is fastest here; the same where there is no choice
    engine   what is fastest, in words
    size     bytes of what computes: the graph and its weights
    """

    side: Side
    fastest: Infer
    engine: str
    size: int


class Form(Protocol):
    """How a variant is written and read back."""

    def write(self, content: Content, folder: Path) -> Path:
        """Write it into an empty folder, for nobody to see yet; ModelFileError where it cannot be made."""
        ...

    def open(self, path: Path, engine: str, threads: int) -> Opened:
        """Read what was written, with nothing else known of it. ``engine`` is what a bundle is timed with."""
        ...

    def finished(self, draft: Path, measured: dict[str, Any], card: str) -> None:
        """Put what was measured where the form has a place for it; what computes stays byte for byte."""
        ...


def work_of(manifest: Manifest, graph: bytes, source: str, threads: int) -> Work:
    prepare, task = Prepare.from_json(manifest.prepare), load_task(manifest.task)
    return Work(graph, task.OUTPUTS, source, (*prepare.shape, prepare.channels), threads, int8=manifest.is_int8)


class OnnxForm:
    """A bundle without weights to train on and without a report, which are its source's; everything that takes a bundle takes it."""

    def write(self, content: Content, folder: Path) -> Path:
        source, manifest = content.source, content.manifest
        graph = content.stored
        replay = replay_of(source, load_task(manifest.task).OUTPUTS)
        model = Model(manifest, onnx_infer(work_of(manifest, graph, str(source.path), content.threads)), threads=content.threads)
        parts = [Part("model.onnx", "graph", graph, required=True)]
        if source.has("reference"):
            parts.append(Part("reference.npz", "reference", source.read("reference")))
        parts.append(Part("replay.npz", "replay", record(model, replay.files, rendered=replay.rendered)))
        path = folder / "draft.sight"
        bundles.write(path, manifest, parts)
        return path

    def open(self, path: Path, engine: str, threads: int) -> Opened:
        with Bundle.open(path) as bundle:
            graph = bundle.read("graph")
            side = Side(bundle.manifest, onnx_infer(work_of(bundle.manifest, graph, str(path), threads)))
            fastest = Model.of(bundle, threads=threads, engine=engine)
        same = fastest.engine.startswith(ENGINES[REFERENCE])
        return Opened(side, side.infer if same else fastest.infer, fastest.engine, len(graph))

    def finished(self, draft: Path, measured: dict[str, Any], card: str) -> None:
        with Bundle.open(draft) as bundle:
            manifest = replace(bundle.manifest, variant={**bundle.manifest.variant, **measured})
            parts = [Part(member.name, member.role, bundle.read(member.role), member.required) for member in bundle.manifest.members]
        bundles.write(draft, manifest, [*parts, Part("card.md", "card", card.encode())])  # Windows replaces no file that is open


class OpenvinoForm:
    """A folder with OpenVINO's ``model.xml`` and ``model.bin``, and ``sightline.json``."""

    def write(self, content: Content, folder: Path) -> Path:
        path = folder / "model"
        path.mkdir()
        openvino = import_openvino()
        try:
            model = openvino.Core().read_model(model=content.stored)
            openvino.save_model(model, path / "model.xml", compress_to_fp16=False)  # which would round biases and norms as well
        except Exception as error:
            raise ModelFileError(f"{content.source.path}: OpenVINO cannot take its graph ({_last_line(error)}); use --to onnx.") from error
        (path / DESCRIPTION).write_text(_described(content.manifest), encoding="utf-8")
        return path

    def open(self, path: Path, engine: str, threads: int) -> Opened:
        manifest = _manifest((path / DESCRIPTION).read_text(encoding="utf-8"), path / DESCRIPTION)
        work = work_of(manifest, b"", str(path), threads)
        infer = compiled_in_openvino(lambda core: core.read_model(path / "model.xml"), work)
        size = sum((path / name).stat().st_size for name in ("model.xml", "model.bin"))
        return Opened(
            Side(manifest, infer), infer, f"OpenVINO {version_of('openvino')} in fp32{_also(manifest)}, {_counted(threads)}", size
        )

    def finished(self, draft: Path, measured: dict[str, Any], card: str) -> None:
        (draft / "card.md").write_text(card, encoding="utf-8")


class TorchForm:
    """A program of ``torch.export`` in one ``.pt2`` file, with ``sightline.json`` among its extra files. Nothing in it is pickled."""

    def write(self, content: Content, folder: Path) -> Path:
        from sightline.model.program import exported_program

        path = folder / "model.pt2"
        program = exported_program(content.source, content.in_half, content.rests)
        _save_program(program, path, {DESCRIPTION: _described(content.manifest)})
        return path

    def open(self, path: Path, engine: str, threads: int) -> Opened:
        import torch

        from sightline.model.export import quiet

        extra = {DESCRIPTION: ""}
        try:
            with quiet():
                run = torch.export.load(path, extra_files=extra).module()
        except Exception as error:
            raise ModelFileError(f"{path}: torch cannot load it ({_first_line(error)}).") from error
        manifest = _manifest(extra[DESCRIPTION], path)
        names = load_task(manifest.task).OUTPUTS

        def infer(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
            with torch.inference_mode(), _torch_threads(threads):
                found = run(torch.from_numpy(np.ascontiguousarray(batch)))
            return {name: found[name].numpy() for name in names}

        words = f"torch {version_of('torch')} in fp32, {_counted(threads)}"
        return Opened(Side(manifest, infer), infer, words, path.stat().st_size)

    def finished(self, draft: Path, measured: dict[str, Any], card: str) -> None:
        """Nothing: the file stays as it was judged."""


def _save_program(program: Any, path: Path, extra: dict[str, str]) -> None:
    import torch

    from sightline.model.export import quiet

    with quiet():
        torch.export.save(program, path, extra_files=extra)


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """torch computes with so many threads in the block; the number is the whole process's."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _described(manifest: Manifest) -> str:
    return json.dumps(manifest.to_json(), indent=1, sort_keys=True, allow_nan=False)


def _manifest(text: str, path: Path) -> Manifest:
    try:
        return Manifest.from_json(json.loads(text), str(path))
    except ValueError as error:
        raise ModelFileError(f"{path}: has no {DESCRIPTION} that can be read ({error}); export it again.") from error


def _also(manifest: Manifest) -> str:
    return " and int8" if manifest.is_int8 else ""


def _counted(threads: int) -> str:
    return f"{threads} thread{'s'[: threads != 1]}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _last_line(error: Exception) -> str:
    """OpenVINO's messages begin with its own source files."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


FORMS: dict[str, Form] = {"onnx": OnnxForm(), "openvino": OpenvinoForm(), "torch": TorchForm()}


def placed(draft: Path, wanted: Path) -> Path:
    """Give a finished file or folder its name, or the first that is free with -2, -3... behind it, once it is on the disk."""
    for file in draft.iterdir() if draft.is_dir() else [draft]:
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
    stem, suffix = (wanted.name, "") if draft.is_dir() else (wanted.stem, wanted.suffix)
    number, path = 1, wanted
    while os.path.lexists(path):
        number += 1
        path = wanted.with_name(f"{stem}-{number}{suffix}")
    os.replace(draft, path)
    return path
