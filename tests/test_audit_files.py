"""file_findings: files that cannot be used and odd ones, by what there is to do about them."""

from __future__ import annotations

import pytest

from conftest import DATA, needs_data
from sightline.auditing.files import file_findings
from sightline.data.decode import Limits
from sightline.data.look import look_at
from sightline.records import ImageRef

SUPPORTED = "(supported: JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, PPM, DICOM)"


def test_sound_files_give_nothing():
    assert file_findings([], []) == []


def test_files_are_gathered_by_what_there_is_to_do_the_most_first():
    few, many = [("a.heic", f"format HEIC is not supported {SUPPORTED}")], [
        ("cat/b.png", "truncated PNG data (at least 12 bytes are missing)"),
        ("cat/c.png", "truncated PNG data (at least 7 bytes are missing)"),
        ("d.jpg", "the file is empty"),
    ]  # fmt: skip
    cut, unsupported = file_findings(few + many, [])
    assert (cut.kind, unsupported.kind) == ("file-incomplete", "file-unsupported")
    assert {cut.level, unsupported.level} == {"problem"}
    assert cut.title == "Files that cannot be used: incomplete"
    assert cut.sentence == (
        "3 files are cut short or empty, as after an interrupted copy or a full disk (cat/b.png, cat/c.png and d.jpg); "
        "left out, so that nothing is learned from what they were to show."
    )
    assert "Copy them once more" in cut.advice
    assert cut.figures == {"files": 3, "reasons": {"truncated PNG data": 2, "the file is empty": 1}}
    assert [(item.images, item.detail, item.suggestion) for item in cut.items] == [((name,), reason, "") for name, reason in many]
    assert unsupported.sentence.startswith(
        "1 file is in a format that is not read (a.heic); left out, so that nothing is learned from what it"
    )


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("no such file", "missing"),
        ("permission denied", "not-allowed"),
        ("not an image but a Git LFS pointer to one that was not downloaded", "not-downloaded"),
        ("not an image but zero bytes only", "incomplete"),
        ("not an image but an HTML page", "no-image"),
        ("is a folder, not an image", "no-image"),
        (f"not an image in a known format {SUPPORTED}", "no-image"),
        ("declares 46000 x 46000 = 2,116 megapixels, the limit is 120", "too-large"),
        ("holds 300 megabytes, the limit is 256", "too-large"),
        ("format DICOM needs pydicom: pip install 'sightline[dicom]'", "needs-a-package"),
        ("damaged JPEG data (broken data stream)", "damaged"),
        ("the image decoder crashed on it", "damaged"),
        ("is a deflated DICOM file, which is not read; save it uncompressed", "unsupported"),
        ("its window 1,2,3,4 is not inside the image of 2 x 2 pixels", "unreadable"),
    ],
)
def test_each_reason_has_its_advice(reason, kind):
    (finding,) = file_findings([("x.png", reason)], [])
    assert finding.kind == f"file-{kind}"
    assert finding.advice.endswith(".")


def test_odd_files_are_notes_and_a_file_may_be_odd_in_several_ways():
    notes = [
        ("a.jpg", "named .jpg but holds PNG data"),
        ("b.png", "named .png but holds TIFF data; has 3 pages, of which this is the first"),
        ("c.tif", "has 5 bands, of which the first three are shown; state which with bands"),
    ]
    misnamed, pages, bands = file_findings([], notes)
    assert {finding.level for finding in (misnamed, pages, bands)} == {"note"}
    assert (misnamed.kind, pages.kind, bands.kind) == ("file-misnamed", "file-several-pages", "file-more-bands")
    assert misnamed.sentence == "2 files have names that belong to another format (a.jpg and b.png); used all the same."
    assert [item.images for item in pages.items] == [("b.png",)]
    assert bands.items[0].detail == notes[2][1]


@needs_data
def test_every_broken_file_of_a_hostile_folder_has_a_family_of_its_own():
    looks = {path.name: look_at(ImageRef(str(path)), 64, Limits()) for path in sorted((DATA / "hostile").iterdir())}
    refused = [(name, look.error) for name, look in looks.items() if look.error]
    findings = file_findings(refused, [])
    assert sum(len(finding.items) for finding in findings) == len(refused) > 10
    assert "file-unreadable" not in {finding.kind for finding in findings}
