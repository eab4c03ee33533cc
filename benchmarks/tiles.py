"""Claim: a picture of 10,000 x 8,000 pixels is predicted in tiles in under 2 GB, with the same boxes as its parts one by one.

    python benchmarks/tiles.py [--model MODEL.sight] [--seeds 0] [--add] [--quick]

Parts of 500 x 500 pixels from BCCD's photographs are laid side by side into one large picture. A detector (the one given, or one that
learns BCCD for a few epochs) predicts the parts as files of their own, and the large picture in tiles of 500 without an overlap: each
tile is a part, so every box must come again at its place. With an overlap of a fifth the tiles cut the parts' own scenes anywhere, and
joining has to mend that: the share of the parts' boxes that have one of their class on them, and the reverse, is for information.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measure import DATA, WEIGHTS, Check, Child, Record, arguments, finish, need_data, results_folder, run_sightline
from PIL import Image

from sightline.evaluation.boxes import iou

SIDE, COLUMNS, ROWS = 500, 20, 16
QUICK_COLUMNS, QUICK_ROWS = 3, 2
PARTS, TILES, OVERLAPPING = "parts one by one", "tiles", "tiles that overlap"
MOST_BYTES, MOST_PIXELS_APART, SAME = 2e9, 0.05, 0.5
EPOCHS = ["--epochs", "5", "--size", "320", "--no-trial", "--weights", str(WEIGHTS)]

Boxes = dict[str, np.ndarray[Any, Any]]


def lay(folder: Path, columns: int, rows: int, seed: int) -> dict[str, tuple[int, int]]:
    """Write the parts and the picture of all of them; gives the place of each part by its name."""
    photos = np.random.default_rng(seed).permutation(sorted((DATA / "bccd" / "JPEGImages").glob("*.jpg")))
    whole, places = Image.new("RGB", (columns * SIDE, rows * SIDE)), {}
    (folder / "parts").mkdir()
    for number in range(columns * rows):
        with Image.open(photos[number % len(photos)]) as photo:
            part = photo.convert("RGB").crop((0, 0, SIDE, SIDE))
        place = number % columns * SIDE, number // columns * SIDE
        name = f"{number:04d}.png"
        part.save(folder / "parts" / name, compress_level=1)
        whole.paste(part, place)
        places[name] = place
    whole.save(folder / "whole.png", compress_level=1)
    return places


def boxes_of(child: Child, places: dict[str, tuple[int, int]]) -> Boxes:
    """All boxes (m, 4) of each class, at their places in the large picture."""
    found: dict[str, list[list[float]]] = {}
    for _, answer in child.answers:
        left, top = places.get(Path(answer["path"]).name, (0, 0))
        for entry in answer["predictions"]:
            found.setdefault(entry["label"], []).append(list(np.array(entry["box"]) + np.array([left, top, left, top])))
    return {label: np.array(sorted(rows)) for label, rows in found.items()}


def apart(expected: Boxes, found: Boxes) -> float:
    """The farthest that a side of a box is from where it should be; infinite where the numbers of boxes differ."""
    if {label: len(rows) for label, rows in expected.items()} != {label: len(rows) for label, rows in found.items()}:
        return float("inf")
    nearest = [np.abs(rows[:, None] - found[label][None]).max(axis=2).min(axis=1).max() for label, rows in expected.items()]
    return float(max(nearest, default=0.0))


def shared(boxes: Boxes, others: Boxes) -> float:
    """The share of the boxes that have another of their class on them."""
    hits = [
        (iou(rows, others[label]).max(axis=1) >= SAME).sum() if len(others.get(label, ())) else 0 for label, rows in boxes.items()
    ]  # fmt: skip
    return float(sum(hits) / max(1, sum(map(len, boxes.values()))))


def measure(record: Record, model: Path, seed: int, columns: int, rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = lay(folder, columns, rows, seed)
        parts = run_sightline("predict", model, folder / "parts", memory=True)
        expected = boxes_of(parts, places)
        record.add(PARTS, seed, boxes=sum(map(len, expected.values())), seconds=round(parts.seconds, 2), peak_bytes=parts.peak_memory)
        for side, overlap in ((TILES, "0"), (OVERLAPPING, "0.2")):
            child = run_sightline("predict", model, folder / "whole.png", "--tile", str(SIDE), "--overlap", overlap, memory=True)
            found = boxes_of(child, {})
            figures: dict[str, Any] = {
                "boxes": sum(map(len, found.values())),
                "found": shared(expected, found),
                "right": shared(found, expected),
            }
            if side == TILES:
                figures["apart"] = apart(expected, found) if np.isfinite(apart(expected, found)) else None
                figures["same"] = figures["apart"] is not None and figures["apart"] <= MOST_PIXELS_APART
            record.add(side, seed, **figures, seconds=round(child.seconds, 2), peak_bytes=child.peak_memory)


def checks(record: Record) -> list[Check]:
    same = [run["same"] for run in record.runs if run["side"] == TILES]
    most = max(value for side in (TILES, OVERLAPPING) for value in record.values(side, "peak_bytes"))
    return [
        Check("boxes of tiles and of parts, in pixels apart", f"at most {MOST_PIXELS_APART:g}, as many of each class",
              ", ".join(f"{value:.3f}" for value in record.values(TILES, "apart")) or "another number of boxes", all(same)),
        Check("memory at the worst moment", f"under {MOST_BYTES / 1e9:g} GB", f"{most / 1e9:.2f} GB", most < MOST_BYTES),
    ]  # fmt: skip


def main() -> None:
    parser = arguments(__doc__, (0,))
    parser.add_argument("--model", type=Path, help="a bundle that detects; one is trained when not given")
    args = parser.parse_args()
    need_data()
    columns, rows = (QUICK_COLUMNS, QUICK_ROWS) if args.quick else (COLUMNS, ROWS)
    claim = "A large picture is predicted in tiles, in little memory and as its parts are."
    record = Record("tiles", claim, f"{columns * rows} parts of {SIDE} px",
                    {"side": SIDE, "columns": columns, "rows": rows})  # fmt: skip
    folder = results_folder(args)
    if args.add:
        record.restore(folder)
    with tempfile.TemporaryDirectory() as made:
        model = args.model or Path(run_sightline("train", DATA / "bccd", "--out", f"{made}/run", *EPOCHS).last["model"])
        for seed in args.seeds[:1] if args.quick else args.seeds:
            measure(record, model, seed, columns, rows)
    record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
