"""The same request gives the same tokens, whatever runs beside it.

Requests at temperature 0.8 are drawn alone (one slot, one after another), in one batch, in reverse, and with 3 and with
64 slots, on the scripted and on the transformers engine in float32; and, for information, on vLLM.
"""

import argparse
import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from benchmarks.machine import write
from decoding.engine import Engine
from decoding.engines.scripted import ScriptedEngine, Table
from decoding.models import resolve
from decoding.types import GenerationRequest, SamplingParams
from evals.tasks.reference import generate

MODEL = "reference-base"
TEMPERATURE = 0.8
Opening = Callable[[int], Awaitable[Engine]]
Tokens = list[tuple[int, ...]]


class Mismatches(NamedTuple):
    """What one engine showed."""

    engine: str
    completions: int  # compared
    tokens: int  # in the reference completions
    mismatches: int  # completions that differ from those drawn alone


def scripted(requests: int, tokens: int) -> list[GenerationRequest]:
    """Requests for a table without an end, each with its own prompt."""
    rng = random.Random("scripted")
    return [_request((rng.randrange(8), rng.randrange(8)), i, tokens) for i in range(requests)]


def reference(requests: int, tokens: int) -> list[GenerationRequest]:
    """Requests for chains of the reference world, long enough to fill their tokens."""
    from decoding.models import load_tokenizer

    tokenizer, rng = load_tokenizer(resolve(MODEL)), random.Random("reference")
    prompts = [tokenizer.encode(generate(8, rng).question) for _ in range(requests)]
    return [_request(prompt, i, tokens) for i, prompt in enumerate(prompts)]


async def compare(
    name: str, opening: Opening, requests: Sequence[GenerationRequest], slots: Sequence[int]
) -> Mismatches:
    """Draw the requests in every way and count what differs."""
    alone = await _draw(opening, slots[0], [[request] for request in requests])
    others = []
    for count in slots:
        others.append(await _draw(opening, count, [list(requests)]))
        others.append((await _draw(opening, count, [list(requests)[::-1]]))[::-1])
    differing = sum(a != b for other in others for a, b in zip(alone, other, strict=True))
    return Mismatches(name, len(alone) * len(others), sum(map(len, alone)), differing)


async def _draw(opening: Opening, slots: int, batches: Sequence[Sequence[GenerationRequest]]) -> Tokens:
    engine = await opening(slots)
    try:
        drawn: Tokens = []
        for batch in batches:
            completions = await asyncio.gather(*(engine.generate(request) for request in batch))
            drawn += [completion.token_ids for completion in completions]
        return drawn
    finally:
        await engine.aclose()


def _request(prompt: tuple[int, ...], index: int, tokens: int) -> GenerationRequest:
    sampling = SamplingParams(seed=7919 * index + 1, temperature=TEMPERATURE, max_tokens=tokens)
    return GenerationRequest(prompt_token_ids=prompt, sampling=sampling)


async def _open_scripted(slots: int) -> Engine:
    rng = random.Random("laws")
    rows: dict[tuple[int, ...], list[float]] = {
        (a, b): [rng.random() for _ in range(8)] for a in range(8) for b in range(8)
    }
    laws = {key: [weight / sum(row) for weight in row] for key, row in rows.items()}
    return ScriptedEngine(
        Table(vocabulary=tuple("abcdefgh"), eos_token_ids=frozenset(), laws={**laws, (): [1 / 8] * 8}), slots=slots
    )


async def _open_transformers(slots: int) -> Engine:
    from decoding.engines.transformers import open_transformers

    return await open_transformers(resolve(MODEL), slots=slots, dtype="float32")


async def _open_vllm(slots: int) -> Engine:
    from decoding.engines.vllm import open_vllm

    return await open_vllm(resolve(MODEL), max_num_seqs=slots)


def measure(requests: int, tokens: int, *, vllm: bool = False) -> list[Mismatches]:
    """Scripted and transformers, and vLLM if asked for."""
    rows = [
        asyncio.run(compare("scripted", _open_scripted, scripted(requests, tokens), (1, 3, 64))),
        asyncio.run(compare("transformers", _open_transformers, reference(requests, tokens), (1, 3, 64))),
    ]
    if vllm:  # each opening takes tens of seconds, so with 64 slots alone
        rows.append(asyncio.run(compare("vllm", _open_vllm, reference(requests, tokens), (64,))))
    return rows


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--vllm", action="store_true")
    arguments = parser.parse_args()
    rows = measure(arguments.requests, arguments.tokens, vllm=arguments.vllm)
    lines = [
        f"# Alone, in a batch, in reverse: {arguments.requests} requests x {arguments.tokens} tokens, temperature 0.8",
        "",
        "| engine | completions compared | tokens drawn alone | completions that differ |",
        "|---|---|---|---|",
        *(f"| {row.engine} | {row.completions} | {row.tokens} | {row.mismatches} |" for row in rows),
    ]
    flags = f"--requests {arguments.requests} --tokens {arguments.tokens}{' --vllm' if arguments.vllm else ''}"
    write("batch_invariance", "\n".join(lines), f"python -m benchmarks.batch_invariance {flags}")


if __name__ == "__main__":
    main()
