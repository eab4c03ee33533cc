"""Using a bundle, without torch: numpy, Pillow and the engine that is best on this machine.

``raw_outputs`` is prepare and infer over a stream of images, with decoding beside inference. Evaluation, replay and prediction
all go through it, whatever satisfies ``Infer``: what is shipped is what is judged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline import console
from sightline.bundle import Bundle
from sightline.data.decode import Limits, decode, decode_picture, size_of
from sightline.data.prepare import Prepare
from sightline.engines.acceptance import acceptance_of, shapes_of
from sightline.engines.adapters import Work, candidates
from sightline.engines.choice import choose_engine
from sightline.errors import ImageError, UsageError
from sightline.evaluation.promises import on_grid, similarity
from sightline.manifest import Manifest
from sightline.predictions import Caution, Prediction
from sightline.processor import processors
from sightline.records import ImageRef, Infer
from sightline.reference import embeddings_of
from sightline.scenes import frame_of
from sightline.tasks import kept, load_task
from sightline.tasks.confidence import cautions
from sightline.tiling import Tiling, predict_tiles

Source = str | Path | ImageRef | bytes | NDArray[np.uint8] | Image.Image
Prepared = tuple[NDArray[np.uint8], NDArray[np.float64]] | ImageError
# Fewer images in a batch are computed less quickly: the weights are read from memory for each.
SMALLEST_SHARE = 4


@dataclass(frozen=True)
class RawBatch:
    """Raw outputs of the images that could be read, and the errors of those that could not.

    positions  places in the stream of the rows of ``raw``
    raw        output name -> (n, ...) array; "frame" (n, 10) float64 says how each prepared image lies on its original
    errors     (place, error) of the unreadable
    size       how many images of the stream this batch covers
    """

    positions: list[int]
    raw: dict[str, NDArray[Any]]
    errors: list[tuple[int, ImageError]]
    size: int


def raw_outputs(
    infer: Infer,
    prepare: Prepare,
    sources: Iterable[Source],
    *,
    batch_size: int = 16,
    limits: Limits = Limits(),
    threads: int | None = None,
    streams: int = 1,
) -> Iterator[RawBatch]:
    """Prepare and infer a stream of images in order, in bounded memory; bad images are reported, never raised.

    threads  images that are prepared at once, beside inference; as many as this process may use when not given
    streams  batches that ``infer`` is called with at once, each from a thread of its own
    """
    start, pending = 0, deque[Future[RawBatch]]()
    with _pool(threads or processors()) as preparing, _pool(streams) as computing:
        ahead = _ahead(sources, lambda source: preparing.submit(prepared, source, prepare, limits), streams * batch_size)
        while futures := list(islice(ahead, batch_size)):
            images = [future.result() for future in futures]
            pending.append(computing.submit(_computed, infer, images, start))
            start += len(images)
            if len(pending) > streams:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def batch_share(batch_size: int, streams: int) -> int:
    """Images in a batch of one of several streams that share ``batch_size`` images, so that more streams take no more memory."""
    return min(batch_size, max(SMALLEST_SHARE, -(-batch_size // streams)))


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that only finish what they are at when the block is left, be it by an error, an interrupt or a reader who has enough."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(sources: Iterable[Source], submit: Callable[[Source], Future[Prepared]], count: int) -> Iterator[Future[Prepared]]:
    """The futures of the sources in order, of which up to ``count`` are under way; no more sources than that are taken."""
    under_way: deque[Future[Prepared]] = deque()
    for source in sources:
        under_way.append(submit(source))
        if len(under_way) == count:
            yield under_way.popleft()
    yield from under_way


def _computed(infer: Infer, images: list[Prepared], start: int) -> RawBatch:
    """The raw outputs of consecutive images of the stream, the first of which has the place ``start``."""
    readable = {place: image for place, image in enumerate(images, start) if not isinstance(image, ImageError)}
    errors = [(place, image) for place, image in enumerate(images, start) if isinstance(image, ImageError)]
    if not readable:
        return RawBatch([], {}, errors, len(images))
    inputs, frames = zip(*readable.values(), strict=True)
    return RawBatch(list(readable), {**infer(np.stack(inputs)), "frame": np.stack(frames)}, errors, len(images))


def prepared(source: Source, prepare: Prepare, limits: Limits) -> Prepared:
    """The network's input (height, width, channels) uint8 and its frame (10,), or why the image cannot be read; never raises that."""
    try:
        picture, size = decode_picture(_named(source), min_side=prepare.min_side, limits=limits, reading=prepare.reading)
        pixels, back = prepare(picture)
        return pixels, frame_of(back, prepare.shape, size_of(picture), size)
    except ImageError as error:
        return error


def _named(source: Source) -> Any:
    return ImageRef(str(source)) if isinstance(source, str | Path) else source


class Model:
    """An opened bundle.

    >>> model = Model.open("model.sight")               # doctest: +SKIP
    >>> model.predict("photo.jpg").label                # doctest: +SKIP
    'cat'
    """

    def __init__(
        self, manifest: Manifest, infer: Infer, *, threads: int | None = None, streams: int = 1,
        engine: str = "a function", precision: str = "fp32", familiar: NDArray[np.floating] | None = None,
    ) -> None:  # fmt: skip
        """A model over any ``Infer``; use ``Model.open`` for a file.

        streams   how many threads may call ``infer`` at once
        engine    says in words what computes
        familiar  (m, d) embeddings of training images, beside which others may be unfamiliar; ``infer`` then gives ``embedding`` too
        """
        self.manifest = manifest
        self.infer = infer
        self.engine = engine
        self.precision = precision
        self.familiar = None if familiar is None else on_grid(familiar)
        self.threads = threads or processors()
        self.streams = streams
        self.prepare = Prepare.from_json(manifest.prepare)
        self.tiling = Tiling.from_json(manifest.tiles)
        self.task = load_task(manifest.task)

    @classmethod
    def open(cls, path: str | Path, *, require_signature: str | Path | None = None, **settings: Any) -> Model:
        """Open and check a ``*.sight`` file; raises ModelFileError when it is broken, altered, foreign or too new.

        require_signature  a file with the public key that the bundle must be signed with; ModelFileError where it is not
        settings           as ``of`` takes them
        """
        with Bundle.open(Path(path), require_signature=require_signature) as bundle:
            return cls.of(bundle, **settings)

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        *,
        threads: int | None = None,
        engine: str = "auto",
        precision: str = "auto",
        batch_size: int = 16,
        many: bool = False,
        outputs: Sequence[str] = (),
    ) -> Model:
        """The model of a bundle that is open already, which may be closed afterwards.

        threads     processor threads; as many as this process may use when not given
        engine      "onnxruntime", "openvino" (of the ``fast`` extra), or "auto": the fastest here of those installed
        precision   "fp32", "bf16", or "auto": bf16 only where it is faster and changes no answer on the bundle's photographs
        batch_size  for how many images at once the fastest is sought, which is measured once and then remembered
        many        made for many images a second: each thread computes images of its own. Otherwise all of them share in each
                    image, which is done sooner
        outputs     raw outputs that are wanted beside those that the task reads, such as "features"

        Raises UsageError for an engine that is not installed, DeviceError for a precision that the processor has not.
        """
        able = candidates(engine, precision)
        for sentence in bundle.manifest.unfit:
            console.warn(f"{bundle.path} is marked as unfit. {sentence}")
        task, prepare, threads = load_task(bundle.manifest.task), Prepare.from_json(bundle.manifest.prepare), threads or processors()
        shape, streams, int8 = (*prepare.shape, prepare.channels), threads if many else 1, bundle.manifest.is_int8
        share = batch_share(batch_size, streams)
        familiar = embeddings_of(bundle)
        wanted = dict.fromkeys((*task.OUTPUTS, *outputs, *(() if familiar is None else ("embedding",))))
        outputs, shapes = tuple(wanted), shapes_of(bundle, familiar)
        work = Work(bundle.read("graph"), outputs, str(bundle.path), shape, threads, share, streams, int8=int8, shapes=shapes)
        infer, chosen = choose_engine(work, acceptance_of(bundle), able)
        words = f"{chosen}{' and int8' * int8}, {threads} thread{'s'[: threads != 1]}"
        return cls(bundle.manifest, infer, threads=threads, streams=streams, engine=words, precision=chosen.precision, familiar=familiar)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    @overload
    def predict(self, images: Source, **how: Any) -> Prediction: ...

    @overload
    def predict(self, images: list[Source], **how: Any) -> list[Prediction | ImageError]: ...

    def predict(self, images: Source | list[Source], **how: Any) -> Prediction | list[Prediction | ImageError]:
        """The prediction for one image: a path, the file's bytes, an (h, w, 3) uint8 array or a Pillow image.

        A model of stated bands or levels takes arrays of all the bands that its files have, (h, w, bands) of any kind of number.
        Raises ImageError when it cannot be read. For a list of images a list comes back, in which an image that cannot be
        read has its ImageError, so that one bad file does not lose the others. ``how`` as ``stream`` takes it, such as ``tile=640``.
        """
        if isinstance(images, list):
            return list(self.stream(images, **how))
        result = next(self.stream([images], **how))
        if isinstance(result, ImageError):
            raise result
        return result

    def stream(
        self, images: Iterable[Source], *, batch_size: int = 16, limits: Limits = Limits(),
        tile: int | None = None, overlap: float | None = None,
    ) -> Iterator[Prediction | ImageError]:  # fmt: skip
        """Predictions in the order of the images, in bounded memory, decoding beside inference.

        With ``tile``, images are seen at full size, in windows of so many pixels whose neighbours share ``overlap`` of their side
        (``tiling.py``), and there is no caution, as promises are of single views. A model that was trained on tiles looks at such tiles
        where nothing else is asked for. Raises UsageError where that cannot be.
        """
        tiling = Tiling.asked(tile, overlap, self.tiling)
        if tiling is None:
            return self._stream(images, batch_size, limits)
        if self.task.SCENES is None:
            raise UsageError(f"--tile: a model for {self.manifest.task} answers for whole images, so it takes no tiles.")
        return (self._in_tiles(image, tiling, batch_size, limits) for image in images)

    def _stream(self, images: Iterable[Source], batch_size: int, limits: Limits) -> Iterator[Prediction | ImageError]:
        for batch in self.raw(images, batch_size=batch_size, limits=limits):
            found: dict[int, Prediction | ImageError] = dict(batch.errors)
            if batch.positions:
                found.update(zip(batch.positions, self.decode(batch.raw), strict=True))
            yield from (found[place] for place in sorted(found))

    def _in_tiles(self, image: Source, tiling: Tiling, batch_size: int, limits: Limits) -> Prediction | ImageError:
        def predicted(tiles: Iterable[NDArray[np.uint8]]) -> Iterator[Any]:
            for batch in self.raw(tiles, batch_size=batch_size, prepare=self.prepare.of_pixels()):
                for _, error in batch.errors:
                    raise error
                yield from self.task.decode(batch.raw, self.labels, self.manifest.decision)

        try:
            return predict_tiles(decode(_named(image), limits=limits, reading=self.prepare.reading), tiling, predicted)
        except ImageError as error:
            return error

    def raw(
        self, images: Iterable[Source], *, batch_size: int = 16, limits: Limits = Limits(), prepare: Prepare | None = None
    ) -> Iterator[RawBatch]:
        """Raw outputs batch by batch, as ``raw_outputs`` gives them; prepared otherwise than by ``self.prepare`` where that is given."""
        batch, how = batch_share(batch_size, self.streams), prepare or self.prepare
        return raw_outputs(self.infer, how, images, batch_size=batch, limits=limits, threads=self.threads, streams=self.streams)

    def decode(self, raw: dict[str, NDArray[Any]]) -> list[Prediction]:
        """Raw outputs to predictions, with the bundle's labels, temperature and thresholds, and what to know of each."""
        rest = self.kept(raw)
        predictions = self.task.decode({**raw, **rest}, self.labels, self.manifest.decision)
        return [replace(prediction, caution=caution) for prediction, caution in zip(predictions, self.cautions(rest), strict=True)]

    def cautions(self, raw: dict[str, NDArray[Any]]) -> list[Caution | None]:
        """What to know of each image, from what was ``kept`` of its outputs, such as that the model abstains; None for all by a bundle
        that promises nothing."""
        return cautions(self.task, raw, self.labels, self.manifest.decision)

    def kept(self, raw: dict[str, NDArray[Any]], targets: NDArray[Any] | None = None) -> dict[str, NDArray[Any]]:
        """What of a batch's raw outputs is kept of many images, and how similar each is to training images, where these are known."""
        found = kept(self.task, raw, targets)
        return found if self.familiar is None else {**found, "similarity": similarity(raw["embedding"], self.familiar)}
