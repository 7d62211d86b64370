"""Files of demonstrations: questions with rationales and answers, to stand before the question that is asked.

The first line says where they came from and has their checksum; every further line is a demonstration. An evaluation
that uses a file is a function of the file, whatever model wrote it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from decoding.errors import DataError
from evals.data import read_jsonl, rows_sha256, text_field


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A solved question."""

    question: str
    rationale: str  # in one line
    answer: str


class Demonstrations(NamedTuple):
    """What a file holds."""

    demonstrations: list[Demonstration]
    checksum: str  # sha256 of the demonstrations


def write_demonstrations(path: Path, demonstrations: Sequence[Demonstration], origin: Mapping[str, Any]) -> None:
    """Write a file; `origin`, JSON values, says where the demonstrations came from."""
    rows = [asdict(demonstration) for demonstration in demonstrations]
    header = {**origin, "sha256": rows_sha256(rows, _FIELDS)}
    path.write_text("".join(json.dumps(row) + "\n" for row in [header, *rows]))


def read_demonstrations(path: Path) -> Demonstrations:
    """Read a file; raises ``DataError`` if it can't be read, has no demonstrations or was changed."""
    header, *rows = read_jsonl(path) or [{}]
    checksum = rows_sha256(rows, _FIELDS)
    if not rows or header.get("sha256") != checksum:
        raise DataError(f"{path} is no file of demonstrations, or was changed: make it again (evals.auto_cot)")
    return Demonstrations([_demonstration(path, number, row) for number, row in enumerate(rows, start=2)], checksum)


def _demonstration(path: Path, line: int, row: dict[str, Any]) -> Demonstration:
    return Demonstration(**{name: text_field(row, [name], f"{path}, line {line}") for name in _FIELDS})


_FIELDS = tuple(field.name for field in fields(Demonstration))
