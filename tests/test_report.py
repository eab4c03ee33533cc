"""The report page: what it shows, what it must never do, and the geometry of its charts."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

import example_report
from sightline.report import draw
from sightline.report.html import render
from sightline.report.sections import all_sections
from sightline.report.tables import MOST_ROWS
from sightline.tasks.blocks import Bars, Curves, Gallery, Matrix, Table, Text, Tiles

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
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-1:]}"
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
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
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
             "11.2 million", "Apache-2.0", "kept: epoch 9", "2,080", "150", "214", "12 pairs", "one of them has a copy",
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
        "Groups in more than one split",
        "Copies with different labels",
        "Files that were refused",
        "Notes on single files",
        "copies kept",
    ):
        assert title not in page.text
    assert "How it was trained" in page.text


def test_single_epoch_is_a_row_not_a_curve():
    report, blocks, pictures = example_report.tiny()
    report["training"] |= {"stages": [], "learning_curve": None}
    page = Page(render(report, blocks, pictures))
    assert not [attributes for attributes in page.all("div") if attributes.get("class", "").startswith("chart")]
    assert "Training ended after its last epoch." in page.text


def test_stages_of_a_fine_tuning_and_the_curve_of_its_probe_are_shown():
    text = Page(render(*example_report.clothing())).text
    assert "What each stage brought" in text
    assert "0.610 to 0.480" in text
    assert "80.0% to 86.0%" in text
    assert "Would more images help?" in text
    assert "More images would help." in text


def test_only_copies_on_one_side_are_said_to_be_kept_together():
    report, blocks, pictures = example_report.clothing()
    report["data"]["copies"] = len(report["data"]["leaks"])
    text = Page(render(report, blocks, pictures)).text
    assert "Copies across splits" in text
    assert "kept together" not in text


def test_the_size_of_the_input_is_width_and_height():
    report, blocks, pictures = example_report.clothing()
    assert "reading images of 224 × 224 pixels" in Page(render(report, blocks, pictures)).text
    report["network"] |= {"size": 320, "width": 224, "height": 320}
    assert "reading images of 224 × 320 pixels" in Page(render(report, blocks, pictures)).text


def test_leaks_temper_the_claim_about_the_test_images():
    report, blocks, _ = example_report.clothing()
    assert "But one of them has a copy" in all_sections(report, blocks)[0].lead
    report["data"]["leaks"] = []
    assert all_sections(report, blocks)[0].lead == "Measured on 214 test images that took no part in training."


def test_groups_that_came_in_two_splits_are_listed_and_temper_the_claim_where_one_is_the_test_split():
    report, blocks, pictures = example_report.clothing()
    page = Page(render(report, blocks, pictures))
    assert "Groups in more than one split" in page.text
    assert "photographer 7" in page.text
    assert "train, validation" in page.text
    report["data"]["straddling"] = [{"group": "7", "splits": ["train", "test"]}]
    assert all_sections(report, blocks)[0].lead.endswith(
        "But one of them has a copy and 1 group of images is also in another split: see The data."
    )
    report["data"]["leaks"] = []
    report["data"]["straddling"] *= 2
    assert all_sections(report, blocks)[0].lead.endswith("But 2 groups of images are also in another split: see The data.")


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


def test_more_than_thirty_classes_are_said_to_be_left_out():
    page = Page(render(*example_report.many_classes()))
    assert "Shown are the 30 classes with the most mistakes; 30 others are left out." in page.text


def test_weights_that_the_reasons_name_are_not_named_twice():
    report, blocks, _ = example_report.clothing()
    assert "It started from" in Page(render(report, blocks, {})).text
    report["network"]["reasons"] = [f"Weights {report['network']['weights']}, as asked."]
    assert "It started from" not in Page(render(report, blocks, {})).text


def test_whatever_the_objective_watches_is_drawn_by_its_name():
    report, blocks, pictures = example_report.clothing()
    for epoch in report["training"]["epochs"]:
        epoch["val_map"], epoch["val_box_error"] = epoch.pop("val_accuracy"), 12.5
    report["training"]["stages"] = []
    text = Page(render(report, blocks, pictures)).text
    assert "Mean average precision" in text
    assert "Validation mean average precision" in text
    assert all(f"{epoch['val_map']:.1%}" in text for epoch in report["training"]["epochs"])
    assert "Box error" in text
    assert "12.500" in text
    assert "Validation accuracy" not in text
