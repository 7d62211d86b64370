"""Rows from files and from the hub, and what tells one set of problems from another."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from decoding.errors import ConfigError, DataError
from evals.tasks.base import Problem

Row = dict[str, Any]


class Rows(NamedTuple):
    """Rows of a data set and where they came from."""

    rows: list[Row]
    source: str  # in words


class Known(NamedTuple):
    """What a data set is known to hold."""

    rows: int
    sha256: str  # of its rows as JSON lines, see `rows_sha256`


def read_jsonl(path: Path) -> list[Row]:
    """One JSON object a line; blank lines are skipped.

    Raises ``DataError``, with file and line, if the file can't be read or a line is torn or holds no object.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror or error}): check the path") from error
    # Split at newlines only: str.splitlines would also cut at separators that stand inside strings.
    return [_parse(path, number, line) for number, line in enumerate(data.split(b"\n"), start=1) if line.strip()]


def load_rows(*, hub: str, config: str, split: str, file: str, data_dir: Path | None) -> Rows:
    """Rows from `file` in `data_dir` where one is given, else from the Hugging Face hub.

    Raises ``DataError`` if neither can be had.
    """
    if data_dir is not None:
        return Rows(read_jsonl(data_dir / file), file)
    where = f"{hub} ({config}, {split})"
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(
            f"{where} is on the hub, and that needs: pip install 'bethink[data]'. Or give --data-dir with {file}"
        ) from error
    try:
        return Rows([dict(row) for row in load_dataset(hub, config, split=split)], f"hub: {where}")
    except Exception as error:  # the hub's client, its transport and the disk share no root
        raise DataError(
            f"{where} can't be fetched from the hub ({type(error).__name__}: {error}). Give --data-dir with {file}"
        ) from error


def rows_sha256(rows: Iterable[Row], fields: Sequence[str]) -> str:
    """Sha256 of rows written as JSON lines with `fields` in this order: the same for a file and for the hub."""
    digest = hashlib.sha256()
    for row in rows:
        line = json.dumps({field: row.get(field) for field in fields}, ensure_ascii=False)
        digest.update(line.encode(errors="surrogatepass") + b"\n")
    return digest.hexdigest()


def differences(known: Known, rows: Sequence[Row], fields: Sequence[str]) -> str:
    """In words, behind a source: what differs from the known data; empty if nothing does."""
    found = Known(len(rows), rows_sha256(rows, fields))
    unequal = [
        f"{field}: {have}, known: {wanted}"
        for field, have, wanted in zip(Known._fields, found, known, strict=True)
        if have != wanted
    ]
    return f" (not the known data: {'; '.join(unequal)})" if unequal else ""


def checksum(problems: Iterable[Problem]) -> str:
    """Sha256 over the canonical JSON of the problems, in their order."""
    digest = hashlib.sha256()
    for problem in problems:
        line = json.dumps(asdict(problem), sort_keys=True, separators=(",", ":"))
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def require_unique(problems: Sequence[Problem]) -> None:
    """Raise ``DataError`` if two problems share an id."""
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise DataError(
                f"two problems have the id {problem.id!r}: seeds and results hang on ids, give each its own"
            )
        seen.add(problem.id)


def select(problems: Sequence[Problem], *, limit: int | None, problem_ids: Collection[str] | None) -> list[Problem]:
    """The problems in the order of a hash of their ids: the first `limit` are a fair sample, and the same everywhere.

    Raises ``ConfigError`` if `problem_ids` names one that is not there.
    """
    if problem_ids is not None:
        wanted = set(problem_ids)
        unknown = sorted(wanted - {problem.id for problem in problems})
        if unknown:
            known = ", ".join(problem.id for problem in problems[:3])
            raise ConfigError(f"no problem has the id {', '.join(map(repr, unknown[:5]))}: ids look like {known}")
        problems = [problem for problem in problems if problem.id in wanted]
    return sorted(problems, key=lambda problem: hash_order(problem.id))[:limit]


def hash_order(identifier: str) -> bytes:
    """Where an id stands in an order that has nothing to do with the data."""
    return hashlib.sha256(identifier.encode(errors="surrogatepass")).digest()


def text_field(row: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    """The first of `names` that the row has, as text; ``DataError`` if it has none."""
    for name in names:
        value = row.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
    raise DataError(f"{where} has no text under {' or '.join(names)}: it has {', '.join(row) or 'nothing'}")


def _parse(path: Path, number: int, line: bytes) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {number}: not JSON ({error}). Is the file torn?") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number}: a {type(row).__name__}, not an object with fields")
    return row
