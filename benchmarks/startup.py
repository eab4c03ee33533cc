"""Claim: the command line answers at once. `sightline --help` and `import sightline` against a bare interpreter and `import torch`.

    python benchmarks/startup.py [--seeds 0 1 2...] [--add] [--quick]

Each command once a seed, in turn, so that a slow moment of the machine meets all.
"""

from __future__ import annotations

import subprocess
import sys
import time

from measure import Check, Record, arguments, finish, results_folder

BARE, IMPORT, HELP, TORCH = "bare interpreter", "import sightline", "sightline --help", "import torch"
COMMANDS = {
    BARE: ["-c", "pass"],
    IMPORT: ["-c", "import sightline"],
    HELP: ["-m", "sightline.cli", "--help"],
    TORCH: ["-c", "import torch"],
}
RUNS, QUICK_RUNS = range(15), [0, 1]
IMPORT_SECONDS = 0.05


def seconds(words: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def checks(record: Record) -> list[Check]:
    bare, imported, shown, torch = (record.median(side, "seconds") for side in COMMANDS)
    return [
        Check(
            "import sightline, median beyond a bare interpreter", f"at most {IMPORT_SECONDS:g} s", f"{imported - bare:.3f} s",
            imported - bare <= IMPORT_SECONDS,
        ),
        Check("sightline --help, ratio of medians to import torch alone", "below 1", f"{shown / torch:.2f}", shown < torch),
    ]  # fmt: skip


def main() -> None:
    args = arguments(__doc__, RUNS).parse_args()
    for words in COMMANDS.values():  # once unmeasured, so that files are in memory for all
        seconds(words)
    record, folder = Record("startup", "The command line answers at once.", "one start of each a run", {}), results_folder(args)
    if args.add:
        record.restore(folder)
    for seed in QUICK_RUNS if args.quick else args.seeds:
        for side, words in COMMANDS.items():
            record.add(side, seed, seconds=round(seconds(words), 4))
    record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
