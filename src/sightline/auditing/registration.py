"""Are two pictures one, but for a crop? One is laid over the other as well as it goes, and what remains is measured.

The Gauss-Newton registration of Baker and Matthews, "Lucas-Kanade 20 years on" (2004), of a scale and a shift along each axis, for many
pairs at once. Gain and offset of the brightness do not count: both pictures are brought to mean 0 and variance 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8
# As much as a crop may take away of a side; of what goes further, nothing is known.
MOST_CROP = 0.16
# Shares of half the side, by which what is laid as no crop would lie may do so all the same.
SLACK = 0.04
# Pairs registered at once, which bounds memory.
AT_ONCE = 2048
# Added to the squares of the slopes, in shares of the pixels: an even picture says nothing of where it lies.
DAMPING = 1e-3

Pictures = NDArray[np.float32]


@dataclass(frozen=True)
class Laid:
    """How well pictures ``b`` lie over pictures ``a``, m pairs.

    correlation  (m,) of what both show
    detail       (m,) the same of the details: without what is large, such as sky above and sea below
    place        (m, 4) scale - 1 and shift along x, then along y: x of ``a`` is x + place[0] x + place[1] of ``b``, from -1 to 1
    """

    correlation: NDArray[np.float32]
    detail: NDArray[np.float32]
    place: NDArray[np.float32]

    @classmethod
    def joined(cls, parts: Sequence[Laid]) -> Laid:
        """One after the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("correlation", "detail", "place")))

    @property
    def is_crop(self) -> NDArray[np.bool_]:
        """Whether all of one picture lies within the other: copies do, two pictures of one thing mostly do not."""
        scale, shift = self.place[:, 0::2], self.place[:, 1::2]
        within = (np.abs(shift) <= np.abs(scale) + SLACK).all(axis=1)
        return within & ((scale <= SLACK).all(axis=1) | (scale >= -SLACK).all(axis=1))


def lay(a: Pictures, b: Pictures, begin: NDArray[np.float32] | None = None) -> Laid:
    """Lay each of ``b`` (m, s, s) over its ``a``, beginning at ``begin`` (m, 4), or one upon the other."""
    begin = np.zeros((len(a), 4), np.float32) if begin is None else begin
    spans = [slice(start, start + AT_ONCE) for start in range(0, max(1, len(a)), AT_ONCE)]
    return Laid.joined([_lay(a[span], b[span], begin[span]) for span in spans])


def _lay(a: Pictures, b: Pictures, place: NDArray[np.float32]) -> Laid:
    m, side = a.shape[:2]
    at = ((np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1).astype(np.float32)
    best, best_place = np.full(m, -1, np.float32), place.copy()
    for turn in range(ROUNDS + 1):
        warped, inside = _seen_from(b, place, at)
        correlation, still, moved = _correlated(a, warped, inside)
        better = correlation > best
        best[better], best_place[better] = correlation[better], place[better]
        if turn < ROUNDS:
            place = _limited(place + _step(still, moved, inside, at))
    warped, inside = _seen_from(b, best_place, at)
    return Laid(best, _correlated(details(a), details(warped), inside)[0], best_place)


def _limited(place: NDArray[np.float32]) -> NDArray[np.float32]:
    most = np.tile(np.array([MOST_CROP / (1 - MOST_CROP), 2 * MOST_CROP], np.float32), 2)
    limited: NDArray[np.float32] = place.clip(-most, most)
    return limited


def _step(still: Pictures, moved: Pictures, inside: Pictures, at: NDArray[np.float32]) -> NDArray[np.float32]:
    """The change of place (m, 4) that least squares ask for: slopes are how a shift moves what is seen, times the place a scale."""
    m, side = still.shape[:2]
    slope_x, slope_y = _slopes(moved, inside, side)
    columns = np.stack([slope_x * at[None, None, :], slope_x, slope_y * at[None, :, None], slope_y], axis=1).reshape(m, 4, side**2)
    normal = columns @ columns.transpose(0, 2, 1) + DAMPING * side**2 * np.eye(4, dtype=np.float32)
    step: NDArray[np.float32] = np.linalg.solve(normal, columns @ ((still - moved) * inside).reshape(m, side**2, 1))[:, :, 0]
    return step


def _seen_from(b: Pictures, place: NDArray[np.float32], at: NDArray[np.float32]) -> tuple[Pictures, Pictures]:
    """``b`` as laid over ``a``, and 1 where of ``a`` there is anything of it to see."""
    side = b.shape[1]
    along = [((1 + place[:, None, axis]) * at + place[:, None, axis + 1] + 1) / 2 * side - 0.5 for axis in (0, 2)]
    weights = [np.maximum(0, 1 - np.abs(each.clip(0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32))) for each in along]
    inside = [((each >= -0.5) & (each <= side - 0.5)).astype(np.float32) for each in along]
    return weights[1] @ b @ weights[0].transpose(0, 2, 1), inside[1][:, :, None] * inside[0][:, None, :]


def _correlated(a: Pictures, b: Pictures, inside: Pictures) -> tuple[NDArray[np.float32], Pictures, Pictures]:
    """The correlation of the two inside, and both with mean 0 and variance 1 there."""
    count = inside.sum(axis=(1, 2), keepdims=True).clip(1)

    def even(pictures: Pictures) -> Pictures:
        centred = (pictures - (pictures * inside).sum(axis=(1, 2), keepdims=True) / count) * inside
        evened: Pictures = centred / np.sqrt((centred**2).sum(axis=(1, 2), keepdims=True) / count + 1e-6)
        return evened

    left, right = even(a), even(b)
    return (left * right).sum(axis=(1, 2)) / count[:, 0, 0], left, right


def _slopes(pictures: Pictures, inside: Pictures, side: int) -> tuple[Pictures, Pictures]:
    """Central differences along x and y, for a step of half the side; nothing where a neighbour is outside."""
    along_x, along_y = np.zeros_like(pictures), np.zeros_like(pictures)
    along_x[:, :, 1:-1] = (pictures[:, :, 2:] - pictures[:, :, :-2]) * inside[:, :, 2:] * inside[:, :, :-2]
    along_y[:, 1:-1, :] = (pictures[:, 2:, :] - pictures[:, :-2, :]) * inside[:, 2:, :] * inside[:, :-2, :]
    return along_x * side / 4, along_y * side / 4


def details(pictures: Pictures) -> Pictures:
    """What is between 0.7 and 3 pixels large: noise and compression are finer, gradients are larger."""
    from scipy.ndimage import gaussian_filter

    fine: Pictures = gaussian_filter(pictures, (0, 0.7, 0.7)) - gaussian_filter(pictures, (0, 3, 3))
    return fine
