"""The cache that a search needs, from its trace: tokens held over its selections, shared prefixes and the prompt once.

ETS (arXiv 2502.13575) measures searches by the tokens of all open nodes and their ancestors before each selection,
summed over the selections. Its released code takes the prompt for two or three tokens (it counts a dictionary's keys)
and counts equal steps of siblings twice; here they are what a prefix cache holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reasoning.search.tree import Selected
from reasoning.trace import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Tokens of a cache, over the selections of a search."""

    selections: int
    held: int  # summed over the selections, of the nodes among which was selected, and their ancestors
    kept: int  # likewise of those that went on
    peak: int  # the most that was held at one selection


def held_over(trace: Iterable[Event | Mapping[str, Any]]) -> Held:
    """What a trace says was held; it may be one of events, or of the rows that `reasoning.trace.to_json` made."""
    held: list[int] = []
    kept: list[int] = []
    for event in trace:
        if isinstance(event, Selected):
            held.append(event.held_tokens)
            kept.append(event.kept_tokens)
        elif isinstance(event, Mapping) and event["event"] == Selected.__name__:
            held.append(event["held_tokens"])
            kept.append(event["kept_tokens"])
    return Held(selections=len(held), held=sum(held), kept=sum(kept), peak=max(held, default=0))
