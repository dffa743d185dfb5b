"""Integer levels of latent numbers in few bits: how coarse they are, and their bytes.

Only products of latent vectors and decoder matter, so every number has a step that lets it contribute the same error to
the logits: dimensions with small products take few levels or none. The step is chosen for a mean entropy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

# Rows from which the entropy of a dimension is estimated.
_SAMPLE = 1 << 15
_LEAST_STEP, _MOST_STEP, _HALVINGS = 2.0**-8, 2.0**6, 18
_BROTLI = 11


def steps_for(parts: Mapping[str, np.ndarray], decoder: np.ndarray, bits: float) -> dict[str, np.ndarray]:
    """Returns the step of each latent dimension, float64 [d], by name of the part and for ``decoder``.

    With relative error f² / 12 of each factor's logits, the best f at given bytes grows with the square root of the
    factor's size.

    Args:
        parts: Latent vectors by name, [n, d] each.
        decoder: M transposed, [n_items, d].
        bits: Mean entropy of a number, over all of them.
    """
    squares = {name: np.square(part, dtype=np.float64).mean(axis=0) for name, part in parts.items()}
    of_decoder = np.square(decoder, dtype=np.float64).mean(axis=0)
    # What an error of 1 in a dimension adds to the squared logits, relative to them.
    weights = {name: of_decoder / _positive(square @ of_decoder) for name, square in squares.items()}
    weights["decoder"] = sum((s / _positive(s @ of_decoder) for s in squares.values()), np.zeros_like(of_decoder))
    factors = {**parts, "decoder": decoder}
    samples = {name: part[:: -(-len(part) // _SAMPLE)].astype(np.float64) for name, part in factors.items()}
    total = sum(part.size for part in factors.values())

    def steps(f: float) -> dict[str, np.ndarray]:
        found = {}
        for name, part in factors.items():
            root = np.sqrt(weights[name])
            error = f * np.sqrt(part.size / total / part.shape[1])
            found[name] = np.divide(error, root, out=np.zeros_like(root), where=root > 0)
        return found

    def entropy(f: float) -> float:
        bits_of = (
            part.size * entropies(levels(samples[name], step)).mean() for (name, part), step in _zip(factors, steps(f))
        )
        return sum(bits_of) / total

    low, high = np.log(_LEAST_STEP), np.log(_MOST_STEP)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if entropy(float(np.exp(middle))) > bits else (low, middle)
    return steps(float(np.exp(high)))


def levels(values: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Returns the nearest multiples of the steps [d], int32 [n, d]; where a step is 0, they are 0."""
    scaled = np.divide(values, step, out=np.zeros(values.shape), where=step > 0)
    return np.rint(scaled).astype(np.int32)


def entropies(found: np.ndarray) -> np.ndarray:
    """Returns the entropy of each column's levels in bits, float64 [d]."""
    values = np.zeros(found.shape[1])
    for k, column in enumerate(found.T):
        counts = np.bincount(column - column.min())
        shares = counts[counts > 0] / len(column)
        values[k] = -(shares * np.log2(shares)).sum()
    return values


def fitted_steps(values: np.ndarray, found: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Returns the steps [d] with which levels [n, d] are nearest to the values; 0 for dimensions of zeros only."""
    by_level = (found * values.astype(np.float64)).sum(axis=0)
    squares = np.square(found, dtype=np.float64).sum(axis=0)
    return np.divide(by_level, squares, out=np.zeros_like(step), where=squares > 0)


def encode(found: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns levels [n, d] as bytes, the levels that do not fit into ``width`` bits, int32, and the width.

    Levels are ordered by dimension, so that numbers of similar size are neighbours. Two levels of 4 bits make a byte,
    since Brotli spends almost a whole bit even on a byte that never changes.
    """
    flat = found.T.ravel()
    return min((_encoded(flat, width) for width in (4, 8)), key=lambda form: form[0].size + 2 * form[1].size)


def decode(coded: np.ndarray, others: np.ndarray, width: int, shape: tuple[int, int]) -> np.ndarray:
    """Returns the levels, int32 [n, d], from :func:`encode`."""
    n, d = shape
    with pa.CompressedInputStream(pa.BufferReader(coded.tobytes()), "brotli") as stream:
        raw = np.frombuffer(stream.read(), np.uint8)
    if width == 4:
        raw = np.stack((raw & 15, raw >> 4), axis=1).ravel()[: n * d]
    least = -(1 << (width - 1))
    flat = raw.astype(np.int32) + least
    flat[flat == least] = others
    return flat.reshape(d, n).T


def _encoded(flat: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, int]:
    least = -(1 << (width - 1))
    fits = (flat > least) & (flat < -least)
    raw = (np.where(fits, flat, least) - least).astype(np.uint8)
    if width == 4:
        raw = np.append(raw, np.zeros(len(raw) % 2, np.uint8))
        raw = (raw[0::2] | (raw[1::2] << 4)).astype(np.uint8)
    content = pa.Codec("brotli", compression_level=_BROTLI).compress(raw.tobytes(), asbytes=True)
    return np.frombuffer(content, np.uint8).copy(), flat[~fits].astype(np.int32), width


def _positive(value: float) -> float:
    return value if value > 0 else 1.0


def _zip(
    factors: Mapping[str, np.ndarray], steps: Mapping[str, np.ndarray]
) -> list[tuple[tuple[str, np.ndarray], np.ndarray]]:
    return [((name, part), steps[name]) for name, part in factors.items()]
