"""Codes of items by residual k-means: each book's centres are those of what the books before leave over."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from distill_at_scale.data import hashing

# Maximum number of items on which centres are learned, and number of rounds.
_SAMPLE, _ROUNDS = 1 << 16, 8
# Distances held at once.
_DISTANCES = 1 << 22
# Vectors are scaled to their length to this power: frequent items' are the longest, and by their own length nearly all
# centres would be theirs.
_POWER = 0.5


def residual_codes(vectors: np.ndarray, books: int, size: int, seed: int) -> np.ndarray:
    """Returns the code of each vector, int32 [n, books], below ``size``; equal vectors have equal codes.

    Args:
        vectors: float32 [n, d]; overwritten.
        books: Number of books.
        size: Number of centres of a book.
        seed: Random seed.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors *= np.where(lengths > 0, lengths, 1.0) ** (_POWER - 1.0)
    codes = np.empty((len(vectors), books), dtype=np.int32)
    numbers = np.arange(len(vectors), dtype=np.uint64)
    for book in range(books):
        draws = hashing.combine(hashing.stream("item_table/centres", seed, book), numbers)
        sample = vectors[np.argsort(draws, kind="stable")[:_SAMPLE]]
        centres = _centres(sample, size)
        codes[:, book] = _nearest(vectors, centres)
        for start in range(0, len(vectors), _SAMPLE):
            vectors[start : start + _SAMPLE] -= centres[codes[start : start + _SAMPLE, book]]
    return codes


def _centres(sample: np.ndarray, size: int) -> np.ndarray:
    """Lloyd's iterations from distinct vectors of the sample, which are few if the sample's are; float32 [k, d]."""
    first = np.unique(sample[: 16 * size], axis=0, return_index=True)[1]
    centres = sample[np.sort(first)[:size]].copy()
    for _ in range(_ROUNDS):
        owner = _nearest(sample, centres)
        counts = np.bincount(owner, minlength=len(centres))
        members = sp.csr_array((np.ones(len(owner)), owner, np.arange(len(owner) + 1)), (len(owner), len(centres)))
        sums = members.T @ sample
        filled = counts > 0
        centres[filled] = sums[filled] / counts[filled, None]
    return centres


def _nearest(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Returns the number of the nearest centre of each vector, int64 [n]; the first of equally near ones."""
    found = np.empty(len(vectors), dtype=np.int64)
    half = 0.5 * np.square(centres).sum(axis=1)
    step = max(1, _DISTANCES // len(centres))
    for start in range(0, len(vectors), step):
        found[start : start + step] = (half - vectors[start : start + step] @ centres.T).argmin(axis=1)
    return found
