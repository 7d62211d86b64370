"""What the tasks of written steps have in common: they are made on the spot, and every state is part of the answer."""

from collections.abc import Mapping, Sequence

from decoding.errors import ConfigError
from decoding.seeds import Rng
from evals.data import checksum
from evals.tasks.base import Problem, Task
from reasoning.steps import Steps
from verifiers.steps import StepFormat, StepVerifier

DEFAULT_PROBLEMS = 500
MIN_TOKENS = 512  # of a completion, for what models say beside their states


def draw_int(rng: Rng, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included, all equally likely."""
    return low + int(rng.uniform() * (high - low + 1))


def pick(rng: Rng, items: Sequence[str]) -> str:
    """One of the items, all equally likely."""
    return items[draw_int(rng, 0, len(items) - 1)]


def solution(states: Sequence[str], label: str) -> str:
    """States as a model should write them, one step a line."""
    return "\n".join(f"{label} {number}: [{state}]" for number, state in enumerate(states, start=1))


def read_options(spec: str, usage: str, defaults: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The argument and the options of ``task:argument,key=value``; an option that was not given has its default.

    Raises ``ConfigError``, which says how to write it, for an option that there is not.
    """
    parts = spec.partition(":")[2].split(",")
    argument = parts.pop(0) if "=" not in parts[0] else ""
    options = dict(defaults)
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or key not in defaults:
            raise ConfigError(f"{spec!r}: write {usage}")
        options[key] = value
    return argument, options


def read_count(spec: str, text: str, name: str, low: int, high: int) -> int:
    """A whole number within bounds; raises ``ConfigError`` for anything else."""
    if not (text.isascii() and text.isdigit() and low <= int(text[:9]) <= high):
        raise ConfigError(f"{spec!r}: {name} must be a whole number from {low} to {high}")
    return int(text[:9])


def step_task(spec: str, problems: Sequence[Problem], *, label: str, source: str) -> Task:
    """A task whose references are states; there is room for the longest solution at a token a character."""
    longest = max(len(solution(problem.metadata["states"], label)) for problem in problems)
    return Task(
        name=spec,
        problems=problems,
        answers=StepFormat(label=label),
        verifier=StepVerifier(),
        prompt="chat",
        max_tokens=max(MIN_TOKENS, longest),
        source=source,
        checksum=checksum(problems),
        steps=Steps(delimiter="line"),
    )
