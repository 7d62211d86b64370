"""From what a model says at a position to a score. Pure functions of rows of finite numbers, safe at any size."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

from decoding.errors import EngineError, ModelError
from verifiers.judges.reader import Head
from verifiers.judges.types import ScoreKind


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoClasses:
    """A head with two outputs: P(right), or P(right) - P(wrong)."""

    head: ClassVar[Head] = Head.CLASSES
    models: ClassVar[int] = 1
    right: int = 1  # which output means right
    difference: bool = False  # the difference of both probabilities, in [-1, 1]

    @property
    def kind(self) -> ScoreKind:
        """A probability, or a value."""
        return ScoreKind.VALUE if self.difference else ScoreKind.PROBABILITY

    def columns(self, tokenizer: Any) -> tuple[int, ...]:
        """None: it is a head of its own."""
        return ()

    def scores(self, rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """Of logits, [P][2]."""
        shares = [sigmoid(row[self.right] - row[1 - self.right]) for row in _checked(rows, 2)]
        # P(right) - P(wrong), of which the sum is 1.
        return tuple(2.0 * share - 1.0 for share in shares) if self.difference else tuple(shares)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A head with one output, as it is or through a sigmoid or a tanh."""

    head: ClassVar[Head] = Head.SCALAR
    models: ClassVar[int] = 1
    kind: ScoreKind = ScoreKind.LOGIT  # PROBABILITY: sigmoid, VALUE: tanh, LOGIT: as it is

    def columns(self, tokenizer: Any) -> tuple[int, ...]:
        """None: it is a head of its own."""
        return ()

    def scores(self, rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """Of the head's numbers, [P][1]."""
        through = {ScoreKind.PROBABILITY: sigmoid, ScoreKind.VALUE: math.tanh}.get(self.kind, float)
        return tuple(through(row[0]) for row in _checked(rows, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """The language model's own head: P(right) of two tokens, one of which comes next."""

    head: ClassVar[Head] = Head.TOKENS
    models: ClassVar[int] = 1
    kind: ClassVar[ScoreKind] = ScoreKind.PROBABILITY
    right: str = "+"
    wrong: str = "-"

    def columns(self, tokenizer: Any) -> tuple[int, ...]:
        """The ids of both, the right one first; raises ``ModelError`` if one is not a token of its own."""
        return tuple(token_id(tokenizer, text) for text in (self.right, self.wrong))

    def scores(self, rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """Of log-probabilities, nats, [P][2]: softmax over the two."""
        return tuple(sigmoid(right - wrong) for right, wrong in _checked(rows, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRatio:
    """Two language models: beta x the sum, so far, of log p(judge) - log p(reference) over the answer's tokens.

    Yuan et al. 2024, *Free Process Rewards without Process Labels*, arXiv 2412.01981, eq. 4.
    """

    head: ClassVar[Head] = Head.TEXT
    models: ClassVar[int] = 2
    kind: ClassVar[ScoreKind] = ScoreKind.LOG_RATIO
    beta: float = 0.001

    def columns(self, tokenizer: Any) -> tuple[int, ...]:
        """None: it reads the tokens that are there."""
        return ()

    def scores(self, rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """Of both models' log-probabilities, nats, of the answer's tokens, [T][2]: cumulative, [T]."""
        ratios = [judge - reference for judge, reference in _checked(rows, 2)]
        return tuple(self.beta * total for total in accumulate(ratios))


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastLikely:
    """A language model that knows the world: how little it expected the least expected token so far.

    The logistic function of slope x that token's log-probability + intercept, both fitted to labels. It judges well
    where there is one way to write a right solution, and only there: elsewhere what is unexpected need not be wrong.
    """

    head: ClassVar[Head] = Head.TEXT
    kind: ClassVar[ScoreKind] = ScoreKind.PROBABILITY
    models: ClassVar[int] = 1
    slope: float = 1.0
    intercept: float = 0.0

    def columns(self, tokenizer: Any) -> tuple[int, ...]:
        """None: it reads the tokens that are there."""
        return ()

    def scores(self, rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """Of the log-probabilities, nats, of the answer's tokens, [T][1]: of all so far, [T]."""
        least = itertools.accumulate((row[0] for row in _checked(rows, 1)), min)
        return tuple(sigmoid(self.slope * each + self.intercept) for each in least)


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)); of the difference of two logits, the softmax."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def token_id(tokenizer: Any, text: str) -> int:
    """The id of a text that has to be one token; ``ModelError`` if the tokenizer makes something else of it.

    Special tokens are looked up by name. Tokenizers that put a space before a text give its last id.
    """
    known: dict[str, int] = tokenizer.get_added_vocab()
    if text in known:
        return int(known[text])
    ids = [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    # A space belongs to its token in some vocabularies and is one of its own, or none, in others.
    if not ids or ids[-1] == tokenizer.unk_token_id or tokenizer.decode(ids[-1:]).strip(" ") != text.strip(" "):
        raise ModelError(
            f"the tokenizer {tokenizer.name_or_path} should have {text!r} as a token of its own and makes the ids "
            f"{ids} of it: this model is not one of this format"
        )
    return ids[-1]


def _checked(rows: Sequence[Sequence[float]], columns: int) -> Sequence[Sequence[float]]:
    for position, row in enumerate(rows):
        if len(row) != columns or not all(map(math.isfinite, row)):
            raise EngineError(f"expected {columns} finite numbers at read position {position}, found {list(row)}")
    return rows
