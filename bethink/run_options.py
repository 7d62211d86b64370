"""Options of the command line that `solve` and `eval` share: the model, how it samples, the budget."""

from typing import Annotated, Any

import typer

from decoding.errors import ConfigError
from reasoning.budget import Budget

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="An embedded name (see `bethink models`), a folder, a hub id, a server's name, or a recording.",
    ),
]
EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        help="vllm, transformers, openai (a server), replay (a recording), or auto: vLLM where it is installed.",
    ),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Let the model's own Python code run.")]
EngineOptions = Annotated[
    list[str] | None, typer.Option("--engine-option", help="name=value for the engine, e.g. max_num_seqs=512; repeat.")
]
Temperature = Annotated[float, typer.Option(help="0 is greedy.")]
TopP = Annotated[float, typer.Option(help="1 is off.")]
MaxTokens = Annotated[int | None, typer.Option(help="Of a completion; the task's own limit if left out.")]
Seed = Annotated[int, typer.Option(help="Of all draws; the problems don't depend on it.")]
BudgetText = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help="Limits a problem: samples=, generated_tokens=, scored_tokens=, flops=, seconds=; comma-separated.",
    ),
]


def parse_budget(text: str | None) -> Budget:
    """A budget from ``samples=8,seconds=2.5``; raises ``ConfigError``."""
    kinds: dict[str, type] = {
        "samples": int,
        "generated_tokens": int,
        "scored_tokens": int,
        "flops": float,
        "seconds": float,
    }
    limits: dict[str, Any] = {}
    for item in filter(None, (text or "").split(",")):
        key, _, value = item.partition("=")
        if key not in kinds:
            raise ConfigError(f"a budget has no limit {key!r}: there are {', '.join(kinds)}")
        try:
            limits[key] = kinds[key](value)
        except ValueError:
            raise ConfigError(f"budget: {key} must be of type {kinds[key].__name__}, got {value!r}") from None
    return Budget(**limits)
