"""Stable 64-bit hashes of ids: the project's only source of randomness over rows.

A library's own hash may change with its version; these never do, so that the same log, config and seed give
the same partitions, splits and samples on every machine and for every release.
"""

from __future__ import annotations

import hashlib
from typing import NewType

import numpy as np
import polars as pl

from distill_at_scale.data import ragged

Stream = NewType("Stream", int)
"""What a random stream begins with, in [0, 2^63); only :func:`stream` makes one."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_BLOCK = 1 << 14
# Base of the polynomial over a string's bytes; any odd constant with mixed bits serves.
_BASE = np.uint64(0x9FB21C651E98DF25)


def mix(values: np.ndarray) -> np.ndarray:
    """The SplitMix64 finaliser: a bijection of uint64 whose every output bit depends on every input bit.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
    """
    return _mix(np.array(values, dtype=np.uint64, order="C"))


def _mix(mixed: np.ndarray) -> np.ndarray:
    """:func:`mix` of an array that nobody else needs: it is changed in place."""
    flat = mixed.reshape(-1)
    shifted = np.empty(min(len(flat), _BLOCK), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for start in range(0, len(flat), _BLOCK):
            z = flat[start : start + _BLOCK]  # a view, changed in place while it is in the cache
            z += _GOLDEN
            for shift, factor in ((30, _MIX_1), (27, _MIX_2), (31, None)):
                z ^= np.right_shift(z, np.uint64(shift), out=shifted[: len(z)])
                if factor is not None:
                    z *= factor
    return mixed


def stream(name: str, seed: int = 0, *place: int) -> Stream:
    """The beginning of a random stream; streams of different names are independent of each other.

    Every place that draws has a name of its own, as ``"sensitivity/keys"``; a test knows them all, since two places
    that share a stream make the same draws.

    Args:
        name: unique in the package.
        seed: of the run.
        place: numbers that tell apart the streams of one name, as an epoch or a step; each at least 0.
    """
    own = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    # 63 bits: torch, NumPy and a setting in JSON take them alike.
    return Stream(int(_combined(seed % (1 << 64), own, *place)[0]) >> 1)


def hash_ids(ids: pl.Series) -> np.ndarray:
    """uint64 [n]: a hash of each id (Int64 or String; equal ids give equal hashes).

    Strings are hashed as the polynomial of their UTF-8 bytes modulo 2^64, finalised by :func:`mix`
    together with their length; each distinct string once.
    """
    if ids.dtype != pl.String:
        return mix(ids.to_numpy().view(np.uint64))
    distinct = ids.unique()
    table = pl.DataFrame({"id": distinct, "hash": _hash_strings(distinct)})
    return pl.DataFrame({"id": ids}).join(table, on="id", how="left", maintain_order="left")["hash"].to_numpy()


def item_space(item_ids: pl.Series) -> str:
    """Fingerprint of which number is which item: 32 hex digits of the ids in the order of their numbers."""
    return hashlib.sha256(hash_ids(item_ids).tobytes()).hexdigest()[:32]


def _hash_strings(strings: pl.Series) -> np.ndarray:
    raw = strings.to_list()
    encoded = [text.encode() for text in raw]
    lengths = np.fromiter((len(e) for e in encoded), dtype=np.int64, count=len(encoded))
    total = int(lengths.sum())
    if total == 0:
        return mix(np.zeros(len(encoded), dtype=np.uint64))
    content = np.frombuffer(b"".join(encoded), dtype=np.uint8).astype(np.uint64)
    starts, positions = ragged.offsets(lengths)[:-1], ragged.positions(lengths)
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.full(int(lengths.max()), _BASE, dtype=np.uint64))
        terms = (content + np.uint64(1)) * powers[positions]
        sums = np.zeros(len(encoded), dtype=np.uint64)
        filled = lengths > 0
        sums[filled] = np.add.reduceat(terms, starts[filled])
        return mix(sums + lengths.astype(np.uint64) * _GOLDEN)


def combine(begin: Stream, *parts: np.ndarray | int) -> np.ndarray:
    """uint64 [n]: the draws of a stream for several uint64 arrays (or one number for all), in order.

    For example ``combine(stream("splits/20_percent_hist", seed), user, item)``.
    """
    return _combined(begin, *parts)


def _combined(*parts: np.ndarray | int) -> np.ndarray:
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        value = np.asarray(part, dtype=np.uint64) if isinstance(part, int) else part
        state = append(state, mix(value))
    return state


def append(state: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    """``combine(*parts, value)`` from ``combine(*parts)`` and ``mix(value)``, for those who have them at hand."""
    with np.errstate(over="ignore"):
        return _mix(np.ascontiguousarray(state * _GOLDEN + mixed))


def uniform(hashes: np.ndarray) -> np.ndarray:
    """float64 in [0, 1): a uniform number from each uint64 hash; with 53 bits, so that 1 is never reached."""
    numbers: np.ndarray = (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def uniform_open(hashes: np.ndarray) -> np.ndarray:
    """float64 in (0, 1): a uniform number from each uint64 hash whose logarithm is finite and not 0."""
    numbers: np.ndarray = ((hashes >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return numbers


def drawn(begin: Stream, ids: np.ndarray, share: float) -> np.ndarray:
    """bool [n]: which of ``ids`` (integers) belong to a random ``share`` of them; all from a share of 1 on."""
    chosen: np.ndarray = uniform(combine(begin, ids.astype(np.uint64))) < share
    return chosen


def share(hashes: np.ndarray, n: int) -> np.ndarray:
    """int64: which of ``n`` equal ranges of the hash space each hash falls in (nested: 2n ranges split n)."""
    high = (hashes >> np.uint64(32)).astype(np.uint64)
    return ((high * np.uint64(n)) >> np.uint64(32)).astype(np.int64)
