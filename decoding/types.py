"""What goes into an engine and what comes out of it: token ids, never text.

One request, one seed, one completion. `n` is always 1: engines share the prefix of equal prompts, so a batch of equal
prompts costs no more, and every completion can be drawn again on its own.
"""

import math
from dataclasses import dataclass, fields
from enum import StrEnum

from decoding.errors import ConfigError

MAX_SEED = 2**63 - 1


class FinishReason(StrEnum):
    """Why a completion ended. The five are never mixed up."""

    EOS = "eos"  # the model ended it
    STOP = "stop"  # a stop token or a stop string
    LENGTH = "length"  # max_tokens, or the end of the model's context
    BUDGET = "budget"  # the run's budget cut it
    CANCELLED = "cancelled"  # aborted by its caller


FINAL = frozenset({FinishReason.EOS, FinishReason.STOP, FinishReason.LENGTH})
"""How a completion ends by itself; the other two depend on what else was going on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn. At temperature 0 the draw is greedy and the filters do nothing.

    Filters apply in vLLM's order: temperature, min_p, top_k, top_p.
    """

    seed: int  # 0 .. 2**63 - 1; the draw is a function of (model, prompt, this)
    temperature: float = 1.0
    top_p: float = 1.0  # in (0, 1]; 1 is off
    top_k: int = 0  # 0 is off
    min_p: float = 0.0  # in [0, 1]; 0 is off
    max_tokens: int = 1024
    stop_token_ids: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()  # looked for in the completion's text; engines may overrun, stop tokens don't
    logprobs: bool = True
    logprob_token_ids: tuple[int, ...] = ()  # ids whose log-probabilities are wanted at each position, drawn or not

    def __post_init__(self) -> None:
        _require(0 <= self.seed <= MAX_SEED, "seed", self.seed, "an integer from 0 to 2**63 - 1")
        _require(self.temperature >= 0, "temperature", self.temperature, "at least 0")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")
        _require(self.top_k >= 0, "top_k", self.top_k, "at least 0 (0 is off)")
        _require(0 <= self.min_p <= 1, "min_p", self.min_p, "from 0 to 1")
        _require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "at least 1")
        _require("" not in self.stop, "stop", self.stop, "non-empty strings")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One completion to be drawn."""

    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    id: str = ""  # names the request in `Engine.abort`; unique among those in flight. Empty: the engine numbers it


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was computed, each token in exactly one column. Usages add up."""

    requests: int = 0
    prompt_tokens_computed: int = 0
    prompt_tokens_cached: int = 0  # taken from the prefix cache
    generated_tokens: int = 0  # decoded and returned
    overrun_tokens: int = 0  # decoded past a stop string and thrown away, as far as the engine tells
    aborted_tokens: int = 0  # decoded by requests that were cancelled or cut by a budget in seconds
    scored_tokens: int = 0  # read by judges
    scored_tokens_cached: int = 0  # that judges had read before and kept
    flops: float = 0.0  # 2 x parameters x tokens computed, of policy and judges

    @property
    def decoded_tokens(self) -> int:
        """All tokens that were decoded, whatever became of them."""
        return self.generated_tokens + self.overrun_tokens + self.aborted_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Usage)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model wrote."""

    token_ids: tuple[int, ...]  # [T] exactly what the model emitted, the EOS or stop token included
    logprobs: tuple[float, ...] | None  # [T] nats, the model's law at temperature 1, before any filter
    sampling_logprobs: tuple[float, ...] | None  # [T] nats, the law that was drawn from
    finish_reason: FinishReason
    usage: Usage
    logprob: float | None = None  # nats, the sum of `logprobs`; a completion read back from a store has only this
    chosen_logprobs: tuple[tuple[float, ...], ...] | None = None  # [T][K] nats, of `SamplingParams.logprob_token_ids`

    def __post_init__(self) -> None:
        if self.logprob is None and self.logprobs is not None:
            object.__setattr__(self, "logprob", math.fsum(self.logprobs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of a completion while it is being written. The last one, and only it, carries the whole completion."""

    token_ids: tuple[int, ...]  # new ones since the delta before; the deltas join to the completion's ids
    completion: Completion | None = None


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise ConfigError(f"{name} must be {wanted}, got {value!r}")
