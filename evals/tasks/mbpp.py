"""MBPP (Austin et al. 2021, arXiv 2108.07732), CC-BY-4.0: short functions, described in a sentence and by tests.

``mbpp`` is the test split, ids 11 to 510, as everybody reports it. As in the paper its prompt shows the tests that
grade: a check on visible examples is then the truth itself. ``mbpp+`` shows one and grades with many
(`evals.tasks.mbpp_plus`).
"""

import re
from collections.abc import Sequence
from pathlib import Path

from decoding.errors import DataError
from evals.data import Known, Row, Rows, differences, text_field
from evals.tasks.base import Problem, Task
from evals.tasks.code import code_problem, code_rows, code_task, read_gzip
from evals.tasks.mbpp_plus import NOT_NONE, plus_test
from verifiers.code.verifier import CodeReference
from verifiers.sandbox.types import CodeTests

FIELDS = ("task_id", "text", "code", "test_list", "test_setup_code", "challenge_test_list")
PLUS_FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input", "atol")
KNOWN = Known(974, "d319eab6062e4dea05f5c28973e15bf55433cbbc310e47a0835ffc6cab1d3b3e")
KNOWN_PLUS = Known(378, "ad030349952566ce250f563e18cf48bffa9c4ed27fb5ecd485414d7f9aa6b65f")
PLUS_FILE = "MbppPlus.jsonl.gz"
TEST_IDS = range(11, 511)
ONE_PROCESS = frozenset({367, 533, 601, 927})  # tests that pass a type, or objects of the program's own classes


def load_mbpp(spec: str, *, data_dir: Path | None) -> Task:
    """``mbpp`` or ``mbpp+``; where the data differs from what is known, `Task.source` says in what."""
    problems, source = mbpp_plus_problems(data_dir) if spec == "mbpp+" else mbpp_problems(data_dir)
    if spec != "mbpp+":
        problems = [problem for problem in problems if int(problem.id.rpartition("/")[2]) in TEST_IDS]
    return code_task(spec, problems, source)


def mbpp_problems(data_dir: Path | None) -> tuple[list[Problem], str]:
    """All 974 problems of all splits, and where they came from."""
    rows, source = code_rows(
        hub="google-research-datasets/mbpp",
        config="full",
        split="prompt+test+validation+train",
        file="mbpp.jsonl",
        data_dir=data_dir,
        known=KNOWN,
        fields=FIELDS,
    )
    return [_problem(row, f"{source}, row {index}") for index, row in enumerate(rows)], source


def mbpp_plus_problems(data_dir: Path | None) -> tuple[list[Problem], str]:
    """The 378 problems of MBPP+, and where they came from."""
    rows, source = mbpp_plus_rows(data_dir)
    return [_plus_problem(row, f"{source}, row {index}") for index, row in enumerate(rows)], source


def mbpp_plus_rows(data_dir: Path | None) -> Rows:
    """Rows of MBPP+; raises ``DataError`` without a folder: the hub has it in another form."""
    if data_dir is None:
        raise DataError(
            f"mbpp+ is read from {PLUS_FILE} (release v0.2.0 of evalplus/mbppplus_release): give --data-dir"
        )
    rows = read_gzip(data_dir / PLUS_FILE)
    return Rows(rows, PLUS_FILE + differences(KNOWN_PLUS, rows, PLUS_FIELDS))


def _problem(row: Row, where: str) -> Problem:
    text, code = text_field(row, ["text"], where), text_field(row, ["code"], where)
    tests = row.get("test_list")
    if not isinstance(tests, list) or not tests:
        raise DataError(f"{where} has no tests under test_list")
    number = int(text_field(row, ["task_id"], where))
    entry_point = _entry_point(code, tests, where)
    test = "\n".join([str(row.get("test_setup_code") or ""), *tests])  # set-ups make objects of the program's classes
    # 596 counts on the program's import of sys.
    against = CodeTests(setup="import sys\n", test=test, entry_point=entry_point, calls_check=False)
    question = '"""\n' + "\n".join([text, *tests]) + '\n"""\n'
    reference = CodeReference(prompt="", tests=against, one_process=number in ONE_PROCESS)
    return code_problem(f"Mbpp/{number}", question, reference)


def _plus_problem(row: Row, where: str) -> Problem:
    missing = [field for field in PLUS_FIELDS if field not in row]
    if missing:
        raise DataError(f"{where} has no {', '.join(missing)}: is it {PLUS_FILE}?")
    tests = CodeTests(setup="", test=plus_test(row), entry_point=row["entry_point"], calls_check=False)
    reference = CodeReference(prompt="", tests=tests, one_process=row["entry_point"] in NOT_NONE)
    return code_problem(row["task_id"], row["prompt"], reference)


def _entry_point(code: str, tests: Sequence[str], where: str) -> str:
    """The function of the canonical solution that the tests call."""
    defined = set(re.findall(r"^def\s+(\w+)", code, re.MULTILINE))
    for name in re.findall(r"(\w+)\s*\(", "\n".join(tests)):
        if name in defined:
            return str(name)
    raise DataError(f"{where}: its tests call no function that its code defines")
