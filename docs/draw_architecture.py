"""Draws docs/architecture.svg: the rooms on their floors, and the way of an image through them.

The rooms stand here once; a test holds them against the code and the picture against this script.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from textwrap import wrap

# Floors from the ground up: (title, rooms); a room may import those on floors below it.
FLOORS: list[tuple[str, list[tuple[str, str]]]] = [
    ("ground: values", [
        ("errors", "every error, its exit code"), ("texts", "columns of texts"), ("fp16", "weights in fewer bits"),
        ("records", "Dataset, Infer"), ("predictions", "what a model says"), ("scenes", "boxes, label maps"),
        ("settings", "fields with bounds"), ("config", "every setting, its help"),
    ]),
    ("ground: the machine", [
        ("figures", "what can be required"),
        ("requirements", "what a model has to reach"), ("console", "lines and bars"), ("processor", "cores and features"),
        ("energy", "joules, where told"),
    ]),
    ("numpy and Pillow", [
        ("data", "read, decode, look once, split, prepare"), ("drawing", "boxes, label maps in colours"),
        ("evaluation", "metrics, intervals"), ("tasks", "what a task means"),
    ]),
    ("the meeting point", [
        ("archive", "a ZIP without trust"), ("npz", "arrays without trust"), ("manifest", "what a bundle says"),
        ("onnx_check", "a graph without trust"), ("signature", "whose a bundle is"), ("bundle", "read and write *.sight"),
        ("reference", "what to hold images against"),
    ]),
    ("PRODUCT: never torch", [
        ("engines", "what computes best here"), ("tiling", "large pictures part by part"),
        ("runtime", "Model.open(...).predict(...)"), ("replay", "does it compute the same?"),
        ("assessment", "figures on labelled data"), ("saving", "answers as pictures, files"), ("bulk", "many images, many workers"),
        ("explanation", "heat maps, and tests of them"),
        ("serving", "requests in batches"),
    ]),
    ("TRAIN: may use torch", [
        ("model", "backbone, head, export"), ("training", "plan, loop, checkpoint"), ("report", "report.html, card.md"),
        ("auditing", "findings; the gate"), ("trust", "harder conditions, groups, baselines"), ("package", "export, judge, release"),
        ("exporting", "variants, judged"), ("shrinking", "smaller, on purpose"),
    ]),
    ("the verbs", [
        ("diagnosis", "what this machine has"), ("comparison", "runs side by side"), ("trainer", "data to a run"),
        ("folds", "one run a fold"), ("pipeline", "the verbs"), ("signing", "keys"),
        ("flags", "from settings"), ("exits", "codes"), ("cli", "flags to pipeline"),
    ]),
]  # fmt: skip

# The way of an image in `train`: (what happens, the room it happens in).
WAY = [
    ("read", "data/readers"), ("choose", "model/choose"), ("look once", "data/store"), ("gate: copies, split", "auditing/gate"),
    ("plan", "training/plan"), ("learn", "training/loop"), ("export", "model/export"), ("bundle", "bundle"),
    ("judge the bundle", "package"), ("report", "report"), ("predict", "runtime"),
]  # fmt: skip

WIDTH, ROW, ROOM_HEIGHT, GAP, LEFT = 1240, 92, 58, 12, 170
LETTER = 5.8  # pixels of small text
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #1d2a30 } .small { font-size: 11.5px; fill: #51636b }
.floor { font-size: 12px; fill: #51636b } .room { fill: #fff; stroke: #2f6f7e } .product { fill: #e3f1ee } .train { fill: #fbeee0 }
.ground { fill: #f2f5f6 } .step { fill: #2f6f7e } .onstep { fill: #fff; font-size: 12.5px } .arrow { stroke: #2f6f7e; fill: none }
"""


def draw() -> str:
    """The picture as SVG text."""
    height = ROW * len(FLOORS) + 200
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Rooms and the way of an image">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for number, (title, rooms) in enumerate(FLOORS):
        parts += _floor(title, rooms, 20 + ROW * (len(FLOORS) - 1 - number))
    parts += _way(ROW * len(FLOORS) + 60)
    return "\n".join([*parts, "</svg>", ""])


def _floor(title: str, rooms: list[tuple[str, str]], top: int) -> list[str]:
    kind = "train" if title.startswith("TRAIN") else "ground" if title.startswith("the verbs") else "product"
    parts = [f'<rect class="{kind}" x="12" y="{top - 6}" width="{WIDTH - 24}" height="{ROW - 10}" rx="8"/>',
             f'<text class="floor" x="26" y="{top + 36}">{escape(title)}</text>']  # fmt: skip
    width = (WIDTH - LEFT - 24 - GAP * len(rooms)) / len(rooms)
    for place, (name, what) in enumerate(rooms):
        x = LEFT + place * (width + GAP)
        lines = enumerate(wrap(what, int((width - 14) / LETTER)))
        parts += [
            f'<rect class="room" x="{x:.0f}" y="{top + 6}" width="{width:.0f}" height="{ROOM_HEIGHT}" rx="6"/>',
            f'<text x="{x + 9:.0f}" y="{top + 25}">{escape(name)}</text>',
            *(f'<text class="small" x="{x + 9:.0f}" y="{top + 41 + 14 * row}">{escape(line)}</text>' for row, line in lines),
        ]
    return parts


def _way(top: int) -> list[str]:
    parts = [f'<text x="26" y="{top - 14}">The way of an image in <tspan font-weight="600">sightline train</tspan>, and after it</text>']
    columns = 6
    width = (WIDTH - 40) / columns
    for place, (step, room) in enumerate(WAY):
        x, y = 20 + (place % columns) * width, top + (place // columns) * 66
        parts += [
            f'<rect class="step" x="{x:.0f}" y="{y}" width="{width - 26:.0f}" height="30" rx="15"/>',
            f'<text class="onstep" x="{x + 14:.0f}" y="{y + 20}">{place + 1}. {escape(step)}</text>',
            f'<text class="small" x="{x + 14:.0f}" y="{y + 46}">{escape(room)}</text>',
        ]
        if place % columns < columns - 1 and place < len(WAY) - 1:
            parts.append(f'<path class="arrow" d="M{x + width - 24:.0f} {y + 15} h18 m-6 -5 l6 5 l-6 5"/>')
    return parts


if __name__ == "__main__":
    Path(__file__).with_name("architecture.svg").write_text(draw(), encoding="utf-8")
