"""Recommendations by the log's own ids: the best items for users, and similar items.

The ranking is that of the evaluation (:mod:`~distill_at_scale.evaluation.top_k`), ties included.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import replace
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl

from distill_at_scale.data import hashing, storage
from distill_at_scale.data.columns import HISTORIES, Columns, History
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.given_ids import given_ids, shown_ids
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.evaluation.item_blocks import BlockScorer
from distill_at_scale.models.inputs import Rows, histories_of
from distill_at_scale.models.ranked_items import RANK, rank_items

log = logging.getLogger(__name__)

SIMILAR_ID: Final = "similar_item_id"

# No dataset has user numbers from here on: models with a vector per user fold such users in.
_STRANGERS = 1 << 62


class Recommends(ABC):
    """Recommendation methods that every recommender has."""

    name: ClassVar[str]
    n_items: int | None
    item_ids: pl.Series | None

    @abstractmethod
    def score(self, histories: Interactions) -> np.ndarray:
        """Returns scores of all items, float32 [b, n_items]."""

    @property
    @abstractmethod
    def scorer(self) -> BlockScorer:
        """Scores for the ranking of users."""

    @abstractmethod
    def check_item_space(self, n_items: int, item_space: str | None) -> None:
        """Checks that the dataset's item numbering is that of the fit."""

    def recommend(
        self,
        data: Rows,
        users: Any = None,
        k: int = 20,
        *,
        history: History = "all",
        include_seen: bool = False,
        histories: Any = None,
    ) -> pl.DataFrame:
        """Returns the k best items of each user, ranked exactly as :func:`~distill_at_scale.evaluate` ranks them.

        Every model serves new users by their history. Popularity, and bias with objective=implicit, give all users the
        same items, except those seen. With ``history="train+validation"`` the lists are those that ``evaluate``
        measures on the test rows, and with ``"train"`` those on the validation rows.

        Args:
            data: Dataset that the model was fitted on, or another with the same items, such as its parent. Or
                histories: a frame, for a model that was fitted in memory on data with ids, or a matrix or
                Interactions, whose rows are the users by number.
            users: One or several ids as in the log; None: all users. Unknown ids are dropped with a warning.
            k: Length of a list. Users with fewer than k remaining items get a shorter one.
            history: Rows of a user that are the model's input, and whose items count as seen.
            include_seen: Whether seen items may be recommended again. Most models do not learn to score them.
            histories: Histories of new users, or other histories of known ones: a frame (polars, pandas, Arrow) with
                the columns user_id and item_id, oldest row first or with a timestamp; a rating if the model learns
                ratings. The dataset's own rows are not read. Rows of items that the dataset lacks are dropped with a
                warning. Models with a vector per user compute one from the history of each user of a frame.

        Returns:
            user_id · item_id · rank (Int32, from 1) · score (Float32), best item first; users in the order of
            ``users``, else of the data (of a frame: of their ids).

        Raises:
            SettingError: Ids of another type than the data's, a frame without the columns, or an invalid setting.
            DasError: The data have none of the users, or none of the histories' items, or another item numbering.
        """
        if history not in HISTORIES:
            raise SettingError(f"history '{history}' is not one of {', '.join(HISTORIES)}.")
        dataset = data if isinstance(data, Dataset) else None
        item_ids = _items_of(self, dataset, k)
        if dataset is None or histories is not None:
            people, rows = _given_rows(data if dataset is None else histories, item_ids, self.item_ids, dataset)
            lists = rank_items(self.scorer, rows, k, include_seen, self.name).frame(people, item_ids)
            return lists if users is None else _in_order(lists, users, people, "in the histories")
        wanted = None if users is None else given_ids(users, dataset.manifest.id_types["user_id"], Columns.USER_ID)
        parts: list[pl.DataFrame] = []
        known: list[pl.Series] = []
        for shard in range(len(dataset.shards)):
            people = dataset.users(shard)[Columns.USER_ID]
            positions = np.arange(len(people)) if wanted is None else np.flatnonzero(people.is_in(wanted.implode()))
            known.append(people.gather(positions))
            if len(positions) or not parts:
                parts.append(recommend_shard(self, dataset, shard, positions, item_ids, k, history, include_seen))
        lists = pl.concat(parts)
        if wanted is None:
            return lists
        return _in_order(lists, wanted, pl.concat(known), f"in {storage.redact(dataset.uri)}")

    def similar_items(self, data: Dataset | None = None, items: Any = None, k: int = 20) -> pl.DataFrame:
        """Returns the k items that the model recommends to a user with a single item.

        This definition suits every model; for ``ease`` it ranks by the item's row of weights. Popularity, and bias with
        objective=implicit, recommend the same items to all users, and hence for every item.

        Args:
            data: A dataset as in :meth:`recommend`; None: items have the ids of the fit in memory.
            items: One or several ids as in the log; None: all items. Unknown ids are dropped with a warning.
            k: Length of a list, at most the number of other items.

        Returns:
            item_id · similar_item_id · rank (Int32, from 1) · score (Float32), in the order of ``items``. Scores are
            the model's own: they are not comparable between items, and not symmetric.

        Raises:
            SettingError, DasError: As in :meth:`recommend`.
        """
        item_ids = _items_of(self, data, k)
        if items is None:
            return similar_to(self, np.arange(len(item_ids)), item_ids, k)
        wanted = given_ids(items, _id_type(item_ids), Columns.ITEM_ID)
        lists = similar_to(self, np.flatnonzero(item_ids.is_in(wanted.implode())), item_ids, k)
        where = "in the data of the fit" if data is None else f"in {storage.redact(data.uri)}"
        _warn_of_missing(wanted, item_ids, "items", where)
        return _sorted_as(lists, wanted)


def recommend_shard(
    model: Recommends,
    dataset: Dataset,
    shard: int,
    positions: np.ndarray,
    item_ids: pl.Series,
    k: int,
    history: History = "all",
    include_seen: bool = False,
) -> pl.DataFrame:
    """Recommends items to some users of a shard.

    Args:
        model: A fitted model.
        dataset: Dataset with the users.
        shard: Index of the shard.
        positions: int64, ascending, positions of the users in the shard.
        item_ids: Id of each item, by number.
        k, history, include_seen: As in :meth:`Recommends.recommend`.

    Returns:
        user_id · item_id · rank · score, users and ranks ascending.
    """
    histories = dataset.interactions(*HISTORIES[history], shards=[shard]).take(positions)
    ranked = rank_items(model.scorer, histories, k, include_seen, model.name)
    return ranked.frame(dataset.users(shard)[Columns.USER_ID].gather(positions), item_ids)


def similar_to(model: Recommends, items: np.ndarray, item_ids: pl.Series, k: int) -> pl.DataFrame:
    """Returns the k items that score best for a user with a single item.

    Args:
        model: A fitted model.
        items: int64, ascending, item numbers.
        item_ids: Id of each item, by number.
        k: Length of the lists.

    Returns:
        item_id · similar_item_id · rank · score.
    """
    alone = Interactions(
        users=items.astype(np.int64) + _STRANGERS,
        offsets=np.arange(len(items) + 1, dtype=np.int64),
        items=items.astype(np.int32),
        n_items=len(item_ids),
    )
    ranked = rank_items(model.scorer, alone, k, name=model.name)
    return ranked.frame(item_ids.gather(items), item_ids.alias(SIMILAR_ID))


def missing_sentence(n_missing: int, n_asked: int, first: Collection[Any], what: str, where: str) -> str:
    """Formats the message about requested users or items that are unknown.

    Args:
        n_missing, n_asked: Number of unknown ids, and of requested ones.
        first: First of the unknown ids.
        what: "users" or "items".
        where: "in URI".
    """
    ids = shown_ids(first, n_missing)
    if n_missing == n_asked:
        none = f"none of the {n_asked:,} {what} asked for is" if n_asked > 1 else f"the {what[:-1]} asked for is not"
        return f"{none} {where}: {ids}"
    verb = "is" if n_missing == 1 else "are"
    return f"{n_missing:,} of the {n_asked:,} {what} asked for {verb} not {where} and {verb} left out: {ids}"


def short_lists(k: int, n_items: int) -> str:
    """Returns the message about lists that are shorter than requested."""
    return f"k={k:,} is more than the {n_items:,} items there are: lists hold all items that are left and are shorter."


def _items_of(model: Recommends, dataset: Dataset | None, k: int) -> pl.Series:
    """Returns the id of each item by number: the dataset's, else the ids of the fit, else the numbers."""
    if k < 1:
        raise SettingError(f"k={k}: a list has at least one item.")
    if dataset is not None:
        model.check_item_space(dataset.n_items, dataset.manifest.item_space)
        found = dataset.item_ids()
    elif model.item_ids is not None:
        found = model.item_ids.alias(Columns.ITEM_ID)
    elif model.n_items is not None:
        found = pl.Series(Columns.ITEM_ID, np.arange(model.n_items))
    else:
        raise DasError(f"{model.name} has not been fitted; call fit or load a saved model.")
    if k > len(found):
        log.warning("%s", short_lists(k, len(found)))
    return found


def _given_rows(
    data: Any, item_ids: pl.Series, known_ids: pl.Series | None, dataset: Dataset | None
) -> tuple[pl.Series, Interactions]:
    """Returns the ids of the users of a frame or matrix, and their rows."""
    rows, people, unknown = histories_of(data, item_ids if dataset is not None else known_ids)
    if people is None:
        return pl.Series(Columns.USER_ID, rows.users), rows
    if unknown:
        what = f"{unknown:,} rows of the histories are of items that the model does not know"
        if not rows.n_rows:
            raise DasError(f"{what}, and there are no others.")
        log.warning("%s; they are left out.", what)
    # Numbers beyond every dataset's users, by a hash of the id, so that a user's draws among ties do not depend on the
    # other users.
    numbers = (hashing.hash_ids(people) >> np.uint64(2)) | np.uint64(_STRANGERS)
    return people.alias(Columns.USER_ID), replace(rows, users=numbers.astype(np.int64))


def _id_type(ids: pl.Series) -> str:
    return "string" if ids.dtype == pl.String else "int64"


def _in_order(found: pl.DataFrame, users: Any, people: pl.Series, where: str) -> pl.DataFrame:
    """Returns the lists of the requested users, in their order."""
    wanted = given_ids(users, _id_type(people), Columns.USER_ID)
    _warn_of_missing(wanted, people, "users", where)
    return _sorted_as(found.filter(pl.col(Columns.USER_ID).is_in(wanted.implode())), wanted)


def _sorted_as(found: pl.DataFrame, wanted: pl.Series) -> pl.DataFrame:
    order = pl.DataFrame({wanted.name: wanted, "place": np.arange(len(wanted))})
    return found.join(order, on=wanted.name, how="left").sort("place", RANK).drop("place")


def _warn_of_missing(wanted: pl.Series, known: pl.Series, what: str, where: str) -> None:
    """Warns about unknown ids.

    Raises:
        DasError: All ids are unknown.
    """
    missing = wanted.filter(~wanted.is_in(known.implode()))
    if not len(missing):
        return
    said = missing_sentence(len(missing), len(wanted), missing.head(5), what, where)
    if len(missing) == len(wanted):
        raise DasError(f"{said}.")
    log.warning("%s.", said)
