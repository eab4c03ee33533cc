"""Data sets of large pictures become data sets of windows: what is cut, what is left of it, and what a split must not divide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.auditing.copies import find_copies
from sightline.auditing.gate import gate, usable
from sightline.auditing.scenes import scene_findings
from sightline.config import DataConfig
from sightline.data.decode import Limits
from sightline.data.masks import read_map
from sightline.data.store import look_once
from sightline.data.windows import Tiling, cut, is_cut, maps_in, objects_in, surplus
from sightline.errors import ModelFileError, UsageError
from sightline.records import Dataset, ImageRef, column_of
from sightline.scenes import IGNORED, Detections, LabelMap, Objects
from sightline.tiling import joined_boxes


def gradient(width: int, height: int, number: int = 0) -> np.ndarray:
    """A picture of which every place looks different."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([across % 256, down % 256, np.full_like(across, number)], axis=2).astype(np.uint8)


def saved(path: Path, pixels: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return str(path)


def pictures(folder: Path, sizes: list[tuple[int, int]], targets: list[Objects], **columns) -> Dataset:
    refs = [ImageRef(saved(folder / f"{number}.png", gradient(*size, number))) for number, size in enumerate(sizes)]
    return Dataset(folder, "detect", ("ship",), refs, column_of(targets), **columns)


def ships(*boxes: tuple[float, float, float, float], crowd: list[bool] | None = None) -> Objects:
    return Objects.of(boxes, [0] * len(boxes), crowd)


def test_boxes_in_a_window_by_hand():
    objects = Objects.of(
        [(10, 10, 30, 20), (90, 0, 130, 40), (95, 50, 135, 90), (200, 0, 210, 10), (0, 0, 300, 300)], [0, 1, 2, 0, 1],
        areas=[200, 800, 1600, 100, 45_000],
    )  # fmt: skip
    found = objects_in(objects, (0, 0, 107, 100))
    # The first is whole; 17 of 40 columns are left of the second, which is 0.425; of the third 12, which is 0.3; the fourth is not there;
    # the last is larger than the window, which shows as much of it as it can.
    assert found.boxes.tolist() == [[10, 10, 30, 20], [90, 0, 107, 40], [95, 50, 107, 90], [0, 0, 107, 100]]
    assert found.labels.tolist() == [0, 1, 2, 1]
    assert found.crowd.tolist() == [False, False, False, False]
    np.testing.assert_allclose(found.areas, [200, 340, 480, 10_700 / 2])
    assert found.outlines is None


@pytest.mark.parametrize(("right", "crowd"), [(12.0, False), (11.9, True), (0.0, None), (-5.0, None)])
def test_of_what_little_is_left_nothing_is_asked(right, crowd):
    found = objects_in(ships((100 - right, 0, 140 - right, 40)), (0, 0, 100, 100))
    assert found.crowd.tolist() == ([] if crowd is None else [crowd])
    assert objects_in(ships((0, 0, 9, 9), crowd=[True]), (0, 0, 100, 100)).crowd.tolist() == [True]


boxes_of_integers = st.tuples(st.integers(0, 380), st.integers(0, 280), st.integers(1, 200), st.integers(1, 200)).map(
    lambda drawn: (drawn[0], drawn[1], min(400, drawn[0] + drawn[2]), min(300, drawn[1] + drawn[3]))
)


@given(st.lists(boxes_of_integers, min_size=1, max_size=6), st.integers(20, 250), st.floats(0, 0.6))
@settings(max_examples=60)
def test_every_pixel_of_an_object_is_in_a_window_that_has_its_box(boxes, side, overlap):
    objects, windows = ships(*boxes), [window for row in Tiling(side, overlap).rows(400, 300) for window in row]
    covered = [np.zeros((300, 400), bool) for _ in boxes]
    whole = np.zeros(len(boxes), bool)
    for window in windows:
        here = objects_in(Objects.of(objects.boxes, range(len(boxes))), window)
        for label, crowd, box in zip(here.labels, here.crowd, here.boxes + np.tile(window[:2], 2), strict=True):
            left, top, right, bottom = box.astype(int)
            assert window[0] <= left < right <= window[2]
            assert window[1] <= top < bottom <= window[3]
            covered[label][top:bottom, left:right] = True
            whole[label] |= not crowd and (box == objects.boxes[label]).all()
    for place, (left, top, right, bottom) in enumerate(boxes):
        assert covered[place].sum() == (right - left) * (bottom - top)
        assert covered[place][top:bottom, left:right].all()
        # What is smaller than neighbours share is whole somewhere, and asked for there.
        assert whole[place] or max(right - left, bottom - top) > int(side * overlap)


@given(st.integers(0, 10_000))
@settings(max_examples=25)
def test_boxes_go_through_windows_and_come_back(seed):
    """A detector that finds what each window is said to show, its answers joined, finds what the picture shows."""
    rng, rows = np.random.default_rng(seed), Tiling(100, 0.3).rows(310, 260)
    places = [(x, y) for x in range(0, 280, 40) for y in range(0, 230, 40)]
    chosen = [places[place] for place in rng.permutation(len(places))[:12]]
    boxes = [(x, y, x + int(rng.integers(4, 28)), y + int(rng.integers(4, 28))) for x, y in chosen]

    def perfect(window: tuple[int, int, int, int]) -> Detections:
        here = objects_in(ships(*boxes), window)
        shown = [tuple(box) for box, crowd in zip(here.boxes.tolist(), here.crowd, strict=True) if not crowd]
        return Detections(("ship",) * len(shown), (0.9,) * len(shown), tuple(shown))

    joined = joined_boxes(rows, [perfect(window) for row in rows for window in row])
    assert sorted(joined.boxes) == sorted(tuple(map(float, box)) for box in boxes)


def test_large_pictures_are_cut_and_small_ones_stay(tmp_path, capsys):
    data = pictures(
        tmp_path, [(180, 100), (60, 50)], [ships((10, 10, 20, 20), (150, 50, 170, 70)), ships()],
        splits=np.array(["train", "test"]), attributes={"sea": np.array(["north", "south"])},
    )  # fmt: skip
    found = cut(data, Tiling(100, 0.2))
    first = data.refs[0].path
    assert found.refs == [ImageRef(first, window=(0, 0, 100, 100)), ImageRef(first, window=(80, 0, 180, 100)), data.refs[1]]
    assert [target.boxes.tolist() for target in found.targets] == [[[10, 10, 20, 20]], [[70, 50, 90, 70]], []]
    assert found.splits.tolist() == ["train", "train", "test"]
    assert found.groups.tolist() == ["0.png", "0.png", "1.png"]
    assert found.attributes["sea"].tolist() == ["north", "north", "south"]
    assert is_cut(found)
    assert Tiling(100, 0.2).count(180, 100) == 2
    said = capsys.readouterr().err
    assert "1 of 2 pictures are larger than 100 pixels: they are cut into 2 tiles" in said
    assert "Of all 3 images 1 show nothing" in said
    assert "no tile shows whole" not in said


def test_objects_that_no_tile_shows_whole_are_counted(tmp_path, capsys):
    found = cut(pictures(tmp_path, [(180, 100)], [ships((75, 0, 105, 9), (79, 0, 100, 9), (80, 50, 101, 99))]), Tiling(100, 0.2))
    assert [target.crowd.tolist() for target in found.targets] == [[False] * 3, [False] * 3]
    assert "Objects that no tile shows whole, as they are larger than what neighbours share: 1." in capsys.readouterr().err


def test_groups_that_are_given_stay(tmp_path):
    data = pictures(tmp_path, [(90, 40), (90, 40)], [ships(), ships()], groups=np.array(["harbour", ""]))
    assert cut(data, Tiling(50, 0.1)).groups.tolist() == ["harbour", "harbour", "1.png", "1.png"]


def test_nothing_is_cut_where_no_picture_is_larger(tmp_path, capsys):
    data = pictures(tmp_path, [(80, 60)], [ships((1, 1, 9, 9))])
    assert cut(data, Tiling(80)) is data
    assert "No picture is larger than 80 pixels, so nothing is cut" in capsys.readouterr().err
    assert cut(data, None) is data
    assert not is_cut(data)


def test_what_cannot_be_cut(tmp_path, monkeypatch):
    whole = Dataset(tmp_path, "classify", ("a", "b"), [ImageRef(saved(tmp_path / "a.png", gradient(90, 90)))], np.array([0]))
    with pytest.raises(UsageError, match=r"--tile 40: .* is for classify, which answers for whole images; leave it out"):
        cut(whole, Tiling(40))
    with pytest.raises(UsageError, match=r"--overlap 0\.3: is what tiles share; give --tile as well"):
        Tiling.asked(None, 0.3)
    monkeypatch.setattr("sightline.data.windows.MOST_WINDOWS", 5)
    with pytest.raises(UsageError, match=r"--tile 16 --overlap 0\.9: cuts .*sea into 8 tiles, of which there may be 5; take larger ones"):
        cut(pictures(tmp_path / "sea", [(20, 16)] * 2, [ships(), ships()]), Tiling(16, 0.9))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    broken = Dataset(tmp_path, "detect", ("ship",), [*whole.refs, ImageRef(str(tmp_path / "broken.png"))], column_of([ships(), ships()]))
    assert [ref.window is None for ref in cut(broken, Tiling(50)).refs] == [False] * 4 + [True]


def test_what_is_asked_for_goes_before_what_the_model_learned():
    learned = Tiling(640, 0.3)
    assert Tiling.asked(None, None, learned) is learned
    assert Tiling.asked(None, 0.1, learned) == Tiling(640, 0.1)
    assert Tiling.asked(100, None, learned) == Tiling(100, 0.2)
    assert Tiling.asked(None, None) is None
    assert Tiling.from_json(json.loads(json.dumps(learned.to_json()))) == learned
    assert Tiling.from_json({}) is None
    for fields in ({"side": 64}, {"side": -3, "overlap": 0.2}, {"side": float("inf"), "overlap": 0.2}):
        with pytest.raises(ModelFileError, match="tiles are not understood"):
            Tiling.from_json(fields)


def test_label_maps_are_cut_like_their_pictures(tmp_path):
    values = np.zeros((100, 180), np.uint8)
    values[20:40, 60:120], values[90:, :] = 7, 99
    mask = ImageRef(saved(tmp_path / "mask.png", values))
    whole = LabelMap(mask, {0: 0, 7: 1, 99: IGNORED}, np.array([15_000, 1_200]), (180, 100))
    windows = [(0, 0, 100, 100), (80, 0, 180, 100)]
    parts = maps_in(whole, windows)
    for part, (left, top, right, bottom) in zip(parts, windows, strict=True):
        np.testing.assert_array_equal(read_map(part), read_map(whole)[top:bottom, left:right])
        assert part.size == (100, 100)
    assert [part.pixels.tolist() for part in parts] == [[8_200, 800], [8_200, 800]]
    assert np.unique(read_map(parts[0].relabelled(np.array([1, 0])))).tolist() == [0, 1, IGNORED]
    painted = LabelMap(Objects.of([(60, 20, 120, 40)], [1], outlines=[(np.array([[60, 20], [120, 20], [120, 40], [60, 40.0]]),)]),
                       {0: 0}, np.array([16_800, 1_200]), (180, 100))  # fmt: skip
    assert [part.pixels.tolist() for part in maps_in(painted, windows)] == [[9_200, 800], [9_200, 800]]


def test_empty_windows_are_no_more_in_training_than_others():
    def of(splits: list[str], shows: list[bool], windows: list[bool]) -> Dataset:
        refs = [ImageRef("a.png", window=(row, 0, row + 9, 9) if window else None) for row, window in enumerate(windows)]
        targets = column_of([ships((0, 0, 5, 5)) if each else ships() for each in shows])
        return Dataset(Path(), "detect", ("ship",), refs, targets, splits=np.array(splits))

    some = of(["train"] * 10 + ["test"] * 10, [True, True, *[False] * 18], [True] * 20)
    gone = surplus(some, 0)
    assert len(gone) == 6
    assert set(gone.tolist()) <= set(range(2, 10))
    np.testing.assert_array_equal(gone, surplus(some, 0))
    assert len(surplus(of(["train"] * 4, [True, True, False, False], [True] * 4), 0)) == 0
    # Whole pictures that show nothing are there because somebody wanted them.
    assert len(surplus(of(["train"] * 9, [True, *[False] * 8], [True, *[False] * 8]), 0)) == 0


def landscape(seed: int, brighter: int = 0) -> np.ndarray:
    """A picture that comes again every 50 columns, as rows of crops and of houses do."""
    coarse = np.random.default_rng(seed).integers(20, 220, (12, 6, 3), np.uint8)
    part = np.asarray(Image.fromarray(coarse).resize((50, 100), Image.Resampling.BICUBIC), np.int16)
    return (np.concatenate([part] * 3, axis=1) + brighter).clip(0, 255).astype(np.uint8)


def test_windows_of_a_picture_stay_on_one_side_and_are_no_copies_of_each_other(tmp_path):
    refs = [ImageRef(saved(tmp_path / f"{seed}.png", landscape(seed))) for seed in range(6)]
    refs.append(ImageRef(saved(tmp_path / "again.png", landscape(0, brighter=6))))
    data = cut(Dataset(tmp_path, "detect", ("ship",), refs, column_of([ships((0, 0, 150, 100))] * 7)), Tiling(100, 0.5))
    store = look_once(data, 64, limits=Limits(), workers=1, limit_bytes=1e9)
    assert store.facts.width.tolist() == [100] * len(data)
    assert len(set(store.facts.sha256.tolist())) == len(data)
    near = [pair for pair in find_copies(store) if not pair.exact]
    found = gate(data, store, DataConfig(), seed=0)
    files = [ref.path for ref in found.dataset.refs]
    assert any(data.refs[pair.a].path == data.refs[pair.b].path for pair in near)  # neighbours would pass for copies
    assert {frozenset((files[pair.a], files[pair.b])) for pair in found.copies} == {frozenset((refs[0].path, refs[6].path))}
    sides = {path: {split for other, split in zip(files, found.dataset.splits, strict=True) if other == path} for path in files}
    assert all(len(splits) == 1 for splits in sides.values())
    assert sides[refs[0].path] == sides[refs[6].path]
    assert (found.leaks, found.straddling) == ([], [])
    # Windows of one file follow each other, so that it is decoded once.
    assert len([path for place, path in enumerate(files) if place == 0 or files[place - 1] != path]) == 7


def test_rows_leave_the_gate_with_their_copies(tmp_path):
    refs = [ImageRef(saved(tmp_path / f"{place}.png", landscape(seed))) for place, seed in enumerate((0, 1, 2, 3, 4, 0, 0))]
    data = Dataset(tmp_path, "detect", ("ship",), refs, column_of([ships((0, 0, 9, 9))] * 7))
    found = gate(data, look_once(data, 64, limits=Limits(), workers=1, limit_bytes=1e9), DataConfig(), seed=0)
    assert [pair.exact for pair in found.copies] == [True, True]
    (first, second) = found.copies
    left = found.without(np.array([second.b]), "One is gone.")
    assert len(left.dataset) == len(left.store) == len(left.names) == 6
    assert [(left.names[pair.a], left.names[pair.b]) for pair in left.copies] == [(found.names[first.a], found.names[first.b])]
    assert left.origin.endswith("One is gone.")


def test_strips_and_full_windows_are_nothing_to_mend_in_the_annotations(tmp_path):
    small, strip, around = (10, 10, 12, 40), (95, 60, 400, 90), (95, 0, 450, 300)
    data = cut(pictures(tmp_path, [(300, 300)], [ships(small, strip, around)]), Tiling(100, 0.0))
    store = look_once(data, 64, limits=Limits(), workers=1, limit_bytes=1e9)
    found = {finding.kind: finding for finding in scene_findings(usable(data, store))}
    assert found["boxes-small"].figures == {"boxes": 1}
    assert "boxes-whole" not in found
