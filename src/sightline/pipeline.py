"""The verbs, each a short list of stages: what ``sightline train`` and its like do.

Only ``train``, ``audit`` and ``backbones`` need torch, only ``export`` onnx, and their rooms are imported when they are called.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline import console
from sightline.assessment import assessed
from sightline.bundle import Bundle
from sightline.config import (
    AuditConfig,
    BulkConfig,
    CatalogueConfig,
    EngineConfig,
    ExplainConfig,
    ExportConfig,
    LookConfig,
    ReadConfig,
    RuntimeConfig,
    ServeConfig,
    VerifyConfig,
)
from sightline.data.container import is_archive
from sightline.data.decode import Limits
from sightline.data.given import given_images
from sightline.data.remote import local
from sightline.engines.choice import tolerance_of
from sightline.errors import ImageError, RequirementNotMet
from sightline.predictions import Prediction
from sightline.processor import int8_features
from sightline.runtime import Model
from sightline.settings import make, make_all

if TYPE_CHECKING:
    from sightline.auditing.audit import Audited
    from sightline.bulk.run import Processed
    from sightline.comparison.pairs import Comparison
    from sightline.explanation.explain import Explained
    from sightline.exporting.outcome import Exported
    from sightline.exporting.standalone import Standalone
    from sightline.model.catalogue import Catalogue
    from sightline.shrinking.shrink import Shrunk
    from sightline.trainer import Trained


def train(data: str | Path | None = None, *, resume: str | Path | None = None, started: float | None = None, **settings: Any) -> Trained:
    """Train a network on a folder of images; the run's folder gets the bundle and the report.

    data      the folder; not needed with ``resume``
    resume    a run's folder: it goes on after its last checkpoint, as it was started
    started   ``time.monotonic()`` from which a budget counts; this call, when not given
    settings  fields of the stages in ``config.TrainSettings``, and of ``config.ShareConfig``, by name, such as ``epochs=5``. ``backbone``
              may also be a module of your own, from (n, 3, size, size) float images to an embedding (n, f), a feature map (n, c, h, w),
              or both

    Raises the errors of ``errors.py``; Interrupted, when stopped by Ctrl-C or SIGTERM, says how to go on; RequirementNotMet, where the
    trained model does not reach what ``require`` asks, with everything written and the bundle marked as unfit.
    """
    from sightline import folds
    from sightline.training.over_ray import shared_out

    return shared_out(folds.train, data, resume, settings, time.monotonic() if started is None else started)


def audit(data: str | Path, **settings: Any) -> Audited:
    """Check images and labels before anything is learned: copies, wrong labels, shortcuts, poor pictures, leaks, privacy.

    data      a folder or archive of images, in class folders or not, or a table
    settings  fields of ``config.AuditConfig``, ``config.LookConfig`` and ``config.ReadConfig`` by name, such as ``weights="hub"``

    Raises DataError where no image can be read, UsageError for a folder of clean copies that is taken, and for what would be written
    among the data.
    """
    from sightline.trainer import check_libraries

    reading, looking, config = make_all((ReadConfig, LookConfig, AuditConfig), settings)
    check_libraries("Auditing", "sightline.auditing.audit")
    from sightline.auditing.audit import audit as carry_out

    return carry_out(local(data, looking.store_limit).resolve(), reading, looking, config)


def backbones(pattern: str | None = None, **settings: Any) -> Catalogue:
    """Backbones whose name matches a shell pattern or holds the text, in any case; without a pattern, a few well-known ones.

    settings  fields of ``config.CatalogueConfig`` by name, such as ``limit=500``

    Raises UsageError where none matches.
    """
    from sightline.trainer import check_libraries

    config = make(CatalogueConfig, settings)
    check_libraries("Listing backbones", "sightline.model.catalogue")
    from sightline.model.catalogue import catalogue

    return catalogue(pattern, config)


def evaluate(model: str | Path, data: str | Path, *, split: str | None = None, **settings: Any) -> dict[str, Any]:
    """A bundle on a labelled folder: ``{"task", "split", "n", "metrics", "intervals", "answered", "refused", "seen", "engine"}``.

    All images count in ``metrics``; ``answered`` has the ``coverage`` and ``accuracy`` of those that the model does not abstain from.

    split   train, validation, test, or "all". By default the test images, where the data came split; where it did not, the
            images that the model was not trained or validated on, which it knows by their content
    """
    reading, config, engine = make_all((ReadConfig, RuntimeConfig, EngineConfig), settings)
    return assessed(Path(model), data, split, reading, config, engine)


def predict(
    model: str | Path, images: Sequence[str | Path], *, top: int | None = None, **settings: Any
) -> Generator[tuple[str, Prediction | ImageError]] | Processed:
    """(path, prediction or error) for each image in order, with a folder or an archive standing for the images in it.

    Each page of a TIFF and each frame of a DICOM file is an image; from the second on the path ends in ``#1``, ``#2``...
    Opens the model before the first is asked for, so that what is wrong with it is raised here.

    With ``engine="ray"`` or ``format="parquet"``: what was done, the answers being in ``out`` (docs/bulk.md), at most ``top`` classes each,
    as with ``format="json"``.
    settings  fields of ``config.PredictConfig``, ``config.RuntimeConfig`` and ``config.BulkConfig`` by name, such as ``tile=640``
    """
    from sightline.bulk.run import is_bulk, predict_in_bulk
    from sightline.config import PredictConfig
    from sightline.saving.predict import predicted

    config, using, bulk = make_all((PredictConfig, RuntimeConfig, BulkConfig), settings)
    if is_bulk(config, bulk):
        return predict_in_bulk(Path(model), images, config, using, bulk, top)
    images = [local(image, beside=images) for image in images]
    many = len(images) > 1 or config.tile is not None or any(Path(image).is_dir() or is_archive(Path(image)) for image in images)
    opened = Model.open(model, require_signature=using.require_signature, many=many, **using.opening(bulk.engine))
    return predicted(opened, images, config, Limits(using.max_pixels, using.max_bytes), using.batch_size, top)


def explain(model: str | Path, images: Sequence[str | Path], **settings: Any) -> Iterator[tuple[str, Explained | ImageError]]:
    """(path, explanation or error) for each image in order, as ``predict`` takes them; a PNG and a JSON file of each are written.

    settings  fields of ``config.ExplainConfig`` and ``config.RuntimeConfig`` by name, such as ``label="cat"``, ``method="occlusion"``

    Opens the model before the first is asked for. Raises UsageError for a label or a method that it does not have.
    """
    from sightline.explanation.explain import Explainer

    config, using, engine = make_all((ExplainConfig, RuntimeConfig, EngineConfig), settings)
    explainer = Explainer.open(Path(model), config, require_signature=using.require_signature, **using.opening(engine.engine))
    if tiling := explainer.model.tiling:
        console.say(f"The model was trained on tiles of {tiling.side} pixels; larger images are explained as a whole: better give parts.")
    limits = Limits(using.max_pixels, using.max_bytes)
    refs = given_images([local(image, beside=images) for image in images], limits)
    return zip(map(str, refs), console.track(explainer.stream(refs, limits), len(refs), "Explaining"), strict=True)


def verify(model: str | Path, **settings: Any) -> dict[str, Any]:
    """Replay the images a bundle carries, as ``{"model", "n", "max_difference", "tolerance", "engine"}``.

    settings  fields of ``config.VerifyConfig`` by name; ONNX Runtime in fp32, which recorded them, unless ``engine`` is given

    Raises ModelFileError when the file is not sound, RequirementNotMet when this machine computes something else.
    """
    config = make(VerifyConfig, settings)
    from sightline import replay

    with Bundle.open(Path(model), require_signature=config.require_signature) as bundle:
        opened = Model.of(bundle, threads=config.threads, engine=config.engine, precision=config.precision)
        count, difference = replay.largest_difference(bundle, opened)
    int8 = opened.manifest.is_int8
    tolerance = max(replay.TOLERANCE, tolerance_of(opened.precision, int8))
    if not difference <= tolerance:
        cause = "compare the versions that 'sightline doctor' lists"
        if int8 and not int8_features():
            cause = "use the bundle it was made from: this processor has no dot products of int8, without which sums of them overflow"
        raise RequirementNotMet(
            f"{model}: its predictions on this machine differ by up to {difference:.3g} from what was recorded, more than "
            f"{tolerance:g}; do not use it here, and {cause}."
        )
    return {"model": str(model), "n": count, "max_difference": difference, "tolerance": tolerance, "engine": opened.engine}


def export(model: str | Path, **settings: Any) -> Exported | Standalone | Shrunk:
    """Write variants of a bundle, each only if it keeps what the bundle does on its own images and on the test images of ``data``; or,
    where ``latency`` or ``size`` is given, one smaller model that is as fast or as small as that.

    settings  fields of ``config.ExportConfig`` and ``config.ReadConfig`` by name: ``to="onnx,torch"``, ``precision="fp16"``;
              with ``standalone=True`` the bundle as a plain ONNX file for any program is written instead

    Raises UsageError for INT8 without data or a missing library, ModelFileError for a bundle that is a variant already, DataError for
    data that do not fit, RequirementNotMet, with the others written and in its ``done``, when one loses more.
    """
    reading, config = make_all((ReadConfig, ExportConfig), settings)
    if config.latency is not None or config.size is not None:
        from sightline.shrinking.asked import Asked
        from sightline.trainer import check_libraries

        asked = Asked.of(config)  # mistakes in flags are told before seconds are spent on importing torch
        check_libraries("Making a smaller model", "sightline.shrinking.shrink")
        from sightline.shrinking.shrink import shrunk

        return shrunk(Path(model), asked, reading, config)
    from sightline.exporting.export import exported

    return exported(Path(model), reading, config)


def serve(models: Sequence[str | Path], *, ready: Callable[[Mapping[str, Any]], None] = lambda facts: None, **settings: Any) -> None:
    """Serve bundles over HTTP until SIGTERM or Ctrl-C; each has its file's name, or its folder's where the file is called model.

    ready     told ``{"address", "models", "workers", "pid"}`` once requests are taken
    settings  fields of ``config.ServeConfig`` by name, such as ``port=0``

    Raises UsageError without the ``serve`` extra and for an address that cannot be listened at, and what ``Model.open`` raises.
    """
    from sightline.serving.names import check_libraries, names_of

    config = make(ServeConfig, settings)
    check_libraries()
    from sightline.serving.run import serve as carry_out

    carry_out(config, names_of([Path(model) for model in models]), ready)


def compare(runs: Sequence[str | Path], *, out: str | Path | None = None) -> Comparison:
    """Finished runs beside each other, each against the first on the test images that both have; writes a page.

    runs   the runs' folders, or the bundles inside them; two or more
    out    file for the page; ``compare.html`` when not given, with -2, -3... behind a name that is taken

    Raises UsageError for what are no runs, DataError for runs that are unfinished or cannot be compared. Without Jinja2 there is
    no page (``page`` is None), which is said.
    """
    from sightline.comparison import pairs
    from sightline.comparison.page import write_page

    comparison = pairs.compare(runs)
    try:
        return comparison.written(write_page(comparison, None if out is None else Path(out)))
    except ModuleNotFoundError as error:
        console.warn(f"No page was written, as {error.name} is not installed: pip install 'sightline[train]'.")
        return comparison
