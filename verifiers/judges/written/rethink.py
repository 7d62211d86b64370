"""Judging in two turns: what matters and what may be wrong, then a second reading that looks for just that.

After Jiao et al. 2025, *Think Twice: Branch-and-Rethink Reasoning Reward Model*, arXiv 2510.23596, section 3: turn 1
picks one to three of a fixed set of dimensions and notes issues, turn 2 reads again with these in view and decides. The
dimensions are those of ``nemo_rl/environments/brrm_environment.py`` in github.com/yzjiao/BR-RM at 34a58b25. Their
models compare two answers; here one solution is judged, by any chat model, in prompts of our own, for what `LLMJudge`
asks.
"""

from collections.abc import Sequence

from verifiers.judges.types import Solution
from verifiers.judges.written.chains import RESERVE, Chain, chat_ids, more_ids
from verifiers.judges.written.generated import conclusion
from verifiers.judges.written.llm_judge import OUTCOME, STEPS, LLMJudge, Task, shown

DIMENSIONS = (
    "Information Accuracy",
    "Computational Precision",
    "Logical Reasoning",
    "Implementation Capability",
    "Safety Awareness",
    "Response Completeness",
    "Instruction Adherence",
    "Communication Clarity",
)
BRANCH = f"""Before this solution is judged, find out what to look at. Do not judge it yet.

1. Choose the one to three dimensions that decide whether a solution of this problem is right, out of: \
{", ".join(DIMENSIONS)}.
2. For each, say in a sentence or two what may be wrong in this solution: which paragraph, which claim, and what would \
show it. Write "None identified" where nothing looks wrong."""
RETHINK = """Now read the solution again with these concerns in view. Test each of them: do the calculation or the \
argument over, and say whether the concern holds. Leave out what does not matter to them.

"""


class BranchAndRethink(LLMJudge):
    """As `LLMJudge`, in two turns."""

    format = "branch-and-rethink"

    def tokens(self, solution: Solution) -> int:
        """The most tokens that judging it may cost."""
        # Turn 2 reads turn 1 and its prompt again, and a verdict that is asked for reads both turns.
        first = len(self._prompt(solution, OUTCOME)) + self.max_tokens + RESERVE
        second = len(more_ids(self._engine.tokenizer, RETHINK + max(STEPS.text, OUTCOME.text, key=len))) + RESERVE
        return self.chains * (3 * first + 2 * (second + self.max_tokens))

    async def _write(self, prompt: Sequence[int], solution: Solution, task: Task, index: int) -> tuple[Chain, ...]:
        first = self._chain(prompt, solution, task.name, index, "branch")
        await first.write(self.max_tokens)
        messages = [
            {"role": "user", "content": shown(solution) + BRANCH},
            {"role": "assistant", "content": conclusion(first.written).strip()},
            {"role": "user", "content": RETHINK + task.text},
        ]
        again = chat_ids(self._engine.tokenizer, messages)
        second = self._chain(again, solution, task.name, index, "rethink")
        await second.write(self.max_tokens, pair=self._pair_for(task))
        return first, second

    def _prompt(self, solution: Solution, task: Task) -> tuple[int, ...]:
        return chat_ids(self._engine.tokenizer, [{"role": "user", "content": shown(solution) + BRANCH}])
