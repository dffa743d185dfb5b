"""Samplers whose units are rows: at random, a share of every user's, and every user's newest.

Source: Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 3.1 (random,
stratified and temporal interaction sampling).
"""

from __future__ import annotations

import numpy as np

from distill_at_scale.data import hashing
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import Scores, fraction_keys
from distill_at_scale.samplers.train_rows import TrainRows

# Of a draw, when it shares 64 bits with a user's place in a shard and a row's among the user's: fewer would too often
# be the same for two of a user's rows.
_DRAW_BITS = 24


def random(rows: TrainRows, seed: int) -> Scores:
    """Every row has the same chance."""
    # Rows of one user and item have the same draw, but not the same position.
    draws = rows.draw(hashing.stream("random/keys", seed))
    return Scores(draws, rows.position.view(np.uint64))


def stratified(rows: TrainRows, seed: int) -> Scores:
    """Every user keeps the same share of its rows, drawn at random, but at least one row.

    The share is the one for which the total is what the budget asks for; where it leaves a user a fraction of a
    row, a draw by user decides. When there are more users than rows in the budget, one row each is kept.
    """
    draw = rows.draw(hashing.stream("stratified/rows", seed))
    return _shares(rows, seed, _rank_in_user(rows, draw), draw)


def temporal(rows: TrainRows, seed: int) -> Scores:
    """Every user keeps the same share of its rows, the newest, but at least one row; as :func:`stratified`.

    Of rows with the same time, a draw decides.
    """
    draw = rows.draw(hashing.stream("temporal/equal times", seed))
    return _shares(rows, seed, _rank_by_age(rows, draw), draw)


def _shares(rows: TrainRows, seed: int, rank: np.ndarray, draw: np.ndarray) -> Scores:
    """Scores (r + u) / n of the r-th of a user's n rows, u in (0, 1) drawn by user: below t are t n of them, a
    fraction rounded up with its own probability. The rows of rank 0 come before all others, as one group.

    ``draw`` is the caller's no longer: it becomes the ties."""
    fractions = hashing.combine(hashing.stream("row_wise/fractions of users", seed), rows.user_hash)
    values = np.repeat(hashing.uniform_open(fractions), rows.counts)
    values += rank
    values /= np.repeat(rows.counts, rows.counts)
    keys, first = fraction_keys(values), np.flatnonzero(rank == 0)
    keys[first], draw[first] = 0, 0
    return Scores(keys, draw)


def _rank_in_user(rows: TrainRows, draw: np.ndarray) -> np.ndarray:
    """int64 [rows]: how many of the user's rows have a smaller draw (of equal draws the earlier row is first)."""
    rank = np.empty(len(rows), dtype=np.int64)
    # A user's rows stand where they stood, in another order.
    rank[_by_user_and_draw(rows, draw)] = rows.position
    return rank


def _by_user_and_draw(rows: TrainRows, draw: np.ndarray) -> np.ndarray:
    """int64 [rows]: the rows in the order of (user, draw), of equal draws the earlier first."""
    place_bits = int(rows.counts.max(initial=0)).bit_length()
    user_bits = rows.n_users.bit_length()
    draw_bits = 64 - user_bits - place_bits
    if draw_bits >= _DRAW_BITS:
        # A word for user, the first bits of the draw, and the place among the user's rows: sorting plain numbers is
        # several times faster than finding the order that would sort them.
        words = rows.owner.view(np.uint64) << np.uint64(draw_bits)
        words |= draw >> np.uint64(64 - draw_bits)
        words <<= np.uint64(place_bits)
        words |= rows.position.view(np.uint64)
        words.sort()
        place = (words & np.uint64((1 << place_bits) - 1)).view(np.int64)
        words >>= np.uint64(place_bits)
        if not (words[1:] == words[:-1]).any():
            return place + np.repeat(rows.offsets[:-1], rows.counts)
    return np.lexsort((draw, rows.owner))


def _rank_by_age(rows: TrainRows, draw: np.ndarray) -> np.ndarray:
    """int64 [rows]: how many of the user's rows are newer, or as new with a smaller draw."""
    assert rows.timestamps is not None
    rank = np.repeat(rows.counts, rows.counts) - 1 - rows.position
    same = (rows.timestamps[1:] == rows.timestamps[:-1]) & (rows.owner[1:] == rows.owner[:-1])
    if same.any():
        run = np.concatenate(([0], np.cumsum(~same)))
        tied = np.zeros(len(rows), dtype=bool)
        tied[1:] |= same
        tied[:-1] |= same
        where = np.flatnonzero(tied)
        # The rows of a run share out the run's ranks: the last, which is the newest, to the smallest draw.
        order = np.lexsort((np.arange(len(where)), ~draw[where], run[where]))
        rank[where[order]] = rank[where]
    return rank


RANDOM = Sampler("random", random)
STRATIFIED = Sampler("stratified", stratified, one_a_user=True)
TEMPORAL = Sampler("temporal", temporal, timestamps=True, one_a_user=True)
