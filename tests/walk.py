"""Every random path of a run, played through: outcomes and their exact probabilities on tabular models."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

import decoding.engines.rows
from decoding.sampling import Draw
from reasoning import resampling
from reasoning.run import Run


class Walk:
    """Makes the choices of one path, and knows which path comes next."""

    def __init__(self) -> None:
        self._script: list[int] = []
        self.begin()

    def begin(self) -> None:
        self._taken: list[tuple[int, int]] = []
        self.probability = 1.0
        self.keys: set = set()

    def choose(self, probabilities: Sequence[float]) -> int:
        """An index; those of zero probability never come."""
        options = np.flatnonzero(probabilities)
        place = len(self._taken)
        choice = self._script[place] if place < len(self._script) else 0
        self._taken.append((choice, len(options)))
        index = int(options[choice])
        self.probability *= float(probabilities[index]) / float(np.sum(probabilities))
        return index

    def advance(self) -> bool:
        """Go on to the next path; False if that was the last."""
        while self._taken and self._taken[-1][0] + 1 == self._taken[-1][1]:
            self._taken.pop()
        if self._taken:
            self._script = [choice for choice, _ in self._taken[:-1]] + [self._taken[-1][0] + 1]
        return bool(self._taken)


class WalkingRng:
    """An `Rng` that takes every choice in turn."""

    def __init__(self, walk: Walk) -> None:
        self.walk, self.cells = walk, []

    def uniform(self) -> float:
        """The middle of a cell within which the outcome is the same: see `cells`."""
        assert self.cells, "a uniform can be enumerated only within reasoning.resampling.resample"
        edges = self.cells.pop(0)
        cell = self.walk.choose([end - start for start, end in pairwise(edges)])
        return (edges[cell] + edges[cell + 1]) / 2

    def categorical(self, weights) -> int:
        return self.walk.choose(weights)


def cells(how, weights, count):
    """Edges in [0, 1] between which the outcome of a resampling doesn't change, for each uniform that it draws."""
    ends = [count * c / sum(weights) for c in np.cumsum(weights)]
    if how == "systematic":
        inner = {end % 1.0 for end in ends}
        return [sorted({0.0, 1.0} | {edge for edge in inner if 1e-9 < edge < 1 - 1e-9})]
    if how == "stratified":
        return [sorted({0.0, 1.0} | {e - k for e in ends if 1e-9 < e - k < 1 - 1e-9}) for k in range(count)]
    return []


def _resample(how, weights, rng, count=None, real=resampling.resample):
    rng.cells = cells(how, weights, len(weights) if count is None else count)
    return real(how, weights, rng, count)


def all_paths(monkeypatch, play: Callable[[Walk], object]) -> dict:
    """What `play` returned and with which probability; it is called once a path. Outcomes must be hashable.

    Draws of tokens, of `Run.rng` and of resampling are enumerated. Two draws with one seed are an error: they
    would be one draw.
    """
    walk, outcomes = Walk(), defaultdict(float)

    def draw(logits, sampling, position):
        key = (sampling.seed, position)
        assert key not in walk.keys, "a draw was used twice"
        walk.keys.add(key)
        law = np.exp(logits)
        if sampling.temperature == 0:
            law = np.eye(len(law))[int(np.argmax(law))]
        token = walk.choose(law)
        return Draw(token, float(logits[token]), float(logits[token]), ())

    def rng(self, *path):
        self.seed(*path)  # raises where a path is used twice
        return WalkingRng(walk)

    monkeypatch.setattr(decoding.engines.rows, "draw", draw)
    monkeypatch.setattr(Run, "rng", rng)
    monkeypatch.setattr(resampling, "resample", _resample)  # strategies call it as resampling.resample
    while True:
        walk.begin()
        outcome = play(walk)
        outcomes[outcome] += walk.probability
        if not walk.advance():
            return dict(outcomes)
