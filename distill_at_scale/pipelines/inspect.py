"""inspect: what a dataset is, from its manifest alone."""

from __future__ import annotations

from distill_at_scale.config import InspectConfig
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.pipelines.runtime.verb import verb


@verb(InspectConfig, "data")
def inspect(config: InspectConfig) -> Dataset:
    """Opens a dataset and, with ``verify``, compares every file with its checksum.

    Raises:
        DasError: The dataset is missing or not finished, or a file is missing or altered.
    """
    dataset = Dataset.open(config.data)
    if config.verify:
        dataset.verify()
    return dataset
