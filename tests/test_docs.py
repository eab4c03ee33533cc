"""The documentation does what it says: commands and snippets of the README run as written, and the picture is true to the code."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import write_shapes
from test_architecture import ORDER, SOURCE

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def fenced(language: str) -> list[str]:
    """The README's blocks in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """A working folder with ``photos/`` and ``new.jpg``, and the commands on the path."""
    folder = tmp_path_factory.mktemp("newcomer")
    write_shapes(folder / "photos", per_class=12)
    shutil.copy(folder / "photos" / "disc" / "000.png", folder / "new.jpg")
    return folder, {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_the_commands_of_the_readme_run_in_order(newcomer):
    folder, environment = newcomer
    commands = [line for block in fenced("sh") for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert {path.name for path in (folder / "runs/classify/photos").iterdir()} == {
        "report.html", "model.sight", "report.json", "results.csv", "predictions.csv", "config.json", "audit.json", "checkpoint",
    }  # fmt: skip


def test_the_python_of_the_readme_runs(newcomer):
    folder, environment = newcomer
    (code,) = fenced("python")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] in ("cross", "disc", "square")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_are_named_are_there(page):
    for name in re.findall(r"`((?:data|model|tasks|training|auditing|evaluation|report|tests|docs)/[\w/]+\.\w+)`", page.read_text()):
        found = (ROOT / name).exists() or (SOURCE / name).exists() or "NAME" in name
        assert found, f"{page.name} names {name}"


def drawing():
    spec = importlib.util.spec_from_file_location("draw_architecture", ROOT / "docs" / "draw_architecture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_what_its_script_draws():
    assert (ROOT / "docs" / "architecture.svg").read_text() == drawing().draw()


def test_the_picture_has_every_room_on_its_floor():
    drawn = [name for _, rooms in drawing().FLOORS for name, _ in rooms]
    rooms = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    rooms -= {"__init__", "__main__"}
    assert set(drawn) == rooms
    assert drawn == [room for floor in ORDER for room in floor]


def test_the_way_of_an_image_leads_through_rooms_that_are_there():
    for _, room in drawing().WAY:
        assert (SOURCE / f"{room}.py").exists() or (SOURCE / room).is_dir(), room


def test_every_changed_default_is_in_the_help_and_no_flag_is_dead():
    """Each field of the configuration is read somewhere outside of config."""
    from dataclasses import fields

    import sightline.config as config

    code = "\n".join(path.read_text() for path in SOURCE.rglob("*.py") if path.parent.name != "config")
    stages = [stage for stage in vars(config).values() if isinstance(stage, type) and stage.__name__.endswith("Config")]
    assert len(stages) >= 7
    for stage in stages:
        for entry in fields(stage):
            assert entry.metadata["help"].endswith(".")
            assert re.search(rf"\.{entry.name}\b", code), f"{stage.__name__}.{entry.name} is read nowhere"
