"""Running a plan from end to end: store, engine, evaluation, and what it leaves behind."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from decoding.engine import Capability, Engine
from decoding.engines.open import open_source
from decoding.errors import StoreError
from evals.plan import Plan, environment
from evals.progress import ProgressBar
from evals.reports.plots import write_plots
from evals.reports.report import Report, make_report, to_csv, to_markdown
from evals.runner import Evaluation, Listener, evaluate, final_results
from evals.store import Store
from reasoning.run import RunSettings
from reasoning.strategies import spell
from verifiers.workers import WorkerPool

CHECK_SECONDS = 10.0  # CPU time that checking or judging one candidate may take


def run_plan(plan: Plan, folder: Path, options: Mapping[str, Any]) -> None:
    """Run what the folder does not hold yet; opens an engine only if something is missing.

    Interrupting it (Ctrl-C) keeps all that was finished. `options` go to the engine.
    """
    with Store(folder, plan.config, environment()) as store:
        if _finished(plan, store):
            return
        with (
            open_source(plan.source, plan.config["engine"], **options) as opened,
            ProgressBar(len(plan.task.problems), [spell(strategy) for strategy in plan.strategies]) as bar,
        ):
            if Capability.SEEDS not in opened.engine.info.capabilities:
                print("note: this engine honours no seeds, so the same draw comes out differently", file=sys.stderr)
            try:
                opened.run(lambda engine: _evaluate(engine, plan, store, bar))
            finally:
                _add_speed(folder, bar)


def write_report(folder: Path) -> Report:
    """Compute a folder's figures and write report.md, report.csv and the plots into it."""
    report = make_report(folder)
    try:
        (folder / "report.md").write_text(to_markdown(report))
        (folder / "report.csv").write_text(to_csv(report))
        write_plots(report, folder)
    except OSError as error:
        raise StoreError(f"the report can't be written to {folder}: {error.strerror or error}") from error
    return report


async def _evaluate(engine: Engine, plan: Plan, store: Store, listener: Listener) -> None:
    # Workers start when they are needed; the engine wants its share of the cores.
    async with WorkerPool(size=max(1, (os.cpu_count() or 1) // 2), cpu_seconds=CHECK_SECONDS) as workers:
        settings = RunSettings(
            engines={"policy": engine},
            sampling=plan.sampling,
            answers=plan.task.answers,
            seed=plan.seed,
            budget=plan.budget,
            check=plan.check,
            workers=workers,
        )
        evaluation = Evaluation(task=plan.task, strategies=plan.strategies, prompts=plan.prompts, settings=settings)
        await evaluate(evaluation, store, listener)


def _finished(plan: Plan, store: Store) -> bool:
    results = final_results(store)
    grades = {(row["problem"], row["slot"]) for row in store.rows("grades")}
    return all(
        (problem.id, spell(strategy)) in results for problem in plan.task.problems for strategy in plan.strategies
    ) and all((row["problem"], row["slot"]) in grades for row in store.rows("samples"))


def _add_speed(folder: Path, bar: ProgressBar) -> None:
    """Add what this process generated to speed.json, from which later runs estimate their time."""
    path = folder / "speed.json"
    before = json.loads(path.read_text()) if path.exists() else {"tokens": 0, "seconds": 0.0}
    if bar.tokens:
        after = {"tokens": before["tokens"] + bar.tokens, "seconds": round(before["seconds"] + bar.seconds, 1)}
        path.write_text(json.dumps(after) + "\n")
