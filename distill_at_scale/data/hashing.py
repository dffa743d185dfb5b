"""Stable 64-bit hashes of ids: the project's only source of randomness over rows.

The hash functions of libraries may change between versions. These never change, so the same log, config and seed
give the same partitions, splits and samples on every machine and in every release.
"""

from __future__ import annotations

import hashlib
from typing import NewType

import numpy as np
import polars as pl

from distill_at_scale.data import ragged

Stream = NewType("Stream", int)
"""Initial state of a random stream, in [0, 2^63); only :func:`stream` makes one."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_BLOCK = 1 << 14
# Base of the polynomial over a string's bytes; any odd constant with well-mixed bits works.
_BASE = np.uint64(0x9FB21C651E98DF25)


def mix(values: np.ndarray) -> np.ndarray:
    """Applies the SplitMix64 finaliser, a bijection of uint64 whose output bits each depend on every input bit.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
    """
    return _mix(np.array(values, dtype=np.uint64, order="C"))


def _mix(mixed: np.ndarray) -> np.ndarray:
    """As :func:`mix`, but in place."""
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


def stream(name: str, seed: int = 0, *indices: int) -> Stream:
    """Returns the initial state of a random stream; streams with different names are independent of each other.

    Every use of randomness has its own name, such as ``"sensitivity/keys"``. A test lists them all, since two uses
    that shared a stream would make the same draws.

    Args:
        name: Name of the stream, unique in the package.
        seed: Seed of the run.
        indices: Numbers ≥ 0 that distinguish streams with the same name, such as an epoch or a step.
    """
    own = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    # 63 bits, which torch, NumPy and JSON all accept.
    return Stream(int(_combined(seed % (1 << 64), own, *indices)[0]) >> 1)


def hash_ids(ids: pl.Series) -> np.ndarray:
    """Hashes each id (Int64 or String) to uint64 [n]; equal ids have equal hashes.

    Each distinct string is hashed once, as the polynomial of its UTF-8 bytes modulo 2^64, which :func:`mix` finalises
    together with the length.
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
    """Returns a stream's draws, uint64 [n], for uint64 arrays (or one number for all rows); their order matters.

    Example: ``combine(stream("splits/20_percent_hist", seed), user, item)``.
    """
    return _combined(begin, *parts)


def _combined(*parts: np.ndarray | int) -> np.ndarray:
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        value = np.asarray(part, dtype=np.uint64) if isinstance(part, int) else part
        state = append(state, mix(value))
    return state


def append(state: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    """Returns ``combine(*parts, value)``, given ``combine(*parts)`` and ``mix(value)``."""
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
    """Returns, as int64, which of ``n`` equal ranges of the hash space each hash is in (nested: 2n ranges split n)."""
    if n > 1 and n & (n - 1) == 0:
        return (hashes >> np.uint64(65 - n.bit_length())).view(np.int64)  # the same without a product
    high = (hashes >> np.uint64(32)).astype(np.uint64)
    return ((high * np.uint64(n)) >> np.uint64(32)).astype(np.int64)
