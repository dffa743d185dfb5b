"""What `fit` takes, made into rows of users: Interactions, a Dataset, a SciPy matrix, or a frame of any library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import polars as pl
import scipy.sparse as sp

from distill_at_scale.data import frames, hashing
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.frames import Frame
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import SettingError

Rows: TypeAlias = Interactions | Dataset | sp.sparray | sp.spmatrix | Frame
"""What users' rows can be given as."""


@runtime_checkable
class FitSource(Protocol):
    """Data that knows how a model learns from it, as a SyntheticDataset does."""

    def fit_into(self, model: Any, progress: Any = None) -> None:
        """Fits ``model``."""


@dataclass(frozen=True)
class FitRows:
    """What a model is fitted on.

    Attributes:
        train: rows of all users.
        validation: held-out rows of the same users, or None.
        item_space: fingerprint of the item numbering, None where items have no ids.
        item_ids: own id of each item number (Int64 or String), None where items have none.
    """

    train: Interactions
    validation: Interactions | None
    item_space: str | None = None
    item_ids: pl.Series | None = None


def fit_rows_of(data: Rows, validation: Rows | None = None, names: Mapping[str, str | None] | None = None) -> FitRows:
    """The rows of anything that :meth:`Recommender.fit` takes.

    A Dataset's validation rows come along, and a frame's where it has a ``split`` column.

    Args:
        data: train rows.
        validation: held-out rows of the same users, as the same kind of thing.
        names: of a frame's columns, canonical name → own name.

    Raises:
        SettingError: a thing of another kind, a frame without the named columns, or ``validation`` of another kind
            than ``data``.
    """
    if isinstance(data, Dataset):
        if validation is not None:
            raise SettingError("A Dataset holds its own validation rows; leave out validation.")
        return FitRows(
            data.interactions("train"), data.interactions("validation"), data.manifest.item_space, data.item_ids()
        )
    if isinstance(data, Interactions) or sp.issparse(data):
        if validation is not None and not (isinstance(validation, Interactions) or sp.issparse(validation)):
            raise SettingError("Validation rows must be of the same kind as the train rows: Interactions or a matrix.")
        return FitRows(_numbered(data), None if validation is None else _numbered(validation))
    if frames.is_frame(data):
        return _frame(data, validation, names or {})
    raise SettingError(
        f"A model cannot be fitted on a {type(data).__name__}; give a Dataset, a SciPy sparse matrix (users × items), "
        "a frame (polars, pandas, Arrow), Interactions or a SyntheticDataset."
    )


def histories_of(
    data: Rows,
    item_ids: pl.Series | None = None,
    names: Mapping[str, str | None] | None = None,
) -> tuple[Interactions, pl.Series | None, int]:
    """Users' histories for scoring, in a model's own item numbers.

    Args:
        data: rows of users, known to the model or new: Interactions, a matrix, or a frame with own ids.
        item_ids: own id of each item number, as the fitted model keeps them; needed for a frame.
        names: of a frame's columns, canonical name → own name.

    Returns:
        histories; the users' ids, in the same order (None where they have none); rows of a frame that were left out
        since the model does not know their item.

    Raises:
        SettingError: a Dataset, of which :meth:`Dataset.histories` must say which rows; a frame without item ids.
    """
    if isinstance(data, Interactions) or sp.issparse(data):
        return _numbered(data), None, 0
    if not frames.is_frame(data):
        raise SettingError(
            f"A {type(data).__name__} holds no histories; give a frame, a sparse matrix or Interactions."
        )
    if item_ids is None:
        raise SettingError(
            "The model does not know the ids of its items, only their numbers; give a Dataset, or a sparse matrix "
            "whose columns are item numbers."
        )
    numbered = frames.number(frames.read_log(data, names), item_ids)
    return numbered.train, numbered.user_ids, numbered.unknown_items


def _numbered(data: Any) -> Interactions:
    return data if isinstance(data, Interactions) else Interactions.from_csr(data)


def _frame(data: Any, validation: Any, names: Mapping[str, str | None]) -> FitRows:
    log = frames.read_log(data, names)
    if validation is not None:
        if Columns.SPLIT in log:
            raise SettingError("The frame has a split column, which says what its validation rows are; leave out one.")
        if not frames.is_frame(validation):
            raise SettingError("Validation rows must be of the same kind as the train rows: a frame.")
        heldout = frames.read_log(validation, {**names, Columns.SPLIT: None})
        both = [log.with_columns(split=pl.lit(0, pl.Int8)), heldout.with_columns(split=pl.lit(1, pl.Int8))]
        if both[0].schema != both[1].schema:
            raise SettingError("Train and validation frames must have the same columns of the same types.")
        log = pl.concat(both)
    numbered = frames.number(log)
    ids = numbered.item_ids
    return FitRows(numbered.train, numbered.validation, hashing.item_space(ids), ids)
