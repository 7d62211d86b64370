"""Hard limits on what may be spent on one problem, and the ledger that keeps them.

Tokens are *reserved* when a request is made, in the order in which the strategy makes its requests, and what was not
used comes back when the strategy *settles*, which it does at a selection, when all requests of a round have ended. So
who is clamped never depends on which request happened to finish first. Judgements reserve and settle likewise.
"""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

from decoding.errors import ConfigError
from decoding.types import GenerationRequest, Usage

FLOPS_PER_PARAMETER = 2  # a multiplication and an addition a token (Kaplan et al. 2020, section 2.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that may be spent on one problem; None is no limit."""

    samples: int | None = None  # trajectories started from the prompt
    generated_tokens: int | None = None  # tokens decoded, aborted and overrun ones included
    scored_tokens: int | None = None  # tokens read by judges
    flops: float | None = None  # 2 x parameters x tokens computed
    seconds: float | None = None  # of wall time; the one limit that makes results depend on the machine

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not value > 0:
                raise ConfigError(
                    f"budget: {field.name} must be above 0, got {value!r}; leave it out for no limit, "
                    "there is nothing to run on a budget of zero"
                )


class Grant(NamedTuple):
    """What a request may spend."""

    tokens: int
    clamped: bool  # fewer than it asked for


class Ledger:
    """The account of one run: what is reserved, what was spent, what is left."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.samples = 0
        self.spent = Usage()
        self._open = 0  # requests and judgements not settled yet; what they have reserved:
        self._reserved_tokens = self._reserved_scored = 0
        self._reserved_flops = 0.0
        self._settled_tokens = self._settled_scored = 0
        self._settled_flops = 0.0

    def reserve(self, *, max_tokens: int, prompt_tokens: int, parameters: int, sample: bool) -> Grant | None:
        """Set aside what a request may cost; None if it has to wait for others to settle, or nothing is left.

        A request is clamped only when nothing else is reserved: before that, others may give something back.
        """
        if sample and self.budget.samples is not None and self.samples >= self.budget.samples:
            return None
        tokens = min(max_tokens, self._tokens_left(prompt_tokens, parameters))
        if tokens < max_tokens and (self._open > 0 or tokens < 1):
            return None
        self._open += 1
        self.samples += sample
        self._reserved_tokens += tokens
        self._reserved_flops += _flops(parameters, prompt_tokens + tokens)
        return Grant(tokens, tokens < max_tokens)

    def charge(self, usage: Usage) -> None:
        """Book what was computed."""
        self.spent = self.spent + usage

    def settle(self, request: GenerationRequest, parameters: int, usage: Usage) -> None:
        """Give back what a request had reserved and did not use."""
        self._open -= 1
        self._reserved_tokens -= request.sampling.max_tokens
        self._reserved_flops -= _flops(parameters, len(request.prompt_token_ids) + request.sampling.max_tokens)
        self._settled_tokens += usage.decoded_tokens
        self._settled_flops += usage.flops

    def reserve_scoring(self, tokens: int, parameters: int) -> bool:
        """Set aside what a judgement may cost; False if it has to wait for others to settle, or nothing is left."""
        flops = _flops(parameters, tokens)
        scored = self._settled_scored + self._reserved_scored + tokens
        if self.budget.scored_tokens is not None and scored > self.budget.scored_tokens:
            return False
        if self.budget.flops is not None and self._settled_flops + self._reserved_flops + flops > self.budget.flops:
            return False
        self._open += 1
        self._reserved_scored += tokens
        self._reserved_flops += flops
        return True

    def settle_scoring(self, tokens: int, parameters: int, usage: Usage) -> None:
        """Book what a judgement has cost and give back the rest of what it had reserved."""
        self.charge(usage)
        self._open -= 1
        self._reserved_scored -= tokens
        self._reserved_flops -= _flops(parameters, tokens)
        self._settled_scored += usage.scored_tokens
        self._settled_flops += usage.flops

    def _tokens_left(self, prompt_tokens: int, parameters: int) -> int:
        left: float = math.inf
        if self.budget.generated_tokens is not None:
            left = self.budget.generated_tokens - self._settled_tokens - self._reserved_tokens
        if self.budget.flops is not None and parameters > 0:
            flops = self.budget.flops - self._settled_flops - self._reserved_flops
            left = min(left, flops // _flops(parameters, 1) - prompt_tokens)
        return max(0, int(min(left, 2**31)))


def scoring_usage(tokens: int, parameters: int) -> Usage:
    """What a judge of `parameters` has spent that read so many tokens."""
    return Usage(scored_tokens=tokens, flops=_flops(parameters, tokens))


def with_flops(usage: Usage, parameters: int) -> Usage:
    """The usage with the FLOPs of the tokens that a model of `parameters` computed."""
    computed = usage.prompt_tokens_computed + usage.decoded_tokens
    return usage + Usage(flops=_flops(parameters, computed))


def _flops(parameters: int, tokens: int) -> float:
    return float(FLOPS_PER_PARAMETER * parameters * tokens)
