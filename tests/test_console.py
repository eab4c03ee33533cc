"""What a person is told goes to stderr, and what a program reads stays on stdout, also while a bar is shown."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from sightline import console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    fake = Terminal()
    monkeypatch.setattr(sys, "stderr", fake)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(console, "PATIENCE_SECONDS", -1.0)
    return fake


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_results_printed_beside_a_bar_stay_on_stdout():
    """With stderr a real terminal and stdout a pipe, as in ``sightline predict ... > answers.txt``."""
    import pty

    code = """
import time
from sightline import console
console.PATIENCE_SECONDS = -1.0
for number in console.track(range(30), 30, "Predicting"):
    print("line", number)
    time.sleep(0.02)
"""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment)
    out, _ = child.communicate()
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert out.splitlines() == [f"line {number}" for number in range(30)]
    assert "Predicting" in shown


def test_no_bar_for_what_is_short(terminal, monkeypatch):
    monkeypatch.setattr(console, "PATIENCE_SECONDS", 60.0)
    assert list(console.track("ab", 2, "Predicting")) == ["a", "b"]
    assert terminal.getvalue() == ""


def test_without_a_terminal_a_plain_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(console, "PLAIN_INTERVAL_SECONDS", -1.0)
    assert list(console.track("abc", 3, "Looking")) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["Looking: 0 of 3", "Looking: 1 of 3", "Looking: 2 of 3"]


def test_a_bar_is_taken_down_when_the_work_fails(terminal):
    def stop_halfway() -> None:
        for _ in console.track([1, 2], 2, "Predicting"):
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        stop_halfway()
    assert list(console.track([1], 1, "Again")) == [1]


def test_lines_go_to_stderr(capsys):
    console.say("a line")
    console.warn("a warning")
    assert capsys.readouterr() == ("", "a line\n! a warning\n")


ROWS = [{"name": "short", "px": "96"}, {"name": "longer[bold]", "px": "224"}]


def test_a_table_in_a_pipe_is_a_line_a_row(capsys):
    console.show_table(ROWS, right=("px",))
    assert capsys.readouterr() == ("name           px\nshort          96\nlonger[bold]  224\n", "")


def test_a_table_on_a_terminal_is_no_wider_than_it_and_loses_nothing(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    for name, value in {"TERM": "xterm", "COLUMNS": "40", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    console.show_table([*ROWS, {"name": "x" * 60, "px": "8"}], right=("px",))
    lines = screen.getvalue().splitlines()
    assert "longer[bold]" in screen.getvalue()
    assert screen.getvalue().count("x") - screen.getvalue().count("px") == 60
    assert max(map(len, lines)) <= 40


def test_names_from_elsewhere_do_not_steer_a_terminal(capsys):
    console.say("a\x1b[2Jb\x9b2Jc\nd\te")
    console.print_each([("x\x1b[31m.jpg", "\rcat")], False, lambda path, found: found, lambda found: found)
    told = capsys.readouterr()
    assert told.err == "a\\x1b[2Jb\\x9b2Jc\nd\te\n"
    assert told.out == "x\\x1b[31m.jpg: \\x0dcat\n"
