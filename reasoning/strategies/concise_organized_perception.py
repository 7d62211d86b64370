"""Concise and organised perception: the premises are pruned and put in order before they are reasoned with.

Liu et al., *Concise and Organized Perception Facilitates Reasoning in Large Language Models*, arXiv 2310.03309:
premises that belong together are found, a mind map over them is grown from the question, and the context is written
anew from the map, without what the question does not need and in the order of inference; then the question is asked
over it.

The paper's own prompts were not to be had, and it prunes and orders its map with code of its own for each benchmark.
These prompts are ours: the model maps, prunes and orders in one completion. The question is taken to be the last
sentence of the problem that asks. One sample, or a vote over several.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from reasoning.run import Run
from reasoning.strategies.base import SAMPLING_NEEDS, result
from reasoning.strategies.two_stage import ANSWER_LINE, TwoStage, answer, asked, prepare
from reasoning.trajectory import Prompt, Result
from verifiers.exact import last_match

_HEADING = re.compile(r"organi[sz]ed statements[^\w\n]{0,10}", re.IGNORECASE)
_PERCEIVE = """Below are statements and a question. Do not answer the question yet. Prepare the statements for it:

1. Map them: for every statement, write what it leads to, one line each, in the form
   premise -> conclusion
2. Prune the map: go from the question backwards and drop every statement that does not lead to it.
3. Write the line "Organized statements:". Under it write the statements that are left, one a line, shortened to what
   matters, each after those that it builds on. Change no names and no numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConciseOrganizedPerception(TwoStage):
    """Organised premises first, then n answers from them and a vote."""

    name: ClassVar[str] = "concise_organized_perception"
    needs: ClassVar[frozenset[Capability]] = SAMPLING_NEEDS

    n: int = 1

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Perceive, reason, vote."""
        question = prompt.question
        perceived = await prepare(run, f"{_PERCEIVE}\n\n{question}", question, "perception", _organized)
        if perceived is None:
            return result(run, [], None, "budget")
        problem = f"{perceived}\n\n{asked(question)}" if perceived else question
        return await answer(run, f"{problem}\n\nLet's think step by step. {ANSWER_LINE}", question, self.n)


def _organized(text: str) -> str:
    """What stands under the heading; nothing where a text has none, since a map alone has lost the premises."""
    return "" if (heading := last_match(_HEADING, text)) is None else text[heading.end() :]
