"""What a sample of the pool costs: tokens from its own row, FLOPs and seconds from the run's; what a search holds."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evals.reports.figures import Pool
from evals.reports.tree import has_tree
from evals.store import Row
from reasoning.search.kv import held_over


class SampleCost(NamedTuple):
    """Means of one sample of the pool; None where the folder doesn't tell."""

    tokens: float  # decoded
    flops: float | None  # its part of the prompt that was computed, and its tokens
    seconds: float | None  # engine-seconds: the run's wall time, shared out by tokens decoded


def sample_cost(folder: Path, pool: Pool, depth: int, results: Iterable[Row]) -> SampleCost:
    """What one of the first `depth` samples of each problem costs, on average."""
    rows = [row for samples in pool.values() for row in samples[:depth]]
    tokens = float(np.mean([decoded(row["usage"]) for row in rows])) if rows else 0.0
    computed = float(np.mean([_computed(row["usage"]) for row in rows])) if rows else 0.0
    a_token = _flops_a_token(results)
    pace = _seconds_a_token(folder)
    return SampleCost(
        tokens=tokens,
        flops=None if a_token is None else a_token * computed,
        seconds=None if pace is None else pace * tokens,
    )


class SearchCost(NamedTuple):
    """Means of a search, a problem."""

    steps: float  # written
    held: float | None  # tokens of the cache, summed over the selections, before each; None without a selection
    kept: float | None  # likewise, after each


def search_cost(rows: Sequence[Row]) -> SearchCost | None:
    """What a search's results say of it; None of strategies that don't search by steps."""
    traces = [row.get("trace", ()) for row in rows]
    if not any(map(has_tree, traces)):
        return None
    cache = [held_over(trace) for trace in traces]
    selected = any(each.selections for each in cache)
    return SearchCost(
        steps=float(np.mean([sum(event["event"] == "Grown" for event in trace) for trace in traces])),
        held=float(np.mean([each.held for each in cache])) if selected else None,
        kept=float(np.mean([each.kept for each in cache])) if selected else None,
    )


def decoded(usage: Mapping[str, float]) -> float:
    """All tokens that were decoded, whatever became of them."""
    return sum(usage.get(column, 0) for column in ("generated_tokens", "overrun_tokens", "aborted_tokens"))


def _computed(usage: Mapping[str, float]) -> float:
    return decoded(usage) + usage.get("prompt_tokens_computed", 0)


def _flops_a_token(results: Iterable[Row]) -> float | None:
    """The policy's FLOPs a token, from results in which no judge read anything."""
    usages = [row["usage"] for row in results if row["usage"].get("flops") and not row["usage"].get("scored_tokens")]
    tokens = sum(_computed(usage) for usage in usages)
    return sum(usage["flops"] for usage in usages) / tokens if tokens else None


def _seconds_a_token(folder: Path) -> float | None:
    try:
        speed = json.loads((folder / "speed.json").read_text())
        return float(speed["seconds"]) / float(speed["tokens"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):  # the picture can do without it
        return None
