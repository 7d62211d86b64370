"""Fit a judge to examples: cross-entropy against labels that may be probabilities."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from decoding.seeds import derive_seed
from training.judges.data import Batch, Example, batches, collate
from training.judges.models import JudgeModel

REPORT_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRecipe:
    """How weights are fitted."""

    epochs: int = 3
    batch: int = 32  # rows a step
    learning_rate: float = 2e-3  # at its peak; linear warm-up, cosine to nothing
    warmup: float = 0.05  # share of all steps
    weight_decay: float = 0.01
    seed: int = 0


class Progress(NamedTuple):
    """What `fit` reports every `REPORT_EVERY` steps."""

    step: int
    steps: int
    loss: float  # nats a read, mean since the last report
    seconds: float


def fit(
    model: JudgeModel,
    parameters: Sequence[torch.nn.Parameter],
    examples: Sequence[Example],
    recipe: FitRecipe,
    report: Callable[[Progress], None],
    *,
    frozen: bool = False,
    keep: float = 0.0,
) -> None:
    """Train `parameters` in place.

    Args:
        model: The judge.
        parameters: What is trained of it.
        examples: Rows to train on.
        recipe: How.
        report: Told of the loss now and then.
        frozen: Only the head is trained: features are computed once, then kept.
        keep: Weight of a further loss: how far the language model's laws move from where they began, nats a token.
    """
    steps = recipe.epochs * math.ceil(len(examples) / recipe.batch)
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps, recipe.warmup))
    kept: list[tuple[torch.Tensor, torch.Tensor]] = _features(model, examples, recipe) if frozen else []
    before = copy.deepcopy(model).requires_grad_(False).eval() if keep else None
    start, step, losses = time.perf_counter(), 0, list[float]()
    model.train()
    for epoch in range(recipe.epochs):
        data = kept if frozen else batches(examples, recipe.batch, derive_seed(recipe.seed, "epoch", epoch))
        for item in data:
            loss = _loss(model, item, before, keep)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            step += 1
            losses.append(loss.item())
            if step % REPORT_EVERY == 0 or step == steps:
                report(Progress(step, steps, sum(losses) / len(losses), time.perf_counter() - start))
                losses = []
    model.eval()


@torch.no_grad()
def read_scores(model: JudgeModel, examples: Sequence[Example], size: int = 128) -> list[list[float]]:
    """Scores of each example's reads, probabilities, [examples][S]."""
    model.eval()
    scores: list[list[float]] = [[] for _ in examples]
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].token_ids))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        batch = collate([examples[index] for index in chosen])
        read = model.logits(model.features(batch.ids)[batch.rows, batch.positions]).double().sigmoid()
        for row, score in zip(batch.rows.tolist(), read.tolist(), strict=True):
            scores[chosen[row]].append(score)
    return scores


@torch.no_grad()
def policy_divergence(model: JudgeModel, policy: JudgeModel, examples: Sequence[Example], size: int = 128) -> float:
    """How far a policy that judges itself writes from how it wrote before: KL(before, now), nats a token, mean."""
    total, count = 0.0, 0
    for start in range(0, len(examples), size):
        batch = collate(examples[start : start + size])
        each = _divergences(model, policy, batch, model.features(batch.ids))
        total, count = total + float(each.double().sum()), count + each.numel()
    return total / count


def _loss(
    model: JudgeModel, item: Batch | tuple[torch.Tensor, torch.Tensor], before: JudgeModel | None, keep: float
) -> torch.Tensor:
    """Cross-entropy of the reads; with `before`, plus `keep` times the divergence from it."""
    if not isinstance(item, Batch):  # features that were kept, and targets
        return binary_cross_entropy_with_logits(model.logits(item[0]), item[1])
    hidden = model.features(item.ids)
    loss = binary_cross_entropy_with_logits(model.logits(hidden[item.rows, item.positions]), item.targets)
    return loss if before is None else loss + keep * _divergences(model, before, item, hidden).mean()


def _divergences(model: JudgeModel, before: JudgeModel, batch: Batch, hidden: torch.Tensor) -> torch.Tensor:
    """KL(before, now) of the next token at every position before a row's last read, nats, [N]."""
    last = torch.zeros(len(batch.ids), dtype=torch.int64)
    last = last.scatter_reduce(0, batch.rows, batch.positions, "amax")
    inside = torch.arange(batch.ids.shape[1])[None, :] < last[:, None]
    with torch.no_grad():
        old = before.model.get_output_embeddings()(before.features(batch.ids)[inside]).log_softmax(-1)
    new = model.model.get_output_embeddings()(hidden[inside]).log_softmax(-1)
    divergences: torch.Tensor = (old.exp() * (old - new)).sum(-1)
    return divergences


def _features(
    model: JudgeModel, examples: Sequence[Example], recipe: FitRecipe
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Hidden states and targets at all reads, in the batches of one epoch."""
    with torch.no_grad():
        return [
            (model.features(batch.ids)[batch.rows, batch.positions], batch.targets)
            for batch in batches(examples, recipe.batch, derive_seed(recipe.seed, "epoch", 0))
        ]


def _rate(step: int, steps: int, warmup: float) -> float:
    """The learning rate as a share of its peak."""
    first = max(1.0, warmup * steps)
    if step < first:
        return (step + 1) / first
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - first) / max(1.0, steps - first))))
