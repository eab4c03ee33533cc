"""The torch device that was asked for, or an error."""

from __future__ import annotations

import torch

from sightline.errors import DeviceError


def present_devices() -> list[str]:
    """What torch finds here, best first."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, there in found.items() if there]


def torch_device(name: str) -> torch.device:
    """The device for ``auto`` (the best there is), ``cpu``, ``cuda`` or ``mps``; DeviceError when it is not there."""
    present = present_devices()
    if name == "auto":
        name = present[0]
    if name not in present:
        raise DeviceError(
            f"--device {name}: torch finds no such device here, only {' and '.join(present)}; leave --device out or choose one of them."
        )
    return torch.device(name)


def gpu_uuid(device: torch.device) -> str | None:
    """How NVIDIA's driver calls a GPU, ``GPU-`` and 36 characters; None for any other device."""
    if device.type != "cuda" or torch.version.cuda is None:
        return None
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
