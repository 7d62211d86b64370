"""Trees in a results folder: which search, on which problem."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from decoding.errors import ConfigError
from evals.reports.report import read_results, short_name
from evals.reports.tree import Tree, has_tree, tree_of
from evals.store import Row

SHOWN = 5  # names in a message


class StoredTree(NamedTuple):
    """A tree, and what to write above it."""

    title: str
    tree: Tree


def find_tree(folder: Path, problem: str | None, strategy: str | None) -> StoredTree:
    """The tree of a search on a problem, by default of the first problem.

    Args:
        folder: A results folder.
        problem: The problem's id.
        strategy: Spelt out, short, or as far as it tells it from the others; may be left out if there is one search.

    Raises:
        StoreError: The folder can't be read.
        ConfigError: It holds no such tree; the message says which there are.
    """
    trees = {key: row for key, row in read_results(folder).items() if has_tree(row["trace"])}
    if not trees:
        raise ConfigError(f"{folder} holds no trees: none of its strategies searches by steps")
    name = _strategy(folder, list(dict.fromkeys(name for name, _ in trees)), strategy)
    rows = {of: row for (named, of), row in trees.items() if named == name}
    chosen = sorted(rows)[0] if problem is None else problem
    if chosen not in rows:
        raise ConfigError(
            f"{short_name(name)} left no tree for the problem {chosen!r}: there are {_some(rows)}; results.jsonl in "
            f"{folder} has all"
        )
    row = rows[chosen]
    return StoredTree(_title(row, name), tree_of(row["trace"], row["slot"]))


def _strategy(folder: Path, names: list[str], typed: str | None) -> str:
    listed = ", ".join(map(short_name, names))
    if typed is None and len(names) > 1:
        raise ConfigError(f"{folder} holds trees of several searches: name one with --strategy; there are {listed}")
    same = [name for name in names if typed in (None, name, short_name(name))]
    alike = same or [name for name in names if short_name(name).startswith(str(typed)) or name.startswith(str(typed))]
    if len(alike) != 1:
        raise ConfigError(f"{folder} has {'several searches' if alike else 'no search'} {typed!r}: there are {listed}")
    return alike[0]


def _title(row: Row, name: str) -> str:
    said = f"{row['answer']} ({row['outcome']})" if row["answer"] is not None else str(row["outcome"])
    return f"{row['problem']}, {short_name(name)}: {said}, stopped: {row['stop_reason']}"


def _some(rows: Mapping[str, Row]) -> str:
    names = sorted(rows)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
