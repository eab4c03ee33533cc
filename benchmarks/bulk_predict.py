"""Claim: 20,000 images over Ray, killed twice, have one row each; two workers do 1.6 times as much as one; losing a machine loses nothing.

    python benchmarks/bulk_predict.py [--parts killed workers cluster] [--seeds 0] [--add] [--quick]

CIFAR-10's tiles as PNG files, a MobileNetV2 at 128 pixels. ``killed``: SIGKILL to the process that was started, twice, at a time drawn at
random, and once to a worker of the third start; then every key is counted. ``workers``: one worker of one thread, and two, on the same
images in the same run; the rate is that between the first part and the last, without the seconds in which Ray starts. ``cluster``: three
simulated machines of a processor each, one of which is taken away in the middle.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import image_sets
from measure import Check, Record, arguments, finish, machine, need_data, results_folder, run_child, run_sightline, tree, versions

PARTS = ("killed", "workers", "cluster")
CHUNK, PER_CLASS, FASTER = 256, 2000, 1.6
BRIEF = ("--weights", "none", "--epochs", "1", "--no-trial")
NETWORK, QUICK_NETWORK = ("--backbone", "mobilenetv2_100", "--size", "128"), ("--backbone", "test_resnet", "--size", "32")
LIBRARIES = ("ray", "pyarrow", "onnxruntime", "openvino")


def trained(images: Path, out: Path, quick: bool) -> Path:
    """A bundle whose answers are of no interest, of a network that takes a while."""
    return Path(run_sightline("train", images, *BRIEF, *(QUICK_NETWORK if quick else NETWORK), "--out", out).last["model"])


def words(model: Path, images: Path, out: Path, chunk: int, workers: int) -> list[str]:
    flags = ["--engine", "ray", "--workers", str(workers), "--threads", "1", "--chunk", str(chunk), "--json"]
    return [sys.executable, "-m", "sightline.cli", "predict", str(model), str(images), *flags, "--out", str(out)]


def parts_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def counted(folder: Path, images: Path) -> dict[str, int]:
    """How many images have no row, how many rows are of an image that has another, and how many rows have an error."""
    import pyarrow.parquet as pq

    rows = pq.read_table(folder, columns=["key", "error"]).to_pydict()
    keys, wanted = Counter(rows["key"]), {str(path) for path in images.rglob("*.png")}
    return {
        "rows": len(rows["key"]), "missing": len(wanted - keys.keys()), "doubles": sum(count - 1 for count in keys.values()),
        "unknown": len(keys.keys() - wanted), "errors": sum(error is not None for error in rows["error"]),
    }  # fmt: skip


def wait_for(parts: int, out: Path, process: subprocess.Popen[Any]) -> None:
    while len(parts_in(out)) < parts and process.poll() is None:
        time.sleep(0.02)


def a_worker_of(process: int) -> int | None:
    """One of Ray's workers below a process, at random."""
    found = [pid for pid in tree(process) if b"ray::Hand" in _command(pid)]
    return random.choice(found) if found else None


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def measure_killed(record: Record, model: Path, images: Path, chunk: int, seed: int) -> None:
    """Started, killed, started, killed, started, a worker killed, and finished."""
    random.seed(seed)
    chunks = -(-len(list(images.rglob("*.png"))) // chunk)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        command, kept = words(model, images, out, chunk, 2), []
        for low, high in ((0.1, 0.35), (0.4, 0.7)):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                wait_for(round(chunks * random.uniform(low, high)), out, process)
                time.sleep(random.uniform(0, 0.5))
                process.send_signal(signal.SIGKILL)
            kept.append(len(parts_in(out)))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            wait_for(round(chunks * random.uniform(0.75, 0.9)), out, process)
            worker = a_worker_of(process.pid)
            if worker:
                os.kill(worker, signal.SIGKILL)
            answer, said = process.communicate()
        if process.returncode:
            sys.exit(f"The third start ended with exit code {process.returncode}:\n{said}")
        told = json.loads(answer)
        record.add(
            "killed", seed, parts_at_first_kill=kept[0], parts_at_second_kill=kept[1], workers_killed=int(worker is not None),
            chunks=chunks, images=told["images"], before=told["before"], crashed=len(told["crashed"]), **counted(out, images),
        )  # fmt: skip


def measure_workers(record: Record, model: Path, images: Path, chunk: int, seed: int) -> None:
    """One worker and two, each from an empty folder; who begins depends on the seed."""
    for workers in (1, 2) if seed % 2 == 0 else (2, 1):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "out")
            child = run_child(words(model, images, out, chunk, workers))
            times = sorted(part.stat().st_mtime_ns for part in parts_in(out))
            rate = (len(times) - 1) * chunk / ((times[-1] - times[0]) / 1e9)
            record.add(f"{workers} worker{'s'[: workers == 2]}", seed, images_per_second=round(rate, 1), seconds=round(child.seconds, 1),
                       rows=counted(out, images)["rows"])  # fmt: skip


def lose_a_machine(model: str, images: str, out: str, chunk: str) -> None:
    """In a process of its own: three simulated machines, one of which goes away after a third of the parts."""
    from sightline import predict
    from sightline.bulk import ray_start

    os.environ.update(ray_start.QUIET)
    import ray
    from ray.cluster_utils import Cluster

    chunks = -(-len(list(Path(images).rglob("*.png"))) // int(chunk))
    with ray_start.keeping_to_itself():
        cluster = Cluster()
        for _ in range(3):
            ray_start.started(lambda: cluster.add_node(num_cpus=1, include_dashboard=False))
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    lost: list[int] = []  # parts when it was switched off, and when the others knew

    def lose() -> None:
        while len(parts_in(Path(out))) < chunks // 3:
            time.sleep(0.02)
        lost.append(len(parts_in(Path(out))))
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        while sum(node["Alive"] for node in ray.nodes()) > 2:
            time.sleep(0.02)
        lost.append(len(parts_in(Path(out))))

    loser = threading.Thread(target=lose, daemon=True)
    loser.start()
    done = predict(model, [images], engine="ray", workers=3, chunk=int(chunk), out=out, top=5)
    loser.join()
    print(json.dumps({**done.to_json(), "chunks": chunks, "parts_when_lost": lost[0], "parts_when_known": lost[1]}), flush=True)
    ray.shutdown()
    cluster.shutdown()


def measure_cluster(record: Record, model: Path, images: Path, chunk: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        told = run_child([sys.executable, os.path.abspath(__file__), "--lose", model, images, out, str(chunk)]).last
        figures = {name: told[name] for name in ("parts_when_lost", "parts_when_known", "chunks", "images")}
        record.add("cluster", seed, **figures, seconds=round(told["seconds"], 1), **counted(out, images))


def checks(record: Record) -> list[Check]:
    found = []
    for side, what in (("killed", "killed twice, and a worker once"), ("cluster", "a cluster of three loses a machine")):
        for run in (run for run in record.runs if run["side"] == side):
            once = run["rows"] == run["images"] and not run["missing"] + run["doubles"] + run["unknown"] + run["errors"]
            says = f"{run['rows']:,} rows, {run['missing']} missing, {run['doubles']} twice"
            found.append(Check(f"{what}, seed {run['seed']}", f"each of {run['images']:,} keys exactly once", says, once))
        for run in (run for run in record.runs if run["side"] == side == "cluster"):
            known, chunks = run["parts_when_known"], run["chunks"]
            found.append(Check("the machine was gone in the middle", "before the last part", f"{known} of {chunks} parts", known < chunks))
    if {"1 worker", "2 workers"} <= set(record.sides):
        ratio = record.ratio("images_per_second", "2 workers", "1 worker")
        found.append(Check("two workers to one, of a thread each", f"at least {FASTER}", f"{ratio:.2f}", ratio >= FASTER))
    return found


def main() -> None:
    if sys.argv[1:2] == ["--lose"]:
        return lose_a_machine(*sys.argv[2:6])
    parser = arguments(__doc__, [0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    need_data()
    per_class, chunk = (60, 20) if args.quick else (PER_CLASS, CHUNK)
    images = image_sets.cifar(per_class, 10) / "train"
    measure = {"killed": measure_killed, "workers": measure_workers, "cluster": measure_cluster}
    claim = "Many images over Ray: each has one row, whatever is killed; two workers do 1.6 times as much as one."
    facts = {**machine(), "libraries": versions(sys.executable, LIBRARIES)}
    record = Record("bulk_predict", claim, f"{10 * per_class:,} images", {"images": 10 * per_class, "chunk": chunk}, facts)
    if args.add:
        record.restore(results_folder(args))
    scratch = Path(tempfile.mkdtemp())
    try:
        model = trained(image_sets.cifar(20, 10) / "train", scratch / "run", args.quick)
        for seed in args.seeds:
            for part in args.parts:
                measure[part](record, model, images, chunk, seed)
                record.write(results_folder(args), checks(record))
    finally:
        shutil.rmtree(scratch)
    finish(checks(record))
    return None


if __name__ == "__main__":
    main()
