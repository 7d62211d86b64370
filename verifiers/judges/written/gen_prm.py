r"""GenPRM: a paragraph at a time, analysed, checked by a program that is run, and judged in a box.

Zhao et al. 2025, *GenPRM: Scaling Test-Time Compute of Process Reward Models via Generative Reasoning*, arXiv
2504.00891. Prompts, stops and limits are those of ``src/prm_evaluation/genprm_inference.py`` and ``prm_evaluate.py`` in
github.com/RyanLiu112/GenPRM at cc80f47f. Four things differ. Programs run in our sandbox, not by a bare ``exec``, and
have the standard library, numpy and sympy. The probability of the answer that was not written is the model's own, not
the smallest of twenty. A chain that ends without a judgement is asked for one, where theirs runs its last program
again. The chat ends as the template begins an answer, as in the training data; their code leaves that out.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from decoding.types import FinishReason, Usage
from verifiers.judges.types import Judgement, Solution, check_count
from verifiers.judges.written.chains import Chain, chat_ids, pair_ids
from verifiers.judges.written.generated import WritingJudge, mean_of_readable
from verifiers.judges.written.programs import MOST_TOKENS, last_program, output_of
from verifiers.sandbox.types import Policy

SYSTEM = "You are a math teacher. Your task is to review and critique the paragraphs in solution step by step."
ANALYZE = "<analyze>\nLet's analyze the Paragraph {step} step by step: "
VERIFY = "<verify>\nLet's use python code to find any potential error:\n```python\n"
OUTPUT = "<output>\n**Judgement**: $\\boxed"
CODE_OUTPUT = "[Code Output]\n\n```\n{output}\n```\n"
_ANALYZED, _FENCE, _DONE = "</analyze>\n", "\n```\n", "</output>\n"
_JUDGEMENT = "**Judgement**: $\\boxed{"
_MOST_TURNS = 3  # that a chain writes behind its analysis
_KEPT = 4096  # paragraphs whose judgement is kept
_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class _Paragraph:
    """How a paragraph was judged."""

    score: float
    text: str  # of the first chain: what the next paragraph is judged behind
    programs: tuple[str, ...]  # that the first chain ran, and those before it; they share their names


class GenPRM(WritingJudge):
    """Steps are paragraphs, each judged behind the judgements of those before it; the score is P("Yes").

    A paragraph that was judged behind the same others before costs nothing.
    """

    format = "gen-prm"
    usual_tokens = 2048
    top_p = 0.95
    top_k = 20

    def __init__(
        self, engine: Any, *, name: str, execute: bool = True, policy: Policy = _POLICY, **options: Any
    ) -> None:
        """As `WritingJudge`; `execute`: run the programs, in a sandbox as strong as `policy` wants."""
        super().__init__(engine, name=name, **options)
        self._pair = pair_ids(self._engine.tokenizer, "Yes", "No", self._engine.info.model)
        self._execute, self._policy = execute, policy
        self._known: OrderedDict[tuple[str, ...], _Paragraph] = OrderedDict()

    def tokens(self, solution: Solution) -> int:
        """The most tokens that judging it may cost, if no paragraph is known."""
        steps = len(solution.steps)
        prompt = self._prompt(solution, [""] * (steps - 1))
        told = _MOST_TURNS * MOST_TOKENS
        before = (steps - 1) * (self.max_tokens + told)
        return steps * (self._most_tokens(prompt, _MOST_TURNS + 2) + self.chains * (_MOST_TURNS + 2) * (before + told))

    async def score_steps(self, solution: Solution) -> Judgement:
        """P("Yes") of each paragraph, averaged over the chains, which the authors call votes."""
        judged: list[_Paragraph] = []
        usage = Usage()
        for count in range(1, len(solution.steps) + 1):
            prefix = replace(solution, steps=solution.steps[:count])
            key = (prefix.question, *prefix.steps)
            if key not in self._known:
                self._known[key], spent = await self._judge(prefix, judged)
                usage += spent
            self._known.move_to_end(key)
            judged.append(self._known[key])
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        scores = tuple(paragraph.score for paragraph in judged)
        check_count(self.name, scores, len(solution.steps))
        return Judgement(scores=scores, usage=usage, text="".join(paragraph.text for paragraph in judged))

    def _usual_temperature(self, chains: int) -> float:
        return 0.6

    async def _judge(self, prefix: Solution, judged: Sequence[_Paragraph]) -> tuple[_Paragraph, Usage]:
        """Judge the last paragraph of a prefix."""
        prompt = self._prompt(prefix, [paragraph.text for paragraph in judged])
        chains = [self._chain(prompt, prefix, index) for index in range(self.chains)]
        programs = [list(judged[-1].programs) if judged else [] for _ in chains]
        votes = await asyncio.gather(*map(self._vote, chains, programs))
        paragraph = _Paragraph(
            mean_of_readable([[vote] for vote in votes], self.neutral)[0],
            ANALYZE.format(step=len(prefix.steps)) + chains[0].text,
            tuple(programs[0]),
        )
        return paragraph, sum((chain.usage for chain in chains), Usage())

    async def _vote(self, chain: Chain, programs: list[str]) -> float | None:
        """One chain: analyse, verify, judge. Programs that it runs are added to `programs`."""
        begun = len(chain.token_ids)
        await chain.write(self.max_tokens, stop=(_ANALYZED,))
        if _ANALYZED not in chain.written:
            chain.tell(_ANALYZED)
        analysed = chain.token_ids
        chain.tell(VERIFY)
        stops = (_FENCE, _DONE) if self._execute else (_DONE,)
        for _ in range(_MOST_TURNS):
            left = self.max_tokens - (len(chain.token_ids) - begun)
            if left < 1 or await chain.write(left, stop=stops, pair=self._pair) is not FinishReason.STOP:
                break
            if _DONE in chain.written:
                score = chain.read_behind(_JUDGEMENT, self._pair)
                if score is not None:
                    return score
                break
            chain.tell(CODE_OUTPUT.format(output=await self._run(chain.text, programs)))
        chain.token_ids = analysed  # as theirs, without the verification
        return await self._force(chain)

    async def _force(self, chain: Chain) -> float | None:
        chain.tell(OUTPUT + "{")
        score = await chain.ask(self._pair)
        chain.tell(f"{'Yes' if score is None or score >= 0.5 else 'No'}}}$\n{_DONE}")
        return score

    async def _run(self, text: str, programs: list[str]) -> str:
        """What the last program of a chain prints, behind all that ran before it."""
        program = last_program(text)
        if program is None:
            return "Code format error: No code found."
        programs.append(program)
        return await asyncio.to_thread(output_of, tuple(programs), self._policy)

    def _prompt(self, prefix: Solution, judgements: Sequence[str]) -> tuple[int, ...]:
        """The chat up to the analysis of the last paragraph."""
        messages = [{"role": "system", "content": SYSTEM}]
        for index, step in enumerate(prefix.steps):
            content = f"Question: {prefix.question}\n\n{step}" if index == 0 else step
            messages.append({"role": "user", "content": content})
            if index < len(judgements):
                messages.append({"role": "assistant", "content": judgements[index]})
        return chat_ids(self._engine.tokenizer, messages, ANALYZE.format(step=len(prefix.steps)))
