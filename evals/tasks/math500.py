"""MATH-500 (Lightman et al. 2023, arXiv 2305.20050): 500 test problems of MATH (Hendrycks et al. 2021), MIT licence.

References are the data set's own answers, all single boxes. Tune on other problems: these 500 are a test set.
"""

from pathlib import Path

from evals.data import Known, Row, checksum, differences, load_rows, text_field
from evals.tasks.base import Problem, Task
from verifiers.graders import grader_by_name

FIELDS = ("problem", "solution", "answer", "subject", "level", "unique_id")
KNOWN = Known(500, "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132")


def load_math500(spec: str, *, data_dir: Path | None) -> Task:
    """All problems; where the data differs from what is known, `Task.source` says in what."""
    rows, source = load_rows(
        hub="HuggingFaceH4/MATH-500", config="default", split="test", file="math500.jsonl", data_dir=data_dir
    )
    problems = [_problem(index, row, source) for index, row in enumerate(rows)]
    grader = grader_by_name("math")
    return Task(
        name=spec,
        problems=problems,
        answers=grader.answers,
        verifier=grader.verifier,
        prompt="boxed",
        max_tokens=2048,
        source=source + differences(KNOWN, rows, FIELDS),
        checksum=checksum(problems),
    )


def _problem(index: int, row: Row, source: str) -> Problem:
    where = f"{source}, row {index}"
    return Problem(
        id=text_field(row, ["unique_id"], where),
        question=text_field(row, ["problem"], where),
        reference=text_field(row, ["answer"], where),
        metadata={"subject": row.get("subject"), "level": row.get("level")},
    )
