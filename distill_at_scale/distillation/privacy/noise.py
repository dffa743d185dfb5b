"""Random numbers of a private run: from the operating system, or for tests from a seed."""

from __future__ import annotations

import os

import numpy as np
import scipy.special

from distill_at_scale.data import hashing


class Noise:
    """Uniform and Gaussian draws of one worker that nobody can repeat.

    They come from the operating system's cryptographic generator, since a known seed lets anyone subtract the noise.
    The numbers are in floating point: the attack of Mironov (CCS 2012) on their lowest bits is not prevented.

    Args:
        seed: Seed for tests, which makes the draws repeatable; None: the operating system's generator.
        worker: Number of the worker, for independent draws with a seed.
    """

    def __init__(self, seed: int | None = None, worker: int = 0) -> None:
        self._seed, self._worker, self._used = seed, worker, 0

    def uniform(self, n: int) -> np.ndarray:
        """Returns n numbers in (0, 1), float64."""
        if self._seed is None:
            hashes = np.frombuffer(os.urandom(8 * n), dtype=np.uint64)
        else:
            begin = hashing.stream("privacy/noise for tests", self._seed, self._worker, self._used)
            hashes = hashing.combine(begin, np.arange(n, dtype=np.uint64))
        self._used += 1
        return hashing.uniform_open(hashes)

    def gaussian(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns standard normal numbers, float64."""
        found: np.ndarray = scipy.special.ndtri(self.uniform(int(np.prod(shape)))).reshape(shape)
        return found
