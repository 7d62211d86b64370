"""A judge that is a language model as it stands: two numbers make a probability of how little it expected a token.

Where there is one way to write a right solution, a model that knows the world finds a wrong step by its own surprise
(`verifiers.judges.readouts.LeastLikely`). Nothing but slope and intercept is fitted, by logistic regression.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from training.judges.data import Labelled
from training.judges.rollouts import Rollout
from verifiers.judges.format import Rendered
from verifiers.judges.formats import format_by_name
from verifiers.judges.types import Solution

FORMAT = "reference-lm"
_ROWS = 128  # of one forward

Floats = npt.NDArray[np.float64]


class Fitted(NamedTuple):
    """P(right) = logistic(slope x least log-probability so far, nats, + intercept)."""

    slope: float
    intercept: float

    def scores(self, least: Sequence[float]) -> tuple[float, ...]:
        """Probabilities, [S]."""
        return tuple(float(p) for p in expit(self.slope * np.asarray(least) + self.intercept))


@torch.no_grad()
def least_likely(model: Any, tokenizer: Any, rollouts: Sequence[Rollout]) -> list[list[float]]:
    """The log-probability, nats, of the least expected token up to each step, [rollouts][S]."""
    template = format_by_name(FORMAT).template
    rendered = [
        template.render(tokenizer, Solution(question=r.question, steps=r.steps, finished=r.finished)) for r in rollouts
    ]
    order = sorted(range(len(rendered)), key=lambda index: len(rendered[index].token_ids))
    found: list[list[float]] = [[] for _ in rendered]
    for start in range(0, len(order), _ROWS):
        chosen = order[start : start + _ROWS]
        for index, row in zip(chosen, _logprobs(model, [rendered[i] for i in chosen]), strict=True):
            answer, positions = rendered[index].answer, rendered[index].positions
            least = list(itertools.accumulate(row[answer - 1 : positions[-1]], min))
            found[index] = [least[position - answer] for position in positions]
    return found


def fit_least_likely(least: Sequence[Sequence[float]], labelled: Sequence[Labelled]) -> Fitted:
    """Logistic regression of the labels of all steps."""
    x = np.array([value for row in least for value in row])
    y = np.array([float(label) for _, labels in labelled for label in labels])

    def loss(parameters: Floats) -> float:
        logits = parameters[0] * x + parameters[1]
        return float(-np.mean(y * log_expit(logits) + (1 - y) * log_expit(-logits)))

    slope, intercept = minimize(loss, np.array([1.0, 1.0]), method="L-BFGS-B").x
    return Fitted(float(slope), float(intercept))


def _logprobs(model: Any, rows: Sequence[Rendered]) -> list[list[float]]:
    """Of each row's ids from the second on, given those before, nats."""
    longest = max(len(row.token_ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row.token_ids)] = torch.tensor(row.token_ids)
    laws = model(input_ids=ids, use_cache=False).logits[:, :-1].double().log_softmax(-1)
    read = laws.gather(-1, ids[:, 1:, None])[..., 0]
    return [line[: len(row.token_ids) - 1] for line, row in zip(read.tolist(), rows, strict=True)]
