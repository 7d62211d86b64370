"""Searches run over one open engine into a folder each, what is kept of their results, and figures from that.

What is kept is a store that `bethink report` reads: run.json and the results, each without its trace, but with what the
traces say of the cache and of tokens after an end. Samples and grades are left out.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from decoding.engines.open import open_source
from decoding.host import OpenEngine
from evals.estimators.intervals import Floats
from evals.plan import Plan, environment
from evals.progress import ProgressBar
from evals.reports.costs import decoded
from evals.reports.figures import is_right
from evals.reports.report import read_results
from evals.run_judges import identities, opened_judges
from evals.session import evaluate_plan, finished_before
from evals.store import Row, Store, pack, read_config
from reasoning.search.kv import held_over
from reasoning.strategies import spell


class Measured(NamedTuple):
    """One strategy on P problems, in the order of their ids."""

    strategy: str
    problems: Sequence[str]  # [P]
    right: Floats  # [P], 0 or 1
    tokens: Floats  # [P], decoded
    scored: Floats  # [P], tokens that judges read anew
    held: Floats  # [P], tokens of the cache before selections, summed over them; 0 without a selection
    kept: Floats  # [P], likewise after selections
    held_nodes: Floats  # [P], as `held`, but as ETS counts: every node apart, the prompt left out
    kept_nodes: Floats  # [P], likewise
    after_end: int  # tokens decoded after a trajectory had finished, of all problems
    cut: int  # problems that ended in an error


def run_plans(plans: Mapping[Path, Plan], options: Mapping[str, Any]) -> None:
    """Run what the folders lack, one plan after another; all have the same model and engine, which is opened once.

    Judges are opened anew for each. A folder is what `bethink eval` with the same settings would have made, and may
    be gone on with.
    """
    missing = {folder: plan for folder, plan in plans.items() if not finished_before(plan, folder)}
    if not missing:
        return
    first = next(iter(missing.values()))
    with open_source(first.source, first.config["engine"], **options) as opened:
        for folder, plan in missing.items():
            print(folder, flush=True)
            _run_plan(folder, plan, opened)


def _run_plan(folder: Path, plan: Plan, opened: OpenEngine) -> None:
    names = [spell(strategy) for strategy in plan.strategies]
    with opened_judges(plan.judges) as judges:
        config = {**plan.config, "judges": identities(plan.config["judges"], judges)}
        with Store(folder, config, environment()) as store, ProgressBar(len(plan.prompts), names) as bar:
            opened.run(lambda engine: evaluate_plan(engine, plan, judges, store, bar))


def keep(folder: Path, target: Path) -> None:
    """Write what is kept of a results folder to another; the same results give the same bytes."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "run.json").write_text(json.dumps(read_config(folder), indent=2) + "\n")
    rows = (without_trace(row) for _, row in sorted(read_results(folder).items()))
    text = "".join(json.dumps(row, separators=(",", ":"), sort_keys=True) + "\n" for row in rows)
    (target / "results.jsonl").write_text(text)
    pack(target)


def without_trace(row: Row) -> Row:
    """A result without its trace and its wall time, but with what its trace says."""
    trace = row.get("trace", ())
    held, nodes = held_over(trace), node_tokens(trace)
    found = {"held": held.held, "kept": held.kept, "held_nodes": nodes[0], "kept_nodes": nodes[1]}
    found["after_end"] = tokens_after_end(trace)
    return {**{key: value for key, value in row.items() if key not in ("trace", "seconds")}, **found}


def tokens_after_end(trace: Iterable[Mapping[str, Any]]) -> int:
    """Tokens that a search drew behind nodes that had finished."""
    grown = [event for event in trace if event["event"] == "Grown"]
    ended = {event["node"] for event in grown if event["finished"]}
    return sum(event["tokens"] for event in grown if event["parent"] in ended)


def node_tokens(trace: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Tokens of all nodes that a search held, summed over its selections: before and after each.

    As ETS's released code counts: siblings that wrote the same are two nodes, and the prompt counts for nothing. An
    engine has them twice as long as it is writing them.
    """
    grown = {event["node"]: event for event in trace if event["event"] == "Grown"}

    def union(nodes: Iterable[Any]) -> int:
        held: set[int] = set()
        for node in map(int, nodes):  # keys of what was read from JSON are texts
            while node in grown and node not in held:
                held.add(node)
                node = grown[node]["parent"]
        return sum(grown[node]["tokens"] for node in held)

    chosen = [event for event in trace if event["event"] == "Selected"]
    return sum(union(event["among"]) for event in chosen), sum(union(event["kept"]) for event in chosen)


def measured(folder: Path) -> dict[str, Measured]:
    """The strategies of a folder, kept or not, by their spelling."""
    by_strategy: dict[str, list[Row]] = {}
    for (strategy, _), row in sorted(read_results(folder).items()):
        by_strategy.setdefault(strategy, []).append(row if "after_end" in row else without_trace(row))
    return {strategy: _measured(strategy, rows) for strategy, rows in by_strategy.items()}


def _measured(strategy: str, rows: Sequence[Row]) -> Measured:
    def column(values: Iterable[float]) -> Floats:
        return np.array(list(values), dtype=np.float64)

    return Measured(
        strategy=strategy,
        problems=[row["problem"] for row in rows],
        right=column(is_right(row) for row in rows),
        tokens=column(decoded(row["usage"]) for row in rows),
        scored=column(row["usage"].get("scored_tokens", 0) for row in rows),
        held=column(row["held"] for row in rows),
        kept=column(row["kept"] for row in rows),
        held_nodes=column(row["held_nodes"] for row in rows),
        kept_nodes=column(row["kept_nodes"] for row in rows),
        after_end=sum(row["after_end"] for row in rows),
        cut=sum(row["outcome"] == "error" for row in rows),
    )
