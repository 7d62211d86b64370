"""From logits to a token: the law that sampling parameters ask for, and a draw from it.

Pure functions on NumPy arrays, in float64, row by row: the token of one request never depends on its companions.
Used by the engines whose decoding loop is ours; vLLM has its own.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from decoding.seeds import counter_uniforms, invert_cdf
from decoding.types import SamplingParams

Floats = npt.NDArray[np.float64]


class Draw(NamedTuple):
    """One drawn token."""

    token_id: int
    logprob: float  # nats, the model's law at temperature 1
    sampling_logprob: float  # nats, the law that it was drawn from
    chosen_logprobs: tuple[float, ...]  # [K] nats, of `SamplingParams.logprob_token_ids`, the model's law


def log_softmax(logits: npt.NDArray[np.floating]) -> Floats:
    """Log-probabilities of a row of logits, [V]; minus infinity stays so."""
    shifted = logits.astype(np.float64) - np.max(logits)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted))))


def sampling_law(logprobs: Floats, sampling: SamplingParams) -> Floats:
    """Probabilities, [V], after temperature, min_p, top_k and top_p, in vLLM's order.

    Ties at the edge of top_k are all kept, as in vLLM; greedy takes the lowest id among equals.
    """
    if sampling.temperature == 0:
        law = np.zeros_like(logprobs)
        law[np.argmax(logprobs)] = 1.0
        return law
    law = np.exp(log_softmax(logprobs / sampling.temperature))
    if sampling.min_p > 0:
        law[law < sampling.min_p * law.max()] = 0.0
    if 0 < sampling.top_k < law.size:
        law[law < np.partition(law, -sampling.top_k)[-sampling.top_k]] = 0.0
    law /= law.sum()
    if sampling.top_p < 1:
        law[~_nucleus(law, sampling.top_p)] = 0.0
        law /= law.sum()
    return law


def draw(logits: npt.NDArray[np.floating], sampling: SamplingParams, position: int) -> Draw:
    """Draw token number `position` of a completion from a row of logits, [V], by inversion of the law."""
    logprobs = log_softmax(logits)
    law = sampling_law(logprobs, sampling)
    uniform = counter_uniforms(np.array([sampling.seed], np.uint64), np.array([position], np.uint64))[0]
    token = invert_cdf(law, float(uniform))
    chosen = tuple(float(logprobs[i]) for i in sampling.logprob_token_ids)
    return Draw(token, float(logprobs[token]), float(np.log(law[token])), chosen)


def _nucleus(law: Floats, top_p: float) -> npt.NDArray[np.bool_]:
    """The smallest set of most probable tokens whose mass reaches `top_p`, as a mask, [V]."""
    order = np.argsort(-law, kind="stable")
    before = np.cumsum(law[order]) - law[order]
    kept = np.zeros(law.size, dtype=np.bool_)
    kept[order[before < top_p]] = True
    return kept
