"""Judges that read positions of a text: one format over one reader, or over two where scores are log-ratios."""

import asyncio
from dataclasses import replace

from decoding.errors import ConfigError, ContextError, EngineError, ModelError
from decoding.types import Usage
from verifiers.judges.format import PRMFormat, Rendered
from verifiers.judges.reader import Head, Reader, Readings
from verifiers.judges.types import JudgeInfo, Judgement, Solution, check_count


class ReadingJudge:
    """What judges over readers have in common.

    Args:
        reader: The model.
        format: How a solution is put to it, and what its numbers mean.
        name: As the user named it.
        verified: Whether the format was checked against the model's real tokenizer.
        reference: The second model of formats whose scores are log-ratios.
    """

    def __init__(
        self,
        reader: Reader,
        format: PRMFormat,  # noqa: A002
        *,
        name: str,
        verified: bool = False,
        reference: Reader | None = None,
    ) -> None:
        """Raises ``ModelError`` if the model's tokenizer lacks what the format needs; both are named."""
        two = format.read_out.models == 2
        if two != (reference is not None):
            needs = "needs a reference model: name it" if two else "reads one model: leave the reference out"
            raise ConfigError(f"{name}: the format {format.name} {needs}")
        self._readers = (reader,) if reference is None else (reader, reference)
        self._format, self._name = format, name
        info = reader.info
        self._info = JudgeInfo(
            name=name,
            kind=format.read_out.kind,
            format=format.name,
            backend=info.backend,
            revision=info.revision,
            parameters=sum(each.info.parameters for each in self._readers),
            context_length=min(each.info.context_length for each in self._readers),
            verified=verified,
            aggregate=format.aggregate,
        )
        try:
            format.read_out.columns(reader.tokenizer)
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from error
        self._render(Solution(question="1+1?", steps=("2",)))  # what the tokenizer lacks shows here, not in a search

    @property
    def info(self) -> JudgeInfo:
        """Name, kind and limits."""
        return self._info

    def split(self, text: str) -> tuple[str, ...]:
        """The steps of a whole text, by the format's rule; at least one."""
        return self._format.split(text)

    def tokens(self, solution: Solution) -> int:
        """Tokens of the rendered solution, for each model and each pass that reads it."""
        rendered = self._render(solution)
        passes = sum(position + 1 for position in rendered.positions)
        return sum(len(rendered.token_ids) if reader.info.one_pass else passes for reader in self._readers)

    async def aclose(self) -> None:
        """Close the readers."""
        await asyncio.gather(*(reader.aclose() for reader in self._readers))

    async def _judge(self, solution: Solution, *, last: bool) -> Judgement:
        """The scores of all steps, or of the last one alone."""
        rendered = self._render(solution)
        length, limit = len(rendered.token_ids), self._info.context_length
        if length > limit:
            raise ContextError(
                f"{self._name}: the solution has {length} tokens in the format {self._format.name}, and the context is "
                f"{limit}: it is not cut; take a judge with a longer context, or shorter solutions"
            )
        wanted = rendered.positions[-1:] if last else rendered.positions
        text = self._format.read_out.head is Head.TEXT
        read = tuple(range(rendered.answer, wanted[-1] + 1)) if text else wanted
        readings = await asyncio.gather(*(reader.read(rendered.token_ids, read) for reader in self._readers))
        scores = self._scores(readings, len(read))
        if text:  # cumulative at every token of the answer
            scores = tuple(scores[position - rendered.answer] for position in wanted)
        check_count(self._name, scores, len(wanted))
        return Judgement(scores=scores, usage=self._usage(readings))

    def _scores(self, readings: list[Readings], positions: int) -> tuple[float, ...]:
        for each in readings:
            if len(each.rows) != positions:
                raise EngineError(f"{self._name} should give {positions} rows and gave {len(each.rows)}")
        rows = [sum(row, ()) for row in zip(*(each.rows for each in readings), strict=True)]
        try:
            return self._format.read_out.scores(rows)
        except EngineError as error:
            raise EngineError(f"{self._name} ({self._format.name}): {error}") from error

    def _usage(self, readings: list[Readings]) -> Usage:
        pairs = [(reader.info.parameters, each) for reader, each in zip(self._readers, readings, strict=True)]
        return Usage(
            scored_tokens=sum(each.computed for _, each in pairs),
            scored_tokens_cached=sum(each.cached for _, each in pairs),
            flops=sum(2.0 * parameters * each.computed for parameters, each in pairs),
        )

    def _render(self, solution: Solution) -> Rendered:
        try:
            rendered = self._format.template.render(self._readers[0].tokenizer, solution)
        except ModelError as error:
            raise ModelError(f"{self._name}: {error}") from error
        check_count(self._name, rendered.positions, len(solution.steps))
        return rendered


class StepJudge(ReadingJudge):
    """A `ProcessRewardModel`: one score a step."""

    async def score_steps(self, solution: Solution) -> Judgement:
        """Scores, [S]; see `ProcessRewardModel.score_steps`."""
        return await self._judge(solution, last=False)


class PrefixValue(ReadingJudge):
    """A `ValueModel`: the number at the end of what was written."""

    async def value(self, solution: Solution) -> Judgement:
        """One number; see `ValueModel.value`."""
        return await self._judge(solution, last=True)


class SolutionReward(ReadingJudge):
    """An `OutcomeRewardModel`: a whole solution as one step, its steps joined by `between`."""

    between = "\n\n"

    async def reward(self, solution: Solution) -> Judgement:
        """One number; see `OutcomeRewardModel.reward`."""
        return await self._judge(self._whole(solution), last=True)

    def tokens(self, solution: Solution) -> int:
        """Tokens of the rendered solution."""
        return super().tokens(self._whole(solution))

    def _whole(self, solution: Solution) -> Solution:
        return replace(solution, steps=(self.between.join(solution.steps),), finished=True)
