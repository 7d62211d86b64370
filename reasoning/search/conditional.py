"""Conditional sequential Monte Carlo: a particle filter that one trajectory, the reference, goes through unchanged.

Andrieu, Doucet and Holenstein 2010, *Particle Markov chain Monte Carlo methods*, J. R. Statist. Soc. B 72. The last of
n slots holds the reference as far as it had come at this step, weighed by its own increments up to there. The others
grow as in a filter and are resampled from all n slots, so they may go on from the reference's beginning. When all have
finished, a slot drawn by the last weights is the next reference. If the reference was drawn from the target, so is the
next one, whatever n is; a finished particle keeps its weight, so lengths may differ.

Why that holds with weights that are kept until they are too unequal: a filter's particles and ancestors, weighted by
its estimate of the evidence and with one slot drawn by the last weights, are a law whose drawn trajectory has the
target's law. A sweep is a Gibbs step on it: all else is drawn anew, given the trajectory and its slots. That its slots
may always be the last ones takes a law that doesn't change when slots are renamed. The effective sample size, and the
end of a sweep when all slots have finished, know no slots. Two schemes of resampling do not either:

- ``multinomial``: ancestors are independent, so the n - 1 others are drawn as if the reference were not there.
- ``systematic``: slot i takes the point U + i/n on a circle of circumference 1, where the slots' weights lie as arcs
  one behind the other. Turning the circle renames all slots and changes nothing else. That the last slot descends from
  itself says that its point is uniform on its own arc; the others follow from it (Chopin and Singh 2015, *On particle
  Gibbs sampling*, Bernoulli 21).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from decoding.errors import ConfigError
from decoding.seeds import Rng, invert_cdf
from reasoning import resampling
from reasoning.run import Run
from reasoning.search.search import Search
from reasoning.search.tree import Node, selected
from reasoning.search.weights import Potential, Resampled, merged, normalised
from reasoning.trace import Event

CONDITIONAL_RESAMPLERS = ("systematic", "multinomial")
KEEPS = ("later", "all", "last")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained(Event):
    """A trajectory was drawn that the next sweep goes around."""

    sweep: int  # that it was drawn from, from 0
    chain: int
    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How the particles of a sweep are weighed and resampled."""

    potential: Potential
    resampling: str = "systematic"  # one of `CONDITIONAL_RESAMPLERS`
    ess: float = 0.5  # share of n below which they are resampled; 0: never, above 1: at every step
    released: bool = False  # weights without memory: a particle's is its last reward alone, in every round


@dataclass(slots=True, kw_only=True)
class Sweep:
    """The state of one sweep; without a reference it is a plain filter."""

    rule: Rule
    nodes: list[Node]  # [n], at first the root
    reference: Sequence[Node] = ()  # from the root to where it finished
    number: int = 0
    chain: int = 0
    step: int = 0
    cut: bool = False  # whether the budget ended it
    log_weights: list[float] = field(init=False)  # [n], since they were last resampled

    def __post_init__(self) -> None:
        self.log_weights = [0.0] * len(self.nodes)

    @property
    def free(self) -> list[Node]:
        """Who is not the reference."""
        return self.nodes[:-1] if self.reference else self.nodes

    @property
    def growing(self) -> list[Node]:
        """Who gets a child next, in the order of slots."""
        return [node for node in self.free if not node.finished]

    @property
    def done(self) -> bool:
        """Whether nobody goes on, the reference included: what it has left to weigh counts."""
        return all(node.finished for node in (self.free if self.rule.released else self.nodes))

    @property
    def weights(self) -> list[float]:
        """Of the slots, [n]; they sum to 1."""
        return normalised(self.log_weights)

    def advance(self, children: Sequence[Node]) -> None:
        """Take the children of those that were growing, fewer where the budget ends, and weigh them."""
        self.step += 1
        grown = iter(children)
        before, free = self.nodes, [node if node.finished else next(grown, node) for node in self.free]
        self.nodes = [*free, *self._reference_now(free)]
        self.log_weights = [
            self._weigh(node, old, weight)
            for node, old, weight in zip(self.nodes, before, self.log_weights, strict=True)
        ]

    def resample(self, run: Run) -> None:
        """Draw all slots but the reference's anew, where the weights have become too unequal."""
        weights = self.weights
        ess = resampling.effective_sample_size(weights)
        if ess >= self.rule.ess * len(weights):
            return
        rng = run.rng("resample", self.number, self.chain, self.step)
        resample = resample_around_last if self.reference else resampling.resample
        ancestors = resample(self.rule.resampling, weights, rng)
        self.nodes = [self.nodes[ancestor] for ancestor in ancestors]
        self.log_weights = [0.0] * len(ancestors)
        run.record(Resampled(island=self.chain, step=self.step, ess=ess, log_evidence=None, ancestors=tuple(ancestors)))

    def retain(self, run: Run) -> Node:
        """The next reference, drawn by the weights."""
        node = self.nodes[run.rng("retain", self.number, self.chain).categorical(self.weights)]
        run.record(Retained(sweep=self.number, chain=self.chain, node=node.id))
        return node

    def _reference_now(self, free: Sequence[Node]) -> Sequence[Node]:
        """The reference as far as it had come at this step; in the released scheme all of it when the others end."""
        if self.rule.released and all(node.finished for node in free):
            return self.reference[-1:]
        return self.reference[: self.step + 1][-1:]

    def _weigh(self, node: Node, old: Node, log_weight: float) -> float:
        """The log-weight of a slot that held `old` and holds `node`."""
        potential = self.rule.potential
        if self.rule.released:
            return potential.log_reward(node) / potential.temperature
        return log_weight if node is old else log_weight + potential.log_increment(node)


def start(rule: Rule, root: Node, n: int, *, number: int, chain: int = 0, reference: Node | None = None) -> Sweep:
    """A sweep of `n` particles at its beginning, around a finished node of the same tree if there is one."""
    path = [] if reference is None else reference.path()[::-1]
    return Sweep(rule=rule, nodes=[root] * n, reference=path, number=number, chain=chain)


async def carry_out(run: Run, search: Search, sweeps: Sequence[Sweep]) -> None:
    """Take sweeps to their ends, side by side; where the budget ends, those that were not done are `cut`."""
    while going := [sweep for sweep in sweeps if not sweep.done]:
        if going[0].step > 0:
            _select(run, going)
        waiting = [sweep.growing for sweep in going]
        children = iter(await search.grow([node for nodes in waiting for node in nodes]))
        for sweep, nodes in zip(going, waiting, strict=True):
            sweep.advance(list(islice(children, len(nodes))))
            sweep.cut = search.exhausted
        if search.exhausted:
            return


def resample_around_last(how: str, weights: Sequence[float], rng: Rng) -> list[int]:
    """Who each slot goes on from, [n], given that the last goes on from itself. `weights`: [n], summing to 1."""
    last, n = len(weights) - 1, len(weights)
    if how == "multinomial":
        return [*resampling.resample(how, weights, rng, last), last]
    point = 1 - weights[last] * (1 - rng.uniform())  # on the last arc
    row = np.asarray(weights, dtype=np.float64)
    return [*(invert_cdf(row, math.fmod(point + k / n, 1.0)) for k in range(1, n)), last]


def averaged(sweeps: Sequence[Sweep], keep: str) -> tuple[list[Node], list[float]]:
    """The nodes that sweeps of one chain ended with, each once, and their weights, averaged over the sweeps.

    A slot's normalised weight is the chance that it is retained, so this average says the same as the retained
    trajectories, with less variance. A sweep that was cut counts only where there is no other. `keep`: ``later`` leaves
    out the first, which had no reference; ``last`` all but the last; ``all`` none.
    """
    whole = [sweep for sweep in sweeps if not sweep.cut] or list(sweeps)
    kept = {"later": whole[1:] or whole, "all": whole, "last": whole[-1:]}[keep]
    slots = [
        (node, weight / len(kept))
        for sweep in kept
        for node, weight in zip(sweep.nodes, sweep.weights, strict=True)
        if node.parent is not None  # the budget may end before a first step
    ]
    return merged([node for node, _ in slots], [weight for _, weight in slots])


def check_sweeps(n: int, sweeps: int, how: str, ess: float, keep: str) -> None:
    """Raises ``ConfigError`` for parameters with which no sweeps can be made."""
    if sweeps < 1 or n < (1 if sweeps == 1 else 2):
        raise ConfigError(f"a sweep around a reference takes n of at least 2, got n={n}, sweeps={sweeps}")
    if how not in CONDITIONAL_RESAMPLERS:
        raise ConfigError(f"unknown resampling {how!r} around a reference: {', '.join(CONDITIONAL_RESAMPLERS)}")
    if not ess >= 0:
        raise ConfigError(f"ess must be at least 0, got {ess}")
    if keep not in KEEPS:
        raise ConfigError(f"unknown keep {keep!r}: there are {', '.join(KEEPS)}")


def _select(run: Run, sweeps: Sequence[Sweep]) -> None:
    """Resample, and record which nodes go on."""
    among = [node for sweep in sweeps for node in sweep.nodes if not node.finished]
    for sweep in sweeps:
        sweep.resample(run)
    run.record(selected(list(dict.fromkeys(among)), Counter(node for sweep in sweeps for node in sweep.growing)))
