"""Samplers whose units are rows: at random, a random share of every user's rows, or every user's newest rows.

Source: Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 3.1 (random,
stratified and temporal interaction sampling).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.ordering import order_by, sorted_integers
from distill_at_scale.samplers import inclusion
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import Scores, fraction_keys
from distill_at_scale.samplers.train_rows import TrainRows

# Bits of a draw if it shares 64 bits with a user's position in a shard and a row's position within the user. Fewer bits
# would too often be equal for two of a user's rows.
_DRAW_BITS = 24


def random(rows: TrainRows, seed: int) -> Scores:
    """Keeps every row with the same probability."""
    # Rows with the same user and item have equal draws, but different positions.
    draws = rows.draw(hashing.stream("random/keys", seed))
    return Scores(draws, rows.position.view(np.uint64))


def stratified(rows: TrainRows, seed: int) -> Scores:
    """Keeps the same share of every user's rows, drawn at random, but at least one row.

    The share is chosen so that the total meets the budget; a draw by user decides about fractions of a row. If there
    are more users than rows in the budget, one row per user is kept. Rows of users with few rows are more likely to be
    kept, and have smaller weights.
    """
    draw = rows.draw(hashing.stream("stratified/rows", seed))
    shares = _shares(rows, seed, _rank_in_user(rows, draw), draw)
    return replace(shares, parameters=np.repeat(rows.counts.astype(np.float32), rows.counts))


def temporal(rows: TrainRows, seed: int) -> Scores:
    """Keeps the same share of every user's rows, the newest, but at least one row; as :func:`stratified`.

    A draw orders rows with the same time.
    """
    draw = rows.draw(hashing.stream("temporal/equal times", seed))
    return _shares(rows, seed, _rank_by_age(rows, draw), draw)


def _shares(rows: TrainRows, seed: int, rank: np.ndarray, draw: np.ndarray) -> Scores:
    """Scores the r-th of a user's n rows (r + u) / n, with u in (0, 1) drawn by user: t n rows are below t, where a
    fraction is rounded up with its own probability. The rows of rank 0 come before all others, as one group.

    Overwrites ``draw``, which becomes the ties."""
    fractions = hashing.combine(hashing.stream("row_wise/fractions of users", seed), rows.user_hash)
    values = np.repeat(hashing.uniform_open(fractions), rows.counts)
    values += rank
    values /= np.repeat(rows.counts, rows.counts)
    keys, first = fraction_keys(values), np.flatnonzero(rank == 0)
    keys[first], draw[first] = 0, 0
    return Scores(keys, draw)


def _rank_in_user(rows: TrainRows, draw: np.ndarray) -> np.ndarray:
    """Ranks, int64 [rows], each row among its user's by draw (of equal draws the earlier row first)."""
    rank = np.empty(len(rows), dtype=np.int64)
    # A user's rows keep their block of positions.
    rank[_by_user_and_draw(rows, draw)] = rows.position
    return rank


def _by_user_and_draw(rows: TrainRows, draw: np.ndarray) -> np.ndarray:
    """Returns the order, int64 [rows], by (user, draw); of equal draws the earlier row first."""
    position_bits = int(rows.counts.max(initial=0)).bit_length()
    user_bits = rows.n_users.bit_length()
    draw_bits = 64 - user_bits - position_bits
    if draw_bits >= _DRAW_BITS:
        # One word for the user, the first bits of the draw and the position within the user: sorting integers is
        # several times faster than an argsort.
        words = rows.owner.view(np.uint64) << np.uint64(draw_bits)
        words |= draw >> np.uint64(64 - draw_bits)
        words <<= np.uint64(position_bits)
        words |= rows.position.view(np.uint64)
        words = sorted_integers(words)
        position = (words & np.uint64((1 << position_bits) - 1)).view(np.int64)
        if not ((words[1:] ^ words[:-1]) < np.uint64(1 << position_bits)).any():
            return position + np.repeat(rows.offsets[:-1], rows.counts)
    return order_by(rows.owner, draw)


def _rank_by_age(rows: TrainRows, draw: np.ndarray) -> np.ndarray:
    """Counts, int64 [rows], the user's rows that are newer, or as new with a smaller draw."""
    assert rows.timestamps is not None
    rank = np.repeat(rows.counts, rows.counts) - 1 - rows.position
    same = (rows.timestamps[1:] == rows.timestamps[:-1]) & (rows.owner[1:] == rows.owner[:-1])
    if same.any():
        run, tied = ragged.runs(same)
        where = np.flatnonzero(tied)
        # The rows of a run share its ranks: the last rank, of the newest row, goes to the smallest draw.
        order = order_by(run[where], ~draw[where])
        rank[where[order]] = rank[where]
    return rank


RANDOM = Sampler("random", random)
STRATIFIED = Sampler("stratified", stratified, one_a_user=True, inclusion=inclusion.of_shares)
TEMPORAL = Sampler("temporal", temporal, timestamps=True, one_a_user=True)
