"""outlines: polygons and run lengths as pixels, held against pycocotools and against hand-worked cases."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sightline.data import outlines
from sightline.data.outlines import covered, extent, mask_of, painted, run_lengths, unpacked

SIZE = (23, 17)
masks = arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))
# Corners on a grid of quarters, some of them outside the image.
polygons = st.lists(st.tuples(st.integers(-20, 110), st.integers(-20, 90)), min_size=3, max_size=9).map(lambda found: np.array(found) / 4)


def pixels(outline, size=SIZE) -> np.ndarray:
    """(h, w) bool, the whole image."""
    found = np.zeros((size[1], size[0]), bool)
    part, left, top = mask_of(outline, size)
    found[top : top + part.shape[0], left : left + part.shape[1]] = part
    return found


@given(masks)
def test_run_lengths_are_those_of_pycocotools_packed_or_not(mask):
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    packed = coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    height, width = mask.shape
    assert unpacked(packed).tolist() == run_lengths(mask).tolist()
    assert (pixels(run_lengths(mask), (width, height)) == mask).all()
    assert covered(run_lengths(mask)) == mask.sum()


@given(masks)
def test_the_extent_of_run_lengths_is_that_of_their_pixels(mask):
    rows, columns = np.nonzero(mask)
    expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else (0, 0, 0, 0)
    assert extent(run_lengths(mask), mask.shape[0]) == expected


@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=20))
def test_long_run_lengths_are_unpacked(counts):
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    height = sum(counts) or 1
    if height < 2**31:
        packed = coco.frPyObjects({"counts": counts, "size": [height, 1]}, height, 1)["counts"].decode()
        assert unpacked(packed).tolist() == counts


@pytest.mark.parametrize("text", ["", "o", "\x00", "ü", "o" * 40 + "0"])
def test_what_holds_no_run_lengths_is_refused(text):
    with pytest.raises(ValueError):
        unpacked(text)


@settings(max_examples=25)
@given(polygons)
def test_a_pixel_is_inside_when_its_centre_is(polygon):
    """By the even-odd rule: an odd number of edges is crossed on the way to the left."""
    found = pixels((polygon,))
    ends = np.roll(polygon, -1, axis=0)
    for row in range(SIZE[1]):
        for column in range(SIZE[0]):
            x, y = column + 0.5, row + 0.5
            edges = [(*one, *two) for one, two in zip(polygon, ends, strict=True) if min(one[1], two[1]) <= y < max(one[1], two[1])]
            crossings = [x0 + (y - y0) / (y1 - y0) * (x1 - x0) for x0, y0, x1, y1 in edges]
            # Of a centre on an edge, rounding decides.
            if all(abs(crossing - x) > 1e-9 for crossing in crossings):
                assert found[row, column] == sum(crossing < x for crossing in crossings) % 2


def filled_at_once(polygon: np.ndarray, size) -> np.ndarray:
    """(h, w) bool, the same rule with all crossings of all edges at once, and their number at each pixel."""
    width, height = size
    start, end = polygon, np.roll(polygon, -1, axis=0)
    first, past = (np.ceil(reach(start[:, 1], end[:, 1]) - 0.5).clip(0, height).astype(int) for reach in (np.minimum, np.maximum))
    counts = past - first
    edge = np.repeat(np.arange(len(polygon)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    rise = end[edge, 1] - start[edge, 1]
    x = start[edge, 0] + (row + 0.5 - start[edge, 1]) / rise * (end[edge, 0] - start[edge, 0])
    crossings = np.zeros((height, width + 1), int)
    np.add.at(crossings, (row, np.ceil(x - 0.5).clip(0, width).astype(int)), 1)
    return np.cumsum(crossings[:, :width], axis=1) % 2 == 1


def held_against_all_at_once(polygon: np.ndarray, size) -> None:
    """Only the part around the outline is computed, whose corner at whole pixels comes off its coordinates first."""
    part, left, top = mask_of((polygon,), size)
    expected = filled_at_once(polygon - (left, top), part.shape[::-1])
    assert part.dtype == bool
    assert (part == expected).all()


@given(
    arrays.arrays(np.float64, st.tuples(st.integers(3, 40), st.just(2)), elements=st.floats(-30, 90)),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.sampled_from([1, 7, 10**6]),
)
def test_crossings_are_the_same_a_few_at_a_time(polygon, size, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlines, "CROSSINGS_AT_ONCE", at_once)
        held_against_all_at_once(polygon, size)


def test_a_zigzag_of_many_points_takes_little_memory_and_is_the_same():
    rng = np.random.default_rng(0)
    polygon = np.stack([rng.uniform(0, 60, 20_001), np.tile([0.0, 300], 10_001)[:20_001]], axis=1)  # 6 million crossings
    held_against_all_at_once(polygon, (60, 300))
    assert memory_of(polygon, (60, 300)) < 40e6  # at once 300e6


def test_a_polygon_over_a_large_image_takes_a_few_bytes_a_pixel():
    polygon = regular(1000, 38, 0.1) * (40, 40)
    held_against_all_at_once(polygon, (4000, 3000))
    assert memory_of(polygon, (4000, 3000)) < 6 * 4000 * 3000


def memory_of(polygon: np.ndarray, size: tuple[int, int]) -> int:
    """The most bytes that are held at a time."""
    tracemalloc.start()
    try:
        mask_of((polygon,), size)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_many_edges_on_one_another_keep_odd_and_even():
    square = np.array([[1.0, 1], [5, 1], [5, 5], [1, 5]])
    for times in (255, 256, 257, 512):
        assert pixels((np.tile(square, (times, 1)),)).sum() == 16 * (times % 2)


def test_corners_beyond_all_bounds_do_no_harm():
    far = np.array([[-1e308, -1e308], [1e308, -1e308], [1e308, 1e308], [-1e308, 1e308]])
    assert pixels((far,)).all()
    assert np.isfinite(covered((far,)))


def regular(corners: int, radius: float, turn: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + turn
    return np.stack([50 + radius * np.cos(angles), 40 + radius * np.sin(angles)], axis=1)


@given(st.integers(3, 12), st.floats(15, 38), st.floats(0, 3))
def test_polygons_cover_what_pycocotools_says_but_for_pixels_on_their_edge(corners, radius, turn):
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    polygon = regular(corners, radius, turn)
    ours = pixels((polygon,), (100, 80))
    theirs = coco.decode(coco.frPyObjects([polygon.ravel().tolist()], 80, 100))[:, :, 0].astype(bool)
    rows, columns = np.nonzero(ours != theirs)
    starts, sides = polygon, np.roll(polygon, -1, axis=0) - polygon
    centres = np.stack([columns, rows], axis=1) + 0.5
    along = np.clip(((centres[:, None] - starts) * sides).sum(-1) / (sides**2).sum(-1), 0, 1)
    distance = np.linalg.norm(centres[:, None] - starts - along[..., None] * sides, axis=-1).min(axis=1)
    assert (distance <= 0.75).all()
    assert abs(int(ours.sum()) - covered((polygon,))) <= np.pi * radius  # half of what its edge may pass through


def test_a_square_on_the_grid_is_exact_and_two_touching_ones_share_no_pixel():
    left, right = (np.array([[x, 2], [x + 4, 2], [x + 4, 6], [x, 6]], float) for x in (1, 5))
    assert np.argwhere(pixels((left,))).tolist() == [[row, column] for row in range(2, 6) for column in range(1, 5)]
    assert not (pixels((left,)) & pixels((right,))).any()
    assert (pixels((left, right)) == (pixels((left,)) | pixels((right,)))).all()
    assert covered((left, right)) == 32
    assert extent((left, right), 0) == (1, 2, 9, 6)


def test_what_lies_outside_the_image_is_not_painted():
    far = np.array([[100.0, 100], [110, 100], [110, 110]])
    assert not pixels((far,)).any()
    assert pixels((np.array([[-50.0, -50], [90, -50], [90, 90], [-50, 90]]),)).all()


def test_the_last_outline_is_on_top_and_a_box_without_one_is_ignored_elsewhere():
    square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    boxes = np.array([[2.0, 2, 6, 6], [0, 0, 4, 4], [3, 0, 7, 4]])
    beside = square + np.array([3, 0])
    found = painted((None, (square,), (beside,)), [1, 2, 3], boxes, (8, 7), beneath=0, ignored=255)
    assert [
        "".join({0: ".", 255: "?"}.get(value, str(value)) for value in row) for row in found.tolist()
    ] == ["2223333.", "2223333.", "2223333.", "2223333.", "..????..", "..????..", "........"]  # fmt: skip
