"""Self-evaluation: the policy says of what it has written so far, by one token, how it will end.

After Manvi et al. 2024, *Adaptive Inference-Time Compute: LLMs Can Predict if They Can Do Better, Even
Mid-Generation*, arXiv 2410.02725: the answer so far is followed by a user's turn that asks whether starting over would
do better, and the score is the probability of "No". The words of the question, the template and all details are not
verified: the paper's code was not released. The paper trains for this; a model that was not trained is only asked for
its opinion.

The ids are the policy's own, so an engine with a prefix cache computes the question and one token.
"""

from typing import Any

from decoding.errors import ConfigError, ContextError
from decoding.types import SamplingParams
from verifiers.judges.types import Judgement, Solution
from verifiers.judges.written.chains import AnyEngine, Chain, more_ids, pair_ids, turn_ids
from verifiers.judges.written.generated import EngineJudge

QUESTION = "Would you do better if you started over?"
REFERENCE: dict[str, Any] = {"query": "<mask>", "good": "<yes>", "bad": "<no>"}
"""Options for the policies of the reference world."""


class SelfEvaluation(EngineJudge):
    """A `ValueModel` over an engine that has the policy's ids; reads `Solution.token_ids`.

    Args:
        engine: The policy's own, or one of a model that shares its tokenizer.
        name: As the user named it.
        query: A text that follows the ids. None: `QUESTION` as a user's turn, by the model's chat template.
        good: The answer, one token, whose probability is the score, of it and `bad`.
        bad: The other answer, one token.
        verified: Whether the query is known to be what the model was trained on.
        owned: Whether closing the judge closes the engine.
    """

    format = "self-evaluation"

    def __init__(
        self,
        engine: AnyEngine,
        *,
        name: str = "self-evaluation",
        query: str | None = None,
        good: str = "No",
        bad: str = "Yes",
        verified: bool = False,
        owned: bool = False,
    ) -> None:
        """Raises ``CapabilityError``, ``ConfigError`` or ``ModelError`` if the engine can't be asked."""
        super().__init__(engine, name=name, verified=verified, owned=owned)
        tokenizer, model = self._engine.tokenizer, self._engine.info.model
        self._query = turn_ids(tokenizer, QUESTION) if query is None else more_ids(tokenizer, query)
        self._pair = pair_ids(tokenizer, good, bad, model)

    def tokens(self, solution: Solution) -> int:
        """The ids, the query and one token."""
        return len(solution.token_ids) + len(self._query) + 1

    async def value(self, solution: Solution) -> Judgement:
        """The probability of the good answer.

        Raises:
            ConfigError: The solution comes without ids.
            ContextError: The query does not fit behind them.
        """
        if not solution.token_ids:
            raise ConfigError(f"{self.name} reads the policy's own ids, and this solution comes without them")
        length, info = self.tokens(solution), self._engine.info
        if info.context_length and length > info.context_length:
            raise ContextError(
                f"{self.name}: the ids, the query and its answer are {length} tokens, and the context of {info.model} "
                f"is {info.context_length}: judge earlier, or take a longer context"
            )
        # The token that is drawn does not matter, only its law, which no seed changes.
        greedy = SamplingParams(seed=0, temperature=0.0, logprobs=False)
        chain = Chain(self._opened, self._unended(solution) + self._query, greedy, lambda call: call)
        score = await chain.ask(self._pair)
        return Judgement(scores=(0.5 if score is None else score,), usage=chain.usage)

    def _unended(self, solution: Solution) -> tuple[int, ...]:
        """The ids without the one by which the policy ended: the query stands where it stood, or says so itself."""
        ended = solution.token_ids[-1] in self._engine.tokenizer.eos_token_ids
        return solution.token_ids[:-1] if ended else solution.token_ids
