"""What judges read and what they answer.

Three kinds are told apart by type. A process reward says of each step whether it is right, a value says of a prefix
how it will end, an outcome reward says how good a whole solution is. None of them knows the true answer (an exact judge
of `evals` does, and results say so). All are asynchronous and take one solution at a time: what runs side by side is
batched below, across problems.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from decoding.types import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A question and what was written so far."""

    question: str  # as the problem states it, without any prompt around it
    steps: tuple[str, ...]  # [S], at least one, without their delimiters
    finished: bool = True  # whether the last step ends the solution
    token_ids: tuple[int, ...] = ()  # prompt and steps as the policy has them, for judges that are the policy itself

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a solution has at least one step")


class ScoreKind(StrEnum):
    """What a score's number is."""

    PROBABILITY = "probability"  # in [0, 1]
    VALUE = "value"  # an expected outcome, in [-1, 1]
    LOGIT = "logit"  # any number; higher is better
    LOG_RATIO = "log_ratio"  # nats, times a factor of the model's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a judge said of one solution."""

    scores: tuple[float, ...]  # process reward: [S], one a step; value and outcome reward: [1]
    usage: Usage = field(default_factory=Usage)  # what was read (`scored_tokens`) and, by judges that write, written
    text: str | None = None  # what a judge that writes has written


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeInfo:
    """What a judge says of itself."""

    name: str  # as the user named it
    kind: ScoreKind
    format: str  # name of the rule by which solutions are rendered and scores are read
    backend: str  # transformers, vllm, http, an engine's name, exact
    revision: str | None  # what pins the weights
    parameters: int  # of the model, for FLOPs; 0: unknown
    context_length: int  # tokens
    oracle: bool = False  # whether the truth went into it
    verified: bool = True  # whether the format was checked against the model's real tokenizer
    aggregate: str = "last"  # how its authors make one number of the steps' (`AGGREGATIONS`)


class Judge(Protocol):
    """What all judges have in common."""

    @property
    def info(self) -> JudgeInfo:
        """Name, kind and limits."""
        ...

    def split(self, text: str) -> tuple[str, ...]:
        """The steps of a whole text, by this judge's own rule; at least one."""
        ...

    def tokens(self, solution: Solution) -> int:
        """The most tokens that judging it may cost, for budgets; nothing is computed."""
        ...

    async def aclose(self) -> None:
        """Free everything."""
        ...


@runtime_checkable
class ProcessRewardModel(Judge, Protocol):
    """Says of each step whether it is right."""

    async def score_steps(self, solution: Solution) -> Judgement:
        """One score a step, always; steps that were scored before cost nothing where the backend keeps them.

        Raises ``ContextError`` if the solution does not fit: it is never cut. ``EngineError`` if the model answers
        with what is no number.
        """
        ...


@runtime_checkable
class ValueModel(Judge, Protocol):
    """Says of a prefix how it will end."""

    async def value(self, solution: Solution) -> Judgement:
        """One number. Raises like `ProcessRewardModel.score_steps`."""
        ...


@runtime_checkable
class OutcomeRewardModel(Judge, Protocol):
    """Says of a whole solution how good it is."""

    async def reward(self, solution: Solution) -> Judgement:
        """One number. Raises like `ProcessRewardModel.score_steps`."""
        ...


AGGREGATIONS = ("last", "min", "product", "mean", "model")


def check_count(model: str, scores: Sequence[float], steps: int) -> None:
    """Number of scores = number of steps, always; raises ``EngineError``."""
    from decoding.errors import EngineError

    if len(scores) != steps:
        raise EngineError(f"{model} gave {len(scores)} scores for {steps} steps: its format does not fit this model")
