"""Two prompts: what the first brings forth goes into the second, and the solutions are drawn from that.

The second prompt depends on what was written, so its samples are not the task's own and the pool does not keep them.
"""

import re
from collections.abc import Callable

from decoding.types import FinishReason
from reasoning.run import Run
from reasoning.selection import majority
from reasoning.strategies.base import AllAtOnce, draw, record_vote, result
from reasoning.trace import Prepared
from reasoning.trajectory import Result

ANSWER_LINE = "End with a line of the form\nAnswer: your answer"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
_WHOLE = frozenset({FinishReason.EOS, FinishReason.STOP})


class TwoStage(AllAtOnce):
    """A mixin for strategies that prepare once and then draw `n` answers."""

    __slots__ = ()

    @property
    def most_samples(self) -> int:
        """The answers, and the preparation before them."""
        return self.n + 1


async def prepare(run: Run, message: str, question: str, stage: str, keep: Callable[[str], str]) -> str | None:
    """What the first stage brings forth: what `keep` takes from the text; None if the budget has no room for it.

    Of a text that was cut off, the last line is torn and not given on ("12" may be the beginning of "127").
    """
    prompt = run.render([{"role": "user", "content": message}], question)
    request = run.request(prompt, stage, pooled=False)
    if request is None:
        return None
    completion = await run.generate(request)
    text = run.candidate(0, prompt, completion).text
    if completion.finish_reason not in _WHOLE:
        text = text[: text.rfind("\n") + 1]
    kept = keep(text).strip()
    tokens = len(completion.token_ids)
    run.record(Prepared(stage=stage, tokens=tokens, finish_reason=completion.finish_reason, text=kept))
    return kept


async def answer(run: Run, message: str, question: str, n: int) -> Result:
    """Draw n solutions of the second prompt and take the answer that most of them give."""
    prompt = run.render([{"role": "user", "content": message}], question)
    candidates = await draw(run, prompt, n, stage="answer", pooled=False)
    vote = majority(await run.classes(candidates))
    await record_vote(run, candidates, vote)
    return result(run, candidates, vote.index, "done" if len(candidates) == n else "budget")


def asked(question: str) -> str:
    """The question without its context: from the last sentence that asks on; all of it where none asks."""
    text = question.strip()
    mark = text.rfind("?")
    starts = [match.end() for match in _SENTENCE_END.finditer(text, 0, max(mark, 0))]
    return text[starts[-1] :] if starts else text
