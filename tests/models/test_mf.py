"""MF and bias-only: the contract, their scores, and how strangers are folded in."""

from __future__ import annotations

from typing import ClassVar

from torch_kit import TorchContract


class TestMF(TorchContract):
    name = "mf"
    settings: ClassVar = {"dim": 8, "epochs": 30, "batch_size": 64, "learning_rate": 0.05, "device": "cpu", "negatives": 4}


class TestBias(TorchContract):
    name = "bias"
    personal = False
    settings: ClassVar = {"epochs": 5, "batch_size": 64, "learning_rate": 0.05, "device": "cpu"}
