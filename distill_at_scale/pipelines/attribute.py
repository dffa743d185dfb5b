"""attribute: the value of each train row, by the exact gradient of a validation loss with respect to its weight.

    fit of the model (λ on validation) ─► gradient of the loss by all rows' weights ─► one Parquet file

One task with all CPUs of a node does it, since every row depends on all others: through the inverse of one matrix
(ease, infinite_ae), or through each step of the training.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import BaseModel

from distill_at_scale.config import AttributeConfig
from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError, OutputExistsError
from distill_at_scale.models import create_model, find_model
from distill_at_scale.models.memory import available_memory, require_memory
from distill_at_scale.pipelines.runtime import output_folder, run_record, session
from distill_at_scale.pipelines.runtime.parts_output import parquet_bytes
from distill_at_scale.pipelines.runtime.tasks import run_alone
from distill_at_scale.pipelines.runtime.verb import verb

if TYPE_CHECKING:
    from distill_at_scale.distillation.attribution.values import RowValues

VALUE = "value"
"""Column of the values."""


class AttributeResult(BaseModel):
    """Values of a dataset's train rows."""

    uri: str
    model: str
    data: str
    """Fingerprint of the dataset."""
    lam: float | None
    """λ of the model (ease, infinite_ae)."""
    steps: int | None
    """Number of training steps that the values go through (sasrec, gru4rec, mf)."""
    settings: dict[str, Any]
    """Settings of the model that are others than its defaults."""
    loss: float
    """Validation loss, mean over users: squared error of the items outside the history, divided by its length (ease,
    infinite_ae); cross-entropy of the validation items among the items outside the history (sasrec, gru4rec, mf)."""
    rows: int
    """Number of distinct train rows."""
    harmful: int
    """Number of rows with a negative value: the loss would fall if they counted less."""
    wall_s: float
    cpu_s: float
    peak_mib: float


class _Found(BaseModel):
    lam: float | None = None
    steps: int | None = None
    settings: dict[str, Any]
    loss: float
    rows: int
    harmful: int


@verb(AttributeConfig, "data", "model")
def attribute(config: AttributeConfig) -> AttributeResult:
    """Values the train rows of a dataset; see :class:`~distill_at_scale.config.AttributeConfig` for the settings.

    Raises:
        SettingError: A setting is wrong.
        NotEnoughMemoryError: The model's matrices need more memory than there is.
        OutputExistsError: The output exists.
        DasError: The dataset is missing, or has no validation rows.
    """
    find_model(config.model).parse_config(config.set)
    dataset, output = Dataset.open(config.data), storage.normalise(config.output)
    output_folder.check_outside(output, dataset.uri, f"the dataset {storage.redact(dataset.uri)}")
    if not dataset.manifest.splits.get("validation"):
        raise DasError(f"{storage.redact(dataset.uri)} has no validation rows; prepare it with another --split.")
    if storage.exists(output) and not config.overwrite:
        raise OutputExistsError(
            f"{storage.redact(output)} exists already; choose another --output, or replace it with --overwrite."
        )
    storage.check_writable(output)
    record = run_record.RunRecord("attribute", config.model_dump(mode="json", exclude={"address", "overwrite"}))
    with session.ensure(config.address):
        job = (dataset.uri, config.model, config.set, output)
        found = run_alone(record, f"attribute to {config.model}", _attribute, *job)
    return AttributeResult(
        uri=output,
        model=config.model,
        data=dataset.manifest.fingerprint,
        **found.model_dump(),
        wall_s=round(time.time() - record.started, 3),
        cpu_s=record.stages[-1].cpu_s,
        peak_mib=record.stages[-1].peak_mib,
    )


def _attribute(data: str, name: str, settings: Mapping[str, Any], output: str) -> _Found:
    from distill_at_scale.distillation.attribution import CLOSED_FORM

    dataset = Dataset.open(data)
    described, found = (_closed_form if name in CLOSED_FORM else _through_training)(dataset, name, settings)
    users = pl.concat([dataset.users(shard)[Columns.USER_ID] for shard in range(len(dataset.shards))])
    frame = pl.DataFrame(
        [
            users.gather(found.users).alias(Columns.USER_ID),
            dataset.item_ids().gather(found.items).alias(Columns.ITEM_ID),
            pl.Series(VALUE, found.values),
        ]
    )
    storage.write_bytes(output, parquet_bytes(frame).to_pybytes())
    harmful = int((found.values < 0).sum())
    return _Found(**described, loss=found.loss, rows=len(frame), harmful=harmful)


def _closed_form(dataset: Dataset, name: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], RowValues]:
    from distill_at_scale.distillation.attribution.closed_form import memory_needed, row_values

    train, heldout = dataset.interactions("train"), dataset.interactions("validation")
    judged = int((heldout.counts > 0).sum())
    needed = memory_needed(name, dataset.n_users, judged, dataset.n_items)
    require_memory(f"attribute to {name}", needed, None, "drop rare items (--min-item), or take a sample of the users")
    lam = settings.get("lam")
    if lam is None:
        selection = create_model(name, settings).fit(dataset).selection
        assert selection is not None
        lam = selection.chosen
    found = row_values(name, train, heldout, float(lam))
    return {"lam": float(lam), "settings": dict(settings)}, found


def _through_training(dataset: Dataset, name: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], RowValues]:
    from distill_at_scale.distillation.attribution.learners import create_learner, settings_of
    from distill_at_scale.distillation.attribution.training import Attribution, affordable

    settings = settings_of(name, given)
    train, heldout = dataset.interactions("train"), dataset.interactions("validation")
    learner = create_learner(name, settings, train)
    keep, needed = affordable(find_model(name), learner, dataset.n_users, dataset.n_items, available_memory())
    fix = "set a smaller dim or batch_size, drop rare items (--min-item), or take a sample of the users"
    require_memory(f"attribute to {name} through {learner.n_steps:,} steps", needed, None, fix)
    found = Attribution(learner, train, heldout, keep).row_values()
    return {"steps": learner.n_steps, "settings": settings}, found
