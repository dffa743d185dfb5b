"""MVAE: the contract, and its loss against the definition."""

from __future__ import annotations

from typing import ClassVar

from torch_kit import TorchContract


class TestMVAE(TorchContract):
    name = "mvae"
    settings: ClassVar = {
        "hidden": 24,
        "latent": 8,
        "epochs": 40,
        "batch_size": 16,
        "learning_rate": 0.01,
        "anneal_epochs": 20,
        "device": "cpu",
    }
