"""Claim: looking at photographs once is several times faster than Pillow's full decode and resize, and training then waits for no data.

    python benchmarks/look_once.py [--images 2000] [--seeds 0 1 2 3 4] [--add] [--quick]

Once a seed and in turn: Pillow decoding each file in full and resizing it to the same size, storing nothing, in a plain loop as most
write it and in a pool of as many processes as Sightline takes; JPEG files of 1800 x 1200 into a new store, with all their facts; and the
same again, when the store is there. Beside the pool four times leaves nothing for the rest: the entropy decoding that both sides need took
32% and 23% of Pillow's time on two processors. Then ResNet-18 is trained on the clothing photographs, and the time in which the loop waits
for its next batch is set against the epoch. Changing the colours of a batch, which is done when it is asked for, counts as waiting.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import image_sets
from measure import Check, Record, arguments, finish, need_data, results_folder
from PIL import Image

from sightline.data.decode import Limits
from sightline.data.folder import read_unlabelled
from sightline.data.store import look_once
from sightline.processor import processors

LOOK, AGAIN, TRAINING = "Sightline's first look", "Sightline's second look", "ResNet-18's epochs"
LOOP, POOL = "Pillow, full decode and resize in a loop", "Pillow, full decode and resize in as many processes"
# What training at 224 px asks of the store: an eighth more, from which evaluation cuts the middle.
SIDE = 256
TIMES, SECONDS_AGAIN, WAITING = 4.0, 5.0, 0.10
CHUNK = 16
EPOCHS = 2


def look(images: Path, cache: str) -> None:
    os.environ["SIGHTLINE_CACHE"] = cache
    store = look_once(read_unlabelled(images), SIDE, limits=Limits(), workers=processors(), limit_bytes=20e9)
    assert store.facts.readable.all()


def pillow(images: Path, processes: int) -> None:
    with ProcessPoolExecutor(processes) if processes > 1 else nullcontext() as pool:
        files = sorted(images.iterdir())
        for pixels in pool.map(decoded, files, chunksize=CHUNK) if pool else map(decoded, files):
            assert len(pixels) >= 3 * SIDE * SIDE


def decoded(path: Path) -> bytes:
    """Every pixel decoded, then the shorter side scaled down."""
    with Image.open(path) as image:
        image.load()
        scale = SIDE / min(image.size)
        return image.convert("RGB").resize(tuple(round(length * scale) for length in image.size), Image.Resampling.BILINEAR).tobytes()


def seconds(work: Callable[..., None], *given: Any) -> float:
    start = time.perf_counter()
    work(*given)
    return time.perf_counter() - start


@contextmanager
def watched_batches() -> Iterator[list[tuple[float, float]]]:
    """Fills a list with the seconds of each epoch and those of them in which its next batch was waited for."""
    from sightline.training.batches import TrainBatches

    plain, epochs = TrainBatches.epoch, []

    def watched(batches: TrainBatches, *given: Any, **named: Any) -> Iterator[Any]:
        began, waited, made = time.perf_counter(), 0.0, plain(batches, *given, **named)
        while True:
            asked = time.perf_counter()
            batch = next(made, None)
            waited += time.perf_counter() - asked
            if batch is None:
                break
            yield batch
        epochs.append((time.perf_counter() - began, waited))

    TrainBatches.epoch = watched  # type: ignore[method-assign]
    try:
        yield epochs
    finally:
        TrainBatches.epoch = plain  # type: ignore[method-assign]


def waiting_share(data: Path, seed: int, size: int, scratch: str) -> tuple[float, float]:
    """The seconds of the training epochs, and the share of them in which the loop waited for data."""
    import sightline

    with watched_batches() as epochs:
        sightline.train(data, backbone="resnet18", weights="none", size=size, epochs=EPOCHS, seed=seed, out=f"{scratch}/run")
    whole, waited = (sum(column) for column in zip(*epochs, strict=True))
    return whole, waited / whole


def checks(record: Record) -> list[Check]:
    again, waiting = record.median(AGAIN, "seconds"), record.median(TRAINING, "waiting_share")
    ratios = {how: record.ratio("seconds", side, LOOK) for how, side in (("in a loop", LOOP), ("in as many processes", POOL))}
    return [
        *(
            Check(f"times as fast as Pillow {how}, ratio of medians", f"at least {TIMES:g}", f"{ratio:.2f}", ratio >= TIMES)
            for how, ratio in ratios.items()
        ),
        Check("second look, median", f"at most {SECONDS_AGAIN:g} s", f"{again:.2f} s", again <= SECONDS_AGAIN),
        Check("share of a ResNet-18 epoch spent waiting for data, median", f"under {WAITING:.0%}", f"{waiting:.1%}", waiting < WAITING),
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=2000)
    args = parser.parse_args()
    need_data()
    count, size = (48, 64) if args.quick else (args.images, 224)
    images, data, folder = image_sets.photographs(count), image_sets.clothing(4 if args.quick else None), results_folder(args)
    claim = "Looking once at JPEG photographs of 1800 x 1200 is faster than Pillow's full decode and resize; training waits for no data."
    trained_on = sum(1 for _ in (data / "train").glob("*/*"))
    record = Record(
        "look_once", claim, f"{count:,} photographs; {trained_on} clothing images to train on",
        {"images": count, "side": SIDE, "size": size},
    )  # fmt: skip
    if args.add:
        record.restore(folder)
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            for side, processes in ((LOOP, 1), (POOL, processors())):
                record.add(side, seed, seconds=round(seconds(pillow, images, processes), 3))
            record.add(LOOK, seed, seconds=round(seconds(look, images, scratch), 3))
            record.add(AGAIN, seed, seconds=round(seconds(look, images, scratch), 3))
            whole, share = waiting_share(data, seed, size, scratch)
            record.add(TRAINING, seed, seconds=round(whole, 2), waiting_share=round(share, 5))
        record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
