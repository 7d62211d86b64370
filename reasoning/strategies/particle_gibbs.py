"""Particle Gibbs: filters one after another, each around a trajectory that the one before it ended with.

Puri et al. 2025, *A Probabilistic Inference Approach to Inference-Time Scaling of LLMs using Particle-Based Monte Carlo
Methods*, arXiv 2502.01618, algorithm 2; the method is that of Andrieu, Doucet and Holenstein 2010.

Mode ``proper`` is conditional sequential Monte Carlo (`reasoning.search.conditional`): the target is the particle
filter's, p(x) times a potential made of rewards (`reasoning.search.weights`), and each sweep leaves it invariant, for
any n. The first sweep is a plain filter of n particles, the later ones draw n - 1 and keep the reference.

Mode ``paper`` is algorithm 2 as its code has it: a particle's weight is odds(r)^(1/tau) of its last reward, without
memory, in every round, whether it has finished or not; the n - 1 others are drawn by it, at each step, from all n; a
sweep ends when the others have finished, with the whole reference; the answer is the last sweep's best by the last
reward. It has no known target. What is mended: the code reads the reference's reward one step too late
(``rewards[step]`` where particles have ``step`` steps), samples at temperature 0.8 from the second step or sweep on,
whatever is asked for, and clips at the machine's epsilon, here at 1e-7. (its_hub enters the reference with its last
reward from the first step on.)
"""

import math
from collections.abc import Mapping
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
from reasoning.search.weights import Potential, check_weights
from reasoning.strategies.base import SEARCH_NEEDS, BySteps
from reasoning.trajectory import Prompt, Result
from verifiers.judges.types import Judge

DEFAULTS = {
    "proper": {"weights": "twist", "resampling": "systematic", "keep": "later", "choose": "vote"},
    "paper": {"weights": "odds", "resampling": "multinomial", "keep": "last", "choose": "best"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticleGibbs(BySteps, Scoring):
    """Sweeps of n particles, weighted by rewards and resampled, each around a trajectory of the last."""

    name: ClassVar[str] = "particle_gibbs"
    needs: ClassVar[frozenset[Capability]] = SEARCH_NEEDS  # and the score's

    n: int = 16  # of a sweep
    sweeps: int = 4
    mode: str = "proper"  # or paper
    score: str | Score = "prm"  # a judge's, which is read as a probability
    weights: str = "auto"  # twist | product | odds; in mode paper odds
    temperature: float = 1.0  # tau: rewards count as r^(1/tau)
    resampling: str = "auto"  # systematic | multinomial; in mode paper multinomial
    ess: float = 0.5  # share of n below which particles are resampled; 0: never, above 1: at every step (as in paper)
    keep: str = "auto"  # sweeps that the answer is from: later (all but the first) | all | last; in mode paper last
    choose: str = "auto"  # vote | best | majority | sample: by weight; in mode paper best: by the last reward

    def __post_init__(self) -> None:
        _ = self.scoring
        if self.mode not in DEFAULTS:
            raise ConfigError(f"unknown mode {self.mode!r}: there are {', '.join(DEFAULTS)}")
        check_weights(self._of("weights"), self.temperature)
        check_sweeps(self.n, self.sweeps, self._of("resampling"), self.ess, self._of("keep"))
        check_choice(self._of("choose"))
        if self.mode == "paper" and self._of("weights") != "odds":
            raise ConfigError("in mode paper, weights is odds: leave it out")

    @property
    def most_requests(self) -> int:
        """All particles of a sweep."""
        return self.n

    @property
    def most_samples(self) -> int:
        """All of the first sweep, and of the later ones all but the reference."""
        return self.n + (self.sweeps - 1) * (self.n - 1)

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """Raises ``ConfigError`` if the score can't work with these judges, or is no judge's."""
        score_kind(self.scoring, judges)
        Scoring.refuse(self, judges)

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """A filter, and then sweeps around what was retained."""
        search, rule = Search(run, prompt, self.scoring), self._rule(run)
        sweeps: list[Sweep] = []
        for number in range(self.sweeps):
            reference = sweeps[-1].retain(run) if sweeps else None
            sweeps.append(start(rule, search.root, self.n, number=number, reference=reference))
            await carry_out(run, search, sweeps[-1:])
            if search.exhausted:
                break
        nodes, weights = averaged(sweeps, self._of("keep"))
        how = self._of("choose")
        if self.mode == "paper" and how == "best":
            weights = [math.exp(rule.potential.log_reward(node)) for node in nodes]
        rng = run.rng("choose") if how == "sample" else None
        return await conclude(run, nodes, weights, how, "budget" if search.exhausted else "done", rng)

    def _rule(self, run: Run) -> Rule:
        kind = score_kind(self.scoring, run.settings.judges)
        potential = Potential(weights=self._of("weights"), kind=kind, temperature=self.temperature)
        released = self.mode == "paper"
        ess = 2.0 if released else self.ess
        return Rule(potential=potential, resampling=self._of("resampling"), ess=ess, released=released)

    def _of(self, name: str) -> str:
        """A setting, or its mode's."""
        value: str = getattr(self, name)
        return DEFAULTS[self.mode][name] if value == "auto" else value
