"""Claim: on the clothing photographs, more accuracy than fastai and a plain fine-tune in a fifth, and in half, of fastai's time.

    python benchmarks/clothing_time.py [--seeds 0 1 2 3 4] [--add] [--quick]

For each seed in turn: fastai's ``fine_tune(5)``, an AdamW fine-tune of all layers written by hand, and Sightline with a budget of
1/5 and of 1/2 of what fastai took just before, all from the same MobileNetV2 weights. Sightline's time is that of the whole process,
data never seen before, up to bundle and report; the peers' ends when their model is saved, before they look at the test images.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import image_sets
from measure import WEIGHTS, Check, Record, arguments, finish, need_data, results_folder, run_peer, run_sightline

FASTAI, PLAIN = "fastai fine_tune(5)", "AdamW on all layers, by hand"
# The share of fastai's time, and the accuracy asked for in it.
ASKED = {"1/5": (1 / 5, 0.83), "1/2": (1 / 2, 0.86)}
QUICK = ["--epochs", "1", "--size", "64"]
# A fifth of a quick run would leave nothing to plan with.
QUICK_BUDGET = 60


def ours(share: str) -> str:
    return f"Sightline in {share} of fastai's time"


def measure_peer(record: Record, side: str, script: str, data: Path, seed: int, out: Path, quick: bool) -> float:
    """Run a peer; returns the seconds until its model was saved."""
    child = run_peer(script, data, "--seed", str(seed), "--weights", WEIGHTS, "--out", out / "peer", *(QUICK if quick else []))
    seconds = next(at for at, answer in child.answers if answer.get("event") == "trained")
    record.add(side, seed, seconds=round(seconds, 2), accuracy=child.last["accuracy"])
    return seconds


def measure_ours(record: Record, side: str, data: Path, seed: int, budget: int, out: Path) -> None:
    child = run_sightline(
        "train", data, "--weights", WEIGHTS, "--budget", f"{budget}s", "--seed", str(seed), "--out", out / "run",
        SIGHTLINE_CACHE=str(out / "cache"),
    )  # fmt: skip
    for made in ("model", "report"):
        if not Path(child.last[made]).exists():
            sys.exit(f"{side}: the run left no {made}.")
    record.add(side, seed, seconds=round(child.seconds, 2), budget=budget, accuracy=child.last["test"]["metrics"]["accuracy"])


def checks(record: Record) -> list[Check]:
    found = []
    for name, (share, accuracy) in ASKED.items():
        side = ours(name)
        ratio, reached = record.ratio("seconds", side, FASTAI, worst=max), record.mean(side, "accuracy")
        found.append(Check(f"{side}: time, ratio of medians", f"at most {share:g}", f"{ratio:.3f}", ratio <= share))
        found.append(Check(f"{side}: mean test accuracy", f"at least {accuracy}", f"{reached:.3f}", reached >= accuracy))
        for peer in (FASTAI, PLAIN):
            theirs = record.mean(peer, "accuracy")
            found.append(Check(f"{side}: mean test accuracy beside {peer}", f"above {theirs:.3f}", f"{reached:.3f}", reached > theirs))
    return found


def main() -> None:
    args = arguments(__doc__).parse_args()
    need_data()
    data = image_sets.clothing(4 if args.quick else None)
    counts = {split: sum(1 for _ in (data / split).glob("*/*")) for split in ("train", "validation", "test")}
    claim = "Clothing photographs, the same MobileNetV2 weights: more accuracy in a fifth, and in half, of fastai's time."
    record = Record("clothing_time", claim, ", ".join(f"{n} {split}" for split, n in counts.items()) + " images", {"counts": counts})
    folder = results_folder(args)
    if args.add:
        record.restore(folder)
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            seconds = measure_peer(record, FASTAI, "fastai_fine_tune.py", data, seed, Path(scratch), args.quick)
            measure_peer(record, PLAIN, "plain_fine_tune.py", data, seed, Path(scratch), args.quick)
        for name, (share, _) in ASKED.items():
            budget = QUICK_BUDGET if args.quick else int(seconds * share)
            with tempfile.TemporaryDirectory() as scratch:
                measure_ours(record, ours(name), data, seed, budget, Path(scratch))
        record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
