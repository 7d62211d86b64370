"""From rollouts and labels to rows of ids with positions and targets, as the judge's format renders them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from decoding.errors import ConfigError
from decoding.seeds import derive_seed
from training.judges.labels import compress
from training.judges.rollouts import Rollout
from verifiers.judges.format import PRMFormat
from verifiers.judges.types import Solution

Labelled = tuple[Rollout, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Example:
    """One row of ids, and what is wanted at which of them."""

    token_ids: tuple[int, ...]
    positions: tuple[int, ...]  # [S]
    targets: tuple[float, ...]  # [S], probabilities


class Batch(NamedTuple):
    """Padded on the right: a causal model's reads don't depend on what follows."""

    ids: torch.Tensor  # [B, T] int64
    rows: torch.Tensor  # [N] int64, of each read
    positions: torch.Tensor  # [N] int64
    targets: torch.Tensor  # [N] float32


def render(tokenizer: Any, form: PRMFormat, labelled: Sequence[Labelled]) -> list[Example]:
    """Rollouts as the format renders them; one without a step is left out."""
    quick = _Quick(tokenizer)
    examples = []
    for rollout, labels in labelled:
        if rollout.steps:
            examples.append(_example(quick, form, rollout.question, rollout.steps, labels))
    return examples


def render_everywhere(tokenizer: Any, form: PRMFormat, rollouts: Sequence[tuple[Rollout, int]]) -> list[Example]:
    """Rollouts with a read at every id of the solution, for models whose tokens are characters.

    A step's end is one read in ten, and a judge that is told of every character learns in a tenth of the rows.
    `rollouts` come with how many characters, newlines counted, have the target 1; the others have 0.
    """
    quick = _Quick(tokenizer)
    examples = []
    for rollout, right in rollouts:
        if rollout.steps:
            rendered = form.template.render(quick, Solution(question=rollout.question, steps=rollout.steps))
            positions = tuple(range(rendered.answer, len(rendered.token_ids)))
            if len(positions) != sum(len(step) + 1 for step in rollout.steps):
                raise ConfigError("labels of every character need a tokenizer of characters: leave them out")
            targets = tuple(float(index < right) for index in range(len(positions)))
            examples.append(Example(rendered.token_ids, positions, targets))
    return examples


def compressed(
    tokenizer: Any,
    form: PRMFormat,
    labelled: Sequence[Labelled],
    *,
    share: float,
    joint: str,
    seed: int,
) -> list[Example]:
    """Further rows, from a share of the rollouts: two consecutive steps of each, at random, are merged into one."""
    quick = _Quick(tokenizer)
    examples = []
    for rollout, labels in labelled:
        draw = derive_seed(seed, "compress", *rollout.key)
        if len(rollout.steps) >= 2 and draw % 1000 < 1000 * share:
            steps, merged = compress(rollout.steps, labels, draw // 1000 % (len(rollout.steps) - 1), joint)
            examples.append(_example(quick, form, rollout.question, steps, merged))
    return examples


def queried(
    query: int, labelled: Sequence[Labelled], ends: Mapping[tuple[str, str, int], Sequence[int]]
) -> list[Example]:
    """For each prefix a row of the policy's own ids and one query token behind them, which is read.

    `ends` says behind which of a rollout's ids each step lies.
    """
    examples = []
    for rollout, labels in labelled:
        for end, label in zip(ends[rollout.key], labels, strict=False):
            ids = (*rollout.prompt_token_ids, *rollout.token_ids[:end], query)
            examples.append(Example(ids, (len(ids) - 1,), (float(label),)))
    return examples


def batches(examples: Sequence[Example], size: int, seed: int) -> Iterator[Batch]:
    """One epoch in random order; a batch holds rows of like length."""
    if not examples:
        raise ConfigError("there is nothing to train on: take more problems")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(examples), generator=generator).tolist()
    order.sort(key=lambda index: len(examples[index].token_ids) // 8)  # stable: random within like lengths
    starts = torch.arange(0, len(order), size)
    for start in starts[torch.randperm(len(starts), generator=generator)].tolist():
        yield collate([examples[index] for index in order[start : start + size]])


def collate(examples: Sequence[Example]) -> Batch:
    """Examples as tensors."""
    ids = torch.zeros(len(examples), max(len(example.token_ids) for example in examples), dtype=torch.int64)
    for row, example in enumerate(examples):
        ids[row, : len(example.token_ids)] = torch.tensor(example.token_ids)
    return Batch(
        ids,
        torch.tensor([row for row, example in enumerate(examples) for _ in example.positions]),
        torch.tensor([position for example in examples for position in example.positions]),
        torch.tensor([target for example in examples for target in example.targets], dtype=torch.float32),
    )


class _Quick:
    """A tokenizer as templates call it; its Rust part alone, which is ten times faster on short pieces."""

    def __init__(self, tokenizer: Any) -> None:
        self._whole, self._part = tokenizer, tokenizer.backend_tokenizer

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": self._part.encode(text, add_special_tokens=add_special_tokens).ids}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


def _example(
    tokenizer: Any,
    form: PRMFormat,
    question: str,
    steps: Sequence[str],
    labels: Sequence[float],
) -> Example:
    rendered = form.template.render(tokenizer, Solution(question=question, steps=tuple(steps)))
    ids, positions = rendered.token_ids, rendered.positions
    if len(labels) != len(positions):
        raise ConfigError(f"{form.name} reads {len(positions)} positions, and there are {len(labels)} labels")
    return Example(ids, positions, tuple(float(label) for label in labels))
