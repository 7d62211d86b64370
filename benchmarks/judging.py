"""What judging costs: prefixes/s by backend, tokens computed against those needed, and how much hides behind a policy.

10-step solutions of the reference world, some right, some with a wrong number, are read step by step, at all
steps so far each time, as a process reward model's caller does while it searches. Chains are separate solutions; in
trees, of the sixteen children of a beam of four the first four are kept. Tokens needed count the prompt and each step
once. The judge is reference-base with its <yes>/<no> pair, or with a random two-class head: what is read costs the same
whatever it says.
`benchmarks.judging_overlap` measures the overlap.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.judging_overlap import MODEL, OPERATIONS, Encoder, Pair, Prefix, overlap_table
from benchmarks.machine import write
from benchmarks.openai_tokens import serve
from decoding.engines.open import find_source
from decoding.models import ModelSource, resolve
from evals.tasks.reference import Chain, generate
from verifiers.judges.reader import Head, Reader

BEAM, CHILDREN = 4, 4


class Speed(NamedTuple):
    """One workload on one backend."""

    prefixes_per_second: float
    needed_over_computed: float
    padding: float | None  # share of what went through the model


def chain_levels(encoder: Encoder, chain: Chain, rng: random.Random) -> list[list[Prefix]]:
    """A solution, [steps][1]."""
    levels, prefix = [], encoder.question(chain)
    for step in chain.steps:
        prefix = encoder.then(prefix, _perhaps_wrong(step, rng))
        levels.append([prefix])
    return levels


def tree_levels(encoder: Encoder, chain: Chain, rng: random.Random) -> list[list[Prefix]]:
    """What a beam search would have judged, [steps][children]."""
    levels, beam = [], [encoder.question(chain)]
    for step in chain.steps:
        children = [encoder.then(prefix, _perhaps_wrong(step, rng)) for prefix in beam for _ in range(CHILDREN)]
        levels.append(list(dict.fromkeys(children)))
        beam = levels[-1][:BEAM]
    return levels


def _perhaps_wrong(step: str, rng: random.Random) -> str:
    sum_, equals, _ = step.rpartition("=")
    return f"{sum_}={rng.randrange(1000)}" if equals and rng.random() < 0.5 else step


def measure(reader: Reader, *, trees: bool, problems: int, rounds: int = 3) -> Speed:
    """Read fresh problems in each round, after one to warm up; the speed is the median round's."""
    encoder, make = Encoder(reader.tokenizer), tree_levels if trees else chain_levels
    before, speeds = _counts(reader), []
    needed = computed = 0
    for seed in range(rounds + 1):
        rng = random.Random(seed)
        work = [make(encoder, generate(OPERATIONS, rng), rng) for _ in range(problems)]
        start = time.perf_counter()
        computed += asyncio.run(_read_all(reader, work))
        seconds = time.perf_counter() - start
        speeds.append(sum(len(level) for levels in work for level in levels) / seconds)
        needed += sum(map(_needed, work))
    after = _counts(reader)
    padding = 1 - (after["computed"] - before["computed"]) / (after["padded"] - before["padded"]) if after else None
    return Speed(statistics.median(speeds[1:]), needed / computed, padding)


async def _read_all(reader: Reader, work: Sequence[Sequence[Sequence[Prefix]]]) -> int:
    """All problems side by side, their steps one after the other; the tokens that were computed."""

    async def one(levels: Sequence[Sequence[Prefix]]) -> int:
        computed = 0
        for level in levels:
            answers = await asyncio.gather(*(reader.read(prefix.ids, prefix.positions) for prefix in level))
            computed += sum(answer.computed for answer in answers)
        return computed

    return sum(await asyncio.gather(*map(one, work)))


def _needed(levels: Sequence[Sequence[Prefix]]) -> int:
    """Tokens of the prompt and of each step, once."""
    steps = {prefix.ids: prefix.bounds[-1] - prefix.bounds[-2] for level in levels for prefix in level}
    return levels[0][0].bounds[0] + sum(steps.values())


def _counts(reader: Reader) -> dict[str, int]:
    """What the transformers reader counts; other backends tell nothing of their padding."""
    return dict(getattr(reader, "counts", {}))


def open_reader(backend: str, source: ModelSource, read_out: Any, **options: Any) -> Reader:
    """A judge's reader by the name of its backend."""
    if backend.startswith("transformers"):
        from verifiers.models.transformers_reader import open_transformers_reader

        return open_transformers_reader(source, read_out, **options)
    if backend in ("vllm generate", "HTTP generate"):
        from verifiers.models.engine_reader import open_engine_reader

        engine = "vllm" if backend == "vllm generate" else "openai"
        return open_engine_reader(source, read_out, engine=engine, **options)
    from verifiers.models.pooling_reader import open_pooling_reader

    return open_pooling_reader(source, read_out, **options)


def two_class(folder: Path) -> ModelSource:
    """reference-base with a random two-class head."""
    import torch
    from transformers import LlamaForTokenClassification
    from transformers.utils import logging

    logging.set_verbosity_error()  # it reports at length that the head is new
    torch.manual_seed(0)
    source = resolve(MODEL)
    LlamaForTokenClassification.from_pretrained(source.path, num_labels=2).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((Path(source.path) / name).read_bytes())
    return resolve(str(folder))


def measure_backend(backend: str, folder: Path, *, problems: int, rounds: int = 3) -> list[Speed]:
    """Chains, then trees, on one backend; `folder` is for a two-class judge's weights."""
    head = HEADS[backend]
    source = two_class(folder) if head is Head.CLASSES else resolve(MODEL)
    with ExitStack() as stack:
        options: dict[str, Any] = {}
        if backend == "HTTP generate":
            options = {"base_url": stack.enter_context(serve(source)), "tokenizer": MODEL}
            source = find_source("auto", "openai")
        reader = open_reader(backend, source, Pair(head), **options)
        stack.callback(lambda: asyncio.run(reader.aclose()))
        return [
            measure(reader, trees=False, problems=problems, rounds=rounds),
            measure(reader, trees=True, problems=max(1, problems // 8), rounds=rounds),
        ]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=96)
    parser.add_argument("--only", choices=sorted(HEADS), action="append", help="backends, all by default")
    arguments = parser.parse_args()
    lines = [
        "# What judging costs",
        "",
        f"Solutions of {OPERATIONS + 1} steps, read step by step at all steps so far; chains of {arguments.problems} "
        f"problems side by side, trees of {max(1, arguments.problems // 8)}.",
        "",
        "| backend | read | workload | prefixes/s | tokens needed / computed | padding |",
        "|---|---|---|---|---|---|",
    ]
    for backend in arguments.only or HEADS:
        with tempfile.TemporaryDirectory() as folder:
            speeds = measure_backend(backend, Path(folder), problems=arguments.problems)
        for workload, speed in zip(("chains", "trees"), speeds, strict=True):
            padding = "" if speed.padding is None else f"{100 * speed.padding:.0f} %"
            figures = f"{speed.prefixes_per_second:.0f} | {speed.needed_over_computed:.3f} | {padding}"
            lines.append(f"| {backend} | {HEADS[backend]} | {workload} | {figures} |")
            print(lines[-1], flush=True)
    lines += ["", *overlap_table()]
    command = "".join(f" --only {backend!r}" for backend in arguments.only or ())
    write("judging", "\n".join(lines), f"python -m benchmarks.judging --problems {arguments.problems}{command}")


HEADS = {
    "transformers": Head.TOKENS,
    "transformers, two classes": Head.CLASSES,
    "vllm generate": Head.TOKENS,
    "vllm pooling": Head.CLASSES,
    "HTTP generate": Head.TOKENS,
}

if __name__ == "__main__":
    main()
