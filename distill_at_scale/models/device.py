"""Selection of the torch device."""

from __future__ import annotations

from typing import Literal

import torch

from distill_at_scale.errors import DasError

Device = Literal["auto", "cpu", "cuda"]


def resolve_device(device: Device) -> torch.device:
    """Returns the torch device for a setting.

    Raises:
        DasError: A GPU is requested, but none is available.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DasError("device=cuda, but torch finds no GPU here; set device=cpu or auto.")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
