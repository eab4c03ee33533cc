"""package: the bundle is judged on the original files, each of which is read once for both sides."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import sightline
from conftest import QUICK, render_shape
from found import model_of
from sightline import runtime
from sightline.data.decode import Limits
from sightline.data.reading import Reading
from sightline.records import Dataset, ImageRef
from sightline.trust import judged

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_test_image_is_read_once_for_the_bundle_and_the_network(shapes, tmp_path, monkeypatch):
    read = Counter()
    decode = runtime.decode_picture

    def counted(source, **options):
        read[str(source)] += 1
        return decode(source, **options)

    monkeypatch.setattr(runtime, "decode_picture", counted)
    monkeypatch.setattr(judged, "record", lambda model, files, rendered: b"")  # replays the images that the bundle carries
    run = sightline.train(shapes, out=str(tmp_path / "run"), **QUICK)
    assert len(read) >= run.numbers["test"]["n"]
    assert set(read.values()) == {1}
    assert 0 <= run.numbers["export"]["max_difference"] < judged.TOLERANCE


def test_an_image_that_is_larger_than_others_may_be_is_not_replayed(tmp_path):
    """It was trained on with a larger --max-pixels, which whoever replays it does not know of."""
    tifffile = pytest.importorskip("tifffile", reason="needs the extra 'tiff'")
    render_shape("disc", 1).save(tmp_path / "small.png")
    Image.new("1", (12_000, 11_000)).save(tmp_path / "large.png")
    tifffile.imwrite(tmp_path / "wide.tif", np.zeros((3, 4, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    with tifffile.TiffFile(tmp_path / "wide.tif", mode="r+b") as tiff:
        for side in ("ImageWidth", "ImageLength"):
            tiff.pages[0].tags[side].overwrite(20_000)
    refs = [ImageRef(str(tmp_path / name)) for name in ("small.png", "large.png", "wide.tif")]
    test = Dataset(tmp_path, "classify", ("a", "b"), refs, np.zeros(3, np.int64))
    limits = Limits(max_pixels=1_000_000_000)
    assert judged._replay_files(test, Reading(), limits) == [(tmp_path / "small.png").read_bytes()]
    model = model_of("classify", lambda images: {"logits": np.zeros((len(images), 3), np.float32)})
    for rows, is_rendered in ((np.array([0, 1]), False), (np.array([1, 2]), True)):
        with np.load(io.BytesIO(judged._replay(model, test.select(rows), limits, pictures=True))) as replay:
            assert bool(replay["rendered"]) == is_rendered


def test_a_bundle_that_answers_otherwise_than_the_network_is_refused(shapes, tmp_path, monkeypatch):
    honest = judged.torch_infer

    def other(network, device, outputs):
        infer = honest(network, device, outputs)
        return lambda batch: {name: values + np.arange(values.shape[1], dtype=np.float32) for name, values in infer(batch).items()}

    monkeypatch.setattr(judged, "torch_infer", other)
    with pytest.raises(sightline.errors.RequirementNotMet, match="The exported graph was refused"):
        sightline.train(shapes, out=str(tmp_path / "run"), **QUICK)
    assert not (tmp_path / "run" / "model.sight").exists()
