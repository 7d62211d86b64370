"""Evidence to Generate: first the evidence that the context gives, then the answer from the evidence.

Parvez, *Chain of Evidences and Evidence to Generate*, arXiv 2401.05787, section 3: both steps pose the same prompt
(chain of evidences, the long one), the first over the problem, the second over the evidence alone, or over evidence and
problem (table 1). The paper asks for JSON with an answer and an evidence tag; here both are lines of text, evidence
first, which small models and answer formats handle. The paper has context and query apart; here the query is taken to
be the last sentence of the problem that asks. One sample, as in the paper, or a vote over several.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from reasoning.run import Run
from reasoning.strategies.base import SAMPLING_NEEDS, result
from reasoning.strategies.two_stage import ANSWER_LINE, TwoStage, answer, asked, prepare
from reasoning.trajectory import Prompt, Result

CONTEXTS = ("evidence", "both")
_INSTRUCTION = (
    "You are a question answering agent. Given a context and a question as input, please give an answer to the "
    "question based on the context.\nThink step-by-step and generate the answer with evidence and explanation. Write "
    f"the evidence and explanation first. {ANSWER_LINE}"
)
_LABEL = re.compile(r"^[^\w\n]{0,10}evidence(?: and| &) explanation[^\w\n]{0,10}", re.IGNORECASE | re.MULTILINE)
_ANSWER = re.compile(r"^[^\w\n]{0,10}answer[^\w\n]{0,10}:.*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceToGenerate(TwoStage):
    """Evidence first, then n answers from it and a vote."""

    name: ClassVar[str] = "evidence_to_generate"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS

    n: int = 1
    context: str = "evidence"  # of the second step: the evidence alone, or both evidence and problem

    def __post_init__(self) -> None:
        if self.context not in CONTEXTS:
            raise ConfigError(f"context must be {' or '.join(CONTEXTS)}, got {self.context!r}")

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """E step, G step, vote."""
        question = prompt.question
        evidence = await prepare(run, _pose(question), question, "evidence", _evidence)
        if evidence is None:
            return result(run, [], None, "budget")
        alone = self.context == "evidence" and evidence
        rest = f"Question: {asked(question)}" if alone else question
        return await answer(run, _pose(f"{evidence}\n\n{rest}".strip()), question, self.n)


def _pose(problem: str) -> str:
    return f"{_INSTRUCTION}\n\nContext: {problem}"


def _evidence(text: str) -> str:
    """All but the answer."""
    return _LABEL.sub("", _ANSWER.sub("", text))
