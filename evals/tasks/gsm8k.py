"""GSM8K (Cobbe et al. 2021): 1,319 word problems with whole numbers for answers, MIT licence.

About 8 % of the test set is known to be wrong or unclear (GSM8K-Platinum keeps 1,209); it is reported as it is, and
``problem_ids`` takes a cleaned list.
"""

from pathlib import Path

from decoding.errors import DataError
from evals.data import Known, Rows, checksum, differences, load_rows, text_field
from evals.tasks.base import Problem, Task
from verifiers.numeric import NumberFormat, NumberVerifier, gold

FIELDS = ("question", "answer")


KNOWN = {
    "test": Known(1319, "752adc99f23132275139f1f7be57126b08735a55daf0c56859ee6df70abafbac"),
    "train": Known(7473, "6043ef64147b59871f4fd3adf669c306fe0a4c27e5a5c4bfb761f3f084895a13"),
}


def load_gsm8k(spec: str, *, data_dir: Path | None) -> Task:
    """All test problems; where the data differs from what is known, `Task.source` says in what."""
    rows, source = gsm8k_rows("test", data_dir)
    problems = [_problem(index, row, source) for index, row in enumerate(rows)]
    return Task(
        name=spec,
        problems=problems,
        answers=NumberFormat(),
        verifier=NumberVerifier(),
        prompt="zero_shot",
        max_tokens=512,
        stop=("\nQuestion:",),
        source=source + differences(KNOWN["test"], rows, FIELDS),
        checksum=checksum(problems),
    )


def gsm8k_rows(split: str, data_dir: Path | None) -> Rows:
    """Rows of a split, each with question and answer, from ``gsm8k_<split>.jsonl`` or the hub."""
    return load_rows(hub="openai/gsm8k", config="main", split=split, file=f"gsm8k_{split}.jsonl", data_dir=data_dir)


def _problem(index: int, row: dict[str, object], source: str) -> Problem:
    where = f"{source}, row {index}"
    answer = text_field(row, ["answer"], where)
    try:
        reference = gold(answer)
    except ValueError as error:
        raise DataError(f"{where}: the answer has no number behind ####") from error
    question = text_field(row, ["question"], where)
    return Problem(id=f"gsm8k-test-{index:04d}", question=question, reference=reference)
