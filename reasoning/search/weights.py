"""The weights of particles: what a filter's target is, as a product of increments, one for each step.

A particle starts with weight 1, and each of its steps multiplies it by an increment G. The measure that the increments
weigh is what the run samples from: the model at the run's temperature and top-p. All increments are ratios of
potentials, G_t = phi_t / phi_(t-1) with phi_0 = 1, so a whole solution x has been weighted by phi(x) alone, however its
way there was weighted. With r_t the judge's probability behind step t and tau the temperature:

- ``twist``: phi_t = r_t^(1/tau). The target is p(x) r(x)^(1/tau), r(x) being the last reward; length costs nothing.
- ``product``: phi_t = (r_1 ... r_t)^(1/tau), the target of arXiv 2502.01618, section 3.
- ``odds``: likewise with r/(1 - r) for r, which is what its code weights by.

Annealing takes another tau at each step before the last. Where a solution ends, tau is the final one, so the target is
the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from decoding.errors import ConfigError
from reasoning.search.rewards import log_odds, probability
from reasoning.search.tree import Node
from reasoning.trace import Event
from verifiers.judges.types import ScoreKind

WEIGHTS = ("twist", "product", "odds")
COLDEST = 1e-6  # below it, nothing changes any more but that numbers overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled(Event):
    """Particles were drawn anew from themselves."""

    island: int
    step: int  # steps that the longest has, from 1
    ess: float  # effective sample size before
    log_evidence: float | None  # of the estimate so far; None where the scheme has none
    ancestors: tuple[int, ...]  # which particle each slot goes on from


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(Event):
    """The estimate of the target's normaliser, whose expectation is exact."""

    log_evidence: float
    islands: tuple[float, ...]  # log-evidence of each; the estimate is their mean (not the mean of logarithms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Potential:
    """What weighs a particle, from the judge's scores on its path."""

    weights: str  # one of `WEIGHTS`
    kind: ScoreKind  # of the scores
    temperature: float = 1.0  # tau, where a solution ends
    start_temperature: float = 1.0  # where it begins
    anneal_steps: int = 1  # tau goes from one to the other in so many steps, linearly; 1: no annealing

    def log_increment(self, node: Node) -> float:
        """The logarithm of G of the node's last step; in the rounds after a node has finished it is 0, and not this."""
        return 0.0 if node.parent is None else self.log_final(node) - self.log_final(node.parent)

    def log_final(self, node: Node) -> float:
        """The logarithm of phi of a node: the sum of all increments on its path."""
        if node.parent is None:
            return 0.0
        path = node.path()[:1] if self.weights == "twist" else node.path()[:-1]
        return math.fsum(self.log_reward(each) for each in path) / self.tau(node)

    def log_reward(self, node: Node) -> float:
        """The logarithm of a node's own reward, at temperature 1: of r, or of its odds."""
        share = probability(node.score, self.kind)
        return log_odds(share) if self.weights == "odds" else math.log(share)

    def tau(self, node: Node) -> float:
        """The temperature at a node."""
        return self.temperature if node.finished else self.tau_at(node.depth)

    def tau_at(self, step: int) -> float:
        """The temperature behind a step, counted from 1."""
        done = min(1.0, step / self.anneal_steps)
        return self.temperature if done == 1 else (1 - done) * self.start_temperature + done * self.temperature


def check_weights(weights: str, temperature: float, start_temperature: float = 1.0, anneal_steps: int = 1) -> None:
    """Raises ``ConfigError`` for parameters that make no `Potential`."""
    if weights not in WEIGHTS:
        raise ConfigError(f"unknown weights {weights!r}: there are {', '.join(WEIGHTS)}")
    for name, value in (("temperature", temperature), ("start_temperature", start_temperature)):
        if not value >= COLDEST:
            raise ConfigError(f"{name} must be at least {COLDEST:g}, got {value:g}")
    if anneal_steps < 1:
        raise ConfigError(f"anneal_steps must be at least 1 (1: no annealing), got {anneal_steps}")


def normalised(log_weights: Sequence[float]) -> list[float]:
    """Weights that sum to 1, [N], of logarithms that are not all minus infinity; of none, none."""
    top = max(log_weights, default=0.0)
    shares = [math.exp(weight - top) for weight in log_weights]
    total = math.fsum(shares)
    return [share / total for share in shares]


def log_mean(log_weights: Sequence[float]) -> float:
    """The logarithm of the mean of the weights."""
    top = max(log_weights)
    return top + math.log(math.fsum(math.exp(weight - top) for weight in log_weights) / len(log_weights))


def merged(nodes: Sequence[Node], weights: Sequence[float]) -> tuple[list[Node], list[float]]:
    """Each node once, in order, with the weights of all its slots together: copies have weight, and no votes."""
    sums: dict[Node, list[float]] = {}
    for node, weight in zip(nodes, weights, strict=True):
        sums.setdefault(node, []).append(weight)
    return list(sums), [math.fsum(parts) for parts in sums.values()]
