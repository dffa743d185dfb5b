"""attribute: the value of each train row, by the exact gradient of a validation loss with respect to its weight.

    fit of the model (λ on validation) ─► gradient of the loss by all rows' weights ─► one Parquet file
    … to a sample of the users, with --users ─► values ─► rater ─► scores of all rows ─┘

One task with all CPUs of a node does it, since every row depends on all others: through the inverse of one matrix
(ease, infinite_ae), or through each step of the training. What a rater scores, it scores shard by shard.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from pydantic import BaseModel, Field

from distill_at_scale.config import AttributeConfig
from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.preparation.restartable import to_table
from distill_at_scale.errors import DasError, OutputExistsError
from distill_at_scale.models import create_model, find_model
from distill_at_scale.models.memory import available_memory, require_memory
from distill_at_scale.pipelines.runtime import output_folder, run_record, session
from distill_at_scale.pipelines.runtime.parts_output import parquet_bytes
from distill_at_scale.pipelines.runtime.tasks import run_alone
from distill_at_scale.pipelines.runtime.verb import verb

if TYPE_CHECKING:
    from distill_at_scale.distillation.attribution.values import RowValues

    Valuing = Callable[[Interactions, Interactions], "_Valued"]

VALUE = "value"
"""Column of the values."""


LEAST_CORRELATION = 0.2
"""Rank correlation on users left out below which a rater's scores are not to be used: two standard errors of a
correlation over 100 rows, about as many as the fewest users left out have."""


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
    attributed_users: int | None = None
    """Number of users whose rows were attributed; the file has a rater's scores. None: all users, without a rater."""
    rank_correlation: float | None = None
    """Spearman's correlation of the rater's scores and the values on a fifth of these users, who were left out."""
    notes: list[str] = Field(default_factory=list)
    """Why the values are not to be used, as sentences."""
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
    attributed_users: int | None = None
    rank_correlation: float | None = None


@dataclass(frozen=True)
class _Valued:
    """Values of rows, and the model that they go through."""

    values: RowValues
    settings: Mapping[str, Any]
    lam: float | None = None
    steps: int | None = None

    def found(self, rows: int, harmful: int, **rated: Any) -> _Found:
        """Returns what is told of them; ``rated`` are the fields of a rater."""
        settings, loss = dict(self.settings), self.values.loss
        return _Found(lam=self.lam, steps=self.steps, settings=settings, loss=loss, rows=rows, harmful=harmful, **rated)


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
        job = (dataset.uri, config.model, config.set, output, config.users)
        found = run_alone(record, f"attribute to {config.model}", _attribute, *job)
    return AttributeResult(
        uri=output,
        model=config.model,
        data=dataset.manifest.fingerprint,
        **found.model_dump(),
        notes=_doubts(found.rank_correlation),
        wall_s=round(time.time() - record.started, 3),
        cpu_s=record.stages[-1].cpu_s,
        peak_mib=record.stages[-1].peak_mib,
    )


def _doubts(correlation: float | None) -> list[str]:
    if correlation is None or correlation >= LEAST_CORRELATION:
        return []
    return [
        f"On users left out the scores hardly follow the values: their rank correlation, {correlation:.2f}, is below "
        f"{LEAST_CORRELATION:g}. Do not sample by them; attribute to more --users, or leave --users out."
    ]


def _attribute(data: str, name: str, settings: Mapping[str, Any], output: str, users: int | None) -> _Found:
    from distill_at_scale.distillation.attribution import CLOSED_FORM

    dataset = Dataset.open(data)
    through = _closed_form if name in CLOSED_FORM else _through_training
    if users is not None and users < dataset.n_users:
        return _rated(dataset, lambda *rows: through(name, settings, *rows), output, users)
    train, heldout = dataset.interactions("train"), dataset.interactions("validation")
    valued = through(name, settings, train, heldout)
    found = valued.values
    ids = pl.concat([dataset.users(shard)[Columns.USER_ID] for shard in range(len(dataset.shards))])
    frame = _frame(ids.gather(found.users), dataset.item_ids().gather(found.items), found.values)
    storage.write_bytes(output, parquet_bytes(frame).to_pybytes())
    return valued.found(rows=len(frame), harmful=int((found.values < 0).sum()))


def _frame(users: pl.Series, items: pl.Series, values: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame([users.alias(Columns.USER_ID), items.alias(Columns.ITEM_ID), pl.Series(VALUE, values)])


def _rated(dataset: Dataset, values_of: Valuing, output: str, users: int) -> _Found:
    """Values the rows of some users, and writes the scores that a rater of these values gives to all rows."""
    from distill_at_scale.distillation.attribution.rater import fit_rater, generalisation
    from distill_at_scale.distillation.attribution.row_features import ItemFacts
    from distill_at_scale.distillation.attribution.sampled_users import sample_users

    some = sample_users(dataset, users)
    valued = values_of(some.train, some.heldout)
    found = valued.values
    correlation = generalisation(found, some.train, some.heldout)
    validation = np.zeros(dataset.n_items, dtype=np.int64)
    for heldout in dataset.iter_interactions("validation"):
        validation += heldout.item_counts()
    facts = ItemFacts.of(some.train, some.heldout, counts=(dataset.train_counts(), validation))
    rater = fit_rater(found, some.train, some.heldout, facts)
    rows, harmful = 0, 0
    ids = dataset.item_ids()
    with storage.open_output(output) as file, contextlib.ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for shard, record in enumerate(dataset.shards):
            train, heldout = (dataset.interactions(split, shards=[shard]) for split in ("train", "validation"))
            owners = np.repeat(train.users - record.first_user, train.counts)
            # The latest of several rows of a user and an item stands for them.
            keys, from_end = np.unique((owners * train.n_items + train.items)[::-1], return_index=True)
            scores = rater.scores(train, heldout)[::-1][from_end]
            owners, items = np.divmod(keys, train.n_items)
            table = to_table(_frame(dataset.users(shard)[Columns.USER_ID].gather(owners), ids.gather(items), scores))
            if writer is None:
                writer = stack.enter_context(
                    pq.ParquetWriter(file, table.schema, compression="zstd", compression_level=1)
                )
            writer.write_table(table)
            rows, harmful = rows + len(scores), harmful + int((scores < 0).sum())
    about = {"attributed_users": len(some.numbers), "rank_correlation": round(correlation, 3)}
    return valued.found(rows=rows, harmful=harmful, **about)


def _closed_form(name: str, settings: Mapping[str, Any], train: Interactions, heldout: Interactions) -> _Valued:
    from distill_at_scale.distillation.attribution.closed_form import memory_needed, row_values

    judged = int((heldout.counts > 0).sum())
    needed = memory_needed(name, len(train), judged, train.n_items)
    fix = "drop rare items (--min-item), or attribute to some of the users (--users)"
    require_memory(f"attribute to {name}", needed, None, fix)
    lam = settings.get("lam")
    if lam is None:
        selection = create_model(name, settings).fit(train, heldout).selection
        assert selection is not None
        lam = selection.chosen
    found = row_values(name, train, heldout, float(lam))
    return _Valued(found, settings, lam=float(lam))


def _through_training(name: str, given: Mapping[str, Any], train: Interactions, heldout: Interactions) -> _Valued:
    from distill_at_scale.distillation.attribution.learners import create_learner, settings_of
    from distill_at_scale.distillation.attribution.training import Attribution, affordable

    settings = settings_of(name, given)
    learner = create_learner(name, settings, train)
    rows, users, free = len(learner.row_users), len(train), available_memory()
    keep, needed = affordable(find_model(name), learner.config, learner.n_steps, rows, users, train.n_items, free)
    fix = "set a smaller dim or batch_size, drop rare items (--min-item), or attribute to some of the users (--users)"
    require_memory(f"attribute to {name} through {learner.n_steps:,} steps", needed, None, fix)
    found = Attribution(learner, train, heldout, keep).row_values()
    return _Valued(found, settings, steps=learner.n_steps)
