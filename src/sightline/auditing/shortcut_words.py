"""What is said of facts that tell the label: their names, what a network would learn from them, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sightline.auditing.fact_columns import BORDER, BRIGHTNESS, CAMERA, CAPTURE_TIME, COMPRESSION, FILE_NAME, SIZE, FactGroup

WORDS = {
    SIZE: "the size of the image",
    CAMERA: "the camera",
    BRIGHTNESS: "the brightness",
    BORDER: "an edge of one shade",
    COMPRESSION: "the file format and the strength of compression",
    FILE_NAME: "the file name",
    CAPTURE_TIME: "the time of capture",
}
LEARNED = {
    SIZE: "the size and shape of the images",
    CAMERA: "the camera",
    BRIGHTNESS: "the light",
    BORDER: "the border of the images",
    COMPRESSION: "how the images were saved",
}
REMEDIES = {
    SIZE: "Bring the images of all labels to the same size and shape, by the same steps.",
    CAMERA: "Take images of every label with every camera, or train with those of one camera.",
    BRIGHTNESS: "Unless brightness is what tells the labels in truth, take images of all labels in the same light.",
    BORDER: "Crop the border away, or take images of all labels against the same background.",
    COMPRESSION: "Save the images of all labels in the same format and at the same quality, from the originals where they are at hand.",
}


def listed(words: Sequence[str], last: str = "and") -> str:
    """The words as a list in a sentence."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


class Typical:
    """The fact of a group in which images of a label differ most from the others, in words."""

    def __init__(self, group: FactGroup, of_label: NDArray[np.bool_]) -> None:
        from scipy.stats import rankdata

        known = ~np.isnan(group.values)
        filled = np.where(known, group.values, -np.inf)
        # How often the label's value is above the others', which is 0.5 where they do not differ.
        ranks = rankdata(filled, axis=0)[of_label].mean(axis=0)
        above = (ranks - (of_label.sum() + 1) / 2) / max(1, (~of_label).sum())
        column = int(np.abs(above - 0.5).argmax())
        self.values, self.phrase = group.values[:, column], group.phrases[column]
        self.inside, self.outside = self.values[of_label], self.values[~of_label]

    def of(self, row: int) -> str:
        """What is so on the image of a row, and on the others."""
        if "{" not in self.phrase:
            shares = f"as {self.inside.mean():.0%} of the label's images, and {self.outside.mean():.0%} of the others"
            return f"{self.phrase} {shares}" if self.values[row] else f"not {self.phrase}, {shares.replace('as ', 'which is so for ', 1)}"
        other, value = self._median(self.outside), self.values[row]
        if np.isnan(value):
            return f"unlike the other labels' images: {other}"
        return f"{self.phrase.format(value)} (the other labels' images: {other})"

    def _median(self, values: NDArray[np.float64]) -> str:
        known = values[~np.isnan(values)]
        return self.phrase.format(np.median(known)) if 2 * len(known) >= len(values) else "nothing of the kind"
