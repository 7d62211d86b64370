"""``bethink judge``: put a judge to the test on solutions of which is known how they came out."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from decoding.errors import ConfigError

if TYPE_CHECKING:
    from evals.judge_cases import Cases, Split
    from evals.reports.judge_report import JudgeReport

INTERRUPTED_EXIT = 130


def add_judge(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(judge)


def judge(
    task: Annotated[
        str, typer.Argument(help="processbench, processbench:math and others; or the task of --run, e.g. reference:8.")
    ],
    prm: Annotated[
        str | None, typer.Option(help="A process reward model: a name of `bethink models`, a folder.")
    ] = None,
    value: Annotated[str | None, typer.Option(help="A value model.")] = None,
    orm: Annotated[str | None, typer.Option(help="An outcome reward model.")] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", "--policy-run", help="A results folder of `bethink eval` whose samples are judged."),
    ] = None,
    backend: Annotated[str, typer.Option(help="transformers, vllm, http, engine or auto.")] = "auto",
    format_name: Annotated[
        str | None, typer.Option("--format", help="How solutions are put to it; the model's own if left out.")
    ] = None,
    judge_option: Annotated[
        list[str] | None, typer.Option("--judge-option", help="name=value for the backend; repeat.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with data sets as JSON lines, as for eval.")] = None,
    limit: Annotated[int | None, typer.Option(help="The most problems.", min=1)] = None,
    samples: Annotated[int | None, typer.Option(help="Of a run: the most samples of a problem.", min=1)] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Results folder; named by the work if left out.")] = None,
) -> None:
    """Judge solutions and report AUC, calibration and F1 of the first wrong step; the same line again goes on.

    Examples:

        bethink judge processbench --prm math-shepherd --data-dir data

        bethink judge reference:8 --prm reference-prm --run runs/reference-8-reference-base-1a2b3c4d
    """
    from bethink.cli import parse_options
    from evals.judging import run_judging
    from evals.reports.judge_output import write_judge_report
    from verifiers.judges.open import open_judge

    role, name = _chosen(prm=prm, value=value, orm=orm)
    options: dict[str, Any] = parse_options(judge_option or [])
    make = _cases_of(task, run=run, data_dir=data_dir, limit=limit, samples=samples)
    target = folder or Path("runs") / _folder_name(task, role, name, run)
    print(f"opening {name}; results go to {target}", file=sys.stderr)
    opened = open_judge(name, role=role, backend=backend, format=format_name, **options)
    try:
        run_judging(opened, role, task, make, target, _teller())
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, run the same line again to go on", file=sys.stderr)
        raise typer.Exit(INTERRUPTED_EXIT) from None
    print_judge_report(write_judge_report(target), target)


def print_judge_report(report: "JudgeReport", folder: Path) -> None:
    """The figures as tables for a terminal."""
    from evals.reports.judge_output import describe, first_error_table, ranking_table

    out = Console()
    out.print(report.title, style="bold", markup=False, highlight=False)
    for line in describe(report):
        out.print(line, markup=False, highlight=False)
    for heads, rows in (ranking_table(report), first_error_table(report)):
        if rows:
            table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
            for row in rows:
                table.add_row(*row)
            out.print(table)
    if report.ece is not None:
        out.print(f"expected calibration error: {100 * report.ece:.1f} %", highlight=False)
    print(f"tables and plots are in {folder}", file=sys.stderr)


def _chosen(**judges: str | None) -> tuple[str, str]:
    """The one role that was named, and the judge."""
    named = [(role, name) for role, name in judges.items() if name is not None]
    if len(named) != 1:
        raise ConfigError("name one judge: --prm, --value or --orm")
    return named[0]


def _cases_of(
    task: str, *, run: Path | None, data_dir: Path | None, limit: int | None, samples: int | None
) -> "Callable[[Split], Cases]":
    """What makes the solutions, given how the judge splits texts; what can be wrong of it is wrong here."""
    from evals.judge_cases import processbench_cases, run_cases
    from evals.store import read_config

    if task.partition(":")[0] == "processbench":
        if run is not None or samples is not None:
            raise ConfigError("ProcessBench brings its own solutions: leave out --run and --samples")
        cases = processbench_cases(task, data_dir=data_dir, limit=limit)
        return lambda split: cases
    if run is None:
        raise ConfigError(f"{task!r}: give --run, a results folder of `bethink eval` with samples to judge")
    ran = read_config(run)["config"]["task"]
    if ran != task:
        raise ConfigError(f"{run} holds samples of {ran}, not of {task}")
    return lambda split: run_cases(run, split, data_dir=data_dir, limit=limit, samples=samples)


def _folder_name(task: str, role: str, name: str, run: Path | None) -> str:
    """A name for the results; other settings in the same folder are refused by the store."""
    parts = ["judge", task, role, Path(name).name, *([] if run is None else [run.resolve().name])]
    return "".join(c if c.isalnum() or c in "-." else "-" for c in "-".join(parts))


def _teller() -> Callable[[int, int], None]:
    """Says how far it is, a line every twentieth."""
    said = -1

    def tell(done: int, total: int) -> None:
        nonlocal said
        if 20 * done // total > said:
            said = 20 * done // total
            print(f"{done}/{total} solutions", file=sys.stderr, flush=True)

    return tell
