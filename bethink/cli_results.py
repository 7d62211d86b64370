"""The commands that read results folders: ``bethink report | compare | flaws``."""

from pathlib import Path
from typing import Annotated

import typer

from bethink.tables import print_comparison, print_flaws, print_report
from decoding.errors import ConfigError, StoreError


def register(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    for command in (report, compare, flaws):
        app.command()(command)


def report(
    folders: Annotated[list[Path], typer.Argument(help="Results folders of `bethink eval`.")],
) -> None:
    """Compute the tables and plots of results folders again, from their rows.

    Example:

        bethink report runs/reference-8-reference-base-1a2b3c4d
    """
    from evals.session import write_report

    for folder in folders:
        print_report(write_report(folder), folder)


def compare(
    sides: Annotated[
        list[str], typer.Argument(help="Two results folders, or one; each may end in :strategy.", metavar="A [B]")
    ],
    strategy: Annotated[
        list[str] | None,
        typer.Option("--strategy", "-s", help="Of both folders, or several of one; all that fit if left out."),
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Where the problems differ, compare those that both have.")
    ] = False,
    flips: Annotated[
        int, typer.Option(help="Problems that only one side solved to print; --out writes all.", min=0)
    ] = 20,
    folder: Annotated[Path | None, typer.Option("--out", help="Write compare.md and compare.csv there.")] = None,
) -> None:
    """Compare two runs, or strategies of one, on the same problems: paired differences and tests, costs, flips.

    Examples:

        bethink compare runs/a runs/b

        bethink compare runs/a:self_consistency:n=16 runs/a:best_of_n:n=16 --out comparison
    """
    from evals.reports.compare import compare as compare_sides
    from evals.reports.compare_text import to_csv, to_markdown

    comparison = compare_sides(sides, strategy or [], common=common)
    print_comparison(comparison, flips)
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "compare.md").write_text(to_markdown(comparison))
            (folder / "compare.csv").write_text(to_csv(comparison))
        except OSError as error:
            raise StoreError(f"the comparison can't be written to {folder}: {error.strerror or error}") from error
        typer.echo(f"compare.md and compare.csv are in {folder}", err=True)


def flaws(
    folder: Annotated[Path, typer.Argument(help="A results folder with a pool of samples.")],
    check: Annotated[
        str | None,
        typer.Option(help="The task's check by name (e.g. steps), or oracle; the run's own if left out."),
    ] = None,
    completeness: Annotated[float | None, typer.Option(help="P(accept | right) of a check that is supposed.")] = None,
    soundness: Annotated[float | None, typer.Option(help="P(refuse | wrong) of a check that is supposed.")] = None,
    value_right: Annotated[float, typer.Option(help="Payoff of an accepted right answer.")] = 1.0,
    value_wrong: Annotated[float, typer.Option(help="Payoff of an accepted wrong answer.")] = -1.0,
    cost: Annotated[float, typer.Option(help="Of each attempt, in units of the payoff.", min=0)] = 0.0,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the task's data, if it is not on the hub.")] = None,
) -> None:
    """Say what resampling until a check accepts is worth, and after how many attempts to stop.

    Examples:

        bethink flaws runs/a --check steps

        bethink flaws runs/a --completeness 0.95 --soundness 0.8 --value-wrong -2
    """
    from evals.estimators.flaws import Payoff
    from evals.reports.flaws_output import write_flaws
    from evals.reports.flaws_report import flaws_of_check, flaws_of_supposed

    payoff = Payoff(right=value_right, wrong=value_wrong, cost=cost)
    if completeness is None and soundness is None:
        found = flaws_of_check(folder, check, payoff, data_dir)
    elif completeness is None or soundness is None or check is not None:
        raise ConfigError("give --completeness and --soundness together, or --check alone")
    else:
        found = flaws_of_supposed(folder, completeness, soundness, payoff)
    write_flaws(found, folder)
    print_flaws(found)
    typer.echo(f"flaws.md, flaws.csv and flaws.png are in {folder}", err=True)
