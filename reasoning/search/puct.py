"""Monte-Carlo tree search with values in place of playouts: which leaf is next, and what is learnt of its ancestors.

PUCT as in Silver et al. 2017 (*Mastering the game of Go without human knowledge*, Methods) and AlphaMath (Chen et al.
2024, arXiv 2405.03553, section 3.2). Functions of the tree alone: equal trees, equal choices; of equals, the lower id.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Optional

from decoding.errors import CapabilityError, ConfigError
from reasoning.score import Score
from reasoning.search.rewards import probability, score_kind
from reasoning.search.tree import Node
from reasoning.trajectory import Step
from verifiers.judges.types import Judge, ScoreKind


@dataclass(slots=True, eq=False)
class Branch:
    """A node with what the search knows of it."""

    node: Node
    parent: Optional["Branch"] = None
    prior: float = 1.0  # P
    visits: int = 0  # N: values that were backed up through it
    total: float = 0.0  # their sum
    pending: int = 0  # simulations that are under way below it, each a visit of value -1 until it is over
    children: list["Branch"] = field(default_factory=list)
    closed: bool = False  # nothing at it or below can be expanded

    @property
    def q(self) -> float:
        """The mean of the values that were backed up, 0 before the first."""
        count = self.visits + self.pending
        return (self.total - self.pending) / count if count else 0.0

    def path(self) -> list["Branch"]:
        """This branch and its ancestors, the root last."""
        branches, branch = [self], self.parent
        while branch is not None:
            branches.append(branch)
            branch = branch.parent
        return branches


def puct(branch: Branch, c: float) -> float:
    """Q + c P sqrt(N of the parent) / (1 + N)."""
    assert branch.parent is not None
    tried = branch.parent.visits + branch.parent.pending
    return branch.q + c * branch.prior * math.sqrt(tried) / (1 + branch.visits + branch.pending)


def select(root: Branch, c: float) -> Branch | None:
    """The leaf to expand next; None where all that can be are finished or being expanded."""
    branch = root
    while branch.children and not branch.closed:
        going = [child for child in branch.children if not child.closed]
        branch = max(going, key=lambda child: (puct(child, c), -child.node.id))
    return None if branch.closed else branch


def begin(leaf: Branch) -> None:
    """A simulation of a leaf is under way: until it ends nobody expands that leaf, and others keep off its path."""
    for branch in leaf.path():
        branch.pending += 1
    _close(leaf)


def expand(leaf: Branch, nodes: Collection[Node]) -> list[Branch]:
    """End a leaf's simulation: it has got these children."""
    leaf.children = [Branch(node=node, parent=leaf, prior=prior(node.step), closed=node.finished) for node in nodes]
    for branch in leaf.path():
        branch.pending -= 1
    _close(leaf)
    return leaf.children


def back_up(branch: Branch, value: float) -> None:
    """A value of a branch counts for it and all its ancestors."""
    for each in branch.path():
        each.visits += 1
        each.total += value


def prior(step: Step) -> float:
    """exp(mean log-probability of the tokens that were drawn), in (0, 1]: the geometric mean of their shares."""
    if step.logprob is None:
        raise CapabilityError("priors are made of log-probabilities: sample with `logprobs` on")
    return math.exp(step.logprob / max(1, len(step.token_ids) - step.given))


def walk(root: Branch, ends: Collection[Node]) -> Node | None:
    """Down by the highest Q, through branches below which there is one of the ends; None where there is none."""
    reaching = {ancestor.id for end in ends for ancestor in end.path()}
    branch = root
    while branch.node.id in reaching and branch.node not in ends:
        going = [child for child in branch.children if child.node.id in reaching]
        branch = max(going, key=lambda child: (child.q, -child.node.id))
    return branch.node if branch.node in ends else None


def most_valued(root: Branch) -> Branch:
    """The leaf to which the highest Q leads."""
    branch = root
    while branch.children:
        branch = max(branch.children, key=lambda leaf: (leaf.q, -leaf.node.id))
    return branch


def branches(root: Branch) -> list[Branch]:
    """All branches, parents before their children, in the order in which they were made."""
    found, waiting = [], [root]
    while waiting:
        branch = waiting.pop()
        found.append(branch)
        waiting += branch.children
    return sorted(found, key=lambda branch: branch.node.id)


def value_of(number: float, score: Score, judges: Mapping[str, Judge]) -> float:
    """A score as an expected outcome in [-1, 1].

    A value is one, a probability p is 2 p - 1, a logit or log-ratio goes through the logistic function. A score that
    asks no judge has to be one. Raises ``ConfigError`` for what can't be one.
    """
    kind = ScoreKind.VALUE if score.role is None else score_kind(score, judges)
    if kind in (ScoreKind.LOGIT, ScoreKind.LOG_RATIO):
        return 2 * probability(number, kind) - 1
    value = 2 * number - 1 if kind is ScoreKind.PROBABILITY else number
    if not -1 <= value <= 1:
        raise ConfigError(f"values lie in [-1, 1], and the score {score.name} gave {number}: take a judge's")
    return value


def _close(leaf: Branch) -> None:
    """Find out what is closed, at a leaf whose state has changed and above."""
    for branch in leaf.path():
        if branch.children:
            branch.closed = all(child.closed for child in branch.children)
        else:
            branch.closed = branch.node.finished or branch.pending > 0
