"""Seeds from paths, and the randomness that algorithms take as an argument.

A seed is a hash of (root seed, path), and the path names everything that distinguishes the draw: problem, sweep,
chain, step, slot, role. It never depends on the order of calls. Neighbouring paths give unrelated seeds; seeds such as
``base + i`` do not do (vLLM seeds the children of one request with ``seed + index``, so neighbours share streams).
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from decoding.types import MAX_SEED

PathItem = str | int
UNIFORM_BITS = 53  # of a float64's mantissa


def derive_seed(root: int, *path: PathItem) -> int:
    """The seed of a path, 0 .. 2**63 - 1."""
    # repr tells 1 from "1" and quotes separators, so no two paths spell the same bytes.
    digest = hashlib.blake2b(repr((root, *path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") & MAX_SEED


class Rng(Protocol):
    """Randomness as an argument. Tests put an enumerator of all paths in its place."""

    def uniform(self) -> float:
        """A draw from [0, 1)."""
        ...

    def categorical(self, weights: Sequence[float] | npt.NDArray[np.float64]) -> int:
        """An index drawn with probability proportional to its weight; one of zero weight never comes."""
        ...


class SeededRng:
    """An `Rng` over NumPy's PCG64."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def uniform(self) -> float:
        """A draw from [0, 1)."""
        return float(self._generator.random())

    def categorical(self, weights: Sequence[float] | npt.NDArray[np.float64]) -> int:
        """An index drawn with probability proportional to its weight."""
        return invert_cdf(np.asarray(weights, dtype=np.float64), self.uniform())


def invert_cdf(weights: npt.NDArray[np.float64], uniform: float) -> int:
    """The index where the running sum of `weights` passes ``uniform`` times their total; never one of zero weight."""
    cumulative = np.cumsum(weights)
    if not cumulative[-1] > 0:
        raise ValueError(f"weights must have a positive, finite sum, got {cumulative[-1]}")
    index = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    # uniform * total can round up to the total itself; the last index of positive weight is the one meant then.
    return min(index, int(np.flatnonzero(weights)[-1]))


def counter_uniforms(seeds: npt.NDArray[np.uint64], counters: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """For each (seed, counter) a uniform in [0, 1), [B]: splitmix64 (Steele et al. 2014) at position `counter`.

    Draw number `counter` of a request depends on nothing else, so a batch can be composed in any way.
    """
    state = seeds + (counters + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
    uniforms: npt.NDArray[np.float64] = (state >> np.uint64(64 - UNIFORM_BITS)).astype(np.float64)
    return uniforms * 2.0**-UNIFORM_BITS
