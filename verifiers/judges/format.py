"""A process reward model's format, as data: how text is split, rendered to ids, read, and turned into scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from verifiers.judges.reader import Head
from verifiers.judges.types import ScoreKind, Solution


class Rendered(NamedTuple):
    """A solution as a model reads it."""

    token_ids: tuple[int, ...]  # ends at the last position: a causal model's scores don't depend on what would follow
    positions: tuple[int, ...]  # [S], where each step's score is read
    answer: int = 0  # where the first step begins; read-outs of text (`Head.TEXT`) sum from here


class Split(Protocol):
    """How a whole text falls into steps."""

    def __call__(self, text: str) -> tuple[str, ...]:
        """The steps, at least one."""
        ...


class Template(Protocol):
    """How a solution becomes ids. Frozen data; works with any tokenizer that has what it needs."""

    def render(self, tokenizer: Any, solution: Solution) -> Rendered:
        """Ids and read positions, one a step.

        For a longer prefix of the same solution the ids begin with the same ids, as far as the tokenizer allows.
        Raises ``ModelError`` where the tokenizer lacks a token that the format needs.
        """
        ...


class ReadOut(Protocol):
    """From what was read to scores."""

    @property
    def head(self) -> Head:
        """What to read."""
        ...

    @property
    def kind(self) -> ScoreKind:
        """What the scores are."""
        ...

    @property
    def models(self) -> int:
        """How many models are read: two where scores are log-ratios."""
        ...

    def columns(self, tokenizer: Any) -> tuple[int, ...]:
        """Ids whose log-probabilities are wanted (`Head.TOKENS`), else nothing."""
        ...

    def scores(self, rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """Scores of positions, [P], from what was read there, [P][columns]."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PRMFormat:
    """All that has to be known of a family of process reward models."""

    name: str
    split: Split
    template: Template
    read_out: ReadOut
    aggregate: str = "last"  # how its authors make one number of the steps' (`AGGREGATIONS`)
    source: str = ""  # where the rule is written: a model card, a repository's file
