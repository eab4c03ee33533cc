"""The report page: what it shows, what it must never do, and the geometry of its charts."""

from __future__ import annotations

import copy
import io
import math
import re
from html.parser import HTMLParser
from importlib import resources

import example_report
import numpy as np
import pytest
from PIL import Image

from sightline.report import amounts, draw
from sightline.report.html import render
from sightline.report.pictures import thumbnail
from sightline.report.sections import MOST_ROWS, all_sections
from sightline.tasks.blocks import Bar, Bars, Curves, Gallery, Matrix, Picture, Table, Text, Tile, Tiles

EXAMPLES = [example_report.clothing, example_report.tiny, example_report.many_classes, example_report.hostile]
VOID = {"meta", "link", "img", "hr", "br", "path", "circle"}


class Page(HTMLParser):
    """Reads a page, insisting that every tag is closed in order; keeps its text, its tags and its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, text):
        if "style" not in self.open:
            self.words.append(text)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def clothing() -> Page:
    return Page(render(*example_report.clothing()))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.__name__)
def test_page_is_whole_and_loads_nothing(example):
    html = render(*example())
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert "http://" not in html
    assert "https://" not in html
    assert not page.all("script")
    assert "<script" not in html
    assert "@import" not in html
    assert "url(" not in html
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert {link["href"] for link in page.all("link")} == {"data:,"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    html.encode("utf-8")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.__name__)
def test_page_can_be_read_aloud(example):
    page = Page(render(*example()))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in zip(levels, levels[1:], strict=False))
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in page.tags}
    assert all(image["alt"] for image in page.all("img"))
    assert all(heading["scope"] in ("col", "row", "colgroup") for heading in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = {attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes}
    targets = {link["href"].removeprefix("#") for link in page.all("a")}
    assert labelled | targets <= set(ids)


def test_verdict_and_facts_come_first(clothing):
    report = example_report.clothing().report
    first = clothing.text.index("Results Measured")
    for words in (report["title"], report["verdict"]["sentence"], "Good", "2,444", "resnet18", "4 March 2026, 14:05 UTC"):
        assert clothing.text.index(words) < first
    order = [
        clothing.text.rindex(title) for title in ("How it was trained Loss", "The data Images", "Shipping The", "To reproduce Machine")
    ]
    assert order == sorted(order)


def test_every_number_of_the_blocks_is_shown(clothing):
    _, blocks, _ = example_report.clothing()
    for block in blocks:
        match block:
            case Tiles():
                words = [word for tile in block.tiles for word in (tile.name, tile.value, tile.note)]
            case Text():
                words = list(block.paragraphs)
            case Table():
                words = [*block.columns, *(cell for row in block.rows for cell in row)]
            case Bars():
                words = [word for bar in block.bars for word in (bar.label, bar.note, draw.bar_text(bar), draw.interval_text(bar))]
            case Matrix():
                words = [*block.labels, *(str(n) for row in block.counts for n in row if n)]
            case Gallery():
                words = [word for picture in block.pictures for word in (picture.caption, picture.detail)]
            case Curves():
                words = [block.x_name, block.y_name, *block.series]
        missing = [word for word in [block.title, *words] if word not in clothing.text]
        assert not missing, block.title


def test_every_fact_of_the_report_is_shown(clothing):
    report = example_report.clothing().report
    words = [*report["training"]["plan"], report["training"]["stopped"], *report["network"]["reasons"], report["data"]["split_origin"],
             "11.2 million", "Apache-2.0", "kept: epoch 9", "2,080", "150", "214", "14 pairs", "one of them has a copy",
             "2.4 × 10⁻⁶", "0.001 is tolerated", "44.8 MB", "61.4", "chosen from the data", "5 min 01 s"]  # fmt: skip
    words += [text for table in ("refused", "notes", "leaks", "conflicts") for row in report["data"][table] for text in row.values()]
    words += [str(version) for version in report["environment"]["versions"].values()]
    words += [f"{epoch[loss]:.3f}" for epoch in report["training"]["epochs"] for loss in ("train_loss", "val_loss")]
    words += [f"{epoch['val_accuracy']:.1%}" for epoch in report["training"]["epochs"]]
    assert not [word for word in words if word not in clothing.text]


def test_hostile_words_stay_words():
    example = example_report.hostile()
    html = render(*example)
    page = Page(html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    for label in example.report["data"]["labels"]:
        assert label in page.text
    assert "49" not in {word for word in page.words if word.strip() == "49"}, "a label was run as a template"
    assert "\u202e" not in html
    assert "\x00" not in html
    assert r"\udcff" in page.text
    assert not page.all("img"), "bytes that are neither JPEG nor PNG were shown as a picture"


def test_missing_picture_is_said_to_be_missing():
    report, blocks, pictures = example_report.clothing()
    gone = list(pictures)[3]
    del pictures[gone]
    page = Page(render(report, blocks, pictures))
    assert page.text.count("The picture is not here") == 1
    assert [tag for tag, attributes in page.tags if attributes.get("aria-label") == f"{gone}: the picture is not here"] == ["div"]
    assert len(page.all("img")) == 30


def test_nothing_to_say_leaves_no_section():
    report, _, _ = example_report.tiny()
    empty = [Tiles("No tiles", []), Text("No text", [""]), Table("No rows", ("a",), []), Bars("No bars", []), Matrix("No matrix", [], []),
             Gallery("No pictures", []), Curves("No curves", "x", "y", {"a": []})]  # fmt: skip
    page = Page(render(report, empty, {}))
    assert "Results" not in page.text
    assert not [block.title for block in empty if block.title in page.text]
    for title in (
        "Copies across splits",
        "Copies with different labels",
        "Files that were refused",
        "Notes on single files",
        "copies kept",
    ):
        assert title not in page.text
    assert "How it was trained" in page.text


def test_single_epoch_is_a_row_not_a_curve():
    page = Page(render(*example_report.tiny()))
    assert not [attributes for attributes in page.all("div") if attributes.get("class", "").startswith("chart")]
    assert "Training ended after its last epoch." in page.text


def test_leaks_temper_the_claim_about_the_test_images():
    report, blocks, _ = example_report.clothing()
    assert "But one of them has a copy" in all_sections(report, blocks)[0].lead
    report["data"]["leaks"] = []
    assert all_sections(report, blocks)[0].lead == "Measured on 214 test images that took no part in training."


def test_far_too_long_tables_are_cut_and_say_so():
    report, blocks, pictures = example_report.tiny()
    report["data"]["refused"] = [{"path": f"{index}.jpg", "reason": "the file is empty"} for index in range(2000)]
    page = Page(render(report, blocks, pictures))
    assert f"The first {MOST_ROWS} of 2,000" in page.text
    assert "299.jpg" in page.text
    assert "300.jpg" not in page.text


def test_render_leaves_its_arguments_alone():
    example = example_report.clothing()
    before = copy.deepcopy(example)
    render(*example)
    assert example == before


def test_page_without_pictures_is_small():
    report, blocks, _ = example_report.clothing()
    assert len(render(report, blocks, {}).encode()) < 60_000


def test_matrix_tints_by_share_of_the_row():
    shape = draw.matrix(Matrix("m", ["a", "b"], [[9, 1], [0, 4]]))
    assert [[cell.text for cell in row.cells] for row in shape.rows] == [["9", "1"], ["", "4"]]
    assert [row.total for row in shape.rows] == ["10", "4"]
    assert shape.rows[1].cells[1].tint == 1
    assert 0 < shape.rows[0].cells[1].tint < shape.rows[0].cells[0].tint < 1
    assert shape.rows[0].cells[0].on_diagonal
    assert not shape.rows[0].cells[1].on_diagonal
    assert shape.rows[0].cells[1].title == "truth a, predicted b: 1 of 10"
    assert shape.n_hidden == 0


def test_matrix_beyond_thirty_classes_shows_the_most_mistaken():
    n = 40
    counts = np.diag(np.full(n, 10))
    counts[np.arange(30), np.roll(np.arange(30), 1)] = 2
    counts[5, 39] = 3
    shape = draw.matrix(Matrix("m", [f"c{index}" for index in range(n)], counts.tolist()))
    assert list(shape.labels) == [f"c{index}" for index in range(30)]
    assert shape.n_hidden == 10
    assert (shape.rows[5].others, shape.rows[5].total) == ("3", "15")
    assert "Shown are the 30 classes with the most mistakes; 30 others are left out." in Page(render(*example_report.many_classes())).text


def test_curves_place_points_in_percent():
    shape = draw.curves(Curves("c", "epoch", "loss", {"a": [(1, 0.0), (2, 0.5), (3, 1.0)]}, mark=2))
    assert shape.lines[0].path == "M0.00 100.00L50.00 50.00L100.00 0.00"
    assert shape.mark == 50
    assert shape.lines[0].dots == [(50, 50)]
    assert [tick.text for tick in shape.x_ticks] == ["1", "2", "3"]
    assert [tick.text for tick in shape.y_ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert "0 at first, 1 at last" in shape.summary


def test_curves_skip_what_is_not_finite():
    assert draw.curves(Curves("c", "x", "y", {"a": [(1, math.nan), (2, math.inf)]})) is None
    shape = draw.curves(Curves("c", "x", "y", {"a": [(1, 2.0), (2, math.nan), (3, 2.0)], "b": []}))
    assert shape.lines[0].path.count("L") == 1
    assert len(shape.lines) == 1


def test_long_curves_are_thinned_but_keep_their_ends():
    shape = draw.curves(Curves("c", "x", "y", {"a": [(x, x) for x in range(10_000)]}))
    assert shape.lines[0].path.count("L") <= draw.MOST_POINTS + 1
    assert shape.lines[0].path.startswith("M0.00 100.00L")
    assert shape.lines[0].path.endswith("L99.99 0.01") or shape.lines[0].path.endswith("100.00 0.01")


def test_names_of_lines_that_end_together_do_not_overlap():
    shape = draw.curves(
        Curves("c", "x", "y", {name: [(0, 0.0), (1, 1 + 0.001 * rank)] for rank, name in enumerate("abc")} | {"d": [(0, 0.0)]})
    )
    heights = sorted(line.label_at for line in shape.lines)
    assert min(b - a for a, b in zip(heights, heights[1:], strict=False)) >= draw.LABEL_GAP - 1e-9
    assert heights[-1] <= 100


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.6, 1.9, [0.5, 1, 1.5, 2]), (3, 3, [1, 2, 3, 4, 5]), (-1, 1, [-1, -0.5, 0, 0.5, 1])],
)
def test_ticks_are_round_and_cover_the_range(low, high, ticks):
    assert draw.nice_ticks(low, high) == pytest.approx(ticks)


def test_bar_text_says_no_more_than_its_interval_allows():
    assert draw.bar_text(Bar("a", 18 / 21, 0.65, 0.95)) == "86%"
    assert draw.interval_text(Bar("a", 18 / 21, 0.65, 0.95)) == "65 to 95%"
    assert draw.bar_text(Bar("a", 0.8554, 0.83, 0.88)) == "85.5%"
    assert draw.interval_text(Bar("a", 0.5)) == ""


def test_amounts_read_well():
    assert [amounts.duration(seconds) for seconds in (0.04, 59.96, 185, 8040)] == ["0.0 s", "1 min 00 s", "3 min 05 s", "2 h 14 min"]
    assert [amounts.size(n) for n in (12, 44_760_512, 3_000_000_000_000)] == ["12 bytes", "44.8 MB", "3000.0 GB"]
    assert [amounts.significant(value) for value in (0.001, 2.4e-6, None, math.nan)] == ["0.001", "2.4 × 10⁻⁶", "–", "not a number"]
    assert amounts.moment("yesterday") == "yesterday"
    assert amounts.number_of(1, "image") == "1 image"


def test_thumbnail_is_small_upright_and_says_nothing_else():
    wide = np.zeros((300, 900, 3), np.uint8)
    wide[:, :450] = 255
    content = thumbnail(wide)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (224, 75)
        assert picture.getpixel((10, 30)) > (250, 250, 250)
        assert not picture.getexif()
        assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    with Image.open(io.BytesIO(thumbnail(np.zeros((5, 7, 3), np.uint8)))) as tiny:
        assert tiny.size == (7, 5)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_from_the_paper(theme):
    """WCAG 2.2 AA: 4.5 to 1 for text, also on the strongest tints."""
    style = (resources.files("sightline.report") / "report.css").read_text("utf-8")
    colours = dict(re.findall(r"--([a-z-]+): ([^;]+);", style.split(":root {")[1 + theme].split("}")[0]))
    paper, ink, wash = (_rgb(colours[name]) for name in ("paper", "ink", "wash"))
    for name in ("ink", "soft", "accent", "warn", "good", "fair", "poor"):
        assert _contrast(_rgb(colours[name]), paper) >= 4.5, name
    assert _contrast(_rgb(colours["soft"]), wash) >= 4.5
    for name, most in (("accent", "most"), ("warn", "most-warn")):
        strength = float(colours[most])
        tint = [strength * colour + (1 - strength) * ground for colour, ground in zip(_rgb(colours[name]), paper, strict=True)]
        assert _contrast(ink, tint) >= 4.5, name


def _rgb(text: str) -> list[float]:
    return [int(text[at : at + 2], 16) for at in (1, 3, 5)] if text.startswith("#") else [float(part) for part in text.split()]


def _contrast(one: list[float], other: list[float]) -> float:
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
