"""Claim: in whatever form a network is exported, fp32 or fp16, it answers as its bundle: no probability 0.0001 apart, no other label.

    python benchmarks/parity.py [--networks resnet50 vit_small_patch16_224 ...] [--seeds 0] [--add] [--quick]

Each network learns for six epochs from the clothing photographs, from scratch where its weights are not at hand, and is exported as a
bundle, for OpenVINO and for torch; every variant then answers all test images beside the bundle. A label may be another only where the
best two probabilities differ by less than 0.001, or export refuses the variant. The share of other labels beside it is of what is fastest
here, which a processor that multiplies bf16 may run in bf16. INT8 is measured beside them and nothing is asked of it here: what loses or
changes too much is refused, and no figure stands for it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from measure import DATA, WEIGHTS, Check, Record, arguments, finish, need_data, results_folder, run_sightline

SIDE, EPOCHS = 128, 6
NETWORKS = ("mobilenetv2_100", "resnet50", "efficientnet_b0", "convnext_tiny", "vit_small_patch16_224", "torchvision/inception_v3")
TOLERANCE = 1e-4
FORMS = ("fp32", "openvino fp32", "torch fp32", "fp16", "openvino fp16", "torch fp16")
NOT_MET = 7
# A network that has seen few images may lose any number of points in INT8, which is what is to be measured.
ANY_LOSS = 100


def trained(network: str, folder: Path, seed: int) -> Path:
    weights = [WEIGHTS, "--layers", "all"] if network == "mobilenetv2_100" else ["none"]
    words = ["--backbone", network, "--size", str(SIDE), "--epochs", str(EPOCHS), "--no-trial", "--weights", *weights]
    return Path(run_sightline("train", DATA / "clothing", *words, "--seed", str(seed), "--out", folder / "run").last["model"])


def measure(record: Record, network: str, seed: int) -> None:
    """A run for each variant that was released: how far it is apart and what share of the labels is another."""
    with tempfile.TemporaryDirectory() as scratch:
        model, out = trained(network, Path(scratch), seed), Path(scratch) / "variants"
        out.mkdir()
        words = ["--to", "onnx,openvino,torch", "--precision", "fp32,fp16,int8", "--max-loss", str(ANY_LOSS), "--out", out]
        told = run_sightline("export", model, "--data", DATA / "clothing", *words, accepted=(0, NOT_MET)).last
        lost = {one["name"]: one["loss"] for one in told["written"]}
        for row in told["variants"]:
            if row["name"] in lost:
                figures = {"largest_difference": row["difference"], "labels_changed": row["changed"], "points_lost": lost[row["name"]]}
                record.add(f"{network}, {row['name']}", seed, **figures, megabytes=row["megabytes"])
        for one in told["refused"]:
            print(f"{network}, {one['name']}: {one['reason'][:200]}", flush=True)


def checks(record: Record, networks: list[str]) -> list[Check]:
    found = []
    for network in networks:
        for form in FORMS:
            what = f"{network}, {form}: largest difference of a probability; other labels as the fastest engine here answers"
            asked = f"at most {TOLERANCE:g}, labels only near a tie; not asked"
            differences = record.values(f"{network}, {form}", "largest_difference")
            if not differences:  # as is one that gives another label anywhere but near a tie
                found.append(Check(what, asked, "refused by export", False))
                continue
            changed = max(record.values(f"{network}, {form}", "labels_changed"))
            found.append(Check(what, asked, f"{max(differences):.2g}; {changed:.1%}", max(differences) <= TOLERANCE))
    return found


def main() -> None:
    parser = arguments(__doc__, seeds=(0,))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    args = parser.parse_args()
    need_data()
    networks = args.networks[:1] if args.quick else args.networks
    claim = "Every exported form of a network in fp32 or fp16 answers as its bundle does, to 0.0001 in each probability."
    record = Record("parity", claim, "214 test photographs a network", {"side": SIDE, "epochs": EPOCHS})
    folder = results_folder(args)
    if args.add:
        record.restore(folder)
    for seed in args.seeds:
        for network in networks:
            measure(record, network, seed)
            record.write(folder, checks(record, [name for name in NETWORKS if any(side.startswith(f"{name},") for side in record.sides)]))
    finish(checks(record, networks))


if __name__ == "__main__":
    main()
