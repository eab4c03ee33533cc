"""What stands in a sound ZIP with right hashes and is wrong all the same: arrays, reports and images that do not fit the rest."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import render_shape
from sightline import pipeline
from sightline.bundle import Bundle, Part, arrays_to_bytes, write
from sightline.config import ExplainConfig
from sightline.errors import ModelFileError
from sightline.explanation.explain import Explainer
from sightline.reference import embeddings_of, reference_of, seen_by
from sightline.runtime import Model

SOUND = Path(__file__).parent / "fixtures" / "format-1-classify.sight"


def remade(path: Path, *, without: tuple[str, ...] = (), data: dict[str, bytes] | None = None, **manifest: Any) -> Path:
    """The kept bundle with other members or another manifest, its hashes right."""
    with Bundle.open(SOUND) as bundle:
        members = [member for member in bundle.manifest.members if member.role not in without]
        parts = [Part(member.name, member.role, (data or {}).get(member.role, bundle.read(member.role))) for member in members]
        write(path, replace(bundle.manifest, **manifest), parts)
    return path


def with_arrays(path: Path, role: str, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Path:
    with Bundle.open(SOUND) as bundle:
        arrays = change(bundle.arrays(role))
    return remade(path, data={role: arrays_to_bytes(arrays)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a | {"seen": a["seen"].astype(np.float32)}, "seen is of another kind"),
        (lambda a: a | {"embeddings": a["embeddings"][0]}, "embeddings is of another kind"),
        (lambda a: a | {"embeddings": a["embeddings"][:0]}, "its embeddings are none"),
        (lambda a: a | {"embeddings": a["embeddings"] * np.float16(np.nan)}, "its embeddings are none"),
        (lambda a: a | {"embeddings": a["embeddings"][:2]}, "its images are not as many as its embeddings"),
        (lambda a: {name: a[name] for name in a if name != "targets"}, "it lacks targets"),
        (lambda a: {name: a[name] for name in a if name != "thumb_ends"}, "it lacks thumb_ends"),
        (lambda a: a | {"targets": a["targets"] + 1}, "its targets are none of its labels"),
        (lambda a: a | {"targets": np.zeros((3, 4), bool)}, "its targets are none of its labels"),
        (lambda a: a | {"thumb_ends": a["thumb_ends"][::-1]}, "its pictures do not end where it says"),
        (lambda a: a | {"thumb_ends": a["thumb_ends"] + 1}, "its pictures do not end where it says"),
        (lambda a: a | {"head_weight": a["head_weight"][:2]}, "its head's weights are not those of its labels"),
        (lambda a: a | {"head_weight": a["head_weight"] * np.float32(np.inf)}, "its head's weights are not those of its labels"),
    ],
)
def test_a_reference_that_does_not_fit_is_refused(tmp_path, change, words):
    with Bundle.open(with_arrays(tmp_path / "m.sight", "reference", change)) as bundle:
        for read in (reference_of, embeddings_of, seen_by):
            with pytest.raises(ModelFileError, match=rf"m\.sight: its reference is not whole \({words}\)"):
                read(bundle)


def test_what_the_kept_reference_holds_is_read(tmp_path):
    with Bundle.open(SOUND) as bundle:
        assert seen_by(bundle) == {0, 1, 2}
        assert embeddings_of(bundle).shape == (3, 8)
    with Bundle.open(remade(tmp_path / "m.sight", without=("reference",))) as bundle:
        assert (reference_of(bundle), seen_by(bundle), embeddings_of(bundle)) == ({}, set(), None)


def test_embeddings_of_another_length_than_the_graphs_are_refused(tmp_path):
    path = with_arrays(tmp_path / "m.sight", "reference", lambda a: a | {"embeddings": a["embeddings"][:, :5]})
    model = Model.open(path, engine="onnxruntime", threads=1)
    with pytest.raises(ModelFileError, match=r"its graph gives embedding of \(8,\) for an image, where \(5,\) belong"):
        model.predict(render_shape("disc", 0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a | {"lengths": a["lengths"].astype(np.float64)}, "of another kind"),
        (lambda a: a | {"lengths": np.full(6, 2**62)}, "its lengths do not fit"),
        (lambda a: a | {"lengths": a["lengths"] - 1}, "its lengths do not fit"),
        (lambda a: a | {"raw_logits": a["raw_logits"].astype(np.str_)}, "not those of its images"),
        (lambda a: a | {"images": np.zeros_like(a["images"])}, "not an image"),
        (lambda a: {name: a[name] for name in a if name != "raw_logits"}, "raw_logits"),
    ],
)
def test_a_replay_that_does_not_fit_is_refused(tmp_path, change, words):
    path = with_arrays(tmp_path / "m.sight", "replay", change)
    with pytest.raises(ModelFileError, match=rf"m\.sight: its replay is not whole \(.*{words}"):
        pipeline.verify(path, threads=1)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b'{"a": NaN}', b"[" * 5000])
def test_a_report_that_is_no_object_is_refused(tmp_path, text):
    path = remade(tmp_path / "m.sight", data={"report_data": text})
    with Bundle.open(path) as bundle, pytest.raises(ModelFileError, match=r"m\.sight: its report\.json"):
        bundle.numbers()


@pytest.mark.parametrize(
    "verdict", [None, 5, {}, {"method": "CAM"}, {"method": "CAM", "sentence": 5}, {"method": "CAM", "sentence": "x", "trusted": 1}]
)
def test_a_verdict_of_another_kind_is_none(tmp_path, verdict):
    path = remade(tmp_path / "m.sight", data={"report_data": json.dumps({"explanations": verdict}).encode()})
    explainer = Explainer.open(path, ExplainConfig(), threads=1, engine="onnxruntime")
    assert explainer.trust in (None, {"trusted": None, "sentence": "x"})


def test_a_small_picture_that_cannot_be_read_is_the_bundles_fault(tmp_path):
    """Or one that unpacks to gigabytes: it is only opened within limits of its own."""
    sink = io.BytesIO()
    Image.new("RGB", (5000, 5000)).save(sink, "PNG")
    large = np.frombuffer(sink.getvalue(), np.uint8)
    image = tmp_path / "a.png"
    render_shape("disc", 0).save(image)
    for data, words in ((np.zeros(30, np.uint8), "zero bytes only"), (large, "5000 x 5000")):
        ends = np.array([len(data)] * 3)
        path = with_arrays(tmp_path / "m.sight", "reference", lambda a, d=data, e=ends: a | {"thumbs": d, "thumb_ends": e})
        with pytest.raises(ModelFileError, match=f"A picture in the bundle's reference cannot be read .*{words}"):
            list(pipeline.explain(path, [image], out=str(tmp_path / "out"), random_maps=0, threads=1, engine="onnxruntime"))


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        ({"size": 8192}, "not understood"), ({"crop_fraction": 1e-300}, "not understood"), ({"channels": 3.0}, "not understood"),
        ({"x" * 10_000: 1}, "not understood"), ({"mean": ["a", "b", "c"]}, "not understood"), ({"size": 16}, "does not take the images of"),
    ],
)  # fmt: skip
def test_ways_of_preparing_that_no_version_writes_are_refused(tmp_path, prepare, words):
    with Bundle.open(SOUND) as bundle:
        stated = bundle.manifest.prepare
    with pytest.raises(ModelFileError, match=words) as caught:
        Model.open(remade(tmp_path / "m.sight", prepare={**stated, **prepare}), engine="onnxruntime", threads=1)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"labels": ()}, "names no labels"), ({"task": "x" * 9000}, "is for the task"), ({"task": "segment"}, "gives logits"),
        ({"labels": ("a", "b")}, r"gives logits of \(3,\)"),
    ],
)  # fmt: skip
def test_labels_and_tasks_that_are_not_the_graphs_are_refused(tmp_path, manifest, words):
    path = remade(tmp_path / "m.sight", without=("reference",), **manifest)
    with pytest.raises(ModelFileError, match=words) as caught:
        Model.open(path, engine="onnxruntime", threads=1).predict(render_shape("disc", 0))
    assert len(str(caught.value)) < 600
