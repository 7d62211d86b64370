"""Prompts and what is written after them, as token ids. Text is derived from ids and never turned back into them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from decoding.engine import Tokenizer
from decoding.errors import ConfigError
from decoding.types import Completion, FinishReason, Usage
from reasoning.trace import Event
from verifiers.base import AnswerFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A question, rendered once to ids."""

    question: str  # as the problem states it, for judges that need the text
    token_ids: tuple[int, ...]

    @classmethod
    def from_text(cls, text: str, tokenizer: Tokenizer, *, question: str | None = None) -> "Prompt":
        """A prompt that is the text as it stands."""
        return cls(question=text if question is None else question, token_ids=tokenizer.encode(text))

    @classmethod
    def from_chat(cls, messages: Sequence[dict[str, str]], tokenizer: Tokenizer, *, question: str) -> "Prompt":
        """A prompt that is a chat, rendered by the model's own template."""
        if not tokenizer.has_chat_template:
            raise ConfigError("this model has no chat template: give the prompt as text")
        return cls(question=question, token_ids=tokenizer.render_chat(messages))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one request wrote, its delimiter included, and what was put behind it."""

    token_ids: tuple[int, ...]  # [T]
    logprob: float | None  # nats of the tokens that were drawn, under the model at temperature 1
    finish_reason: FinishReason
    given: int = 0  # how many of its last tokens were put there and not drawn
    open: bool = False  # whether another step may follow

    @classmethod
    def of(cls, completion: Completion) -> "Step":
        """The step that a completion wrote."""
        return cls(token_ids=completion.token_ids, logprob=completion.logprob, finish_reason=completion.finish_reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """A prompt and the steps after it. Immutable: `extend` returns a new one, and the two share their steps."""

    prompt: Prompt
    steps: tuple[Step, ...] = ()

    def extend(self, step: Step) -> "Trajectory":
        """This trajectory with one more step."""
        return Trajectory(prompt=self.prompt, steps=(*self.steps, step))

    @property
    def generated_ids(self) -> tuple[int, ...]:
        """All ids after the prompt."""
        return tuple(token for step in self.steps for token in step.token_ids)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Prompt and steps: what a request that goes on from here starts with."""
        return self.prompt.token_ids + self.generated_ids

    @property
    def open(self) -> bool:
        """Whether another step may follow."""
        return not self.steps or self.steps[-1].open

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the last step ended; None before the first."""
        return self.steps[-1].finish_reason if self.steps else None

    @property
    def logprob(self) -> float | None:
        """Nats of all generated tokens under the model at temperature 1; None where the engine gave none."""
        known = [step.logprob for step in self.steps if step.logprob is not None]
        return sum(known) if len(known) == len(self.steps) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A trajectory offered as a solution."""

    slot: int  # which of the strategy's draws it is
    trajectory: Trajectory
    text: str
    answer: str | None  # as the run's answer format read it; None: the text gives no answer
    score: float | None = None  # whatever the strategy ranked it by


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a strategy returns."""

    candidates: tuple[Candidate, ...]  # in slot order
    chosen: int | None  # index into candidates; None: no candidate gives an answer
    stop_reason: str  # "done", "decided", "accepted", "exhausted", "budget"
    usage: Usage = field(default_factory=Usage)  # of the whole run, filled in when the strategy has returned
    trace: tuple[Event, ...] = ()  # likewise

    @property
    def answer(self) -> str | None:
        """The chosen candidate's answer."""
        return None if self.chosen is None else self.candidates[self.chosen].answer

    @property
    def text(self) -> str | None:
        """The chosen candidate's text."""
        return None if self.chosen is None else self.candidates[self.chosen].text


def read_candidate(
    tokenizer: Tokenizer, answers: AnswerFormat, slot: int, prompt: Prompt, completion: Completion
) -> Candidate:
    """A completion of the prompt as a candidate; as `read_trajectory`."""
    return read_trajectory(tokenizer, answers, slot, Trajectory(prompt=prompt).extend(Step.of(completion)))


def read_trajectory(tokenizer: Tokenizer, answers: AnswerFormat, slot: int, trajectory: Trajectory) -> Candidate:
    """A trajectory as a candidate, with its text and its answer.

    Where it was cut off, an answer at its very end does not count: "#53" of "#535" is not an answer.
    """
    text = tokenizer.decode(trajectory.generated_ids)
    found = answers.extract(text)
    whole = trajectory.finish_reason in {FinishReason.EOS, FinishReason.STOP}
    cut = not whole and found.span is not None and found.span[1] >= len(text.rstrip())
    return Candidate(slot=slot, trajectory=trajectory, text=text, answer=None if cut else found.value)
