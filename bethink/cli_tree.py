"""``bethink tree``: draw the tree of a search. And what ``solve -v`` shows of its candidates."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from decoding.engine import Tokenizer
from decoding.errors import ConfigError, StoreError
from reasoning.trace import to_json
from reasoning.trajectory import Result

SUFFIXES = (".png", ".svg", ".dot", ".txt")
out = Console()


def add_tree(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(tree)


def tree(
    folder: Annotated[Path, typer.Argument(help="A results folder of `bethink eval`.")],
    problem: Annotated[str | None, typer.Option(help="Its id, as in results.jsonl; the first one if left out.")] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", "-s", help="Needed where several strategies search by steps.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--out", help="A .png, .svg, .dot (Graphviz) or .txt; the terminal if left out.")
    ] = None,
) -> None:
    """Draw the tree that a search grew on one problem: what went on, what was given up, what led to the answer.

    Examples:

        bethink tree runs/a --problem reference-8-00003

        bethink tree runs/a --problem reference-8-00003 -s particle --out tree.png
    """
    from evals.reports.search_trees import find_tree
    from evals.reports.tree import to_dot, to_text

    if target is not None and target.suffix not in SUFFIXES:
        raise ConfigError(f"a tree is written to {', '.join(SUFFIXES)}, not to {target.name!r}")
    found = find_tree(folder, problem, strategy)
    if target is None:
        print(f"{found.title}\n{to_text(found.tree, max(40, out.width))}", end="")
        return
    try:
        if target.suffix == ".dot":
            target.write_text(to_dot(found.tree))
        elif target.suffix == ".txt":
            target.write_text(to_text(found.tree))
        else:
            from evals.reports.tree_plot import write_tree

            write_tree(found.tree, target, found.title)
    except OSError as error:
        raise StoreError(f"the tree can't be written to {target}: {error.strerror or error}") from error
    print(f"the tree is in {target}", file=sys.stderr)


def print_candidates(result: Result, tokenizer: Tokenizer) -> None:
    """Every candidate, step by step where it has several; the tree of a search behind them."""
    from evals.reports.tree import has_tree, to_text, tree_of

    for candidate in result.candidates:
        score = "" if candidate.score is None else f" (score {candidate.score:.3f})"
        out.rule(f"slot {candidate.slot}: {candidate.answer}{score}")
        steps, before = candidate.trajectory.steps, 0
        ids: tuple[int, ...] = ()
        if len(steps) < 2:
            out.print(candidate.text, markup=False, highlight=False)
            continue
        for number, step in enumerate(steps, start=1):
            ids += step.token_ids
            text = tokenizer.decode(ids)  # of all: a step's first token may read differently where it stands alone
            out.print(f"{number:>3}  {text[before:].strip()}", markup=False, highlight=False)
            before = len(text)
    out.rule()
    events = [to_json(event) for event in result.trace]
    if has_tree(events):
        out.print(to_text(tree_of(events, result.chosen), max(40, out.width)), markup=False, highlight=False)
