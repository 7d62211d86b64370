"""Small languages for exact tests of sweeps: nodes without an engine, targets, and the law of what is retained."""

import math
from collections import defaultdict

import numpy as np

from decoding.types import FinishReason
from reasoning.search import conditional
from reasoning.search.conditional import Rule, carry_out, start
from reasoning.search.tree import Node
from reasoning.search.weights import Potential
from reasoning.trajectory import Candidate, Step, Trajectory
from tests.walk import WalkingRng, all_paths
from tests.worlds import PROMPT
from verifiers.judges.types import ScoreKind

SHORT = {"": {"a": 0.6, ".": 0.4}, "a": {"a": 0.5, ".": 0.5}}  # by the last letter; "." ends
LONG = {"": {"a": 0.5, "b": 0.3, ".": 0.2}, "a": {"b": 0.6, ".": 0.4}, "b": {"a": 0.7, ".": 0.3}}


def reward(text):
    """In (0.1, 0.9), of a beginning."""
    return 0.1 + 0.8 * float(np.random.default_rng([7, *map(ord, text)]).random())


class Language:
    """A law of letters, a step each, up to a number of them; it plays the part of a search and of a run."""

    def __init__(self, laws, limit, score=reward):
        self.laws, self.limit, self.score = laws, limit, score
        self.exhausted, self.walk = False, None
        self.root = self._node(None, "", False)

    def _node(self, parent, text, finished):
        step = Step(token_ids=(ord(text[-1]),) if text else (), logprob=None, finish_reason=FinishReason.STOP)
        before = parent.trajectory if parent else None
        trajectory = before.extend(step) if before else Trajectory(prompt=PROMPT)
        score = self.score(text) if text else None
        candidate = Candidate(slot=0, trajectory=trajectory, text=text, answer=None, score=score)
        return Node(id=0, parent=parent, candidate=candidate, finished=finished)

    def law(self, text):
        return self.laws[text[-1:]]

    def ended(self, text):
        return text.endswith(".") or len(text) == self.limit

    def child(self, parent, letter):
        text = parent.candidate.text + letter
        return self._node(parent, text, self.ended(text))

    def node(self, text):
        found = self.root
        for letter in text:
            found = self.child(found, letter)
        return found

    def solutions(self, text=""):
        """All of them, with their probabilities."""
        if self.ended(text):
            return {text: 1.0}
        return {
            longer: share * rest
            for letter, share in self.law(text).items()
            for longer, rest in self.solutions(text + letter).items()
        }

    def target(self, weights, temperature):
        """What the filter's documentation says, written down once more."""

        def phi(text):
            rewards = [self.score(text[:end]) for end in range(1, len(text) + 1)]
            match weights:
                case "twist":
                    return rewards[-1]
                case "product":
                    return math.prod(rewards)
                case "odds":
                    return math.prod(r / (1 - r) for r in rewards)

        masses = {text: p * phi(text) ** (1 / temperature) for text, p in self.solutions().items()}
        return {text: mass / sum(masses.values()) for text, mass in masses.items()}

    # -- as a search and a run ---------------------------------------------------------------------------------------

    async def grow(self, parents):
        children = []
        for parent in parents:
            assert not parent.finished
            letters = list(self.law(parent.candidate.text).items())
            children.append(self.child(parent, letters[self.walk.choose([p for _, p in letters])][0]))
        return children

    def rng(self, *path):
        assert path not in self.walk.keys, "a seed was used twice"
        self.walk.keys.add(path)
        return WalkingRng(self.walk)

    def record(self, event):
        pass


def rule(weights="product", temperature=0.7, **settings):
    return Rule(potential=Potential(weights=weights, kind=ScoreKind.PROBABILITY, temperature=temperature), **settings)


def outcomes(monkeypatch, language, play):
    """As `all_paths`, of plain coroutines, with the systematic draw around a reference enumerated too."""

    def once(walk):
        language.walk = walk
        try:
            play().send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("nothing here waits")

    monkeypatch.setattr(conditional, "resample_around_last", walking(conditional.resample_around_last))
    return all_paths(monkeypatch, once)


def walking(resample):
    """A conditional resampler whose uniform is enumerated."""

    def around(how, weights, rng):
        if isinstance(rng, WalkingRng) and how == "systematic":
            n, share = len(weights), weights[-1]
            edges = {((c - k / n) % 1.0 - (1 - share)) / share for c in np.cumsum(weights) for k in range(n)}
            rng.cells = [sorted({0.0, 1.0} | {edge for edge in edges if 1e-9 < edge < 1 - 1e-9})]
        return resample(how, weights, rng)

    return around


def kernel(monkeypatch, language, how, n, reference):
    """The law of what a sweep retains, given the reference's text; None: of a plain filter."""

    async def play():
        before = None if reference is None else language.node(reference)
        sweep = start(how, language.root, n, number=0, reference=before)
        await carry_out(language, language, [sweep])
        return sweep.retain(language).candidate.text

    with monkeypatch.context() as patched:
        return outcomes(patched, language, play)


def moved(law, kernels):
    """A law after one transition."""
    after = defaultdict(float)
    for x, p in law.items():
        for y, share in kernels[x].items():
            after[y] += p * share
    return after


def distance(one, other):
    """The largest difference of two laws."""
    return max(abs(one.get(x, 0.0) - other.get(x, 0.0)) for x in {*one, *other})
