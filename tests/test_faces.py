"""YuNet's outputs become boxes in pixels of the picture, and only its files are opened."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import DATA, needs_data
from sightline.auditing.faces import INSIDE, OUTPUTS, OVERLAP, SCORE, STRIDES, Detector, candidates, distinct
from sightline.errors import ModelFileError

YUNET = DATA / "weights" / "yunet_n_dynamic.onnx"


def outputs(height: int, width: int, **cells: tuple[int, int, float, tuple[float, float, float, float]]) -> dict[str, np.ndarray]:
    """Raw outputs in which nothing is seen but in some cells: stride_8=(row, column, score, (across, down, log width, log height))."""
    raw = {name: np.zeros((1, height * width // int(name.split("_")[1]) ** 2, values), np.float32) for name, values in OUTPUTS.items()}
    for key, (row, column, score, box) in cells.items():
        stride = int(key.split("_")[1])
        cell = row * (width // stride) + column
        raw[f"cls_{stride}"][0, cell], raw[f"obj_{stride}"][0, cell], raw[f"bbox_{stride}"][0, cell] = score, score, box
    return raw


def seeing(**cells):
    """A detector that sees the same cells in every picture."""
    shapes = []

    def raw(batch):
        shapes.append((batch.shape, batch.copy()))
        return outputs(*batch.shape[2:], **cells)

    return Detector(raw), shapes


def test_a_cell_tells_centre_and_sides():
    boxes, scores = candidates(outputs(64, 96, stride_16=(2, 3, 0.9, (0.5, 0.25, np.log(2), np.log(3)))), 96)
    # Centre (3.5, 2.25) cells of 16 pixels, 2 cells wide and 3 high.
    np.testing.assert_allclose(boxes, [[56 - 16, 36 - 24, 56 + 16, 36 + 24]], rtol=1e-6)
    np.testing.assert_allclose(scores, [0.9], rtol=1e-6)


@pytest.mark.parametrize("stride", STRIDES)
def test_every_grid_is_read_and_what_is_unsure_left_out(stride):
    sure, unsure = (outputs(64, 64, **{f"stride_{stride}": (1, 1, score, (0, 0, 0, 0))}) for score in (SCORE + 0.01, SCORE - 0.01))
    assert candidates(sure, 64)[0].tolist() == [[stride / 2, stride / 2, 1.5 * stride, 1.5 * stride]]
    assert not len(candidates(unsure, 64)[0])


def test_scores_beyond_their_range_and_endless_boxes_do_no_harm():
    raw = outputs(64, 64, stride_8=(1, 1, 7.0, (0, 0, 1e30, 1e30)), stride_32=(1, 1, 0.9, (np.nan, 0, 0, 0)))
    assert [face.score for face in Detector(lambda batch: raw).find(np.zeros((64, 64, 3), np.uint8))] == [1.0]


def test_pictures_go_in_blue_first_and_padded():
    detector, seen = seeing()
    assert detector.find(np.full((40, 70, 3), (10, 20, 30), np.uint8)) == []
    shape, batch = seen[0]
    assert shape == (1, 3, 64, 96)
    assert batch[0, :, 0, 0].tolist() == [30, 20, 10]
    assert not batch[0, :, 40:].any()
    assert not batch[0, :, :, 70:].any()


def test_boxes_are_in_pixels_of_the_picture_and_inside_it():
    detector, seen = seeing(stride_32=(0, 1, 0.9, (0, 0, 0, 0)))
    faces = detector.find(np.zeros((1280, 2560, 3), np.uint8))
    assert [shape for shape, _ in seen] == [(1, 3, 640, 1280), (1, 3, 160, 320)]
    # Centred at (32, 0), 32 pixels wide and high, in pictures 2 and 8 times as small.
    assert {face.box for face in faces} == {(32, 0, 96, 32), (128, 0, 384, 128)}


def test_the_larger_scale_is_left_out_for_small_pictures():
    detector, seen = seeing()
    detector.find(np.zeros((32, 32, 3), np.uint8))
    assert len(seen) == 1


boxes_drawn = st.lists(st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 30)] * 2, st.integers(0, 100)), min_size=1, max_size=12)


@given(boxes_drawn)
def test_no_two_boxes_of_one_face_stay_and_each_that_goes_has_a_surer_one(drawn):
    table = np.array(drawn, np.float64)
    boxes, scores = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1), table[:, 4]

    def one_face(a: int, b: int) -> bool:
        shared = np.prod(np.clip(np.minimum(boxes[a, 2:], boxes[b, 2:]) - np.maximum(boxes[a, :2], boxes[b, :2]), 0, None))
        areas = [np.prod(boxes[row, 2:] - boxes[row, :2]) for row in (a, b)]
        return shared > OVERLAP * (sum(areas) - shared) or shared > INSIDE * min(areas)

    kept = distinct(boxes, scores)
    assert not any(one_face(a, b) for a in kept for b in kept if a < b)
    assert all(any(scores[a] >= scores[row] and one_face(a, row) for a in kept) for row in set(range(len(boxes))) - set(kept))


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no such file"), (b"not a graph", "is not an ONNX model"), (b"\0" * (17 << 20), "holds more than 16 MB")],
)
def test_what_is_no_graph_is_refused(tmp_path, content, said):
    path = tmp_path / "yunet.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=said) as error:
        Detector.open(path)
    assert str(path) in str(error.value)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="cannot be read"):
        Detector.open(tmp_path)


def graph(tmp_path, shape, names, *, width=1):
    """A file with a graph of one input and outputs of three zeros."""
    from onnx import TensorProto, helper, save

    constants = [
        helper.make_node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.FLOAT, [1, 3, width], [0.0] * 3 * width))
        for name in names
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)]
    model = helper.make_model(helper.make_graph(constants, "graph", inputs, values), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    save(model, tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


@pytest.mark.parametrize(
    ("shape", "names", "said"),
    [
        ([1, 3, "h", "w"], ["logits"], "it has no output bbox_16"),
        (["n", "h", "w", 3], list(OUTPUTS), "it does not take an image"),
        ([1, 3, 300, 300], list(OUTPUTS), "takes images of 300 x 300"),
        ([1, 3, "h", "w"], list(OUTPUTS), "its output cls_8 has another shape"),
    ],
)
def test_another_graph_is_refused_in_a_sentence(tmp_path, shape, names, said):
    with pytest.raises(ModelFileError, match=said):
        Detector.open(graph(tmp_path, shape, names))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.open(YUNET)


def hopper(side: int) -> np.ndarray:
    return np.asarray(Image.open(DATA / "hostile" / "hopper.jpg").convert("RGB").resize((side, side)))


@needs_data
@pytest.mark.parametrize("side", [128, 400, 2000])
def test_one_face_is_found_in_a_portrait_of_any_size(detector, side):
    (face,) = detector.find(hopper(side))
    np.testing.assert_allclose(np.array(face.box) / side, [0.32, 0.2, 0.66, 0.6], atol=0.05)
    assert face.score > 0.9


@needs_data
def test_a_face_that_fills_the_picture_is_found_once(detector):
    tight = Image.fromarray(hopper(128)).crop((41, 26, 84, 77)).resize((1200, 1400))
    (face,) = detector.find(np.asarray(tight))
    assert face.box[2] - face.box[0] > 800


@needs_data
def test_small_faces_in_a_large_picture_are_found_where_they_are(detector):
    scene = Image.new("RGB", (1280, 960), (90, 110, 90))
    for left in (100, 700):
        scene.paste(Image.fromarray(hopper(48)), (left, 300))
    faces = detector.find(np.asarray(scene))
    assert sorted(round(face.box[0] - 15) // 20 * 20 for face in faces) == [100, 700]


@needs_data
def test_nothing_is_found_where_there_is_nobody(detector):
    picture = Image.open(sorted((DATA / "photos").glob("*.jpg"))[0]).convert("RGB")
    assert detector.find(np.asarray(picture)) == []


@needs_data
def test_a_graph_of_fixed_size_finds_the_same(detector, tmp_path):
    import onnx

    model = onnx.load(YUNET)
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 320, 320), strict=True):
        dim.dim_value = size
    onnx.save(model, tmp_path / "fixed.onnx")
    fixed = Detector.open(tmp_path / "fixed.onnx")
    assert fixed.size == (320, 320)
    for side in (100, 600):
        ours, theirs = (np.array([face.box for face in one.find(hopper(side))]) for one in (detector, fixed))
        np.testing.assert_allclose(ours / side, theirs / side, atol=0.05)
