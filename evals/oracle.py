"""A check that knows the answers: for experiments that ask what a perfect judge would be worth, and nothing else."""

from typing import ClassVar

from decoding.errors import DataError
from evals.tasks.base import Task


class OracleCheck:
    """Accepts a candidate whose answer the task's verifier calls correct. Results that used it say so."""

    oracle: ClassVar[bool] = True
    name = "oracle"

    def __init__(self, task: Task) -> None:
        self._answers = task.answers
        self._verifier = task.verifier
        self._references: dict[str, set[str]] = {}  # generated tasks may ask one question twice
        for problem in task.problems:
            self._references.setdefault(problem.question, set()).add(problem.reference)

    def accept(self, question: str, text: str) -> bool:
        """Whether the text's answer is the true one; raises ``DataError`` for a question of another task."""
        if question not in self._references:
            raise DataError(f"the oracle knows no reference for {question[:80]!r}: build it from the task that you run")
        answer = self._answers.extract(text).value
        return any(self._verifier.verify(answer, reference).correct for reference in self._references[question])
