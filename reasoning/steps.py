"""What a step is: where it stops, how long it may get, when a solution is whole, and what is put between steps.

A step ends behind a delimiter. Where the tokenizer has tokens that hold it, they are stop tokens, which engines honour
exactly; where its characters may come in several tokens, its text is a stop string too. Models without a delimiter
write blocks of `max_tokens`.

Budget forcing is that of Muennighoff et al. 2025 (*s1: Simple test-time scaling*, arXiv 2501.19393, section 3): a
solution that ends too early is told to go on, and one that reaches its limit is asked for its answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from decoding.engine import Tokenizer
from decoding.errors import ConfigError

DELIMITERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "line": ("\n",),
        "paragraph": ("\n\n",),
        "heading": ("\n\n##",),
        "code": ("</code>", "</step>"),
        "none": (),
    }
)
"""Texts that end a step, by name."""


class Tool(Protocol):
    """Works on a step that has ended, and may put something behind it: a program's output."""

    @property
    def name(self) -> str:
        """As typed, and as recorded."""
        ...

    async def __call__(self, run: Any, text: str) -> str:
        """What to put behind a text that ends with a step (`run`: the strategy's `Run`); empty: nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The rule by which trajectories are cut into steps. The run's `max_tokens` is the limit of a whole trajectory."""

    delimiter: str = "paragraph"  # a name of `DELIMITERS`, or a text itself
    token_ids: tuple[int, ...] = ()  # further ids that end a step
    max_tokens: int = 512  # of a step
    max_steps: int = 40
    until_answer: bool = False  # whether a step that gives an answer is the last
    wait: str = ""  # put in place of an end that comes before `min_steps`; empty: a solution may be short
    min_steps: int = 0
    ask: str = ""  # put where a trajectory reaches a limit, to have the answer; empty: it stays without one
    ask_tokens: int = 32  # of the answer then
    tool: Tool | None = None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "max_steps", "ask_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} of steps must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.min_steps <= self.max_steps:
            raise ConfigError(f"min_steps must be from 0 to max_steps ({self.max_steps}), got {self.min_steps}")
        if self.min_steps and not self.wait:
            raise ConfigError("min_steps takes a text that is put in place of an early end: give wait, too")
        if not self.delimiter:
            raise ConfigError(f"a delimiter has characters; names are {', '.join(DELIMITERS)} (none: blocks of tokens)")

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that end a step."""
        return DELIMITERS.get(self.delimiter, (self.delimiter,))

    def stop_token_ids(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Ids that end a step."""
        found = {token for text in self.texts for token in tokenizer.ids_with(text)}
        return tuple(sorted(found.union(self.token_ids)))

    def stop(self) -> tuple[str, ...]:
        """Stop strings: texts that may come in several tokens."""
        return tuple(text for text in self.texts if len(text) > 1)

    def record(self) -> dict[str, Any]:
        """The rule as JSON values, a tool by its name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "tool": None if self.tool is None else self.tool.name}


_BY_MODEL = {"reference-": Steps(delimiter="line"), "alphamath": Steps(delimiter="code")}


def steps_for(model: str, of_task: Steps | None = None, **typed: Any) -> Steps:
    """The rule for a model's solutions to a task's problems: what was typed, else the task's own, else the model's.

    `model` is a name or a folder; whoever is not known writes paragraphs. Raises ``ConfigError``.
    """
    name = Path(model).name.lower()
    of_model = next((steps for known, steps in _BY_MODEL.items() if name.startswith(known)), Steps())
    return replace(of_task or of_model, **typed)
