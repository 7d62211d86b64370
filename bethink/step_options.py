"""Options of the command line that say how solutions fall into steps."""

import difflib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from decoding.errors import ConfigError
from reasoning.steps import DELIMITERS
from reasoning.tools import tool_named

if TYPE_CHECKING:
    from verifiers.sandbox.types import Policy

StepDelimiter = Annotated[
    str | None,
    typer.Option(
        "--step-delimiter",
        help=r"What ends a step: line, paragraph, heading, code, none, or a text itself (\n is a newline). "
        "The task's own, or the model's, if left out.",
    ),
]
StepTokens = Annotated[int | None, typer.Option("--step-tokens", help="The most tokens of a step.")]
MaxSteps = Annotated[int | None, typer.Option("--max-steps", help="The most steps of a solution.")]
MinSteps = Annotated[int | None, typer.Option("--min-steps", help="Before that, an end is replaced by --wait.")]
Wait = Annotated[str | None, typer.Option("--wait", help=r"Put in place of an end that comes too early: '\nWait'.")]
Ask = Annotated[
    str | None, typer.Option("--ask", help=r"Put where a solution reaches a limit, to have its answer: '\n#'.")
]
UntilAnswer = Annotated[bool, typer.Option("--until-answer", help="A step that gives an answer is the last.")]
ToolName = Annotated[str | None, typer.Option("--tool", help="python: run the code of a step and show its output.")]


def parse_steps(
    delimiter: str | None,
    step_tokens: int | None,
    max_steps: int | None,
    min_steps: int | None,
    wait: str | None,
    ask: str | None,
    until_answer: bool,
    tool: str | None,
    policy: "Policy | None" = None,
) -> dict[str, Any]:
    """The fields of `Steps` that were typed; `policy` says how a tool's programs are held.

    Raises ``ConfigError``, and ``SandboxError`` where the machine can't hold programs so.
    """
    typed = {
        "delimiter": None if delimiter is None else _delimiter(delimiter),
        "max_tokens": step_tokens,
        "max_steps": max_steps,
        "min_steps": min_steps,
        "wait": None if wait is None else _text(wait),
        "ask": None if ask is None else _text(ask),
        "until_answer": until_answer or None,
        "tool": None if tool is None else tool_named(tool, policy),
    }
    return {field: value for field, value in typed.items() if value is not None}


def _delimiter(typed: str) -> str:
    """A name or a text; a name with a slip in it is neither."""
    close = difflib.get_close_matches(typed, DELIMITERS, n=1, cutoff=0.7)
    if close and typed not in DELIMITERS:
        raise ConfigError(
            f"there is no delimiter {typed!r}: did you mean {close[0]!r}? there are {', '.join(DELIMITERS)}"
        )
    return _text(typed)


def _text(typed: str) -> str:
    r"""A text as it was meant: a shell hands ``\n`` on as two characters."""
    return typed.replace("\\n", "\n").replace("\\t", "\t")
