"""Claim: a run with --budget ends in time, with bundle and report, and more time does not make the model worse.

    python benchmarks/budgets.py [--budgets 120 300 900] [--seeds 0 1 2 3 4] [--add] [--quick]

For each seed, three data sets (clothing photographs from MobileNetV2's weights, 5,000 CIFAR-10 images and handwritten digits from
nothing) and each budget: the wall time of the whole process, data never seen before, and accuracy on the test images with its 95%
interval. There is no peer here: the other side is the budget.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from pathlib import Path

import image_sets
from measure import WEIGHTS, Check, Record, arguments, finish, need_data, results_folder, run_sightline

BUDGETS = [120, 300, 900]
QUICK_BUDGETS = [60, 90]


def data_sets(quick: bool) -> dict[str, tuple[Path, list[str]]]:
    """The folder of each data set, and what its network starts from."""
    return {
        "clothing": (image_sets.clothing(4 if quick else None), ["--weights", str(WEIGHTS)]),
        "CIFAR-10": (image_sets.cifar(20, 10) if quick else image_sets.cifar(500, 200), ["--weights", "none"]),
        "digits": (image_sets.digits(10 if quick else None), ["--weights", "none"]),
    }


def side(name: str, budget: int) -> str:
    return f"{name}, {budget} s"


def measure(record: Record, name: str, data: Path, words: list[str], budget: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        child = run_sightline(
            "train", data, *words, "--budget", f"{budget}s", "--seed", str(seed), "--out", Path(scratch) / "run",
            SIGHTLINE_CACHE=f"{scratch}/cache",
        )  # fmt: skip
        for made in ("model", "report"):
            if not Path(child.last[made]).exists():
                sys.exit(f"{side(name, budget)}: the run left no {made}.")
        test = json.loads((Path(child.last["run"]) / "report.json").read_text())["test"]
    low, high = test["intervals"]["accuracy"]
    figures = {"accuracy": test["metrics"]["accuracy"], "interval_low": round(low, 4), "interval_high": round(high, 4)}
    record.add(side(name, budget), seed, seconds=round(child.seconds, 2), share_of_budget=round(child.seconds / budget, 4), **figures)


def checks(record: Record, names: list[str], budgets: list[int]) -> list[Check]:
    """One on time over all runs, and one for each data set: no accuracy below the interval of a smaller budget, over the seeds' means."""
    longest = max(share for name in record.sides for share in record.values(name, "share_of_budget"))
    found = [Check("longest run, as a share of its budget", "at most 100%", f"{longest:.1%}", longest <= 1)]
    for name in names:
        pairs = [
            (record.mean(side(name, less), "interval_low"), record.mean(side(name, more), "accuracy"))
            for less, more in itertools.pairwise(budgets)
        ]  # fmt: skip
        reached = ", ".join(f"{record.mean(side(name, budget), 'accuracy'):.3f}" for budget in budgets)
        asked = "none below the interval of the one before"
        found.append(Check(f"{name}: mean test accuracy as the budget grows", asked, reached, all(more >= low for low, more in pairs)))
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, help="in seconds, smallest first")
    args = parser.parse_args()
    need_data()
    budgets, sets = QUICK_BUDGETS if args.quick else sorted(args.budgets), data_sets(args.quick)
    claim = "--budget: every run ends in time with bundle and report, and accuracy does not fall as the budget grows."
    counts = {name: sum(1 for file in data.rglob("*") if file.is_file()) for name, (data, _) in sets.items()}
    record = Record("budgets", claim, ", ".join(f"{name} {count:,}" for name, count in counts.items()) + " images",
                    {"counts": counts, "budgets": budgets})  # fmt: skip
    folder = results_folder(args)
    if args.add:
        record.restore(folder)
    for seed in args.seeds:
        for name, (data, words) in sets.items():
            for budget in budgets:
                measure(record, name, data, words, budget, seed)
        record.write(folder, checks(record, list(sets), budgets))
    finish(checks(record, list(sets), budgets))


if __name__ == "__main__":
    main()
