"""inspect: what a dataset or synthetic dataset is, from its manifest alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from distill_at_scale.config import InspectConfig
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.synthetic_manifest import is_synthetic
from distill_at_scale.pipelines.runtime.verb import verb

if TYPE_CHECKING:
    from distill_at_scale.distillation.synthetic import SyntheticDataset

log = logging.getLogger(__name__)


@verb(InspectConfig, "data")
def inspect(config: InspectConfig) -> Dataset | SyntheticDataset:
    """Opens a dataset or synthetic dataset and, with ``verify``, compares every file with its checksum.

    Raises:
        DasError: The dataset is missing or not finished, or a file is missing or altered.
    """
    dataset: Dataset | SyntheticDataset
    if is_synthetic(storage.normalise(config.data)):
        # Loads torch, which takes seconds.
        from distill_at_scale.distillation.synthetic import SyntheticDataset

        dataset = SyntheticDataset.open(config.data)
    else:
        dataset = Dataset.open(config.data)
    if config.verify:
        dataset.verify()
        log.info("%s: all files match their checksums.", storage.redact(dataset.uri))
    return dataset
