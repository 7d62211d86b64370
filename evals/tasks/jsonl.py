"""A user's own problems: ``jsonl:<file>``, or ``jsonl:<file>,answers=text`` (or ``math``)."""

import re
from pathlib import Path

from decoding.errors import ConfigError
from evals.data import Row, checksum, read_jsonl, text_field
from evals.tasks.base import Problem, Task
from verifiers.base import AnswerFormat, Verifier
from verifiers.graders import grader_by_name
from verifiers.numeric import NumberFormat, NumberVerifier
from verifiers.text import TextFormat, TextVerifier

QUESTION = ("question", "problem", "prompt")
ANSWER = ("answer", "reference")
ID = ("id", "problem_id", "unique_id", "task_id")
_OPTION = re.compile(r",(\w+)=([^,=]*)\Z")


def load_jsonl(spec: str, *, data_dir: Path | None) -> Task:
    """All problems of a file with one JSON object a line.

    A row has its question under one of `QUESTION`, its answer under one of `ANSWER` (the answer alone, not a worked
    solution) and may have an id under one of `ID`; else its line number is its id. The file is looked for where the
    spec says, then in `data_dir`.
    """
    name, options = _options(spec)
    kind = options.pop("answers", "number")
    kinds: dict[str, tuple[AnswerFormat, Verifier]] = {
        "number": (NumberFormat(), NumberVerifier()),
        "text": (TextFormat(), TextVerifier()),
        "math": grader_by_name("math"),
    }
    if options or kind not in kinds or not name:
        spellings = ", ".join(f"jsonl:FILE,answers={kind}" for kind in kinds)
        raise ConfigError(f"{spec!r}: write jsonl:FILE, or {spellings}")
    path = Path(name).expanduser()
    if not path.is_file() and data_dir is not None and (data_dir / name).is_file():
        path = data_dir / name
    problems = [_problem(path, index, row) for index, row in enumerate(read_jsonl(path))]
    answers, verifier = kinds[kind]
    return Task(
        name=spec,
        problems=problems,
        answers=answers,
        verifier=verifier,
        prompt={"number": "zero_shot", "math": "boxed"}.get(kind, "chat"),
        max_tokens=1024,
        source=f"file: {path.name}",
        checksum=checksum(problems),
    )


def _problem(path: Path, index: int, row: Row) -> Problem:
    where = f"{path}, row {index + 1}"
    return Problem(
        id=text_field(row, ID, where) if any(row.get(key) is not None for key in ID) else f"row-{index + 1:05d}",
        question=text_field(row, QUESTION, where),
        reference=text_field(row, ANSWER, where),
    )


def _options(spec: str) -> tuple[str, dict[str, str]]:
    """The file and the options behind it; the file's own name may hold commas."""
    _, _, name = spec.partition(":")
    options: dict[str, str] = {}
    while match := _OPTION.search(name):
        options[match[1]] = match[2]
        name = name[: match.start()]
    return name, options
