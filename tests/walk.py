"""Every random path of a run, played through: outcomes and their exact probabilities on tabular models."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

import decoding.engines.rows
from decoding.sampling import Draw
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
        self.walk = walk

    def uniform(self) -> float:
        raise AssertionError("a uniform can't be enumerated: enumerate what is made of it")

    def categorical(self, weights) -> int:
        return self.walk.choose(weights)


def all_paths(monkeypatch, play: Callable[[Walk], object]) -> dict:
    """What `play` returned and with which probability; it is called once a path. Outcomes must be hashable.

    Draws of tokens and of `Run.rng` are enumerated. Two draws with one seed would be one draw: that is an error.
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
    while True:
        walk.begin()
        outcome = play(walk)
        outcomes[outcome] += walk.probability
        if not walk.advance():
            return dict(outcomes)
