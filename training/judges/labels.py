"""Labels of steps: exact ones, Monte-Carlo completion, or how the solution itself ended.

    exact     1 as long as no line up to and including it is wrong; only the reference world knows
    outcome   whether this very solution ended right: an unbiased estimate of a prefix's value
    hard      Math-Shepherd (Wang et al. 2024, arXiv 2312.08935, section 3.3): 1 if any of K completions ends right
    soft      the same, the share of completions that end right: an estimate of a prefix's value
    mcts      a prefix's value in a tree search over the policy (see `searches`), on the same scale

A self-evaluation's label (after Manvi et al. 2024, arXiv 2410.02725) says whether going on beats starting over.
"""

import itertools
import operator
from collections.abc import Mapping, Sequence

from evals.tasks.reference import Chain, check_steps
from training.judges.completions import Tally
from training.judges.rollouts import Rollout

LABELS = ("exact", "outcome", "hard", "soft", "mcts")


def exact_labels(rollout: Rollout) -> list[bool]:
    """Whether nothing is wrong up to each step, [S]; raises ``ValueError`` for a question of another world."""
    chain = Chain.parse(rollout.question)
    return [bool(each) for each in itertools.accumulate(check_steps(chain, "\n".join(rollout.steps)), operator.and_)]


def exact_length(rollout: Rollout) -> int:
    """How many characters of the steps, newlines counted, are right; its value at a step's end is `exact_labels`."""
    written = "".join(f"{step}\n" for step in rollout.steps)
    true = Chain.parse(rollout.question).solution + "\n"
    return next((i for i, pair in enumerate(zip(written, true, strict=False)) if len(set(pair)) > 1), len(true))


def first_wrong(labels: Sequence[bool]) -> int:
    """The index of the first wrong step, -1 for none, as ProcessBench counts."""
    return list(labels).index(False) if not all(labels) else -1


def outcome_labels(rollout: Rollout) -> list[float]:
    """How the solution ended, at each of its steps, [S]."""
    return [float(rollout.right)] * len(rollout.steps)


def completion_labels(rollout: Rollout, tallies: Mapping[int, Tally], *, hard: bool) -> list[float]:
    """Of each step what its completions say, [S]; `tallies` by number of steps written."""
    counted = [tallies[steps] for steps in range(1, len(rollout.steps) + 1)]
    return [float(tally.right > 0) if hard else tally.share for tally in counted]


def continuing_labels(rollout: Rollout, tallies: Mapping[int, Tally]) -> list[float]:
    """Whether going on from each step ends right more often than starting over, [S]: 1, 0, or a half for a tie."""
    fresh = tallies[0].share
    shares = completion_labels(rollout, tallies, hard=False)
    return [0.5 if share == fresh else float(share > fresh) for share in shares]


def compress(
    steps: Sequence[str], labels: Sequence[float], first: int, joint: str
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Merge steps `first` and ``first + 1`` into one, which has the label of the later.

    Hierarchical node compression, of Wang et al. 2025, *Towards Hierarchical Multi-Step Reward Models*, arXiv
    2503.13551: coarser steps from the same labels, for nothing. `joint` stands between the two texts.
    """
    merged = steps[first] + joint + steps[first + 1]
    return (
        (*steps[:first], merged, *steps[first + 2 :]),
        (*labels[:first], *labels[first + 1 :]),
    )
