"""Claim: a bundle without torch finds the boxes and masks that its torch network finds, and its figures are those of others' judges.

    python benchmarks/scenes_agree.py [--boxes MODEL.sight] [--maps MODEL.sight] [--seeds 0] [--add] [--quick]

A detector of blood cells and a segmenter of driving scenes, given or trained for a few epochs, answer all test images twice: the bundle in
the engine that is fastest here, and the torch network rebuilt from the bundle's weights. mAP is pycocotools', mIoU torchmetrics'; beside
them stand those that ``sightline evaluate`` gives of the same images.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import found_boxes
import found_maps
import image_sets
import torch
from measure import WEIGHTS, Check, Record, arguments, finish, need_data, results_folder, run_sightline
from peers import coco_judge
from torchmetrics.classification import MulticlassJaccardIndex

from sightline.bundle import Bundle
from sightline.model.network import torch_infer
from sightline.model.rebuild import network_of
from sightline.runtime import Model
from sightline.scenes import IGNORED

BOXES, MAPS = "blood cells, mAP", "driving scenes, mIoU"
APART, ROUNDING = 0.002, 1e-6
WORDS = {"torch": "bundle and torch network", "evaluate": "the judge and sightline evaluate"}
EPOCHS = ["--epochs", "6", "--no-trial", "--weights", str(WEIGHTS)]
QUICK_EPOCHS = ["--epochs", "1", "--size", "96", "--no-trial", "--weights", str(WEIGHTS)]


def in_torch(path: Path) -> Model:
    """The bundle's model with its network in torch in place of an engine."""
    with Bundle.open(path) as bundle:
        model = Model.of(bundle)
        return Model(bundle.manifest, torch_infer(network_of(bundle), torch.device("cpu"), model.task.OUTPUTS))


def precision(model: Model, data: Path) -> float:
    """mAP of the boxes found on the test images, by pycocotools."""
    truth = found_boxes.Truth.of(image_sets.as_coco(data))
    return coco_judge.precision(truth.file, found_boxes.of_bundle(model, truth))["map"]


def overlap(model: Model, data: Path) -> float:
    """mIoU of the test images, by torchmetrics."""
    names = found_maps.names_of(data)
    judge = MulticlassJaccardIndex(len(names), ignore_index=IGNORED)
    for truth, found in found_maps.pairs(model, data, names):
        judge.update(torch.from_numpy(found).long(), torch.from_numpy(truth).long())
    return float(judge.compute())


JUDGES: dict[str, Any] = {BOXES: (precision, "map"), MAPS: (overlap, "miou")}


def measure(record: Record, what: str, seed: int, path: Path, data: Path) -> None:
    judge, figure = JUDGES[what]
    told = run_sightline("evaluate", path, data, "--split", "test").last["metrics"][figure]
    model = Model.open(path)
    print(f"{what}: {model.engine}")
    record.add(what, seed, bundle=judge(model, data), torch=judge(in_torch(path), data), evaluate=told)


def checks(record: Record) -> list[Check]:
    found = []
    for what in record.sides:
        runs = [run for run in record.runs if run["side"] == what]
        for other, asked in (("torch", APART), ("evaluate", ROUNDING)):
            apart = max(abs(run["bundle"] - run[other]) for run in runs)
            found.append(Check(f"{what}: {WORDS[other]}", f"at most {asked:g} apart", f"{apart:.2g}", apart <= asked))
    return found


def main() -> None:
    parser = arguments(__doc__, (0,))
    parser.add_argument("--boxes", type=Path, help="a bundle that learned the blood cells; one is trained when not given")
    parser.add_argument("--maps", type=Path, help="a bundle that learned the driving scenes; one is trained when not given")
    args = parser.parse_args()
    need_data()
    few, epochs = (8, QUICK_EPOCHS) if args.quick else (None, EPOCHS)
    sets = {BOXES: image_sets.objects("bccd", few), MAPS: image_sets.camvid(few)}
    given = {what: path for what, path in ((BOXES, args.boxes), (MAPS, args.maps)) if path}
    claim = "A bundle finds the boxes and masks that torch finds, judged by pycocotools and torchmetrics; evaluate gives the same figures."
    record = Record("scenes_agree", claim, "72 test images of blood cells, 60 of driving scenes", {"given": sorted(given)})
    folder = results_folder(args)
    if args.add:
        record.restore(folder)
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as made:
            for what, data in sets.items():
                words = ["train", data, *epochs, "--seed", str(seed), "--out", f"{made}/run of {what}"]
                measure(record, what, seed, given.get(what) or Path(run_sightline(*words).last["model"]), data)
        record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
