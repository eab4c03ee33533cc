"""Claim: the server answers more requests than a plain FastAPI endpoint or LitServe, and holds under overload, swaps and a stop.

    python benchmarks/serving.py [--parts speed overload swap stop] [--clients 1 8 64] [--seconds 20] [--seeds 0 1 2] [--add] [--quick]

Servers have all processors but one, on which the load runs. ``speed``: each side in turn, once a seed, at 1, 8 and 64 clients that send
photographs of 900 x 600 one after the other. ``overload``: ten times the rate that 64 clients reach, for a minute. ``swap``: the bundle is
replaced again and again while clients send 10,000 requests. ``stop``: SIGTERM while 64 clients send.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import image_sets
from files_to_labels import train_briefly, write_for_peers
from measure import PEERS, Check, Record, arguments, finish, machine, need_data, results_folder, versions
from servers import Cores, MostMemory, load, peer, sightline

from sightline.bundle import Bundle, Part, write

OURS, EAGER, LITSERVE, LITSERVE_BATCHED = "Sightline", "FastAPI, eager torch", "LitServe, same ONNX", "LitServe, same ONNX, batches"
PARTS = ("speed", "overload", "swap", "stop")
LIBRARIES = ("fastapi", "uvicorn", "litserve", "onnxruntime")
TIMES, OVER, MEMORY, BACK_SECONDS = 2.0, 10.0, 1.2, 5.0
# How much slower an answer may be once an overload is over, to be called as before: what two runs of the same differ by.
AS_BEFORE = 1.25
WARM_SECONDS, SWAP_SECONDS, SWAP_CLIENTS = 3.0, 3.0, 8


def for_litserve(bundle: Path, folder: Path) -> Path:
    """The bundle's graph, and what LitServe needs to know of it."""
    folder.mkdir()
    with Bundle.open(bundle) as opened:
        (folder / "model.onnx").write_bytes(opened.read("graph"))
        kept = {"labels": list(opened.manifest.labels), **opened.manifest.prepare}
    (folder / "contract.json").write_text(json.dumps(kept))
    return folder


def measure_speed(record: Record, made: dict[str, Path], images: Path, seed: int, args: Any, cores: Cores) -> None:
    """Each side at each number of clients; ``same_top1`` says how many labels are those of eager torch."""
    said = made["scratch"] / "said.txt"
    sides = {
        EAGER: lambda: peer("fastapi_eager.py", made["timm"], cores, said, ready="/ready"),
        LITSERVE: lambda: peer("litserve_onnx.py", made["litserve"], cores, said, "--batch", "1", ready="/health"),
        LITSERVE_BATCHED: lambda: peer("litserve_onnx.py", made["litserve"], cores, said, ready="/health"),
        OURS: lambda: sightline(made["bundle"], cores, said),
    }
    expected: dict[str, str] = {}
    for side, start in sides.items():
        with start() as server:
            load(server, images, cores, clients=4, seconds=WARM_SECONDS).told()
            for clients in args.clients:
                told = load(server, images, cores, clients=clients, seconds=args.seconds).told()
                expected |= told["labels"] if side == EAGER else {}
                pairs = [(label, expected[name]) for name, label in told["labels"].items() if name in expected]
                same = sum(ours == theirs for ours, theirs in pairs) / max(1, len(pairs))
                wrong = told["failed"] + told["refused"] + sum(count for status, count in told["statuses"].items() if status != "200")
                record.add(
                    f"{side}, {clients} clients", seed, requests_per_second=told["per_second"], p50_ms=told["p50_ms"],
                    p99_ms=told["p99_ms"], not_answered=wrong, same_top1=round(same, 4),
                )  # fmt: skip


def measure_overload(record: Record, made: dict[str, Path], images: Path, args: Any, cores: Cores) -> None:
    """Before, during and after ten times as many requests as the server can answer."""
    with sightline(made["bundle"], cores, made["scratch"] / "said.txt") as server:
        load(server, images, cores, clients=64, seconds=WARM_SECONDS).told()
        full = load(server, images, cores, clients=64, seconds=args.seconds).told()
        before, memory = load(server, images, cores, clients=1, seconds=args.seconds).told(), server.memory
        with MostMemory(server) as most:
            over = load(server, images, cores, rate=OVER * full["per_second"], seconds=args.overload_seconds).told()
        after = load(server, images, cores, clients=1, seconds=args.seconds + BACK_SECONDS, skip=BACK_SECONDS).told()
    record.add(
        "overload", 0, capacity=full["per_second"], asked_per_second=round(OVER * full["per_second"], 1),
        sent_per_second=round(over["sent"] / args.overload_seconds, 1), answered=over["statuses"].get("200", 0),
        declined=over["statuses"].get("503", 0), others=_others(over), broken=over["failed"],
        not_connected=over["refused"], memory_before_mb=round(memory / 1e6),
        most_memory_mb=round(most.bytes / 1e6), p50_ms_before=before["p50_ms"], p50_ms_after=after["p50_ms"],
        others_after=_others(after) + after["statuses"].get("503", 0),
    )  # fmt: skip


def _others(told: dict[str, Any]) -> int:
    """Requests that were answered neither 200 nor 503, or not at all."""
    return int(told["failed"] + told["refused"] + sum(count for status, count in told["statuses"].items() if status not in ("200", "503")))


def measure_swap(record: Record, made: dict[str, Path], images: Path, args: Any, cores: Cores) -> None:
    """Two bundles that differ in a word take each other's place while requests come."""
    path, twins = made["scratch"] / "served.sight", [made["bundle"], made["scratch"] / "twin.sight"]
    with Bundle.open(made["bundle"]) as opened:
        parts = [Part(member.name, member.role, opened.read(member.role), member.required) for member in opened.manifest.members]
        write(twins[1], replace(opened.manifest, created="2026-01-01T00:00:00+00:00"), parts)
    shutil.copy(twins[0], path)
    said = made["scratch"] / "said.txt"
    with sightline(path, cores, said) as server:
        requests, replaced = load(server, images, cores, clients=SWAP_CLIENTS, requests=args.requests), 0
        while not requests.is_over:
            time.sleep(SWAP_SECONDS)
            replaced += 1
            shutil.copy(twins[replaced % 2], path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
        found = requests.told()
    swaps = said.read_text().count("was replaced")
    failed = found["sent"] + found["refused"] - found["statuses"].get("200", 0)
    record.add("swap", 0, sent=found["sent"], swaps=swaps, bundles_seen=len(found["models"]), failed=failed)


def measure_stop(record: Record, made: dict[str, Path], images: Path, args: Any, cores: Cores) -> None:
    said = made["scratch"] / "said.txt"
    with sightline(made["bundle"], cores, said) as server:
        requests = load(server, images, cores, clients=64, seconds=60)
        time.sleep(WARM_SECONDS)
        server.process.terminate()
        code = server.process.wait(60)
        found = requests.told()
    accepted = said.read_text().count("POST /v1/predict 200 ")
    record.add(
        "stop", 0, exit_code=code, accepted=accepted, answered=found["statuses"].get("200", 0), declined=found["statuses"].get("503", 0),
        unanswered=found["failed"],
    )  # fmt: skip


def checks(record: Record, clients: list[int]) -> list[Check]:
    sides, found = record.sides, []
    for count in clients if f"{OURS}, {clients[0]} clients" in sides else []:
        ours, eager = f"{OURS}, {count} clients", f"{EAGER}, {count} clients"
        peers = [f"{side}, {count} clients" for side in (LITSERVE, LITSERVE_BATCHED)]
        times = record.ratio("requests_per_second", ours, eager)
        found.append(Check(f"{count} clients: requests a second of FastAPI's", f"at least {TIMES:g}", f"{times:.2f}", times >= TIMES))
        times = min(record.ratio("requests_per_second", ours, side) for side in peers)
        found.append(Check(f"{count} clients: of the better LitServe's", "at least 1", f"{times:.2f}", times >= 1))
        if count == max(clients):
            slower = max(record.ratio("p99_ms", ours, side, worst=max) for side in (eager, *peers))
            found.append(Check(f"{count} clients: p99 of the quickest peer's", "at most 1", f"{slower:.2f}", slower <= 1))
        same, wrong = min(record.values(ours, "same_top1")), sum(record.values(ours, "not_answered"))
        found.append(Check(f"{count} clients: not answered; same label as eager torch", "0; at least 95%", f"{wrong:g}; {same:.1%}",
                           wrong == 0 and same >= 0.95))  # fmt: skip
    for run in record.runs:
        found += {"overload": _overload_checks, "swap": _swap_checks, "stop": _stop_checks}.get(run["side"], lambda run: [])(run)
    return found


def _overload_checks(run: dict[str, Any]) -> list[Check]:
    memory, back = run["most_memory_mb"] / run["memory_before_mb"], run["p50_ms_after"] / run["p50_ms_before"]
    times = run["sent_per_second"] / run["capacity"]
    return [
        Check("overload: times the capacity that was sent", f"{OVER:g}", f"{times:.1f}", times >= 0.9 * OVER),
        Check("overload: answers that are neither 200 nor 503", "0", str(run["others"]), run["others"] == 0),
        Check("overload: most memory, of that before", f"at most {MEMORY:.0%}", f"{memory:.0%}", memory <= MEMORY),
        Check("5 s after: median time of an answer, of that before", f"at most {AS_BEFORE:.0%}, all 200", f"{back:.0%}",
              back <= AS_BEFORE and run["others_after"] == 0),
    ]  # fmt: skip


def _swap_checks(run: dict[str, Any]) -> list[Check]:
    return [Check(f"{run['sent']:,} requests while the bundle was replaced {run['swaps']} times: failed", "0", str(run["failed"]),
                  run["failed"] == 0 and run["swaps"] > 0)]  # fmt: skip


def _stop_checks(run: dict[str, Any]) -> list[Check]:
    lost = run["accepted"] - run["answered"] + run["unanswered"]
    return [Check("SIGTERM under load: requests without an answer; exit code", "0; 0", f"{lost}; {run['exit_code']}",
                  lost == 0 == run["exit_code"])]  # fmt: skip


def main() -> None:
    parser = arguments(__doc__, (0, 1, 2))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--bundle", type=Path, help="one made before by this network, instead of training it")
    args = parser.parse_args()
    need_data()
    args.seconds = 2.0 if args.quick else args.seconds
    args.requests, args.overload_seconds, count = (150, 5.0, 8) if args.quick else (10_000, 60.0, 64)
    images, folder, cores = image_sets.web_photographs(count), results_folder(args), Cores.here()
    claim = (
        "The server answers at least twice as many requests as FastAPI with eager torch, no fewer than LitServe, and holds under overload."
    )
    facts = machine()
    facts["peers"] |= versions(PEERS / "bin" / "python", LIBRARIES) if (PEERS / "bin" / "python").exists() else {}
    record = Record(
        "serving", claim, f"{count} photographs of 900 x 600", {"seconds": args.seconds, "server_cores": len(cores.server)}, facts
    )
    if args.add:
        record.restore(folder)
    with tempfile.TemporaryDirectory() as scratch:
        made = {"scratch": Path(scratch), "bundle": args.bundle or train_briefly("mobilenetv2_100", 160, Path(scratch) / "run")}
        made |= {
            "timm": write_for_peers(made["bundle"], Path(scratch) / "timm"),
            "litserve": for_litserve(made["bundle"], Path(scratch) / "lit"),
        }
        for seed in args.seeds if "speed" in args.parts else []:
            measure_speed(record, made, images, seed, args, cores)
            record.write(folder, checks(record, args.clients))
        for part, measure in (("overload", measure_overload), ("swap", measure_swap), ("stop", measure_stop)):
            if part in args.parts:
                measure(record, made, images, args, cores)
                record.write(folder, checks(record, args.clients))
    finish(checks(record, args.clients))


if __name__ == "__main__":
    main()
