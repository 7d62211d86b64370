"""What a judge says of a candidate as a score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from reasoning.judging import judge_of
from reasoning.run import Run
from reasoning.score import record_scores
from reasoning.trajectory import Candidate
from verifiers.judges.aggregate import aggregate, check_aggregation
from verifiers.judges.types import Judge


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeScore:
    """The number that the judge of a role gives; of a process reward model's, one is made of those of the steps."""

    needs: ClassVar[frozenset[Capability]] = frozenset()

    role: str  # of the judge, a key of `reasoning.judging.ROLES`
    how: str | None = None  # one of `AGGREGATIONS`, of process rewards; None: as the judge's authors do

    @property
    def name(self) -> str:
        """``prm``, ``prm_min``, ``value``, ..."""
        return self.role if self.how is None else f"{self.role}_{self.how}"

    def refuse(self, judges: Mapping[str, Judge]) -> None:
        """Raises ``ConfigError`` if there is no such judge, or its numbers can't be aggregated so."""
        judge = judge_of(judges, self.role)
        if self.role == "prm":
            check_aggregation(self._how(judge), judge.info.kind)

    async def __call__(self, run: Run, candidate: Candidate) -> float | None:
        """The judge's number; None where the budget has no room for it."""
        judge = judge_of(run.settings.judges, self.role)
        how = self._how(judge)
        judgement = await run.judge(self.role, run.solution(candidate, self.role, whole=how == "model"))
        if judgement is None or self.role != "prm":
            return None if judgement is None else judgement.scores[0]
        return aggregate(judgement.scores, "last" if how == "model" else how, judge.info.kind)

    def tell(self, run: Run, candidates: Sequence[Candidate]) -> None:
        """Record the scores."""
        record_scores(run, self.name, candidates)

    def _how(self, judge: Judge) -> str:
        return self.how or judge.info.aggregate
