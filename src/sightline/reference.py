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
from sightline.errors import ModelFileError
from sightline.records import NO_TARGET

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


def reference_of(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """The arrays of a bundle's reference that are described here, empty where it has none; ModelFileError where they do not fit together
    or to the bundle's labels."""
    if not bundle.has("reference"):
        return {}
    arrays = bundle.arrays("reference")
    kinds = {name: (array.dtype.kind, array.ndim) for name, array in arrays.items()}
    faults = [name for name, allowed in _KINDS.items() if kinds.get(name, allowed) != allowed]
    fault = f"{faults[0]} is of another kind" if faults else _fault(arrays, len(bundle.manifest.labels))
    if fault:
        raise ModelFileError(f"{bundle.path}: its reference is not whole ({fault}); copy or train it again.")
    return arrays


# The kind of number or text and the number of axes of arrays that are read.
_KINDS = {"seen": ("u", 1), "embeddings": ("f", 2), "names": ("U", 1), "thumbs": ("u", 1), "thumb_ends": ("i", 1), "head_weight": ("f", 2),
          "head_bias": ("f", 1)}  # fmt: skip


def _fault(arrays: Mapping[str, NDArray[Any]], labels: int) -> str | None:
    """What does not fit, of arrays of the right kinds."""
    if "head_weight" in arrays and (len(arrays["head_weight"]) != labels or not np.isfinite(arrays["head_weight"]).all()):
        return "its head's weights are not those of its labels"
    if "embeddings" not in arrays:
        return None
    missing = {"names", "targets", *(("thumb_ends",) if "thumbs" in arrays else ())} - set(arrays)
    if missing:
        return f"it lacks {', '.join(sorted(missing))}"
    targets, count = arrays["targets"], len(arrays["embeddings"])
    if not count or not np.isfinite(arrays["embeddings"]).all():
        return "its embeddings are none"
    rows = {"targets": targets, "names": arrays["names"], **({"thumb_ends": arrays["thumb_ends"]} if "thumbs" in arrays else {})}
    if any(values.shape[:1] != (count,) for values in rows.values()):
        return "its images are not as many as its embeddings"
    named = targets.dtype.kind == "i" and targets.ndim == 1 and targets.min() >= NO_TARGET and targets.max() < labels
    if not named and (targets.dtype.kind != "b" or targets.shape[1:] != (labels,)):
        return "its targets are none of its labels"
    ends = arrays["thumb_ends"] if "thumbs" in arrays else np.zeros(1, np.int64)
    if ends[0] < 0 or (ends[1:] < ends[:-1]).any() or ends[-1] != len(arrays.get("thumbs", ())):
        return "its pictures do not end where it says"
    return None


def embeddings_of(bundle: Bundle) -> Floats | None:
    """(m, d) embeddings of training images of a bundle that tells unfamiliar images; None for one that does not."""
    return None if bundle.manifest.decision.familiar_from is None else reference_of(bundle).get("embeddings")


def seen_by(bundle: Bundle) -> set[int]:
    """The content keys of the images that a bundle was trained or chosen on, the first eight bytes of their files' sha256."""
    return set(reference_of(bundle).get("seen", np.zeros(0, np.uint64)).tolist())


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
