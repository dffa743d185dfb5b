"""What results and descriptions of runs say of the dataset that they are about. Field names are those of the JSON."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset


class DatasetRef(BaseModel):
    """A dataset."""

    model_config = ConfigDict(frozen=True)

    uri: str
    """Address, without passwords."""
    fingerprint: str

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Returns what results say of a dataset."""
        return cls(uri=storage.redact(dataset.uri), fingerprint=dataset.manifest.fingerprint)


class TrainDataRef(DatasetRef):
    """A dataset whose train rows matter."""

    train_rows: int
    """Number of train rows."""

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        manifest = dataset.manifest
        return cls(
            uri=storage.redact(dataset.uri), fingerprint=manifest.fingerprint, train_rows=manifest.splits["train"]
        )


class EvaluatedDataRef(TrainDataRef):
    """A dataset on whose held-out rows models are compared."""

    tied_in_time: float | None = None
    """Share of the held-out rows that a draw chose among the user's rows with the same time; None where the split does
    not go by a user's order in time."""

    @classmethod
    def of(cls, dataset: Dataset, split: str = "test") -> Self:
        tied = dataset.manifest.tied_share(split)
        return cls(**TrainDataRef.of(dataset).model_dump(), tied_in_time=tied)
