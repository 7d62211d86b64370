"""Training a policy: seeded, learning, and loadable by any engine."""

import math

import torch

from decoding.engines.open import open_engine
from decoding.types import FinishReason, SamplingParams
from evals.tasks.reference import Chain
from reasoning.api import solve
from reasoning.strategies import RepeatedSampling
from training.policy import IGNORED, RECIPES, PolicyRecipe, batches, learning_rate, save, tokenizer, train

TINY = PolicyRecipe(hidden=32, layers=1, heads=1, feed_forward=64, steps=200, batch=32, difficulties=(1, 2), warmup=20)


def run(recipe):
    losses = []
    model = train(recipe, compiled=False, report=lambda progress: losses.append(progress.loss))
    return model, losses


def test_labels_are_the_solutions_and_the_end_and_nothing_else():
    ids, labels = next(batches(TINY))
    read = tokenizer()
    for row, wanted in zip(ids.tolist(), labels.tolist(), strict=True):
        text = read.decode(row, skip_special_tokens=True)
        chain = Chain.parse(text.partition("\n")[0])
        assert text == chain.question + chain.solution
        counted = [token for token in wanted if token != IGNORED]
        assert read.decode(counted) == chain.solution + "<eos>"


def test_a_policy_learns_is_seeded_and_is_served(tmp_path):
    first, losses = run(TINY)
    assert losses[-1] < 0.6 * math.log(len(tokenizer()))
    again, _ = run(TINY)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    save(first, TINY, tmp_path)
    with open_engine(str(tmp_path), "transformers", slots=4) as engine:
        result = solve(
            "12,+3\n",
            engine=engine,
            strategy=RepeatedSampling(n=4),
            sampling=SamplingParams(seed=0, max_tokens=30),
        )
        reasons = {candidate.trajectory.finish_reason for candidate in result.candidates}
        assert reasons <= {FinishReason.EOS, FinishReason.LENGTH}
        assert engine.engine.tokenizer.encode("12,+3\n")[0] == tokenizer().bos_token_id


def test_the_learning_rate_warms_up_and_ends_at_a_tenth():
    for recipe in RECIPES.values():
        rates = [learning_rate(recipe, step) for step in range(recipe.steps + 1)]
        assert max(rates) == rates[recipe.warmup] == 1.0
        assert rates == [*sorted(rates[: recipe.warmup]), *sorted(rates[recipe.warmup :], reverse=True)]
        assert abs(rates[-1] - 0.1) < 1e-9
