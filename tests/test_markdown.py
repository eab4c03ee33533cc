"""markdown: no label, file name or sentence breaks a card, and all read as they were written."""

from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from carded import MARKDOWN, classified, headings, rendered, trial, words
from sightline.report.card import card
from sightline.report.html import printable
from sightline.report.markdown import code, plain, points, split_front, table

NASTY = ("<script>alert(1)</script>", "a | b", "# head", "![x](http://x/y.png)", "`code`", "*bold* _it_ ~~no~~", "two\nlines\n\n## more",
         "&lt;b&gt;", "\\", "photo\u202egpj.exe\udcff\x00", "$x$", "![", "a" * 300)  # fmt: skip


def test_labels_from_outside_break_nothing():
    plain_card = card({**classified(tuple("abcdefghijklm"), (0.5,) * 13), **trial()})
    report = {**classified(NASTY, (0.5,) * 13), **trial()}
    report["title"] = NASTY[0]
    report["verdict"]["sentence"] = " ".join(NASTY)
    report["data"]["root"] = "`rm`\n# x"
    report["groups"]["attributes"][0]["attribute"] = NASTY[1]
    text = card(report)
    text.encode()
    page = rendered(text)
    assert headings(page)[0] == NASTY[0]
    assert len(headings(page)) == len(headings(rendered(plain_card)))
    assert re.findall(r"<(\w+)", page).count("td") == re.findall(r"<(\w+)", rendered(plain_card)).count("td")
    assert not set(re.findall(r"<(\w+)", page)) & {"script", "img", "a", "b", "em", "s"}
    for label in NASTY:
        assert " ".join(printable(label).split()) in words(page)


@given(st.text(max_size=60))
def test_plain_words_read_as_they_are(text):
    expected = " ".join(printable(text).split())
    page = MARKDOWN.renderInline(f"see {plain(text)} there")
    assert html.unescape(page) == f"see {expected} there"
    assert not re.search(r"<\w", page)
    cells = MARKDOWN.render(table(("A", "B"), [(plain(text) or "-", "end")]))
    assert [html.unescape(found) for found in re.findall(r"<td>(.*?)</td>", cells)] == [expected or "-", "end"]


@given(st.text(max_size=60))
def test_names_in_code_read_as_they_are(text):
    expected = " ".join(printable(text).split())
    page = MARKDOWN.renderInline(f"see {code(text)} there")
    assert [html.unescape(found) for found in re.findall(r"see <code>(.*)</code> there", page)] == [expected] * bool(expected)


def test_empty_tables_and_lists_are_nothing():
    assert table(("A",), []) == ""
    assert points(["", "a", ""]) == "- a"
    assert split_front("# no front\n---\n") == ("", "# no front\n---\n")
    assert split_front("---\na: 1\n---\n\n# x\n---\n") == ("---\na: 1\n---\n\n", "# x\n---\n")
