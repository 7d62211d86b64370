"""How a solution becomes token ids, and where its steps' scores are read.

Four ways cover the field: pieces that are tokenised one by one, a text with a tag behind each step, a whole answer in a
chat, and a chat in which the model answers after each step. Ids end at the last position.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from decoding.errors import ModelError
from verifiers.judges.format import Rendered
from verifiers.judges.openings import SLOT, Opening, chat_parts, encode
from verifiers.judges.readouts import token_id
from verifiers.judges.types import Solution

_HEADING = re.compile(r"Step \d+:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Question, steps and marks, tokenised one by one, so that no token spans two of them.

    A step is read at the last id of its mark; without a mark, at its own last id.
    """

    opening: Opening
    step: str = "{step}"
    mark: str = "\n"
    single: bool = False  # whether the mark is one token: of a tokenizer that makes more of it, the last one counts
    end: str | None = None  # a token in place of the last mark of a finished solution

    def render(self, tokenizer: Any, solution: Solution) -> Rendered:
        """Ids and read positions; for a longer prefix they begin with the same ids."""
        mark = [token_id(tokenizer, self.mark)] if self.single else encode(tokenizer, self.mark)
        ids = encode(tokenizer, self.opening.around(tokenizer, solution.question)[0])
        answer, positions = len(ids), []
        for step in solution.steps:
            ids += encode(tokenizer, self.step.format(step=step)) + mark
            positions.append(len(ids) - 1)
        if self.end is not None and solution.finished:
            ids[len(ids) - len(mark) :] = [token_id(tokenizer, self.end)]
            positions[-1] = len(ids) - 1
        return Rendered(tuple(ids), tuple(positions), answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """A text, tokenised as a whole, with a tag behind each step, at whose one token the step is read."""

    opening: Opening
    tag: str
    between: str = "\n"
    numbered: bool = True  # whether each step begins "Step 1: ", "Step 2: ", ...

    def render(self, tokenizer: Any, solution: Solution) -> Rendered:
        """Ids and read positions; raises ``ModelError`` if the tag is no token of its own."""
        before, _ = self.opening.around(tokenizer, solution.question)
        steps = number(solution.steps) if self.numbered else solution.steps
        text, ends = joined(before, [f"{step} {self.tag}" for step in steps], self.between)
        ids, positions = tokens_at(tokenizer, text, ends)
        wrong = [ids[at] for at in positions if tokenizer.decode([ids[at]]).strip() != self.tag]
        if wrong:
            raise ModelError(
                f"the tokenizer {tokenizer.name_or_path} should have {self.tag!r} as a token of its own, and steps end "
                f"in the token {tokenizer.decode(wrong[:1])!r}: this model is not one of this format"
            )
        return Rendered(ids, positions, tokens_at(tokenizer, text, [len(before) + 1])[1][0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer in a chat. Steps are read at the token that ends what divides them.

    The last step of a finished solution is read where the turn ends.
    """

    opening: Opening
    between: str = "\n\n"
    numbered: bool = False
    whole_turn: bool = True  # the turn ends with all that the template puts behind an answer, or with its first token

    def render(self, tokenizer: Any, solution: Solution) -> Rendered:
        """Ids and read positions."""
        before, after = self.opening.around(tokenizer, solution.question)
        steps = number(solution.steps) if self.numbered else solution.steps
        ending = (after if self.whole_turn else after.rstrip()) if solution.finished else self.between
        text, ends = before, []
        for step, end in zip(steps, [self.between] * (len(steps) - 1) + [ending], strict=True):
            text += step + end
            ends.append(len(text))
        ids, positions = tokens_at(tokenizer, text, [len(before) + 1, *ends])
        return Rendered(ids, positions[1:], positions[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """A chat in which each step is the user's turn, and the model answers with one token, which it is read before."""

    first: str = "{question} {step}"  # the first turn
    answer: str = "+"  # what stands for the model's answers to earlier steps

    def render(self, tokenizer: Any, solution: Solution) -> Rendered:
        """Ids and read positions; for a longer prefix they begin with the same ids."""
        turns = []
        for index, step in enumerate(solution.steps):
            text = step if index else self.first.format(question=solution.question, step=step)
            turns += [("user", text), ("assistant", SLOT)]
        parts = chat_parts(tokenizer, turns, len(solution.steps))
        ids: list[int] = []
        positions = []
        for index, part in enumerate(parts[:-1]):
            ids += encode(tokenizer, self.answer + part if index else part)
            positions.append(len(ids) - 1)
        return Rendered(tuple(ids), tuple(positions))


def number(steps: tuple[str, ...]) -> tuple[str, ...]:
    """Steps with the heading "Step k: " where they have none."""
    return tuple(step if _HEADING.match(step) else f"Step {k}: {step}" for k, step in enumerate(steps, 1))


def joined(before: str, steps: list[str], between: str) -> tuple[str, list[int]]:
    """One text, and where in it each step ends, in characters."""

    def ends() -> Iterator[int]:
        end = len(before) - len(between)
        for step in steps:
            end += len(between) + len(step)
            yield end

    return before + between.join(steps), list(ends())


def tokens_at(tokenizer: Any, text: str, ends: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of a text up to the last end, and for each end, in characters, the token that holds the character before it.

    Raises ``ModelError`` if the tokenizer does not say where its tokens lie in the text.
    """
    if not tokenizer.is_fast:
        raise ModelError(f"the tokenizer {tokenizer.name_or_path} gives no offsets: save it as tokenizer.json")
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    starts = [int(start) for start, _ in encoded["offset_mapping"]]
    positions = tuple(sum(start < end for start in starts) - 1 for end in ends)
    return tuple(int(token) for token in encoded["input_ids"][: positions[-1] + 1]), positions
