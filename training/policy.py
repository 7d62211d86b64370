"""Train a policy for the reference world: next-token prediction on solutions, characters as tokens.

One seeded command, ``bethink train policy --size base``, makes the policies that bethink ships. The recipe is small
enough for two CPU cores and an hour: every batch holds chains of one difficulty, so nothing is padded away, and the
loss counts the solution's tokens only.
"""

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from decoding.models import resolve
from evals.tasks.reference import Chain, generate

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 256
CHARACTERS = "\n0123456789+-*=#,"
# <mask>, <yes>, <no> are for diffusion models and judges that share this vocabulary; policies never see them.
SPECIAL = ["<pad>", "<bos>", "<eos>", "<mask>", "<yes>", "<no>"]
IGNORED = -100
REPORT_EVERY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRecipe:
    """Everything that determines a policy's weights, on one machine and one version of torch."""

    hidden: int  # width of the residual stream
    layers: int
    heads: int  # head size hidden / heads must be a size that vLLM's attention has: 32, 64, ...
    feed_forward: int
    steps: int  # optimiser steps
    batch: int = 128  # chains a step
    difficulties: tuple[int, int] = (2, 8)  # least and greatest, uniform
    learning_rate: float = 2e-3  # at its peak; linear warm-up, cosine to a tenth
    warmup: int = 200
    weight_decay: float = 0.01
    seed: int = 0
    start: str | None = None  # whose weights it begins with, of the same shape; None: they are drawn


RECIPES: Mapping[str, PolicyRecipe] = {
    "base": PolicyRecipe(hidden=128, layers=4, heads=4, feed_forward=384, steps=1200),
    "small": PolicyRecipe(hidden=64, layers=2, heads=2, feed_forward=192, steps=3000),
    "judge-body": PolicyRecipe(
        hidden=128,
        layers=4,
        heads=4,
        feed_forward=384,
        steps=800,
        difficulties=(2, 10),
        learning_rate=1e-3,
        warmup=50,
        seed=1,
        start="reference-base",
    ),
}
"""The policies that bethink ships, which stop early on purpose: a policy that is always right has nothing to search.
And what its judges begin with, which goes on, since a judge has to know what the policy gets wrong."""


class Progress(NamedTuple):
    """What `train` reports every `REPORT_EVERY` steps."""

    step: int
    loss: float  # nats a token, of this step's batch
    seconds: float  # since the start
    model: "LlamaForCausalLM"  # as it stands now; not a copy


def tokenizer() -> "PreTrainedTokenizerFast":
    """The character tokenizer that all models of the reference world share; ``<bos>`` opens every prompt."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *CHARACTERS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    raw.decoder = decoders.Fuse()
    raw.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair=None, special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        mask_token="<mask>",
        additional_special_tokens=["<yes>", "<no>"],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def untrained(recipe: PolicyRecipe) -> "LlamaForCausalLM":
    """A policy with the recipe's shape, and weights that are drawn or those it begins with."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if recipe.start is not None:
        begun: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(resolve(recipe.start).path)
        return begun
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + len(CHARACTERS),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=SPECIAL.index("<bos>"),
        eos_token_id=SPECIAL.index("<eos>"),
        pad_token_id=SPECIAL.index("<pad>"),
    )
    return LlamaForCausalLM(config)


def batches(recipe: PolicyRecipe) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (ids, labels), both [batch, length] int64; labels are IGNORED on the prompt and the padding."""
    rng = random.Random(f"policy/{recipe.seed}")
    least, greatest = recipe.difficulties
    while True:
        difficulty = least + int(rng.random() * (greatest - least + 1))
        yield _encode([generate(difficulty, rng) for _ in range(recipe.batch)])


def learning_rate(recipe: PolicyRecipe, step: int) -> float:
    """The learning rate at `step`, as a share of its peak."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, done)))


def train(
    recipe: PolicyRecipe, *, device: str = "cpu", compiled: bool = True, report: Callable[[Progress], None]
) -> "LlamaForCausalLM":
    """Train a policy; `compiled` is 1.5 times faster on a CPU and needs a C++ compiler."""
    model = untrained(recipe).to(device)
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate(recipe, step))
    loss_of = torch.compile(_loss, dynamic=True) if compiled else _loss
    data, start = batches(recipe), time.perf_counter()
    model.train()
    for step in range(1, recipe.steps + 1):
        ids, labels = (tensor.to(device) for tensor in next(data))
        loss = loss_of(model, ids, labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % REPORT_EVERY == 0 or step == recipe.steps:
            report(Progress(step, loss.item(), time.perf_counter() - start, model))
    return model.eval()


def save(model: "LlamaForCausalLM", recipe: PolicyRecipe, folder: Path) -> None:
    """Write an ordinary model folder (weights, tokenizer, recipe) that any engine loads."""
    folder.mkdir(parents=True, exist_ok=True)
    model.float().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    record = {"recipe": asdict(recipe), "torch": torch.__version__, "parameters": model.num_parameters()}
    (folder / "recipe.json").write_text(json.dumps(record, indent=2) + "\n")


def _loss(model: "LlamaForCausalLM", ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    # No attention mask: padding is on the right, so a causal model never sees it where a label counts.
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)


def _encode(chains: list[Chain]) -> tuple[torch.Tensor, torch.Tensor]:
    code = np.full(128, -1, dtype=np.int64)
    for index, character in enumerate(CHARACTERS):
        code[ord(character)] = len(SPECIAL) + index
    texts = [(chain.question, chain.solution) for chain in chains]
    length = max(len(question) + len(solution) for question, solution in texts) + 2
    ids = np.full((len(texts), length), SPECIAL.index("<pad>"), dtype=np.int64)
    labels = np.full_like(ids, IGNORED)
    for row, (question, solution) in enumerate(texts):
        body = code[np.frombuffer((question + solution).encode(), dtype=np.uint8)]
        end = 1 + len(body)
        ids[row, 0], ids[row, 1:end], ids[row, end] = SPECIAL.index("<bos>"), body, SPECIAL.index("<eos>")
        labels[row, 1 + len(question) : end + 1] = ids[row, 1 + len(question) : end + 1]
    return torch.from_numpy(ids), torch.from_numpy(labels)
