"""Running a plan from end to end: store, engine, evaluation, and what it leaves behind."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from decoding.engine import Capability, Engine
from decoding.engines.open import open_source
from decoding.errors import StoreError
from evals.grade import CPU_SECONDS
from evals.plan import Plan, environment
from evals.progress import ProgressBar
from evals.reports.plots import write_plots
from evals.reports.report import Report, make_report, to_csv, to_markdown
from evals.run_judges import ASKED, identities, opened_judges, share_memory, tell_unverified
from evals.runner import Evaluation, Listener, evaluate, final_results
from evals.store import Store, read_config, read_rows
from reasoning.open_judges import SELF, self_judge
from reasoning.run import RunSettings
from reasoning.strategies import spell
from verifiers.judges.types import Judge
from verifiers.workers import WorkerPool


def run_plan(plan: Plan, folder: Path, options: Mapping[str, Any]) -> None:
    """Run what the folder does not hold yet; opens an engine, and judges, only if something is missing.

    Interrupting it (Ctrl-C) keeps all that was finished, and closes what was opened. `options` go to the engine.
    """
    if plan.judges.named and finished_before(plan, folder):
        return
    options, choice, shares = share_memory(plan.config["engine"], options, plan.judges)
    with ExitStack() as stack:
        judges = stack.enter_context(opened_judges(choice))
        config = {**plan.config, **({"judges": identities(plan.config["judges"], judges)} if choice.named else {})}
        store = stack.enter_context(Store(folder, config, {**environment(), **shares}))
        if _finished(plan, folder):
            return
        opened = stack.enter_context(open_source(plan.source, plan.config["engine"], **options))
        if SELF in choice.named:
            judges[SELF] = self_judge(opened, choice.options.get(SELF, {}))
        tell_unverified(judges)
        if Capability.SEEDS not in opened.engine.info.capabilities:
            print("note: this engine honours no seeds, so the same draw comes out differently", file=sys.stderr)
        bar = stack.enter_context(ProgressBar(len(plan.task.problems), [spell(s) for s in plan.strategies]))
        try:
            opened.run(lambda engine: evaluate_plan(engine, plan, judges, store, bar))
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


async def evaluate_plan(
    engine: Engine, plan: Plan, judges: Mapping[str, Judge], store: Store, listener: Listener
) -> None:
    """Run a plan with an open engine and open judges into an open store."""
    # Workers start when they are needed; the engine wants its share of the cores.
    async with WorkerPool(size=max(1, (os.cpu_count() or 1) // 2), cpu_seconds=CPU_SECONDS) as workers:
        settings = RunSettings(
            engines={"policy": engine},
            sampling=plan.sampling,
            answers=plan.task.answers,
            seed=plan.seed,
            budget=plan.budget,
            check=plan.check,
            judges=judges,
            workers=workers,
            steps=plan.steps,
        )
        evaluation = Evaluation(task=plan.task, strategies=plan.strategies, prompts=plan.prompts, settings=settings)
        await evaluate(evaluation, store, listener)


def finished_before(plan: Plan, folder: Path) -> bool:
    """Whether the folder holds all of this run, as far as can be told without opening its judges."""
    if not (folder / "run.json").is_file():
        return False
    config = read_config(folder)["config"]
    known = {role: {key: entry.get(key) for key in ASKED} for role, entry in config.get("judges", {}).items()}
    wanted = {role: {key: entry[key] for key in ASKED} for role, entry in plan.config["judges"].items()}
    rest = json.loads(json.dumps({**plan.config, "judges": config.get("judges")}))
    return known == json.loads(json.dumps(wanted)) and config == rest and _finished(plan, folder)


def _finished(plan: Plan, folder: Path) -> bool:
    results = final_results(read_rows(folder, "results"))
    grades = {(row["problem"], row["slot"]) for row in read_rows(folder, "grades")}
    return all(
        (problem.id, spell(strategy)) in results for problem in plan.task.problems for strategy in plan.strategies
    ) and all((row["problem"], row["slot"]) in grades for row in read_rows(folder, "samples"))


def _add_speed(folder: Path, bar: ProgressBar) -> None:
    """Add what this process generated to speed.json, from which later runs estimate their time."""
    path = folder / "speed.json"
    before = json.loads(path.read_text()) if path.exists() else {"tokens": 0, "seconds": 0.0}
    if bar.tokens:
        after = {"tokens": before["tokens"] + bar.tokens, "seconds": round(before["seconds"] + bar.seconds, 1)}
        path.write_text(json.dumps(after) + "\n")
