r"""ThinkPRM: a critique step by step, each ending in a box, and then whether the solution is right.

Khalifa et al. 2025, *Process Reward Models That Think*, arXiv 2504.16828. The prompt, the beginning of the answer and
where it stops are those of ``utils/helper.py`` and ``prm/thinkprm_api.py`` in github.com/mukhal/ThinkPRM at 0beccfb2;
the labels, and the tokens " Yes" and " No", those of the data that it was trained on (``dataset/prm_dataset.py``).
"""

import asyncio
import re
from typing import Any

from verifiers.judges.splits import AtHeadings
from verifiers.judges.types import Judgement, Solution, check_count
from verifiers.judges.written.chains import Chain, chat_ids, pair_ids
from verifiers.judges.written.generated import WritingJudge, boxes, listed

PROMPT = """You are given a math problem and a proposed step-by-step solution:

[Math Problem]

{problem}

[Solution]

{solution}

Review and critique each step in the proposed solution to determine whether each step is correct. \
If the solution is incomplete, only verify the provided steps."""
OPENING = "\nLet's verify step by step:"
QUESTION = "Is the solution correct?"
_ANSWERS = (" Yes", " No")
_HEADING = r"(?:#+ *)?Step \d+:"
_THOUGHT = "</think>"


class ThinkPRM(WritingJudge):
    """Steps' scores are the shares of chains that find them right, a solution's is the probability of " Yes".

    A chain stops at the first wrong step; the steps behind it count as wrong. Steps that a chain breaks off before are
    not counted for it.
    """

    format = "think-prm"
    steps = AtHeadings(_HEADING)  # the headings stay, and are written anew in the prompt

    def __init__(self, engine: Any, *, name: str, **options: Any) -> None:
        """As `WritingJudge`; raises ``ModelError`` where the answers are not single tokens."""
        super().__init__(engine, name=name, **options)
        self._pair = pair_ids(self._engine.tokenizer, *_ANSWERS, self._engine.info.model)

    def tokens(self, solution: Solution) -> int:
        """The most tokens that judging it may cost."""
        return self._most_tokens(self._prompt(solution), calls=2)

    async def score_steps(self, solution: Solution) -> Judgement:
        """Labels of the steps, averaged over the chains."""
        chains = await self._verify(solution)
        judgement = self._judgement(chains, [step_labels(chain.text, len(solution.steps)) for chain in chains])
        check_count(self.name, judgement.scores, len(solution.steps))
        return judgement

    async def reward(self, solution: Solution) -> Judgement:
        """P(" Yes") of the two answers, averaged over the chains; of a prefix, whether it is right so far."""
        chains = await self._verify(solution)
        scores = await asyncio.gather(*(self._decide(chain) for chain in chains))
        return self._judgement(chains, [[score] for score in scores])

    def _usual_temperature(self, chains: int) -> float:
        return 0.0 if chains == 1 else 0.4

    async def _verify(self, solution: Solution) -> list[Chain]:
        prompt = self._prompt(solution)
        chains = [self._chain(prompt, solution, index) for index in range(self.chains)]
        beyond = f"Step {len(solution.steps) + 1}:"  # a step that there is not
        await asyncio.gather(*(self._write(chain, beyond) for chain in chains))
        return chains

    async def _write(self, chain: Chain, beyond: str) -> None:
        answers = tuple(QUESTION + answer for answer in _ANSWERS)
        await chain.write(self.max_tokens, stop=(*answers, beyond), pair=self._pair)
        chain.cut_before(beyond)

    async def _decide(self, chain: Chain) -> float | None:
        score = chain.read_behind(QUESTION, self._pair)
        if score is None:
            chain.tell(f"\n{QUESTION}")
            score = await chain.ask(self._pair)
        return score

    def _prompt(self, solution: Solution) -> tuple[int, ...]:
        steps = listed(solution.steps, lambda i, step: f"Step {i + 1}: {re.sub(_HEADING, '', step).strip()}", "\n")
        content = PROMPT.format(problem=solution.question, solution=steps)
        return chat_ids(self._engine.tokenizer, [{"role": "user", "content": content}], OPENING)


def step_labels(text: str, steps: int) -> tuple[float | None, ...]:
    r"""The labels of a critique, 1 or 0: boxes in order, up to the first wrong step or the last that there is.

    Behind the first wrong step all are 0. A critique that ends before that leaves the rest unread. Boxes that hold
    something else are no labels, and what comes after the thought repeats it.
    """
    words = [word.lower() for word in boxes(text.partition(_THOUGHT)[0])]
    labels = [float(word == "correct") for word in words if word in ("correct", "incorrect")][:steps]
    if 0.0 in labels:
        right = labels.index(0.0)
        return (1.0,) * right + (0.0,) * (steps - right)
    return (*labels, *((None,) * (steps - len(labels))))
