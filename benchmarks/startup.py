"""Claim: the command line answers at once. `sightline --help` and `import sightline` against a bare interpreter, in one run.

Prints medians and their ratios and writes benchmarks/results/startup.json.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 15
COMMANDS = {
    "bare interpreter": ["-c", "pass"],
    "import sightline": ["-c", "import sightline"],
    "sightline --help": ["-m", "sightline.cli", "--help"],
    "import torch": ["-c", "import torch"],
}


def seconds(words: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    measured: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for words in COMMANDS.values():  # once unmeasured, so that files are in memory for all
        seconds(words)
    for _ in range(RUNS):  # in turn, so that a slow moment of the machine meets all
        for name, words in COMMANDS.items():
            measured[name].append(seconds(words))
    medians = {name: statistics.median(values) for name, values in measured.items()}
    base = medians["bare interpreter"]
    for name, median in medians.items():
        print(f"{name:<18} {median:6.3f} s   {median / base:5.1f} times a bare interpreter")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    found = {"python": platform.python_version(), "machine": platform.machine(), "runs": RUNS, "median_seconds": medians}
    (results / "startup.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
