"""Conversion of the inputs of `fit` to rows of users: Interactions, a Dataset, a SciPy matrix, or any frame."""

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
"""Types that users' rows can have."""


@runtime_checkable
class FitSource(Protocol):
    """Data that defines how a model learns from it, such as a SyntheticDataset."""

    def fit_into(self, model: Any, progress: Any = None) -> None:
        """Fits ``model``."""


@dataclass(frozen=True)
class FitRows:
    """Rows for a fit.

    Attributes:
        train: Rows of all users.
        validation: Held-out rows of the same users, or None.
        item_space: Fingerprint of the item numbering, None if items have no ids.
        item_ids: Own id of each item number (Int64 or String), None if items have none.
    """

    train: Interactions
    validation: Interactions | None
    item_space: str | None = None
    item_ids: pl.Series | None = None


def fit_rows_of(
    data: Rows,
    validation: Rows | None = None,
    names: Mapping[str, str | None] | None = None,
    weights: bool = False,
) -> FitRows:
    """Converts any input of :meth:`Recommender.fit` to rows.

    Validation rows are included for a Dataset, and for a frame with a ``split`` column.

    Args:
        data: Train rows.
        validation: Held-out rows of the same users, of the same kind as ``data``.
        names: Columns of a frame, canonical name → own name.
        weights: Whether to load the weights of a Dataset's train rows, if it has them.

    Raises:
        SettingError: Data of an unsupported kind, a frame without the named columns, or ``validation`` of another kind
            than ``data``.
    """
    if isinstance(data, Dataset):
        if validation is not None:
            raise SettingError("A Dataset holds its own validation rows; omit validation.")
        train = data.interactions("train", weights=weights)
        return FitRows(train, data.interactions("validation"), data.manifest.item_space, data.item_ids())
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
    """Converts users' histories to a model's own item numbers, for scoring.

    Args:
        data: Rows of known or new users: Interactions, a matrix, or a frame with own ids.
        item_ids: Own id of each item number, as stored in the fitted model; required for a frame.
        names: Columns of a frame, canonical name → own name.

    Returns:
        The histories; the users' ids in the same order (None if they have none); the number of rows of a frame that
        were dropped because the model does not know their item.

    Raises:
        SettingError: A Dataset, for which :meth:`Dataset.histories` selects rows; or a frame without item ids.
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
            raise SettingError("The frame has a split column, which defines its validation rows; omit one of them.")
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
