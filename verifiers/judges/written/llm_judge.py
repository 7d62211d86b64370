r"""Any chat model as a judge: which step is the first wrong one, or whether the answer is right.

Steps are asked for as the critics of ProcessBench are (Zheng et al. 2024, arXiv 2412.06559, appendix;
``code/templates/critique_template.txt`` in github.com/QwenLM/ProcessBench at e8024636): paragraphs in tags, numbered
from 0, and the index of the earliest wrong one in a box. Several critiques make the steps' scores, where theirs vote.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from verifiers.judges.types import Judgement, Solution, check_count
from verifiers.judges.written.chains import Chain, Pair, chat_ids, pair_ids
from verifiers.judges.written.generated import READS, WritingJudge, boxes, conclusion, first_error_scores, listed

SHOWN = """\
The following is a math problem and a solution (split into paragraphs, enclosed with tags and indexed from 0):

[Math Problem]

{problem}

[Solution]

{tagged}

"""
FIND_ERROR = """\
Your task is to review and critique the solution paragraph by paragraph. Once you identify an error in a paragraph, \
return the index of the paragraph where the earliest error occurs. Otherwise, return the index of -1 (which typically \
denotes "not found").

Please put your final answer (i.e., the index) in \\boxed{}."""
GRADE = """\
Your task is to find out whether the solution's final answer to the problem is right. Check what it rests on, and work \
the answer out by yourself where you can.

Please put your final verdict, Yes if the final answer is right and No if it is not, in \\boxed{}."""
_MARK = "\\boxed{"
_VERDICT = f"\n\nFinal verdict: {_MARK}"


class Task(NamedTuple):
    """What a judge is asked for."""

    name: str  # in the seeds' path
    text: str


STEPS, OUTCOME = Task("steps", FIND_ERROR), Task("outcome", GRADE)


class LLMJudge(WritingJudge):
    """Steps' scores are 1 up to the first wrong one and 0 from it on; a solution's is the probability of "Yes".

    With an engine that does not tell probabilities (most servers) a verdict is 1 or 0. Means over the chains.
    """

    format = "llm-judge"
    needs = frozenset()
    top_p = 0.9

    def __init__(self, engine: Any, *, name: str, **options: Any) -> None:
        """As `WritingJudge`; with an engine that tells probabilities, raises ``ModelError`` if "Yes" is no token."""
        super().__init__(engine, name=name, **options)
        info = self._engine.info
        exact = info.capabilities >= READS
        self._pair: Pair | None = pair_ids(self._engine.tokenizer, "Yes", "No", info.model) if exact else None

    def tokens(self, solution: Solution) -> int:
        """The most tokens that judging it may cost."""
        return max(self._most_tokens(self._prompt(solution, task), calls=2) for task in (STEPS, OUTCOME))

    async def score_steps(self, solution: Solution) -> Judgement:
        """Whether each step lies before the first wrong one."""
        chains = await self._ask(solution, STEPS)
        rows = [first_error_scores(first_error(written[-1].written), len(solution.steps)) for written in chains]
        judgement = self._judgement(sum(chains, ()), rows)
        check_count(self.name, judgement.scores, len(solution.steps))
        return judgement

    async def reward(self, solution: Solution) -> Judgement:
        """Whether the final answer is right."""
        chains = await self._ask(solution, OUTCOME)
        scores = await asyncio.gather(*(self._verdict(written[-1]) for written in chains))
        return self._judgement(sum(chains, ()), [[score] for score in scores])

    async def _ask(self, solution: Solution, task: Task) -> list[tuple[Chain, ...]]:
        """Critiques; the last chain of each has the verdict."""
        prompt = self._prompt(solution, task)
        return await asyncio.gather(*(self._write(prompt, solution, task, index) for index in range(self.chains)))

    async def _write(self, prompt: Sequence[int], solution: Solution, task: Task, index: int) -> tuple[Chain, ...]:
        chain = self._chain(prompt, solution, task.name, index)
        await chain.write(self.max_tokens, pair=self._pair_for(task))
        return (chain,)

    def _pair_for(self, task: Task) -> Pair | None:
        return self._pair if task is OUTCOME else None

    async def _verdict(self, chain: Chain) -> float | None:
        said = conclusion(chain.written)
        if self._pair is None:
            return {"yes": 1.0, "no": 0.0}.get(boxes(said)[-1].lower() if boxes(said) else "")
        score = chain.read_behind(_MARK, self._pair) if _MARK in said else None
        if score is None:
            chain.tell(_VERDICT)
            score = await chain.ask(self._pair)
        return score

    def _prompt(self, solution: Solution, task: Task) -> tuple[int, ...]:
        content = shown(solution) + task.text
        return chat_ids(self._engine.tokenizer, [{"role": "user", "content": content}])


def shown(solution: Solution) -> str:
    """A problem and its solution as a judge is shown them."""
    tagged = listed(solution.steps, lambda i, step: f"<paragraph_{i}>\n{step}\n</paragraph_{i}>", "\n\n")
    return SHOWN.format(problem=solution.question, tagged=tagged)


def first_error(text: str) -> int | None:
    """The index in the last box of what a critique concludes; None if there is none or it holds no integer."""
    found = boxes(conclusion(text))
    try:
        return int(found[-1]) if found else None
    except ValueError:
        return None
