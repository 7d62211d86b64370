"""``bethink grade``: judge a file of anybody's outputs, or a run's samples again."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from decoding.errors import ConfigError


def add_grade(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(grade)


def grade(
    source: Annotated[Path, typer.Argument(help="A file of JSON lines, or a results folder of `bethink eval`.")],
    target: Annotated[Path | None, typer.Argument(help="The graded file, or a new folder; see below.")] = None,
    style: Annotated[
        str | None, typer.Option(help="gsm8k, math, text, or a grader's name. For a folder: the task's own.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="As for eval; of a folder whose task needs it.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker programs for computer algebra; one a core.")] = None,
) -> None:
    r"""Grade outputs, anybody's or a run's, without generating anything.

    Rows of a file have `text` and `reference` and come back, in order, with `verdict` (correct, wrong, no_answer,
    timeout, error), `extracted` and `rule`. A folder's samples and votes are judged again into a new folder, by default
    FOLDER-regraded, and its report is written.

    Examples:

        bethink grade --style math outputs.jsonl graded.jsonl

        bethink grade runs/gsm8k-model-1a2b3c4d --style lm_eval_strict
    """
    count = workers or os.cpu_count() or 1
    if source.is_dir():
        _grade_folder(source, target or source.with_name(f"{source.resolve().name}-regraded"), style, data_dir, count)
    else:
        _grade_file(source, target, style, count)


def _grade_file(source: Path, target: Path | None, style: str | None, workers: int) -> None:
    from evals.grade import grade_file, style_named

    if target is None or style is None:
        raise ConfigError("grading a file takes both: bethink grade --style gsm8k|math IN.jsonl OUT.jsonl")
    counts = grade_file(source, target, style_named(style), workers)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    print(f"{counts.total()} rows: {told or 'none'}; written to {target}", file=sys.stderr)


def _grade_folder(folder: Path, target: Path, style: str | None, data_dir: Path | None, workers: int) -> None:
    from bethink.tables import print_report
    from evals.regrade import regrade
    from evals.session import write_report

    changes = regrade(folder, target, grader=style, data_dir=data_dir, workers=workers)
    print_report(write_report(target), target)
    kept = f"; {changes.kept} results keep their answers, the pool does not hold all their samples"
    print(
        f"{changes.changed_samples} of {changes.samples} samples and {changes.changed_results} of {changes.results} "
        f"results have another outcome{kept if changes.kept else ''}",
        file=sys.stderr,
    )
