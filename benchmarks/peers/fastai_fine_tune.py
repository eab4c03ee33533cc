"""fastai fine-tunes MobileNetV2 as its vision tutorial does: presized images, ``aug_transforms``, ``vision_learner``, ``fine_tune(5)``.

Settings after docs.fast.ai, "Computer vision intro" (tutorial.vision) and "Vision learner": the library's default batch size, learning
rate and head. Images are presized to 224 and not to the 460 of the tutorial, as these photographs are only 200 px high: that spares
fastai time. The weights are given to timm, from which ``vision_learner`` takes a network by its name.
"""

from __future__ import annotations

import peer
from fastai.vision.all import ImageDataLoaders, Resize, accuracy, aug_transforms, get_image_files, set_seed, vision_learner

args = peer.arguments(weights=peer.Path(), epochs=5, out=peer.Path("learner.pkl"), size=224)
set_seed(args.seed, reproducible=True)
loaders = ImageDataLoaders.from_folder(
    args.data, train="train", valid="validation", seed=args.seed, item_tfms=Resize(args.size),
    batch_tfms=aug_transforms(), num_workers=peer.workers(),
)  # fmt: skip
learner = vision_learner(loaders, "mobilenetv2_100", metrics=accuracy, **peer.mobilenet_arguments(args.weights))
with learner.no_bar(), learner.no_logging():
    learner.fine_tune(args.epochs)
    learner.export(args.out.resolve())
    peer.say(event="trained")
    files = get_image_files(args.data / "test")
    scores, _ = learner.get_preds(dl=loaders.test_dl(files))
found = [loaders.vocab[place] for place in scores.argmax(1).tolist()]
right = sum(label == file.parent.name for label, file in zip(found, files, strict=True))
peer.say(accuracy=right / len(files), n=len(files))
