"""What is compared with what: results folders and their strategies, as they are typed."""

import difflib
import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from decoding.errors import BethinkError, ConfigError, StoreError
from evals.reports.report import read_results, short_name
from evals.store import Row, read_config
from reasoning.strategies import parse_strategy, spell


@dataclass(frozen=True, slots=True)
class Side:
    """A folder, and the strategy that was named with it."""

    folder: Path
    strategy: str | None
    config: Row
    results: Mapping[str, Mapping[str, Row]]  # by strategy and problem


def open_side(text: str) -> Side:
    """A folder, and what stands behind a colon after it. Folders may have colons in their names."""
    cuts = [i for i, character in enumerate(text) if character == ":"]
    folder, strategy = Path(text), None
    if not folder.exists():
        cut = next((i for i in reversed(cuts) if Path(text[:i]).is_dir()), None)
        if cut is None:
            raise StoreError(f"there is no results folder {text!r}: check the path")
        folder, strategy = Path(text[:cut]), text[cut + 1 :]
    config = read_config(folder)["config"]
    results: dict[str, dict[str, Row]] = {}
    for (name, problem), row in read_results(folder).items():
        results.setdefault(name, {})[problem] = row
    if not results:
        raise StoreError(f"{folder} holds no results yet: run `bethink eval` on it first")
    return Side(folder, strategy, config, results)


def pairs_of(first: Side, second: Side, strategies: Sequence[str], *, same: bool, alone: bool) -> list[tuple[str, str]]:
    """Which strategy of the first side is compared with which of the second."""
    named = [side.strategy for side in (first, second) if side.strategy is not None]
    if named and strategies:
        raise ConfigError("name strategies behind the folders or with --strategy, not both")
    if alone and named:
        raise ConfigError("a single strategy has nothing to be compared with: name a second folder:strategy")
    if named:
        pair = _named(first, first.strategy or named[0]), _named(second, second.strategy or named[0])
        if same and pair[0] == pair[1]:
            raise ConfigError(f"both sides are {short_name(pair[0])} of {first.folder}: name two strategies")
        return [pair]
    if same:
        return _pairs_within(first, strategies, alone=alone)
    if strategies:
        return [(_named(first, text), _named(second, text)) for text in strategies]
    shared = [(name, name) for name in first.results if name in second.results]
    if shared:
        return shared
    if len(first.results) == len(second.results) == 1:
        return [(next(iter(first.results)), next(iter(second.results)))]
    raise ConfigError(
        f"{first.folder} and {second.folder} share no strategy: name them as folder:strategy; the first has "
        f"{_listed(first)}, the second {_listed(second)}"
    )


def _pairs_within(side: Side, strategies: Sequence[str], *, alone: bool) -> list[tuple[str, str]]:
    if not strategies and not alone:
        raise ConfigError(f"both sides are {side.folder}: name two strategies; it has {_listed(side)}")
    names = list(dict.fromkeys(_named(side, text) for text in strategies)) or list(side.results)
    if len(names) < 2:
        raise ConfigError(f"one strategy has nothing to be compared with: {side.folder} has {_listed(side)}")
    return list(itertools.combinations(names, 2))


def _named(side: Side, text: str) -> str:
    """The strategy of a folder that a text names: spelt out, short, or by its bare name where that is enough."""
    spellings = [text]
    with suppress(BethinkError):  # a run of another version may know it
        spellings.append(spell(parse_strategy(text)))
    found = [name for name in side.results if name in spellings or short_name(name) == text]
    found = found or [name for name in side.results if name.partition(":")[0] == text]
    if len(found) == 1:
        return found[0]
    close = difflib.get_close_matches(text, [short_name(name) for name in side.results], n=1)
    wrong = f"several strategies of {side.folder} are called" if found else f"{side.folder} has no strategy"
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ConfigError(f"{wrong} {text!r}{hint}: it has {_listed(side)}")


def _listed(side: Side) -> str:
    return ", ".join(short_name(name) for name in side.results)
