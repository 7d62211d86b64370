"""Parallel tempering: particle Gibbs at several temperatures side by side, which exchange their trajectories.

Puri et al. 2025, *A Probabilistic Inference Approach to Inference-Time Scaling of LLMs using Particle-Based Monte Carlo
Methods*, arXiv 2502.01618, algorithm 3; no code was released.

Chain k has the target pi_k(x) ~ p(x) exp(w(x) / T_k), with p what the run samples from and w the log-potential of a
whole solution at temperature 1 (`reasoning.search.weights`), so that pi_1, at T_1 = tau, is the particle filter's
target. A sweep is one conditional sweep a chain (`reasoning.search.conditional`), each of which leaves its pi_k
invariant. Then, for k = 1 .. M - 1, the trajectories x of chain k and x' of chain k + 1 are exchanged with the
probability of Metropolis,

    min(1, pi_k(x') pi_(k+1)(x) / (pi_k(x) pi_(k+1)(x'))) = min(1, exp((1/T_k - 1/T_(k+1)) (w(x') - w(x)))):

p and the normalisers cancel. This leaves the product of all pi_k invariant. (The paper weighs by softmax(w / T_k) of
the rewards so far, without memory, which has no such targets; so there is no mode for it. Its experiments, M chains at
one temperature, are the particle filter's islands.)

The answer is chain 1's: the weights of its slots, averaged over all sweeps but the first, which had no references.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from reasoning.run import Run
from reasoning.scores import Score, Scoring
from reasoning.search.conclude import check_choice, conclude
from reasoning.search.conditional import Rule, Sweep, averaged, carry_out, check_sweeps, start
from reasoning.search.rewards import score_kind
from reasoning.search.search import Search
from reasoning.search.tree import Node
from reasoning.search.weights import Potential, check_weights
from reasoning.strategies.base import SEARCH_NEEDS, BySteps
from reasoning.trace import Event
from reasoning.trajectory import Prompt, Result
from verifiers.judges.types import Judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Swapped(Event):
    """Two neighbouring chains were to exchange their trajectories."""

    sweep: int
    chain: int  # the colder of the two
    probability: float
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelTempering(BySteps, Scoring):
    """Chains of particle Gibbs from cold to hot; the hot ones find, the cold one answers."""

    name: ClassVar[str] = "parallel_tempering"
    needs: ClassVar[frozenset[Capability]] = SEARCH_NEEDS  # and the score's

    n: int = 8  # of a sweep of one chain
    chains: int = 4
    sweeps: int = 4
    score: str | Score = "prm"  # a judge's, which is read as a probability
    weights: str = "twist"  # or product, odds
    temperature: float = 1.0  # tau, of the first chain: rewards count as r^(1/tau)
    hottest: float = 8.0  # of the last; those between are geometric
    resampling: str = "systematic"  # or multinomial
    ess: float = 0.5  # share of n below which particles are resampled; 0: never, above 1: at every step
    keep: str = "later"  # sweeps that the answer is from: later (all but the first) | all | last
    choose: str = "vote"  # vote | best | majority | sample: by weight

    def __post_init__(self) -> None:
        _ = self.scoring
        check_weights(self.weights, self.temperature)
        check_sweeps(self.n, self.sweeps, self.resampling, self.ess, self.keep)
        check_choice(self.choose)
        if self.chains < 1:
            raise ConfigError(f"chains must be at least 1, got {self.chains}")
        if not self.temperature <= self.hottest < math.inf:
            raise ConfigError(f"hottest must be finite and at least temperature={self.temperature}, got {self.hottest}")

    @property
    def most_requests(self) -> int:
        """All particles of a sweep of all chains."""
        return self.chains * self.n

    @property
    def most_samples(self) -> int:
        """Of each chain, all of the first sweep, and of the later ones all but the reference."""
        return self.chains * (self.n + (self.sweeps - 1) * (self.n - 1))

    @property
    def temperatures(self) -> list[float]:
        """From cold to hot, [chains]."""
        ratio = self.hottest / self.temperature
        return [self.temperature * ratio ** (k / max(1, self.chains - 1)) for k in range(self.chains)]

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """Raises ``ConfigError`` if the score can't work with these judges, or is no judge's."""
        score_kind(self.scoring, judges)
        Scoring.refuse(self, judges)

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Sweep all chains, exchange, and so on."""
        search, rules = Search(run, prompt, self.scoring), self._rules(run)
        cold: list[Sweep] = []
        sweeps: list[Sweep] = []
        for number in range(self.sweeps):
            references = exchange(run, sweeps) if sweeps else [None] * self.chains
            sweeps = [
                start(rule, search.root, self.n, number=number, chain=chain, reference=reference)
                for chain, (rule, reference) in enumerate(zip(rules, references, strict=True))
            ]
            await carry_out(run, search, sweeps)
            cold.append(sweeps[0])
            if search.exhausted:
                break
        nodes, weights = averaged(cold, self.keep)
        rng = run.rng("choose") if self.choose == "sample" else None
        return await conclude(run, nodes, weights, self.choose, "budget" if search.exhausted else "done", rng)

    def _rules(self, run: Run) -> list[Rule]:
        kind = score_kind(self.scoring, run.settings.judges)
        potentials = [Potential(weights=self.weights, kind=kind, temperature=each) for each in self.temperatures]
        return [Rule(potential=potential, resampling=self.resampling, ess=self.ess) for potential in potentials]


def exchange(run: Run, sweeps: Sequence[Sweep]) -> list[Node]:
    """What each chain retains of its sweep, after neighbours had the chance to exchange, from cold to hot."""
    states = [sweep.retain(run) for sweep in sweeps]
    for k in range(len(states) - 1):
        cold, hot = (sweep.rule.potential for sweep in sweeps[k : k + 2])
        chance = swap_probability(cold, hot, states[k], states[k + 1])
        number = sweeps[k].number
        accepted = run.rng("swap", number, k).categorical([1 - chance, chance]) == 1
        if accepted:
            states[k : k + 2] = states[k + 1], states[k]
        run.record(Swapped(sweep=number, chain=k, probability=chance, accepted=accepted))
    return states


def swap_probability(cold: Potential, hot: Potential, x: Node, other: Node) -> float:
    """That of Metropolis for exchanging `x`, the colder chain's finished node, and `other`, the hotter one's."""
    gain = cold.log_final(other) + hot.log_final(x) - cold.log_final(x) - hot.log_final(other)
    return math.exp(min(0.0, gain))
