"""A judge that knows the truth of the reference world: for experiments that ask what a perfect judge would be worth."""

from collections.abc import Sequence

from decoding.errors import DataError
from evals.tasks.reference import Chain, check_steps
from verifiers.judges.types import JudgeInfo, Judgement, ScoreKind, Solution

_ANY_LENGTH = 2**31


class ExactJudge:
    """Process reward, value and outcome reward without an error. Results that used it say so."""

    info = JudgeInfo(
        name="exact",
        kind=ScoreKind.PROBABILITY,
        format="exact",
        backend="exact",
        revision=None,
        parameters=0,
        context_length=_ANY_LENGTH,
        oracle=True,
    )

    def split(self, text: str) -> tuple[str, ...]:
        """The lines."""
        return tuple(text.removesuffix("\n").split("\n"))

    def tokens(self, solution: Solution) -> int:
        """Nothing is read by a model."""
        return 0

    async def score_steps(self, solution: Solution) -> Judgement:
        """1 as long as nothing up to and including the step is wrong, then 0.

        Raises ``DataError`` for a question of another world, like the other two.
        """
        chain, steps = _chain(solution), solution.steps
        scores = (float(all(_labels(chain, steps[:count]))) for count in range(1, len(steps) + 1))
        return Judgement(scores=tuple(scores))

    async def value(self, solution: Solution) -> Judgement:
        """1 if nothing is wrong so far, else 0."""
        return Judgement(scores=(float(all(_labels(_chain(solution), solution.steps))),))

    async def reward(self, solution: Solution) -> Judgement:
        """1 for a whole solution without an error, else 0."""
        chain = _chain(solution)
        labels = _labels(chain, solution.steps)
        return Judgement(scores=(float(len(labels) == len(chain.steps) and all(labels)),))

    async def aclose(self) -> None:
        """Nothing is open."""


def _chain(solution: Solution) -> Chain:
    try:
        return Chain.parse(solution.question)
    except ValueError:
        raise DataError(
            f"the exact judge knows the reference world only, and {solution.question[:80]!r} is not of it"
        ) from None


def _labels(chain: Chain, steps: Sequence[str]) -> list[bool]:
    return check_steps(chain, "\n".join(steps))
