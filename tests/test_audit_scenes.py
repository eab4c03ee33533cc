"""What the audit says of boxes and label maps: slips of the hand in annotations, and what is rare by objects and pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import sightline
from conftest import write_boxes, write_maps
from sightline.errors import DataError

pytestmark = pytest.mark.usefixtures("all_trees")


def edited(folder, change):
    """A data set whose annotations are changed by a function of the file's content."""
    path = write_boxes(folder, n=24) / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return folder


def add(content, image: int, box: list[float], label: int = 0) -> None:
    content["annotations"].append({"id": 10_000 + len(content["annotations"]), "image_id": image, "category_id": label, "bbox": box,
                                   "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip


def audited(data, tmp_path, **settings):
    found = sightline.audit(data, out=str(tmp_path / "audit"), weights="none", **settings)
    return found, {finding["kind"]: finding for finding in found.numbers["findings"]}


def test_slips_of_the_hand_are_named_with_their_images(tmp_path):
    def slips(content):
        add(content, 1, [10, 10, 3, 20])
        add(content, 2, [0, 0, 64, 64], 1)
        first = next(entry for entry in content["annotations"] if entry["image_id"] == 3)
        add(content, 3, first["bbox"], first["category_id"])
        add(content, 3, first["bbox"], 1 - first["category_id"])

    found, by_kind = audited(edited(tmp_path / "data", slips), tmp_path)
    named = {kind: [item["images"][0] for item in by_kind[kind]["items"]] for kind in ("boxes-small", "boxes-whole", "boxes-twice")}
    assert named == {"boxes-small": ["images/001.png"], "boxes-whole": ["images/002.png"], "boxes-twice": ["images/003.png"]}
    assert "red at 10, 10 to 13, 30, 3 pixels on its shorter side" in by_kind["boxes-small"]["items"][0]["detail"]
    assert "1 of them have several classes" in by_kind["boxes-twice"]["sentence"]
    assert {"imbalance", "shortcut"}.isdisjoint(by_kind)
    page = found.page.read_text()
    assert "Boxes around the whole image" in page
    assert "images/003.png" in found.decisions.read_text()


def test_objects_are_counted_and_rare_ones_named_by_their_number(tmp_path):
    def one_blue(content):
        for entry in content["annotations"]:
            entry["category_id"] = 0
        content["annotations"][0]["category_id"] = 1

    _, by_kind = audited(edited(tmp_path / "data", one_blue), tmp_path)
    counted, rare = by_kind["objects-per-image"], by_kind["imbalance-objects"]
    assert counted["level"] == "note"
    assert counted["figures"]["empty"] == 3
    assert rare["figures"]["rare"] == {"blue": 1}
    assert rare["figures"]["ratio"] == counted["figures"]["objects"] - 1


def test_very_many_objects_are_worth_a_warning(tmp_path):
    def crowded(content):
        for place in range(310):
            add(content, 5, [place % 50, place // 50 * 8, 6, 6 + place / 1000])

    _, by_kind = audited(edited(tmp_path / "data", crowded), tmp_path)
    assert by_kind["objects-per-image"]["level"] == "warning"
    assert "--tile" in by_kind["objects-per-image"]["advice"]
    assert by_kind["objects-per-image"]["items"][0]["images"] == ["images/005.png"]


def test_masks_that_say_hardly_anything_and_classes_of_few_pixels(tmp_path):
    data = write_maps(tmp_path / "data", n=12)
    empty = np.full((64, 64), 255, np.uint8)
    empty[:2, :2] = 1
    Image.fromarray(empty).save(data / "masks" / "004.png")
    _, by_kind = audited(data, tmp_path)
    assert [item["images"][0] for item in by_kind["maps-empty"]["items"]] == ["images/004.png"]
    assert by_kind["imbalance-pixels"]["figures"]["ratio"] > 10


def test_an_image_of_several_objects_is_not_relabelled(tmp_path):
    data = write_boxes(tmp_path / "data", n=24)
    (tmp_path / "decisions.csv").write_text("path,verb,label\nimages/003.png,relabel,red\n")
    with pytest.raises(DataError, match="correct its annotations, or drop it"):
        sightline.train(data, out=str(tmp_path / "run"), decisions=str(tmp_path / "decisions.csv"), weights="none")


@pytest.mark.parametrize("exact", [True, False])
def test_two_moments_of_a_scene_may_show_different_objects_but_one_file_may_not(tmp_path, exact):
    data = edited(tmp_path / "data", lambda content: None)
    content = json.loads((data / "annotations.json").read_text())
    shown = {entry["image_id"] for entry in content["annotations"] if entry["category_id"] == 0}
    entry = next(image for image in content["images"] if image["id"] in shown)
    with Image.open(data / entry["file_name"]) as image:
        later = image.convert("RGB")
    if not exact:
        later.putpixel((1, 1), (255, 255, 255))
    content["images"].append({**entry, "id": 999, "file_name": "images/later.png"})
    if exact:
        (data / "images" / "later.png").write_bytes((data / entry["file_name"]).read_bytes())
    else:
        later.save(data / "images" / "later.png")
    (data / "annotations.json").write_text(json.dumps(content))
    _, by_kind = audited(data, tmp_path)
    assert ("copies-with-different-labels" in by_kind) == exact
