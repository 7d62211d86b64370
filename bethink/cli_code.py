"""``bethink run-code``: judge a file of anybody's programs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from decoding.errors import ConfigError

if TYPE_CHECKING:
    from verifiers.sandbox.types import Policy


RequireTier = Annotated[
    str | None, typer.Option(help="namespaces, filtered or limits: refuse to run programs behind less.")
]
AllowWeakest = Annotated[
    bool,
    typer.Option("--allow-weakest", help="Run programs behind nothing but resource limits, where there is no more."),
]


def add_run_code(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(name="run-code")(run_code)


def parse_policy(require_tier: str | None, allow_weakest: bool) -> "Policy":
    """How programs are to be held; raises ``ConfigError`` for an unknown tier."""
    from verifiers.sandbox.types import Policy, Tier

    if require_tier is None:
        return Policy(require_tier=None, allow_weakest=allow_weakest)
    if require_tier.upper() not in Tier.__members__:
        known = ", ".join(tier.name.lower() for tier in reversed(Tier))
        raise ConfigError(f"there is no tier {require_tier!r}: there are {known}")
    return Policy(require_tier=Tier[require_tier.upper()], allow_weakest=allow_weakest)


def _print_tiers(wanted: bool) -> None:
    if not wanted:
        return
    from verifiers.sandbox.tiers import describe

    for layer in describe():
        print(f"{layer.name}: {'yes' if layer.held else 'no'}; {layer.why}")
    raise typer.Exit


def run_code(
    source: Annotated[Path, typer.Argument(help="JSON lines with task_id and completion, or solution.")],
    target: Annotated[Path, typer.Argument(help="The judged file.")],
    task: Annotated[str, typer.Option(help="humaneval, humaneval+, mbpp or mbpp+.")],
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the data set's file, as for eval.")] = None,
    workers: Annotated[int | None, typer.Option(help="Programs judged at once; one a core.")] = None,
    require_tier: RequireTier = None,
    allow_weakest: AllowWeakest = False,
    tiers: Annotated[
        bool,
        typer.Option(
            "--tiers",
            help="Say what this machine can hold programs with, and stop.",
            callback=_print_tiers,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Judge programs in a sandbox, without generating anything.

    Rows come back, in order, with `verdict` (correct, wrong, timeout, error), `rule`, `tier`, `mode` and `seconds`. A
    completion goes behind the task's prompt, a solution is a whole program; both are run as they stand.

    Examples:

        bethink run-code --task humaneval completions.jsonl judged.jsonl

        bethink run-code --task mbpp+ --data-dir data --require-tier namespaces solutions.jsonl judged.jsonl
    """
    from evals.reports.markup import with_bounds
    from evals.run_code import run_code as judge_file

    report = judge_file(
        source,
        target,
        task=task,
        data_dir=data_dir,
        policy=parse_policy(require_tier, allow_weakest),
        workers=workers,
    )
    told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(report.verdicts.items()))
    print(f"{sum(report.verdicts.values())} programs of {report.tasks} tasks: {told or 'none'}; tier: {report.tier}")
    if report.tasks < report.known:
        print(f"note: {task} has {report.known} tasks; the figures are of those in the file")
    for k, value in report.pass_at_k:
        print(f"pass@{k}: {with_bounds(value)} %")
    if report.retried:
        print(f"{report.retried} programs ran past a limit and were tried again, alone", file=sys.stderr)
    print(f"written to {target}", file=sys.stderr)
