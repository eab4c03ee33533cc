"""Harder conditions that an image may come in, each in five strengths, from hardly visible to as bad as a person can still recognise.

The idea of measuring a recogniser under named corruptions of five strengths is that of Hendrycks and Dietterich, "Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations" (2019). The corruptions are our own: they take images of any size and
number of channels, and one case in five strengths is the same case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation import camera, weather

STRENGTHS = (1, 2, 3, 4, 5)
FAMILIES = ("light and weather", "lens, motion and sensor", "file and geometry")

_LIGHT, _LENS, _FILE = FAMILIES
_FIRST, _ROTATED = "Hendrycks and Dietterich (2019)", "Engstrom et al. (2019)"


@dataclass(frozen=True)
class Corruption:
    """A condition: ``corruption(image, strength, rng)`` gives a new image of the same shape.

    name    as it stands in a report
    family  one of FAMILIES
    words   a sentence on what is done, and what the strengths mean
    source  where the idea of testing with it is from; empty where there is no one place
    moves   whether it moves what an image shows, so that boxes and label maps do not fit any more
    """

    name: str
    family: str
    words: str
    source: str
    change: Callable[[NDArray[np.uint8], int, np.random.Generator], NDArray[np.uint8]]
    moves: bool = False

    def __call__(self, image: NDArray[np.uint8], strength: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """The image (h, w, c) uint8 under the condition, at a strength from 1 to 5; ValueError for another strength."""
        if strength not in STRENGTHS:
            raise ValueError(f"strength {strength} is not one of 1 to 5")
        return self.change(image, strength, rng)


_ALL = (
    Corruption("night", _LIGHT, "Light falls to 86% at strength 1 and to 26% at 5, with a sensor's noise and a blue cast.",
               "", weather.night),
    Corruption("glare", _LIGHT, "A lamp or the sun shines into the lens: a small spot at 1; at 5 a quarter of full white lies over all.",
               "", weather.glare),
    Corruption("rain", _LIGHT, "Streaks of rain over a duller scene: about 40 drops at 1, 420 at 5.", "", weather.rain),
    Corruption("fog", _LIGHT, "A pale veil in patches, thicker towards the top: it hides about a tenth of the scene at 1, three "
               "quarters at 5.", _FIRST, weather.fog),
    Corruption("snow", _LIGHT, "Flakes before a scene that turns pale: about 40 at 1, 300 at 5.", _FIRST, weather.snow),
    Corruption("motion blur", _LENS, "The camera moves while it takes the picture: by 2% of the image's side at 1, by 13% at 5.",
               _FIRST, camera.motion_blur),
    Corruption("defocus", _LENS, "Out of focus: a point becomes a disc of about 2% of the image's side at 1, of 8% at 5.",
               _FIRST, camera.defocus),
    Corruption("noise", _LENS, "Noise of a sensor in poor light: it spreads a middle grey by 3% of the scale at 1, by 22% at 5; "
               "less in images below 224 pixels.", _FIRST, camera.noise),
    Corruption("JPEG compression", _FILE, "Saved as a JPEG of quality 38 at 1, of 6 at 5; of a higher one below 224 pixels.",
               _FIRST, camera.jpeg),
    Corruption("low resolution", _FILE, "Taken with 1.6 times fewer pixels a side at 1, 7.5 times fewer at 5; less in images below "
               "224 pixels.", _FIRST, camera.low_resolution),
    Corruption("rotation", _FILE, "Turned left or right by up to 4° at 1, 9°, 16° and 27° at 2 to 4, and 42° at 5.",
               _ROTATED, camera.rotation, moves=True),
)  # fmt: skip

CORRUPTIONS = {corruption.name: corruption for corruption in _ALL}
"""Every condition by its name, in the order of a report."""
