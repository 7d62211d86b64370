"""What bethink costs on top of vLLM: tokens/s of an evaluation over one ``LLM.generate`` with the same requests.

Both engines are started once, with the same options, and then take turns: an evaluation (runner, store, grading), one
``LLM.generate`` with the very requests that it made, seeds included, and one without seeds, for what seeds cost vLLM.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import write
from decoding.engine import Engine
from decoding.engines.open import open_engine
from decoding.engines.vllm import vllm_sampling
from decoding.engines.vllm_start import engine_arguments
from decoding.models import resolve
from decoding.types import Completion, GenerationRequest
from evals.plan import Plan, Request, make_plan
from evals.runner import Evaluation, evaluate
from evals.store import Store
from reasoning.run import RunSettings


class Workload(NamedTuple):
    """What is generated for one model."""

    model: str
    request: Request


class Pair(NamedTuple):
    """One turn of each, tokens/s."""

    bethink: float
    seeded: float
    unseeded: float


WORKLOADS = {
    "reference": Workload(
        "reference-base",
        Request(task="reference:8", strategies=["repeated_sampling:n=16"], model="reference-base", limit=100),
    ),
    "smollm2": Workload(
        "smollm2-135m-instruct",
        Request(
            task="gym:chain_sum",
            strategies=["repeated_sampling:n=8"],
            model="smollm2-135m-instruct",
            limit=12,
            temperature=0.6,
            max_tokens=64,
        ),
    ),
}


class Recorder:
    """An engine that notes the requests that pass through it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.requests: list[GenerationRequest] = []
        self.tokens = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def generate(self, request: GenerationRequest) -> Completion:
        """Note and pass on."""
        self.requests.append(request)
        completion = await self._engine.generate(request)
        self.tokens += len(completion.token_ids)
        return completion


async def run_eval(engine: Any, plan: Plan) -> tuple[Recorder, float]:
    """One evaluation into a fresh folder; the recorder and the seconds that it took."""
    await engine._llm.reset_prefix_cache()
    recorder = Recorder(engine)
    settings = RunSettings(
        engines={"policy": recorder},
        sampling=plan.sampling,
        answers=plan.task.answers,
    )
    evaluation = Evaluation(task=plan.task, strategies=plan.strategies, prompts=plan.prompts, settings=settings)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), {}, {}) as store:
        start = time.perf_counter()
        await evaluate(evaluation, store)
        return recorder, time.perf_counter() - start


def run_vllm(llm: Any, requests: Sequence[GenerationRequest], *, seeded: bool) -> float:
    """The same requests in one call; tokens/s."""
    from vllm import TokensPrompt
    from vllm.sampling_params import RequestOutputKind

    prompts = [TokensPrompt(prompt_token_ids=list(request.prompt_token_ids)) for request in requests]
    params = [vllm_sampling(request.sampling, RequestOutputKind.FINAL_ONLY) for request in requests]
    if not seeded:
        for param in params:
            param.seed = None
    llm.reset_prefix_cache()
    start = time.perf_counter()
    outputs = llm.generate(prompts, params, use_tqdm=False)
    seconds = time.perf_counter() - start
    return sum(len(output.outputs[0].token_ids) for output in outputs) / seconds


def measure(workload: Workload, pairs: int) -> list[Pair]:
    """Alternate the two, after one turn of each to warm up."""
    plan = make_plan(replace(workload.request, engine="vllm"))
    with open_engine(workload.model, "vllm") as opened:
        from vllm import LLM

        llm = LLM(**engine_arguments(resolve(workload.model), {}))
        measured: list[Pair] = []
        for _ in range(pairs + 1):
            recorder, seconds = opened.run(lambda engine: run_eval(engine, plan))
            seeded = run_vllm(llm, recorder.requests, seeded=True)
            unseeded = run_vllm(llm, recorder.requests, seeded=False)
            measured.append(Pair(recorder.tokens / seconds, seeded, unseeded))
            print(measured[-1], flush=True)
        del llm
    return measured[1:]


def main() -> None:
    """Measure both workloads and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", choices=sorted(WORKLOADS))
    arguments = parser.parse_args()
    chosen = [arguments.only] if arguments.only else sorted(WORKLOADS)
    lines = [
        "# bethink over vLLM",
        "",
        "| model | bethink, tokens/s | LLM.generate, same seeds | ratio, median (each pair) | LLM.generate, no seeds |",
        "|---|---|---|---|---|",
    ]
    for name in chosen:
        runs = measure(WORKLOADS[name], arguments.pairs)
        ratios = [run.bethink / run.seeded for run in runs]
        medians = Pair(*(statistics.median(column) for column in zip(*runs, strict=True)))
        each = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        lines.append(
            f"| {WORKLOADS[name].model} | {medians.bethink:.0f} | {medians.seeded:.0f} | "
            f"**{statistics.median(ratios):.3f}** ({each}) | {medians.unseeded:.0f} |"
        )
    suffix = f"_{arguments.only}" if arguments.only else ""
    write(
        f"engine_overhead{suffix}", "\n".join(lines), f"python -m benchmarks.engine_overhead --pairs {arguments.pairs}"
    )


if __name__ == "__main__":
    main()
