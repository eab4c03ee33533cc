"""Images that excite a channel as much as can be, made by gradient ascent from noise."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.model.network import Network
from sightline.trust.patches import strongest_of
from sightline.trust.places import Place, maps_at

# Sides of the images in pixels, the first that the network and the time allow.
SIDES = (128, 96)
MOST_STEPS, FEWEST_STEPS = 64, 20
RATE = 0.05
# In this share of the steps, shut rectifiers let this share of the gradient through.
REDIRECTED_SHARE, LEAK = 0.5, 0.1
# The image is moved by up to this share of its side before each step, so that no detail depends on where it stands.
JITTER = 1 / 8
# The noise it starts from, and the strongest contrast there may be, as multiples of the training images' own.
NOISE, LIVELIEST = 0.3, 1.2
# The slope of the logistic function at its middle, which makes a small change of its argument a quarter as large.
SLOPE = 0.25


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
        pixels = images.reshape(-1, images.shape[-1]).cpu().double() / 255
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
        vertical, horizontal = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None, :]
        # Photographs have the less of a frequency the higher it is; as much as one of contrast 1 has.
        weight = 1 / (vertical.square() + horizontal.square()).sqrt().clamp(min=1 / side)
        noise = torch.randn((n, channels, side, side // 2 + 1, 2), generator=generator)
        spread = torch.fft.irfft2(torch.view_as_complex(noise) * weight, s=(side, side)).square().mean().sqrt()
        self.frequencies = (NOISE * noise).to(device).requires_grad_()
        self.weight = (weight / spread).to(device)
        self.side, self.colours = side, colours

    def images(self) -> Tensor:
        """(n, side, side, channels) float in [0, 255]."""
        spectrum = torch.view_as_complex(self.frequencies) * self.weight
        plain = torch.fft.irfft2(spectrum, s=(self.side, self.side)).permute(0, 2, 3, 1)
        contrast = plain.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        bounded = plain * (LIVELIEST / contrast).clamp(max=1)
        return 255 * torch.sigmoid(torch.logit(self.colours.mean) + bounded @ self.colours.mixing / SLOPE)


class _Redirected(torch.autograd.Function):
    """What a rectifier gives, ``output``, for ``inputs``, with some of the gradient where it gives nothing."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, output: Tensor) -> Tensor:
        ctx.save_for_backward(inputs != output)
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (stopped,) = ctx.saved_tensors
        return torch.where(stopped, LEAK * gradients[0], gradients[0]), None


@contextmanager
def redirected(network: nn.Module) -> Iterator[None]:
    """Gradients get through rectifiers that are shut, so that a channel which answers nothing to noise can still be followed."""
    inputs: dict[nn.Module, Tensor] = {}

    def before(module: nn.Module, arguments: tuple[Tensor]) -> None:
        inputs[module] = arguments[0].clone()  # a rectifier may overwrite what it is given

    def after(module: nn.Module, arguments: tuple[Tensor], output: Tensor) -> Tensor:
        found: Tensor = _Redirected.apply(inputs.pop(module), output.detach())
        return found

    rectifiers = [module for module in network.modules() if isinstance(module, nn.ReLU | nn.ReLU6)]
    handles = [module.register_forward_pre_hook(before) for module in rectifiers]
    handles += [module.register_forward_hook(after) for module in rectifiers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def step_seconds(network: Network, place: Place, n: int, side: int, colours: Colours) -> float:
    """Seconds a step takes for n images; a first one, which takes longer, is not counted."""
    for _ in range(2):
        started = time.perf_counter()
        excite(network, place, range(n), side, 1, colours, 0)
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
    early = round(REDIRECTED_SHARE * steps)
    optimizer = torch.optim.Adam([canvas.frequencies], lr=RATE)
    with redirected(network):
        _ascend(network, place, channels, canvas, early, optimizer, generator)
    _ascend(network, place, channels, canvas, steps - early, optimizer, generator)
    with torch.no_grad():
        images = canvas.images()
        (values,) = maps_at(network, images, [place])
    reached = strongest_of(values)[0][range(len(channels)), list(channels)]
    return Excited(images.round().byte().cpu().numpy(), reached.float().cpu().numpy(), steps)


def _ascend(
    network: Network, place: Place, channels: Sequence[int], canvas: Canvas, steps: int, optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:  # fmt: skip
    reach = max(1, round(JITTER * canvas.side))
    for _ in range(steps):
        shift = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
        # Frequencies know no rim: what leaves the image on one side comes back on the other.
        (values,) = maps_at(network, torch.roll(canvas.images(), shift, (1, 2)), [place])
        loss = -values[range(len(channels)), list(channels)].mean(dim=(1, 2)).sum()
        (canvas.frequencies.grad,) = torch.autograd.grad(loss, [canvas.frequencies])
        optimizer.step()
