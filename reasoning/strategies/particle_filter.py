"""Particle filtering: n solutions grow step by step, and a judge's rewards decide which go on, and how often.

Puri et al. 2025, *A Probabilistic Inference Approach to Inference-Time Scaling of LLMs using Particle-Based Monte Carlo
Methods*, arXiv 2502.01618, section 3.

Mode ``proper`` is sequential Monte Carlo. The base measure p is what is sampled from: the model at the run's
temperature and top-p. The target is p times a potential made of rewards (`reasoning.search.weights`). Weights are kept
from step to step, and given up where particles are resampled, which is when the effective sample size falls below the
share `ess` of n. A finished particle keeps its weight. Then E[Z-hat sum_i W_i f(x_i)] is the sum of f over the target,
exactly, for any n.

Mode ``paper`` is what the released code does, which made the published figures. The paper writes the weights in three
ways; the code's are odds(r)^(1/tau), without memory, and it resamples at every step.

- ``finished=reweight``, as in the released scripts: finished particles compete again in each round. With many
  particles and T rounds the law of a solution x of l steps is p(x) odds(r_1) ... odds(r_(l-1)) odds(r_l)^(T - l), so
  early finishers of high reward multiply until they own the population. There is no target and no evidence.
- ``set_aside``, the code's other choice: only those that can go on compete.
- ``frozen``, not in the code: a finished particle competes with its odds once, and with odds 1 from then on. That is
  mode proper with weights=odds, ess=2 and resampling=multinomial, less the last weights.

Unlike the code, nothing is generated or judged for finished particles, and rewards are clipped to [1e-7, 1 - 1e-7], so
that not all weights can be zero.

Islands are filters side by side (the paper's parallel chains at one temperature, which it doesn't say how to put
together). Each counts by its estimate of the evidence, so the equation above holds of all together; in mode paper they
are pooled.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from reasoning import resampling
from reasoning.run import Run
from reasoning.scores import Score, Scoring
from reasoning.search.conclude import check_choice, conclude
from reasoning.search.rewards import score_kind
from reasoning.search.search import Search
from reasoning.search.tree import Node, selected
from reasoning.search.weights import Evidence, Potential, Resampled, check_weights, log_mean, merged, normalised
from reasoning.strategies.base import SEARCH_NEEDS, BySteps
from reasoning.trajectory import Prompt, Result
from verifiers.judges.types import Judge

DEFAULTS = {
    "proper": {"weights": "twist", "resampling": "systematic", "finished": "frozen", "choose": "vote"},
    "paper": {"weights": "odds", "resampling": "multinomial", "finished": "reweight", "choose": "best"},
}
FINISHED = ("frozen", "reweight", "set_aside")


@dataclass(slots=True)
class Island:
    """The state of one filter."""

    number: int
    nodes: list[Node]  # [n]
    log_weights: list[float]  # [n], since they were last resampled
    log_evidence: float = 0.0  # up to there

    @property
    def total(self) -> float:
        """The logarithm of the estimate of the evidence."""
        return self.log_evidence + log_mean(self.log_weights)

    @property
    def open(self) -> bool:
        """Whether any particle can go on."""
        return not all(node.finished for node in self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticleFilter(BySteps, Scoring):
    """n particles, weighted by rewards and resampled."""

    name: ClassVar[str] = "particle"
    needs: ClassVar[frozenset[Capability]] = SEARCH_NEEDS  # and the score's

    n: int = 16  # of an island
    mode: str = "proper"  # or paper
    score: str | Score = "prm"  # a judge's, which is read as a probability
    weights: str = "auto"  # twist | product | odds; in mode paper odds
    temperature: float = 1.0  # tau: rewards count as r^(1/tau)
    start_temperature: float = 1.0  # of an annealed filter, before the first step
    anneal_steps: int = 1  # steps until tau is reached, linearly; 1: from the first step on
    resampling: str = "auto"  # one of `RESAMPLERS`: systematic; in mode paper multinomial
    ess: float = 0.5  # share of n below which particles are resampled; 0: never, above 1: at every step (as in paper)
    finished: str = "auto"  # frozen; in mode paper reweight, frozen or set_aside
    choose: str = "auto"  # vote | best | majority | sample: by weight; in mode paper best: by the last reward
    islands: int = 1

    def __post_init__(self) -> None:
        _ = self.scoring
        if self.mode not in DEFAULTS:
            raise ConfigError(f"unknown mode {self.mode!r}: there are {', '.join(DEFAULTS)}")
        check_weights(self._of("weights"), self.temperature, self.start_temperature, self.anneal_steps)
        resampling.check_resampler(self._of("resampling"))
        check_choice(self._of("choose"))
        if self._of("finished") not in FINISHED:
            raise ConfigError(f"unknown finished {self.finished!r}: there are {', '.join(FINISHED)}")
        fixed = "finished" if self.mode == "proper" else "weights"
        if self._of(fixed) != DEFAULTS[self.mode][fixed]:
            raise ConfigError(f"in mode {self.mode}, {fixed} is {DEFAULTS[self.mode][fixed]}: leave it out")
        for name in ("n", "islands"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.ess >= 0:
            raise ConfigError(f"ess must be at least 0, got {self.ess}")

    @property
    def most_requests(self) -> int:
        """All particles of all islands."""
        return self.n * self.islands

    @property
    def most_samples(self) -> int:
        """Likewise."""
        return self.n * self.islands

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """Raises ``ConfigError`` if the score can't work with these judges, or is no judge's."""
        score_kind(self.scoring, judges)
        Scoring.refuse(self, judges)

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Resample, extend, weigh, until all particles are finished."""
        search, potential = Search(run, prompt, self.scoring), self._potential(run)
        islands = [Island(m, [search.root] * self.n, [0.0] * self.n) for m in range(self.islands)]
        step = 0
        while not search.exhausted and any(island.open for island in islands):
            if step > 0:
                self._select(run, potential, islands, step)
            step += 1
            await _extend(search, potential, islands)
        if self.mode == "proper" and not search.exhausted:
            each = tuple(island.total for island in islands)
            run.record(Evidence(log_evidence=log_mean(each), islands=each))
        return await self._conclude(run, search, potential, islands, step)

    def _select(self, run: Run, potential: Potential, islands: Sequence[Island], step: int) -> None:
        """Resample the islands that go on, and record which nodes do."""
        among = _can_go_on(islands)
        for island in islands:
            if island.open:
                if self.mode == "proper":
                    self._resample(run, island, step)
                else:
                    self._resample_as_released(run, potential, island, step)
        run.record(selected(list(dict.fromkeys(among)), Counter(_can_go_on(islands))))

    def _resample(self, run: Run, island: Island, step: int) -> None:
        """Draw particles by their weights, where these have become too unequal, and make them equal."""
        weights = normalised(island.log_weights)
        ess = resampling.effective_sample_size(weights)
        if ess >= self.ess * self.n:
            return
        island.log_evidence = island.total
        ancestors = resampling.resample(self._of("resampling"), weights, run.rng("resample", step, island.number))
        island.nodes = [island.nodes[index] for index in ancestors]
        island.log_weights = [0.0] * self.n
        _record(run, island, step, ess, island.log_evidence, ancestors)

    def _resample_as_released(self, run: Run, potential: Potential, island: Island, step: int) -> None:
        """Draw particles by the odds of their last rewards alone."""
        aside = self._of("finished") == "set_aside"
        slots = [slot for slot, node in enumerate(island.nodes) if not (aside and node.finished)]
        weights = normalised([self._log_theta(potential, island.nodes[slot], step) for slot in slots])
        drawn = resampling.resample(self._of("resampling"), weights, run.rng("resample", step, island.number))
        ancestors = list(range(self.n))
        for slot, index in zip(slots, drawn, strict=True):
            ancestors[slot] = slots[index]
        island.nodes = [island.nodes[index] for index in ancestors]
        _record(run, island, step, resampling.effective_sample_size(weights), None, ancestors)

    def _log_theta(self, potential: Potential, node: Node, step: int) -> float:
        """The released weight of a particle behind a step."""
        weighed_before = node.finished and node.depth < step
        frozen = weighed_before and self._of("finished") == "frozen"
        return 0.0 if frozen else potential.log_reward(node) / potential.tau_at(step)

    async def _conclude(
        self, run: Run, search: Search, potential: Potential, islands: Sequence[Island], step: int
    ) -> Result:
        slots = [
            (node, island.log_evidence + weight if self.mode == "proper" else self._log_theta(potential, node, step))
            for island in islands
            for node, weight in zip(island.nodes, island.log_weights, strict=True)
            if node is not search.root  # where the budget ended before a first step
        ]
        how = self._of("choose")
        nodes, weights = merged([node for node, _ in slots], normalised([log for _, log in slots]))
        if self.mode == "paper" and how == "best":
            weights = normalised([potential.log_reward(node) for node in nodes])
        rng = run.rng("choose") if how == "sample" else None
        return await conclude(run, nodes, weights, how, "budget" if search.exhausted else "done", rng)

    def _potential(self, run: Run) -> Potential:
        return Potential(
            weights=self._of("weights"),
            kind=score_kind(self.scoring, run.settings.judges),
            temperature=self.temperature,
            start_temperature=self.start_temperature,
            anneal_steps=self.anneal_steps,
        )

    def _of(self, name: str) -> str:
        """A setting, or its mode's."""
        value: str = getattr(self, name)
        return DEFAULTS[self.mode][name] if value == "auto" else value


async def _extend(search: Search, potential: Potential, islands: Sequence[Island]) -> None:
    """One more step for each particle that isn't finished, and its increment; fewer where the budget ends."""
    children = iter(await search.grow(_can_go_on(islands)))
    for island in islands:
        for slot, node in enumerate(island.nodes):
            child = None if node.finished else next(children, None)
            if child is not None:
                island.nodes[slot] = child
                island.log_weights[slot] += potential.log_increment(child)


def _can_go_on(islands: Sequence[Island]) -> list[Node]:
    """The nodes of all particles that aren't finished, in the order of slots."""
    return [node for island in islands for node in island.nodes if not node.finished]


def _record(
    run: Run, island: Island, step: int, ess: float, log_evidence: float | None, ancestors: Sequence[int]
) -> None:
    run.record(
        Resampled(island=island.number, step=step, ess=ess, log_evidence=log_evidence, ancestors=tuple(ancestors))
    )
