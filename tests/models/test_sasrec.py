"""SASRec: the contract, what a place can see, and that it can be differentiated twice."""

from __future__ import annotations

from typing import ClassVar

from torch_kit import SequenceContract


class TestSASRec(SequenceContract):
    name = "sasrec"
    settings: ClassVar = {
        "dim": 16,
        "length": 8,
        "epochs": 30,
        "batch_size": 16,
        "learning_rate": 0.01,
        "dropout": 0.1,
        "device": "cpu",
    }
