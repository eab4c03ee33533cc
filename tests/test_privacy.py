"""What is said of faces and positions, and which images it is said of."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD

from conftest import DATA, needs_data
from sightline.auditing.ahead import worked
from sightline.auditing.faces import Detector, Face
from sightline.auditing.finding import WARNING
from sightline.auditing.privacy import find_faces, privacy_findings
from sightline.data.decode import Limits
from sightline.data.folder import read_folder
from sightline.data.store import Facts, look_once
from sightline.records import ImageRef

SURE, UNSURE = Face((0, 0, 9, 9), 0.9), Face((0, 0, 9, 9), 0.72)


@pytest.fixture
def facts(tmp_path) -> Facts:
    """Of three images, the first and the last of which tell where they were taken."""
    exif = Image.Exif()
    exif.get_ifd(IFD.GPSInfo).update({GPS.GPSLatitude: (48.0, 12.0, 30.0), GPS.GPSLatitudeRef: "N"})
    for number in range(3):
        place = tmp_path / "data" / f"class{number % 2}" / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number * 40, 90, 90)).save(place, **({} if number == 1 else {"exif": exif}))
    return look_once(read_folder(tmp_path / "data"), 32, limits=Limits(), workers=1, limit_bytes=1e9).facts


def test_positions_are_counted_and_named(facts):
    names = [path.split("/")[-1] for path in facts.path.tolist()]
    (finding,) = privacy_findings(facts, names, None)
    assert (finding.kind, finding.level, finding.figures) == ("positions", WARNING, {"images": 2})
    assert sorted(item.images[0] for item in finding.items) == ["0.jpg", "2.jpg"]
    assert finding.sentence.startswith("2 of 3 images hold in their EXIF data the GPS position")
    assert "--strip-metadata" in finding.advice


def test_nothing_is_said_where_there_is_nothing(facts):
    nowhere = facts.select(np.flatnonzero(~facts.position))
    assert privacy_findings(nowhere, ["1.jpg"], None) == []
    assert privacy_findings(nowhere, ["1.jpg"], {"1.jpg": []}) == []


def test_images_with_a_sure_face_are_counted_with_all_faces_in_them(facts):
    names = ["a", "b", "c"]
    findings = privacy_findings(facts, names, {"a": [SURE, UNSURE], "b": [UNSURE], "c": []})
    assert [finding.kind for finding in findings] == ["positions", "faces"]
    finding = findings[1]
    assert finding.level == WARNING
    assert finding.figures == {"images": 1, "faces": 2, "unsure": 1}
    assert [(item.images, item.detail) for item in finding.items] == [(("a",), "2 faces")]
    assert finding.sentence.startswith("1 of 3 images shows people's faces, 2 in all. 1 more may show one")
    assert "--blur-faces" in finding.advice


def test_faces_nobody_is_sure_of_are_no_finding(facts):
    assert [finding.kind for finding in privacy_findings(facts, ["a", "b", "c"], {"a": [UNSURE]})] == ["positions"]


def test_faces_are_in_pixels_of_the_original_and_the_unreadable_passed_over(tmp_path):
    """The JPEG decoder gives this picture at half its size, and it is turned."""
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (4000, 2600), "grey").save(tmp_path / "large.jpg", exif=exif)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    asked = []

    class Whole(Detector):
        def find(self, pixels):
            asked.append(pixels.shape)
            return [Face((0, 0, pixels.shape[1], pixels.shape[0] / 2), 0.9)]

    refs = {name: ImageRef(str(tmp_path / name)) for name in ("large.jpg", "broken.jpg", "missing.jpg")}
    assert find_faces(Whole(lambda batch: {}), refs) == {"large.jpg": [Face((0, 0, 2600, 2000), 0.9)]}
    assert asked == [(2000, 1300, 3)]


def test_work_in_threads_keeps_its_order_and_stays_near_its_reader():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = worked(lambda number: number * 2, items())
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    assert len(taken) < 500
    results.close()
    assert list(worked(str, range(20))) == [str(number) for number in range(20)]


@needs_data
def test_faces_of_pedestrians_are_found():
    detector = Detector.open(DATA / "weights" / "yunet_n_dynamic.onnx")
    paths = sorted((DATA / "pennfudan" / "images").iterdir())[:12]
    found = find_faces(detector, {path.name: ImageRef(str(path)) for path in paths})
    assert list(found) == [path.name for path in paths]
    assert sum(bool(faces) for faces in found.values()) >= 10
