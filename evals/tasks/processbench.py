r"""ProcessBench (Zheng et al. 2024, arXiv 2412.06559), Apache-2.0: where is the first error of a solution?

``processbench`` is its GSM8K part, 400 solutions; ``processbench:math`` and others come from the hub. As a task the
model is a critic: it gets the paper's prompt and answers with the index of the first wrong paragraph in ``\boxed``, -1
if there is none. Accuracy is over all solutions; the report adds the paper's figure, the harmonic mean of the
accuracies on solutions with an error and without one. Voting over critiques is self-consistency, as in the paper, but
an answer that is no whole number has no vote.

For judges that score steps see `evals.judging`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from decoding.errors import ConfigError, DataError
from evals.data import Known, Row, checksum, differences, load_rows, text_field
from evals.tasks.base import Problem, Task
from verifiers.base import Extraction, Outcome, Verdict
from verifiers.exact import NO_ANSWER, Spelt, last_match

FIELDS = ("id", "generator", "problem", "steps", "final_answer_correct", "label")
KNOWN = {"gsm8k": Known(400, "47171087a5d94d2f235d22d78e20b967076d38ab4642dd9fd39964b31887f5be")}
PARTS = ("gsm8k", "math", "olympiadbench", "omnimath")
HAS_ERROR, NO_ERROR = "first error", "no error"  # rules: which of the two kinds a solution is of

# Figure 7 of the paper.
PROMPT = r"""The following is a math problem and a solution (split into paragraphs, enclosed with tags and indexed from 0):

[Math Problem]

{problem}

[Solution]

{tagged}

Your task is to review and critique the solution paragraph by paragraph. Once you identify an error in a paragraph, return the index of the paragraph where the earliest error occurs. Otherwise, return the index of -1 (which typically denotes "not found").

Please put your final answer (i.e., the index) in \boxed{}."""  # noqa: E501
_BOX = re.compile(r"\\boxed\{([^}]*)\}")
_INDEX = re.compile(r"\s*([-+]?[0-9]{1,9})\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFormat(Spelt):
    r"""The whole number in the last ``\boxed{...}``, as the paper's code reads it."""

    name = "index"

    def extract(self, text: str) -> Extraction:
        """The index, spelt canonically; no answer where the last box holds something else."""
        box = last_match(_BOX, text)
        index = _INDEX.fullmatch(box[1]) if box is not None else None
        if box is None or index is None:
            return NO_ANSWER
        return Extraction(value=str(int(index[1])), rule="boxed", span=box.span(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexVerifier:
    """Right if the index is that of the first wrong paragraph; the rule tells whether there is one."""

    def quick(self, answer: str | None, reference: str) -> Verdict:
        """Judge an extracted answer; None is ``no_answer``."""
        rule = NO_ERROR if reference == "-1" else HAS_ERROR
        if answer is None:
            return Verdict(outcome=Outcome.NO_ANSWER, rule=rule)
        return Verdict(outcome=Outcome.CORRECT if answer == reference else Outcome.WRONG, rule=rule)

    verify = quick


def load_processbench(spec: str, *, data_dir: Path | None) -> Task:
    """All solutions of a part, from ``processbench_<part>.jsonl`` or the hub.

    A problem's metadata has ``problem``, ``steps``, ``label`` (the first wrong step, -1 for none) and
    ``final_answer_correct``. Raises ``ConfigError`` for an unknown part, ``DataError`` for a row that can't be used.
    """
    part = spec.partition(":")[2] or "gsm8k"
    if part not in PARTS:
        raise ConfigError(f"ProcessBench has no part {part!r}: there are {', '.join(PARTS)}")
    rows, source = load_rows(
        hub="Qwen/ProcessBench", config="default", split=part, file=f"processbench_{part}.jsonl", data_dir=data_dir
    )
    problems = [_problem(row, f"{source}, row {index + 1}") for index, row in enumerate(rows)]
    return Task(
        name=spec,
        problems=problems,
        answers=IndexFormat(),
        verifier=IndexVerifier(),
        prompt="chat",
        max_tokens=2048,
        source=source + (differences(KNOWN[part], rows, FIELDS) if part in KNOWN else ""),
        checksum=checksum(problems),
    )


def critic_prompt(problem: str, steps: Sequence[str]) -> str:
    """The paper's prompt for critics."""
    tagged = "\n\n".join(f"<paragraph_{i}>\n{step}\n</paragraph_{i}>" for i, step in enumerate(steps))
    before, _, rest = PROMPT.partition("{problem}")
    between, _, after = rest.partition("{tagged}")  # nothing that a problem holds is taken for a place to fill
    return before + problem + between + tagged + after


def _problem(row: Row, where: str) -> Problem:
    problem, steps, label = text_field(row, ["problem"], where), row.get("steps"), row.get("label")
    if not isinstance(steps, list) or not steps or not all(isinstance(step, str) for step in steps):
        raise DataError(f"{where} has no list of texts under steps")
    if not isinstance(label, int) or not -1 <= label < len(steps):
        raise DataError(f"{where}: the label has to be the index of a step, or -1, and is {label!r}")
    kept = ("generator", "problem", "steps", "label", "final_answer_correct")
    return Problem(
        id=f"processbench-{text_field(row, ['id'], where)}",
        question=critic_prompt(problem, steps),
        reference=str(label),
        metadata={key: row.get(key) for key in kept},
    )
