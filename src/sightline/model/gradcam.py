"""Grad-CAM: Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization" (2017)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.model.network import Network


def grad_cam(network: Network, images: NDArray[np.uint8], targets: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n, h, w) evidence for the label of each of n images (n, size, size, channels), by the gradient of its logit.

    Each channel of the last feature map counts by the mean of the logit's gradient in it. The paper cuts the sum at nought; here it is
    left as it is. Where the head is linear after average pooling that gradient is the head's weight divided by h * w, so h * w times
    this is the class activation map (``explanation/cam.py``), which is how an exported graph's maps are held against the network's.

    Raises ValueError where the answers do not come from a feature map (n, c, h, w), as in transformers.
    """
    network.eval()
    device = network.scale.device
    with torch.enable_grad():
        # Float images that want a gradient: so it reaches the map even where every weight is frozen.
        outputs = network(torch.from_numpy(images).to(device, torch.float32).requires_grad_())
        features = outputs["features"]
        chosen = outputs["logits"].gather(1, torch.from_numpy(targets).to(device)[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, features, allow_unused=True)
    if gradient is None or features.ndim != 4:
        raise ValueError("the network's answers do not come from its last feature map, so there is no Grad-CAM of it")
    maps = (gradient.mean((2, 3), keepdim=True) * features).sum(1)
    return maps.detach().float().cpu().numpy()
