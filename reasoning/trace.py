"""What happened, as a list of typed events: enough to draw the search from.

Events hold no clock times: the same run gives the same trace.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from decoding.types import FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Root of all events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled(Event):
    """A trajectory from the prompt has ended."""

    slot: int
    tokens: int
    finish_reason: FinishReason
    answer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Event):
    """A stage before the solutions has ended."""

    stage: str
    tokens: int
    finish_reason: FinishReason
    text: str  # what the next stage gets of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(Event):
    """Candidates were given scores."""

    score: str  # the score's name
    values: Mapping[int, float]  # by slot; who was not judged is not in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Voted(Event):
    """A vote was counted."""

    weights: Mapping[str, float]  # by answer, as its first voter spelt it
    winner: str | None
    tied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked(Event):
    """A check accepted or refused a candidate."""

    slot: int
    check: str
    oracle: bool  # whether the reference went into the check
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed(Event):
    """A prefix of the answer was settled; nothing can change it any more."""

    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Event):
    """The strategy ended."""

    reason: str
    samples: int


def to_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object; ``event`` names its type."""
    return {"event": type(event).__name__, **asdict(event)}
