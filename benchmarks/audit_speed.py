"""Claim: the audit of a camera's photographs takes at most twice the time of decoding them.

    python benchmarks/audit_speed.py [--images 600] [--seeds 0 1 2] [--add] [--quick]

Once a seed and in turn: ``sightline audit`` of distinct JPEG files of 12 megapixels in class folders, from the start of the process to
its page, nothing kept from before and embeddings by MobileNetV2; and Pillow decoding each file in full in a pool of as many processes,
keeping nothing. The photographs are those of three data sets, enlarged and given a camera's grain.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import image_sets
from measure import WEIGHTS, Check, Record, arguments, finish, need_data, results_folder, run_sightline
from PIL import Image

from sightline.processor import processors

AUDIT, DECODING = "sightline audit", "Pillow, full decode"
TIMES = 2.0
CHUNK = 8


def decoded(path: Path) -> int:
    with Image.open(path) as image:
        image.load()
        return image.width * image.height


def decoding(photographs: Path) -> float:
    """Seconds to decode every file."""
    start = time.perf_counter()
    with ProcessPoolExecutor(processors()) as pool:
        for pixels in pool.map(decoded, sorted(photographs.glob("*/*.jpg")), chunksize=CHUNK):
            assert pixels
    return time.perf_counter() - start


def auditing(photographs: Path) -> float:
    """Seconds from the start of the process to the page."""
    with tempfile.TemporaryDirectory() as scratch:
        child = run_sightline("audit", photographs, "--weights", WEIGHTS, "--out", Path(scratch, "found"), SIGHTLINE_CACHE=scratch)
    return child.seconds


def checks(record: Record) -> list[Check]:
    ratio = record.ratio("seconds", AUDIT, DECODING, worst=max)
    return [Check("the audit beside decoding, ratio of medians", f"at most {TIMES:g}", f"{ratio:.2f}", ratio <= TIMES)]


def main() -> None:
    parser = arguments(__doc__, [0, 1, 2])
    parser.add_argument("--images", type=int, default=600)
    args = parser.parse_args()
    need_data()
    n = 24 if args.quick else args.images
    photographs = image_sets.camera_photographs(n)
    claim = "The audit of a camera's photographs takes at most twice the time of decoding them."
    record, folder = Record("audit_speed", claim, f"{n} photographs of 12 megapixels", {"images": n}), results_folder(args)
    if args.add:
        record.restore(folder)
    for seed in args.seeds:
        for side, work in ((AUDIT, auditing), (DECODING, decoding)):
            seconds = work(photographs)
            record.add(side, seed, seconds=round(seconds, 2), images_per_second=round(n / seconds, 2))
        record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
