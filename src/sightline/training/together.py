"""A step that several processes take as one: each runs the network on its share of a batch, and the loss is that of the whole batch.

Outputs and targets of all shares are put together before the loss is computed, in every process alike. So whatever a loss divides by,
weights or compares is the whole batch's, and an objective need not know that there are several processes. Going back, each process takes
the gradients of its own outputs, and DistributedDataParallel adds up what they make of the weights' while the rest is computed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from sightline.model.assignment import PADDING
from sightline.model.network import Trainable
from sightline.training.objective import Objective
from sightline.training.ranks import Ranks

# Outputs that are of the maps' places and not of images: the same in all processes.
OF_PLACES = ("centres", "strides")
# Dimensions of the targets of images with objects: images, objects, and five numbers.
OF_OBJECTS = 3


class Together:
    """An objective over the whole of a batch whose shares several processes have; alone, just that objective."""

    def __init__(self, objective: Objective, ranks: Ranks) -> None:
        self.objective, self.ranks = objective, ranks
        self._spread: DistributedDataParallel | None = None
        self._learning: list[bool] = []

    def step(self, network: Trainable, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the whole batch, of which ``images`` (n, ...) and ``targets`` are this process's share.

        Where there are fewer targets than images, the images stand in for a share that is empty and do not count.
        """
        if not self.ranks.together:
            return self.objective.step(network, images, targets)
        spread, counted = self._over(network), len(targets)

        def run(shown: Tensor) -> Outputs:
            # A network that was compiled is run as it was written: what a compiler sees of batch normalisation is its own share's.
            with torch.compiler.set_stance("force_eager"), SharedNorms(self.ranks, counts=counted > 0):
                return Outputs(spread(shown), self.ranks, counted)

        return self.objective.step(cast(Trainable, run), images, whole(targets, self.ranks))

    def validate(self, raw: dict[str, NDArray[np.float32]], targets: NDArray[Any]) -> dict[str, float]:
        return self.objective.validate(raw, targets)

    def _over(self, network: Trainable) -> DistributedDataParallel:
        """The network with its gradients added up over all processes; made anew when other layers learn."""
        learning = [parameter.requires_grad for parameter in network.parameters()]
        if self._spread is None or self._spread.module is not network or self._learning != learning:
            # How a convolution's gradient lies in memory differs from what is expected where a side is 1, which costs nothing.
            warnings.filterwarnings("ignore", "Grad strides do not match")
            # A static graph is one whose unused weights are found in its first step.
            self._spread, self._learning = None, learning
            self._spread = DistributedDataParallel(network, gradient_as_bucket_view=True, static_graph=True)
            self._spread.broadcast_buffers = False  # statistics are the same everywhere already
            self._spread.register_comm_hook(None, _sum)
        return self._spread


def _sum(_, bucket):  # type: ignore[no-untyped-def]  # torch refuses annotations that are text, as all are here
    """Gradients added up: the loss that each process differentiates is the whole batch's already, so there is no mean to take."""
    return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0])


class Outputs(Mapping[str, Any]):
    """A network's raw outputs of the whole batch, each put together when it is asked for, which all processes do in the same order."""

    def __init__(self, own: Mapping[str, Any], ranks: Ranks, counted: int) -> None:
        self._own, self._ranks, self._counted = own, ranks, counted
        self._found: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._found:
            own = self._own[name]
            if name in OF_PLACES:
                self._found[name] = own
            elif name == "auxiliary":  # the outputs of several heads
                self._found[name] = [self._joined(each) for each in own]
            else:
                self._found[name] = self._joined(own)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def _joined(self, own: Tensor) -> Tensor:
        return cast(Tensor, Join.apply(own[: self._counted], self._ranks))


def whole(targets: Tensor, ranks: Ranks) -> Tensor:
    """The targets of the whole batch, in the order of ``Outputs``."""
    parts = ranks.parts(targets)
    if targets.ndim == OF_OBJECTS and targets.is_floating_point():
        most = max(part.shape[1] for part in parts)
        parts = [F.pad(part, (0, 0, 0, most - part.shape[1]), value=PADDING) for part in parts]
    return torch.cat(parts)


class Join(torch.autograd.Function):
    """Shares (n, ...) of all processes as one; going back, each has the gradients of its own, as all compute the same loss."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks) -> Tensor:
        parts = ranks.parts(own)
        start = sum(len(part) for part in parts[: ranks.rank])
        ctx.rows = slice(start, start + len(own))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0][ctx.rows], None


class SharedNorms(TorchFunctionMode):
    """While it is entered, batch normalisation in training is over the whole batch.

    It takes the place of the function that all such layers call, so that those of any library and of a user's own module are met, which
    replacing modules of known classes would not do. ``torch.nn.SyncBatchNorm`` has nothing for processors.

    counts  whether this process's images do
    """

    def __init__(self, ranks: Ranks, *, counts: bool) -> None:
        super().__init__()
        self.ranks, self.counts = ranks, counts

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (self._norm if func is F.batch_norm else func)(*args, **(kwargs or {}))

    def _norm(
        self, input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
        bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    ) -> Tensor:  # fmt: skip
        """As ``torch.nn.functional.batch_norm``."""
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        count, mean, var = _statistics(input.detach(), self.ranks, self.counts)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * count / (count - 1).clamp(min=1)).to(running_var.dtype), momentum)
        return cast(Tensor, SharedNorm.apply(input, weight, bias, mean, var, eps, count, self.ranks, self.counts))


def _statistics(x: Tensor, ranks: Ranks, counts: bool) -> tuple[Tensor, Tensor, Tensor]:
    """How many numbers each channel has in the whole batch, and their mean and variance, all (channels,) float64.

    The shares' are combined after Chan et al., "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """
    own = torch.zeros(3, x.shape[1], dtype=torch.float64, device=x.device)
    if counts:
        var, mean = torch.var_mean(x.float() if x.dtype != torch.float64 else x, _all_but_channels(x), correction=0)
        own = torch.stack([torch.full_like(mean, x.numel() // x.shape[1]), mean, var]).double()
    counted, means, variances = ranks.stacked(own).unbind(1)
    count = counted.sum(0)
    mean = (counted * means).sum(0) / count
    var = (counted * (variances + (means - mean) ** 2)).sum(0) / count
    return count, mean, var


def _all_but_channels(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


class SharedNorm(torch.autograd.Function):
    """Batch normalisation by a mean and a variance that all processes' shares had a part in."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float, count: Tensor, ranks: Ranks,
        counts: bool,
    ) -> Tensor:  # fmt: skip
        ctx.ranks, ctx.counts, ctx.learns = ranks, counts, (weight is not None, bias is not None)
        kind = torch.float64 if x.dtype == torch.float64 else torch.float32
        ctx.save_for_backward(x, weight, mean.to(kind), (var + eps).rsqrt().to(kind), count)
        return F.batch_norm(x, mean.to(kind), var.to(kind), weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, count = ctx.saved_tensors
        shape, over = (1, -1, *(1,) * (x.ndim - 2)), _all_but_channels(x)
        gradient = gradients[0].to(mean.dtype)
        normal = (x.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        sums = torch.stack([gradient.sum(over), (gradient * normal).sum(over)])
        # Of weight and bias each process gives its part, which are added up with all other gradients.
        of_weight, of_bias = (each if learns else None for each, learns in zip((sums[1], sums[0]), ctx.learns, strict=True))
        totals = (ctx.ranks.total(sums.to(torch.float64, copy=True)) / count).to(mean.dtype)
        back = gradient - totals[0].view(shape) - normal * totals[1].view(shape)
        back = back * (scale if weight is None else scale * weight).view(shape) * ctx.counts
        return back.to(x.dtype), of_weight, of_bias, None, None, None, None, None, None
