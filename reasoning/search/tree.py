"""The tree that a search grows, and the events from which it can be drawn."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from decoding.types import FinishReason
from reasoning.trace import Event
from reasoning.trajectory import Candidate, Step, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """A prefix of a solution. Nodes are compared by identity: two may have written the same."""

    id: int  # in the order of the requests; the root, where nothing is written yet, is 0
    parent: "Node | None"
    candidate: Candidate  # its slot is the id; its text, its answer so far, its score
    finished: bool  # it gets no further tokens
    last: bool = False  # its next step is the last: it was asked for the answer

    @property
    def trajectory(self) -> Trajectory:
        """Prompt and steps."""
        return self.candidate.trajectory

    @property
    def score(self) -> float:
        """What the search ranks it by; one that was not scored, such as the root, comes last."""
        return -math.inf if self.candidate.score is None else self.candidate.score

    @property
    def depth(self) -> int:
        """Steps."""
        return len(self.trajectory.steps)

    @property
    def step(self) -> Step:
        """The last step; the root has none."""
        return self.trajectory.steps[-1]

    def path(self) -> "list[Node]":
        """This node and its ancestors, the root last."""
        nodes, node = [self], self.parent
        while node is not None:
            nodes.append(node)
            node = node.parent
        return nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown(Event):
    """A step was written."""

    node: int
    parent: int
    tokens: int  # drawn
    finish_reason: FinishReason
    finished: bool
    score: float | None
    text: str  # of the step


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected(Event):
    """It was decided which nodes go on."""

    among: tuple[int, ...]  # nodes that could have
    kept: Mapping[int, int]  # how often each goes on: children to come, or copies; who does not is not in it
    held_tokens: int  # of the prompt and all steps of `among` and their ancestors, shared prefixes once
    kept_tokens: int  # likewise of those kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Concluded(Event):
    """The search ended; these are its candidates."""

    nodes: tuple[int, ...]  # in slot order


def selected(among: Sequence[Node], kept: Mapping[Node, int]) -> Selected:
    """The event of a selection."""
    going = {node: count for node, count in kept.items() if count > 0}
    return Selected(
        among=tuple(node.id for node in among),
        kept={node.id: count for node, count in going.items()},
        held_tokens=held_tokens(among),
        kept_tokens=held_tokens(going),
    )


def held_tokens(nodes: Iterable[Node]) -> int:
    """Tokens of the trie of the nodes' ids, prompt included: what a cache holds that shares equal prefixes."""
    rows = sorted({node.trajectory.token_ids for node in nodes})
    shared = sum(_common(one, other) for one, other in pairwise(rows))
    return sum(map(len, rows)) - shared


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
