"""Strategies by name, one file a paper, and how one is typed: ``self_consistency:n=16``."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from decoding.engine import Engine
from decoding.errors import CapabilityError, ConfigError
from reasoning.scores import Score, Scoring
from reasoning.strategies.adaptive_best_of_n import AdaptiveBestOfN
from reasoning.strategies.adaptive_self_consistency import AdaptiveSelfConsistency
from reasoning.strategies.base import Strategy
from reasoning.strategies.beam_search import BeamSearch
from reasoning.strategies.best_of_n import BestOfN
from reasoning.strategies.concise_organized_perception import ConciseOrganizedPerception
from reasoning.strategies.dvts import DVTS
from reasoning.strategies.ets import ETS
from reasoning.strategies.evidence_to_generate import EvidenceToGenerate
from reasoning.strategies.mcts import MCTS
from reasoning.strategies.parallel_tempering import ParallelTempering
from reasoning.strategies.particle_filter import ParticleFilter
from reasoning.strategies.particle_gibbs import ParticleGibbs
from reasoning.strategies.perplexity_consistency import PerplexityConsistency
from reasoning.strategies.pruned_best_of_n import PrunedBestOfN
from reasoning.strategies.rebase import REBASE
from reasoning.strategies.repeated_sampling import RepeatedSampling
from reasoning.strategies.resample import ResampleUntilAccepted
from reasoning.strategies.rpc import RPC
from reasoning.strategies.self_consistency import SelfConsistency
from reasoning.strategies.self_debug import SelfDebug
from reasoning.strategies.step_beam import StepBeam
from reasoning.strategies.weighted_vote import WeightedVote
from verifiers.judges.types import Judge

MAY_BE_ZERO = {"gamma", "rho", "ess", "lookahead", "lambda_b", "lambda_d"}
STRATEGIES: Mapping[str, type[Any]] = {
    cls.name: cls
    for cls in (
        RepeatedSampling,
        SelfConsistency,
        BestOfN,
        AdaptiveSelfConsistency,
        ResampleUntilAccepted,
        EvidenceToGenerate,
        ConciseOrganizedPerception,
        PerplexityConsistency,
        RPC,
        WeightedVote,
        SelfDebug,
        AdaptiveBestOfN,
        PrunedBestOfN,
        ParticleFilter,
        ParticleGibbs,
        ParallelTempering,
        BeamSearch,
        DVTS,
        REBASE,
        ETS,
        StepBeam,
        MCTS,
    )
}

__all__ = [
    "DVTS",
    "ETS",
    "MCTS",
    "REBASE",
    "RPC",
    "STRATEGIES",
    "AdaptiveBestOfN",
    "AdaptiveSelfConsistency",
    "BeamSearch",
    "BestOfN",
    "ConciseOrganizedPerception",
    "EvidenceToGenerate",
    "ParallelTempering",
    "ParticleFilter",
    "ParticleGibbs",
    "PerplexityConsistency",
    "PrunedBestOfN",
    "RepeatedSampling",
    "ResampleUntilAccepted",
    "SelfConsistency",
    "SelfDebug",
    "StepBeam",
    "Strategy",
    "WeightedVote",
    "parse_strategy",
    "require",
    "scoring_of",
    "spell",
    "spell_short",
]


def parse_strategy(text: str) -> Strategy:
    """The strategy that a text such as ``best_of_n:n=16,score=logprob`` names; raises ``ConfigError``."""
    name, _, rest = text.partition(":")
    name = name.strip().replace("-", "_")
    if name not in STRATEGIES:
        raise ConfigError(f"unknown strategy {name!r}: {_hint(name, list(STRATEGIES))}")
    cls = STRATEGIES[name]
    hints = get_type_hints(cls)
    settings: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = item.partition("=")
        known = [field.name for field in fields(cls)]
        if not equals or key not in known:
            raise ConfigError(f"strategy {name!r} has no parameter {key!r}: {_hint(key, known)}")
        settings[key] = _value(name, key, value, hints[key])
    strategy: Strategy = cls(**settings)
    for field in fields(cls):
        number = getattr(strategy, field.name)
        if isinstance(number, int | float) and not (number > 0 or (number == 0 and field.name in MAY_BE_ZERO)):
            raise ConfigError(f"strategy {name!r}: {field.name} must be above 0, got {number}")
    return strategy


def spell(strategy: Strategy) -> str:
    """The text that `parse_strategy` would read as this strategy, all parameters written out."""
    settings = [(f.name, getattr(strategy, f.name)) for f in fields(strategy)]  # type: ignore[arg-type]
    return strategy.name + ":" + ",".join(f"{key}={getattr(value, 'name', value)}" for key, value in settings)


def spell_short(text: str) -> str:
    """A spelling without the parameters that have their default values, the first one excepted; for tables."""
    strategy = parse_strategy(text)
    name, _, settings = text.partition(":")
    usual = dict(item.split("=") for item in spell(type(strategy)()).partition(":")[2].split(","))
    kept = [i for n, i in enumerate(settings.split(",")) if n == 0 or i.split("=")[1] != usual[i.split("=")[0]]]
    return f"{name}:{','.join(kept)}"


def scoring_of(strategy: Strategy) -> Score | None:
    """The score of a strategy that has one."""
    return strategy.scoring if isinstance(strategy, Scoring) else None


def require(strategy: Strategy, engine: Engine, judges: Mapping[str, Judge] | None = None) -> None:
    """Refuse what can't work, before the first token.

    Raises ``CapabilityError`` for an engine that lacks something, ``ConfigError`` for a judge that is missing or gives
    numbers that the strategy has no use for.
    """
    score = scoring_of(strategy)
    missing = (strategy.needs | (score.needs if score else frozenset())) - engine.info.capabilities
    if missing:
        raise CapabilityError(
            f"{strategy.name} needs {', '.join(sorted(missing))}, which the engine {engine.info.engine} "
            "does not have here: see the table of `bethink models`"
        )
    if isinstance(strategy, Scoring):
        strategy.refuse(judges or {})


def _value(name: str, key: str, text: str, kind: Any) -> Any:
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        raise ConfigError(f"strategy {name!r}: {key} must be of type {kind.__name__}, got {text!r}") from None


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return (f"did you mean {close[0]!r}? " if close else "") + f"there are {', '.join(known)}"
