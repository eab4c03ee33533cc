"""What a bundle knows of its training images, ``reference.npz``: for nearest images, unfamiliar ones, heat maps and drift.

``docs/reference.md`` lists the arrays and why each is there. All but ``seen`` may be missing: earlier bundles have nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.bundle import Bundle

Floats = NDArray[np.floating]

# Facts of the images that drift is looked for in, by their names among the store's.
DRIFT_FACTS = ("brightness", "contrast", "sharpness", "width", "height")


@dataclass(frozen=True)
class Known:
    """Training images that others are held against, m of them.

    embeddings  (m, d) of length one
    targets     (m,) int64 or (m, k) bool, as the task has them
    names       (m,) their paths within the data
    thumbs      JPEG bytes of each; empty where the bundle is to hold no image
    """

    embeddings: Floats
    targets: NDArray[Any]
    names: Sequence[str]
    thumbs: Sequence[bytes] = ()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As they are kept in ``reference.npz``."""
        found = {"embeddings": self.embeddings.astype(np.float16), "targets": self.targets, "names": np.array(self.names, np.str_)}
        if self.thumbs:
            found["thumbs"] = np.frombuffer(b"".join(self.thumbs), np.uint8)
            found["thumb_ends"] = np.cumsum([len(thumb) for thumb in self.thumbs], dtype=np.int64)
        return found

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Known | None:
        """The inverse of ``arrays``; None for a bundle that has no embeddings."""
        if "embeddings" not in arrays:
            return None
        starts_and_ends = np.concatenate([[0], arrays.get("thumb_ends", np.zeros(0, np.int64))]).tolist()
        pixels = arrays.get("thumbs", np.zeros(0, np.uint8))
        thumbs = [pixels[start:end].tobytes() for start, end in pairwise(starts_and_ends)]
        return cls(arrays["embeddings"], arrays["targets"], arrays["names"].tolist(), thumbs)


def embeddings_of(bundle: Bundle) -> Floats | None:
    """(m, d) embeddings of training images of a bundle that tells unfamiliar images; None for one that does not."""
    if bundle.manifest.decision.familiar_from is None or not bundle.has("reference"):
        return None
    return bundle.arrays("reference").get("embeddings")


def linear_head(weight: Floats, bias: Floats, logits: Floats, features: Floats, tolerance: float = 1e-3) -> dict[str, NDArray[np.float32]]:
    """``head_weight`` (k, c) and ``head_bias`` (k,) where they give (n, k) logits from the mean of (n, c, h, w) features, else nothing.

    Only then is a class activation map exact: Zhou et al., "Learning deep features for discriminative localization" (2016).
    """
    if features.ndim != 4 or weight.shape[1] != features.shape[1]:
        return {}
    found = features.astype(np.float64).mean(axis=(2, 3)) @ weight.T.astype(np.float64) + bias
    if np.abs(found - logits).max(initial=0) > tolerance * max(1.0, float(np.abs(logits).max(initial=0))):
        return {}
    return {"head_weight": weight.astype(np.float32), "head_bias": bias.astype(np.float32)}
