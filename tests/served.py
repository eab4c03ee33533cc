"""A bundle made by hand that tells colours apart, and servers of it: in the test's own process, and as a child."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image

from sightline.bundle import Part, write
from sightline.data.prepare import Prepare
from sightline.manifest import Manifest

KINDS = ("red", "green", "blue")
SIDE = 16


def png(colour: tuple[int, int, int], size: tuple[int, int] = (20, 16)) -> bytes:
    """The file of a picture in one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


RED, GREEN, BLUE = png((250, 10, 10)), png((10, 250, 10)), png((10, 10, 250))


def manifest(**changed: Any) -> Manifest:
    nothing: dict[str, Any] = {"config": {}, "versions": {}, "licences": {}, "backbone": {}, "thresholds": {}, "fingerprint": ""}
    fields = {"task": "classify", "labels": KINDS, "prepare": Prepare(SIDE).to_json(), "temperature": 1.0, "seed": 0}
    return Manifest(**{**nothing, **fields, "created": "2026-01-01T00:00:00+00:00", **changed})


def write_colours(path: Path, *, sharpness: float = 8.0, **changed: Any) -> Path:
    """A bundle whose logits are the brightness of each colour, so many times; larger is surer. It has a card, and explains itself."""
    from onnx import TensorProto, helper, numpy_helper

    constants = [numpy_helper.from_array(np.array(values), name) for name, values in (
        ("level", np.float32(sharpness / 255)), ("axes", np.array([2, 3], np.int64)),
    )]  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "level"], ["features"]),
        helper.make_node("ReduceMean", ["features", "axes"], ["embedding"], keepdims=0),
        helper.make_node("Identity", ["embedding"], ["logits"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIDE, SIDE, 3])
    shapes = (("features", ["n", 3, SIDE, SIDE]), ("embedding", ["n", 3]), ("logits", ["n", 3]))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]
    graph = helper.make_graph(nodes, "colours", [images], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    write(path, manifest(**changed), [Part("model.onnx", "graph", model.SerializeToString()), Part("card.md", "card", b"# Colours\n")])
    return path


@dataclass(frozen=True)
class Running:
    """A server that is a child of the test."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]

    @property
    def address(self) -> str:
        return str(self.ready["address"])

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        request = Request(self.address + path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        try:
            with urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except OSError as error:
            if not hasattr(error, "code"):
                raise
            return int(error.code), error.read()

    def predict(self, *files: bytes) -> tuple[int, dict[str, Any]]:
        body, kind = form(files)
        status, text = self.ask("/v1/predict", body, content_type=kind)
        return status, json.loads(text)

    def stopped(self) -> int:
        """The exit code after SIGTERM."""
        self.process.terminate()
        return self.process.wait(30)


def form(files: Sequence[bytes], names: Sequence[str] | None = None) -> tuple[bytes, str]:
    """A multipart body and its content type."""
    line, parts = "a-line-between-parts", []
    for place, data in enumerate(files):
        name = names[place] if names else f"{place}.png"
        head = f'--{line}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'
        parts += [head.encode(), data, b"\r\n"]
    return b"".join([*parts, f"--{line}--\r\n".encode()]), f"multipart/form-data; boundary={line}"


@contextmanager
def serving(*words: str | Path, errors: Path) -> Iterator[Running]:
    """``sightline serve`` on a free port; what it says on stderr goes to a file."""
    command = [sys.executable, "-m", "sightline.cli", "serve", *map(str, words), "--json", "--engine", "onnxruntime"]
    with errors.open("w") as said, subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, stderr=said, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, errors.read_text()
            yield Running(process, json.loads(line))
        finally:
            process.kill()
