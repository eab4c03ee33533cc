"""What ``sightline export`` does where nothing smaller is asked for: data as a bundle knows them, then variants or a standalone file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.bundle import Bundle
from sightline.config import ExportConfig, ReadConfig
from sightline.data.chosen import read_for, targets_for
from sightline.data.content import content_key
from sightline.data.decode import Limits
from sightline.data.windows import cut
from sightline.errors import ModelFileError
from sightline.exporting.material import Images, Material, material_for
from sightline.exporting.outcome import Exported
from sightline.exporting.release import released
from sightline.exporting.standalone import Standalone, write_standalone
from sightline.exporting.wanted import Wanted, check_given, wanted
from sightline.records import Dataset
from sightline.reference import seen_by
from sightline.tiling import Tiling


def exported(model: Path, reading: ReadConfig, config: ExportConfig) -> Exported | Standalone:
    """Write what is asked for of a bundle; raises as ``pipeline.export`` does."""
    check_given(config)
    limits = Limits(config.max_pixels, config.max_bytes)
    with Bundle.open(model) as bundle:
        if config.standalone:
            return write_standalone(bundle, config, _material(bundle, (), reading, config, limits), limits)
        if bundle.manifest.variant:
            raise ModelFileError(f"{model}: is a variant already ({bundle.manifest.variant.get('precision')}); name the bundle it is of.")
        making = wanted(config)
        return released(bundle, making, _material(bundle, making, reading, config, limits), config, limits).checked()


def _material(
    bundle: Bundle, making: Sequence[Wanted], reading: ReadConfig, config: ExportConfig, limits: Limits
) -> Material | Images | None:  # fmt: skip
    """What variants are made with and judged on; None where no data are given."""
    if config.data is None:
        return None
    manifest = bundle.manifest
    dataset = cut(read_for(bundle.path, manifest.task, config.data, reading, limits), Tiling.from_json(manifest.tiles), limits)
    targets, known = targets_for(manifest.labels, dataset, bundle.path), _known(bundle, dataset, limits)
    if flattering := int(known[dataset.rows_of("test")].sum()):
        console.warn(f"{flattering} of the test images were used in training, so the figures flatter what is exported.")
    return material_for(making, dataset, targets, known, config.calibration_images)


def _known(bundle: Bundle, dataset: Dataset, limits: Limits) -> NDArray[np.bool_]:
    """(n,) which images the model was trained or validated on; of data that came with test images only those are looked at."""
    seen, given = seen_by(bundle), dataset.rows_of("test")
    known = np.zeros(len(dataset), bool)
    for row in given if len(given) else range(len(dataset)):
        known[row] = content_key(dataset.refs[row], limits) in seen
    return known
