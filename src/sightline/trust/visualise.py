"""Images that excite a channel as much as can be, made by gradient ascent from noise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.model.network import Network
from sightline.trust.places import Place, maps_at

# Sides of the images in pixels, the first that the network and the time allow.
SIDES = (128, 96)
MOST_STEPS, FEWEST_STEPS = 64, 20
RATE = 0.05
# The image is moved by up to this share of its side before each step, so that no detail depends on where it stands.
JITTER = 1 / 8
# How strong colours are: those of the training images, made a little livelier.
CONTRAST = 1.5
NOISE = 0.05


@dataclass(frozen=True)
class Excited:
    """Images (m, side, side, channels) uint8, the channels' strongest answer to each, (m,), and how many steps were taken."""

    images: NDArray[np.uint8]
    reached: NDArray[np.float32]
    steps: int


@dataclass(frozen=True)
class Colours:
    """Mean (channels,) and the square root of the covariance (channels, channels) of the pixels of some images, in [0, 1]."""

    mean: Tensor
    mixing: Tensor

    @classmethod
    def of(cls, images: Tensor) -> Colours:
        """Of images (n, s, s, channels), float in [0, 255]."""
        pixels = images.reshape(-1, images.shape[-1]).double().cpu() / 255
        mean = pixels.mean(dim=0)
        covariance = (pixels - mean).T @ (pixels - mean) / len(pixels) + 1e-4 * torch.eye(len(mean))
        values, vectors = torch.linalg.eigh(covariance)
        mixing = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
        return cls(mean.clamp(0.02, 0.98).float().to(images.device), mixing.float().to(images.device))


class Canvas:
    """Images kept as frequencies and uncorrelated colours, in which steps change coarse and fine alike: Olah et al., "Feature
    Visualization" (2017)."""

    def __init__(self, n: int, side: int, colours: Colours, generator: torch.Generator) -> None:
        channels, device = len(colours.mean), colours.mean.device
        noise = torch.randn((n, channels, side, side // 2 + 1, 2), generator=generator) * NOISE
        self.frequencies = noise.to(device).requires_grad_()
        vertical, horizontal = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None, :]
        self.weight = (side / (vertical.square() + horizontal.square()).sqrt().clamp(min=1 / side)).to(device)
        self.side, self.colours = side, colours

    def images(self) -> Tensor:
        """(n, side, side, channels) float in [0, 255]."""
        spectrum = torch.view_as_complex(self.frequencies) * self.weight
        plain = torch.fft.irfft2(spectrum, s=(self.side, self.side)).permute(0, 2, 3, 1)
        mean = self.colours.mean
        return 255 * torch.sigmoid(torch.logit(mean) + CONTRAST * plain @ self.colours.mixing)


def step_seconds(network: Network, place: Place, n: int, side: int, colours: Colours) -> float:
    """Seconds a step takes for n images; a first one, which takes longer, is not counted."""
    for _ in range(2):
        started = time.perf_counter()
        _ascend(network, place, list(range(n)), Canvas(n, side, colours, torch.Generator()), 1, torch.Generator())
        took = time.perf_counter() - started
    return took


def takes_side(network: Network, place: Place, side: int, device: torch.device) -> bool:
    """Whether the network can be asked about images of this side; one with learned positions cannot."""
    try:
        with torch.no_grad():
            maps_at(network, torch.full((1, side, side, network.prepare.channels), 128.0, device=device), [place])
    except Exception:  # libraries and users' modules say it in any way they like
        return False
    return True


def excite(network: Network, place: Place, channels: Sequence[int], side: int, steps: int, colours: Colours, seed: int) -> Excited:
    """For each channel of a place an image that it answers to as strongly as ``steps`` lead to from noise."""
    generator = torch.Generator().manual_seed(seed)
    canvas = Canvas(len(channels), side, colours, generator)
    _ascend(network, place, channels, canvas, steps, generator)
    with torch.no_grad():
        images = canvas.images()
        (values,) = maps_at(network, images, [place])
    reached = values[range(len(channels)), list(channels)].flatten(1).amax(dim=1)
    return Excited(images.round().byte().cpu().numpy(), reached.float().cpu().numpy(), steps)


def _ascend(network: Network, place: Place, channels: Sequence[int], canvas: Canvas, steps: int, generator: torch.Generator) -> None:
    optimizer = torch.optim.Adam([canvas.frequencies], lr=RATE)
    reach = max(1, round(JITTER * canvas.side))
    for _ in range(steps):
        shift = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
        # Frequencies know no rim: what leaves the image on one side comes back on the other.
        (values,) = maps_at(network, torch.roll(canvas.images(), shift, (1, 2)), [place])
        loss = -values[range(len(channels)), list(channels)].mean(dim=(1, 2)).sum()
        (canvas.frequencies.grad,) = torch.autograd.grad(loss, [canvas.frequencies])
        optimizer.step()
