"""quality_findings: what is dark, bright, even, blurred, odd-shaped or tiny among others that are not, and nothing where all are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from conftest import DATA, needs_data
from sightline.auditing.quality import quality_findings
from sightline.data.decode import Limits
from sightline.data.look import look_at
from sightline.data.store import LOOKED_FACTS, Facts
from sightline.records import ImageRef

SOUND = 40


def photo(seed: int, width: int = 120, height: int = 90) -> Image.Image:
    """Something with large and small parts of all shades, as photographs have."""
    rng = np.random.default_rng(seed)
    scales = [rng.normal(0, 1, (max(2, height // size), max(2, width // size))) for size in (40, 12, 4, 1)]
    layers = [np.asarray(Image.fromarray(scale).resize((width, height), Image.Resampling.BICUBIC)) for scale in scales]
    shades = 120 + rng.normal(0, 15) + sum(weight * layer for weight, layer in zip((45, 30, 15, 6), layers, strict=True))
    return Image.fromarray(np.clip(shades, 0, 255).astype(np.uint8)).convert("RGB")


def facts_of(images: dict[str, Image.Image], folder) -> Facts:
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        image.save(folder / name)
    return looked_at([folder / name for name in images])


def looked_at(paths) -> Facts:
    looks = [look_at(ImageRef(str(path)), 128, Limits()) for path in paths]
    columns = {name: np.array([getattr(look, name) for look in looks]) for name in LOOKED_FACTS}
    return Facts(
        np.array(list(map(str, paths))), np.array([path.stat().st_size for path in paths]), np.zeros(len(paths), np.int64), **columns
    )


@pytest.fixture
def found(tmp_path):
    """What is found when these images stand among 40 sound ones: kind -> finding."""

    def find(**others: Image.Image):
        images = {f"sound{seed:02d}.png": photo(seed) for seed in range(SOUND)} | {f"{name}.png": image for name, image in others.items()}
        return {finding.kind: finding for finding in quality_findings(facts_of(images, tmp_path / "images"), list(images))}

    return find


def named(finding) -> list[str]:
    return [item.images[0] for item in finding.items]


def test_sound_images_give_nothing(found):
    assert found() == {}


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("dark", lambda image: image.point(lambda level: level * 0.1)),
        ("bright", lambda image: image.point(lambda level: 200 + level * 0.3)),
        ("plain", lambda image: image.point(lambda level: 110 + level * 0.08)),
        ("blurred", lambda image: image.filter(ImageFilter.GaussianBlur(4))),
        ("odd-shape", lambda image: photo(501, 300, 50)),
        ("tiny", lambda image: image.resize((20, 15))),
        ("empty", lambda image: Image.new("RGB", image.size, (90, 90, 90))),
    ],
)
def test_each_fault_is_named_once_and_by_its_own_name(found, kind, fault):
    findings = found(one=fault(photo(500)))
    assert list(findings) == [kind]
    finding = findings[kind]
    assert named(finding) == ["one.png"]
    assert finding.level == "warning"
    assert finding.sentence.startswith(f"1 of {SOUND + 1} images ")
    assert finding.items[0].suggestion == ("drop" if kind == "empty" else "")
    assert finding.figures == {"images": 1, "share": 1 / (SOUND + 1)}


def test_the_most_extreme_come_first(found):
    findings = found(**{name: photo(600).point(lambda level, by=by: level * by) for name, by in (("dim", 0.11), ("dimmer", 0.05))})
    assert named(findings["dark"]) == ["dimmer.png", "dim.png"]
    findings = found(soft=photo(601).filter(ImageFilter.GaussianBlur(3)), softer=photo(601).filter(ImageFilter.GaussianBlur(5)))
    assert named(findings["blurred"]) == ["softer.png", "soft.png"]


def test_a_light_thing_in_the_dark_and_a_thing_on_white_are_no_faults(found):
    night, white = Image.new("RGB", (120, 90), (4, 4, 6)), Image.new("RGB", (120, 90), "white")
    night.paste(photo(700, 40, 40), (40, 25))
    white.paste(photo(701, 40, 40), (40, 25))
    assert found(night=night, white=white) == {}


def test_a_photograph_taken_standing_among_lying_ones_has_no_odd_shape(found):
    assert found(standing=photo(702, 90, 120)) == {}


@pytest.mark.parametrize("level", [lambda level: level * 0.08, lambda level: 200 + level * 0.2, lambda level: 100 + level * 0.07])
def test_where_all_are_dark_pale_or_even_none_is_a_fault(tmp_path, level):
    images = {f"{seed}.png": photo(seed).point(level) for seed in range(SOUND)}
    assert quality_findings(facts_of(images, tmp_path), list(images)) == []


def test_where_many_are_so_it_is_said_and_none_is_named(found):
    (finding,) = found(**{f"night{seed}": photo(seed).point(lambda level: level * 0.1) for seed in range(6)}).values()
    assert (finding.kind, finding.level, finding.items) == ("dark", "note", ())
    assert finding.sentence.startswith(f"6 of {SOUND + 6} images are dark all over. So many are how these data are")


def test_many_without_content_are_all_named_and_for_a_person_to_decide(found):
    (finding,) = found(**{f"blank{level}": Image.new("RGB", (120, 90), (level,) * 3) for level in range(0, 250, 25)}).values()
    assert (finding.kind, finding.level, len(finding.items)) == ("empty", "warning", 10)
    assert {item.suggestion for item in finding.items} == {""}
    assert "may be meant" in finding.advice


def test_an_image_of_a_few_pixels_has_no_content(found):
    finding = found(pixel=Image.fromarray(np.array([[0, 255]], np.uint8)))["tiny"]
    assert [(item.images, item.suggestion) for item in finding.items] == [(("pixel.png",), "drop")]
    assert finding.items[0].detail == "2 x 1 pixels; 120 x 90 is usual"


def test_what_cannot_be_read_is_left_out_and_rows_keep_their_names(tmp_path):
    images = {f"{seed:02d}.png": photo(seed) for seed in range(SOUND)} | {"zz.png": Image.new("L", (120, 90), 7)}
    facts_of(images, tmp_path)
    (tmp_path / "00.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (finding,) = quality_findings(looked_at([tmp_path / name for name in images]), list(images))
    assert (finding.kind, named(finding)) == ("empty", ["zz.png"])
    assert finding.figures["share"] == 1 / SOUND


@pytest.mark.parametrize("count", [0, 1, 2])
def test_no_image_one_image_and_two_the_same(tmp_path, count):
    images = {f"{number}.png": photo(3) for number in range(2)}
    assert quality_findings(facts_of(images, tmp_path).select(np.arange(count)), list(images)[:count]) == []


@settings(max_examples=60)
@given(st.integers(1, 30), st.integers(0, 2**32))
def test_whatever_the_facts_every_image_named_is_one_of_them_and_each_kind_comes_once(n, seed):
    rng = np.random.default_rng(seed)
    facts = Facts(
        path=np.full(n, "x"), bytes=rng.integers(0, 9999, n), mtime_ns=np.zeros(n, np.int64), sha256=np.full(n, ""),
        error=rng.choice(["", "", "bad"], n), note=np.full(n, ""), format=np.full(n, "PNG"), mode=np.full(n, "L"),
        width=rng.integers(1, 2000, n), height=rng.integers(1, 2000, n), camera=np.full(n, ""), taken=np.full(n, ""),
        brightness=rng.random(n), contrast=rng.random(n) ** 4 / 2, sharpness=rng.random(n) ** 4,
        colour=rng.random((n, 3)).astype(np.float32),
        thumb=rng.integers(0, 256, (n, 16, 16)).astype(np.uint8),
        position=np.zeros(n, bool), quality=np.zeros(n, np.int64), border=np.zeros((n, 2), np.float32),
    )  # fmt: skip
    names = [f"image {row}" for row in range(n)]
    findings = quality_findings(facts, names)
    readable = {name for name, error in zip(names, facts.error, strict=True) if not error}
    assert len({finding.kind for finding in findings}) == len(findings)
    for finding in findings:
        assert len(set(named(finding))) == len(finding.items) <= finding.figures["images"] <= len(readable)
        assert set(named(finding)) <= readable


@needs_data
@pytest.mark.parametrize(("folder", "pattern"), [("bccd", "JPEGImages/*.jpg"), ("magnetic_tile", "test/*/*.jpg"), ("camvid", "*/images/*")])
def test_slides_tiles_and_streets_are_not_flagged_for_what_they_are(folder, pattern):
    paths = sorted((DATA / folder).glob(pattern))[:60]
    assert len(paths) == 60
    assert quality_findings(looked_at(paths), list(map(str, paths))) == []
