"""A server gives the same tokens as an engine of our own.

The same seeded requests (lengths mixed, temperature 1, some filtered, some greedy, some with stop strings) go through
the `vllm` engine, and through the `openai` engine to a vLLM server that was started with the same settings.
"""

import argparse
import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import write
from decoding.engine import Engine
from decoding.engines.open import open_engine
from decoding.engines.vllm_orphans import OWNER
from decoding.engines.vllm_start import engine_arguments
from decoding.errors import EngineError
from decoding.host import OpenEngine
from decoding.models import ModelSource, load_tokenizer, resolve
from decoding.types import Completion, GenerationRequest, SamplingParams
from evals.tasks.reference import generate

MODEL = "reference-base"
START_SECONDS = 300.0
SAMPLINGS: tuple[dict[str, Any], ...] = (
    {},
    {"top_p": 0.9},
    {"top_k": 5},
    {"min_p": 0.05, "temperature": 1.5},
    {"temperature": 0.0},
    {"stop": ("\n",)},
    {"temperature": 1.5, "max_tokens": 7},
)


class Compared(NamedTuple):
    """What the two engines showed."""

    requests: int
    tokens: int  # that the vllm engine drew
    differing: int  # completions with other tokens
    differing_reasons: int  # completions that ended for another reason
    largest_logprob_gap: float  # nats, over all tokens
    vllm_speed: float  # tokens/s, best of the rounds
    openai_speed: float


def mixed_requests(count: int) -> list[GenerationRequest]:
    """Seeded requests over chains of the reference world of all difficulties."""
    tokenizer, rng = load_tokenizer(resolve(MODEL)), random.Random("openai")
    requests = []
    for i in range(count):
        settings = {"max_tokens": rng.randrange(16, 97), **SAMPLINGS[i % len(SAMPLINGS)]}
        prompt = tokenizer.encode(generate(2 + i % 7, rng).question)
        requests.append(
            GenerationRequest(prompt_token_ids=prompt, sampling=SamplingParams(seed=rng.getrandbits(63), **settings))
        )
    return requests


@contextmanager
def serve(source: ModelSource, **options: Any) -> Iterator[str]:
    """A vLLM server of a model, with the settings that our vllm engine has; its address. It ends with the block."""
    port, log = _free_port(), Path(tempfile.gettempdir()) / f"bethink-server-{os.getpid()}.log"
    arguments = {**engine_arguments(source, options), "port": port, "host": "127.0.0.1"}
    del arguments["use_tqdm_on_load"]  # no flag of the server
    line = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enable-prompt-tokens-details"]
    line += [flag for name, value in arguments.items() for flag in _flags(name, value)]
    environment = {**os.environ, OWNER: str(os.getpid())}
    with log.open("wb") as file:
        process = subprocess.Popen(line, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait_until_up(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    log.unlink(missing_ok=True)


def measure(requests: int = 196, rounds: int = 3) -> Compared:
    """Draw the requests with both engines, one after the other."""
    work, source = mixed_requests(requests), resolve(MODEL)
    with open_engine(MODEL, "vllm") as opened:
        local, local_speed = _draw(opened, work, rounds)
    with (
        serve(source) as url,
        open_engine("auto", "openai", base_url=url, tokenizer=MODEL) as opened,
    ):
        remote, remote_speed = _draw(opened, work, rounds)
    pairs = list(zip(local, remote, strict=True))
    gaps = [
        abs(x - y)
        for a, b in pairs
        for x, y in zip(a.logprobs or (), b.logprobs or (), strict=a.token_ids == b.token_ids)
    ]
    return Compared(
        requests=len(work),
        tokens=sum(len(completion.token_ids) for completion in local),
        differing=sum(a.token_ids != b.token_ids for a, b in pairs),
        differing_reasons=sum(a.finish_reason != b.finish_reason for a, b in pairs),
        largest_logprob_gap=max(gaps),
        vllm_speed=local_speed,
        openai_speed=remote_speed,
    )


def _draw(opened: OpenEngine, requests: Sequence[GenerationRequest], rounds: int) -> tuple[list[Completion], float]:
    """The completions of the first round, and the best speed of all."""

    async def work(engine: Engine) -> list[Completion]:
        return await asyncio.gather(*map(engine.generate, requests))

    drawn, best = [], 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        drawn.append(opened.run(work))
        tokens = sum(len(completion.token_ids) for completion in drawn[-1])
        best = max(best, tokens / (time.perf_counter() - start))
    return drawn[0], best


def _flags(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}"] if value else [f"--no-{flag}"]
    return [f"--{flag}", str(value)]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_up(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise EngineError(f"the vLLM server did not start; its log is {log}")


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=196)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found = measure(arguments.requests, arguments.rounds)
    lines = [
        f"# The same {found.requests} requests through the vllm engine and through a vLLM server",
        "",
        "| tokens | completions that differ | other finish reason | largest gap of a log-probability, nats "
        "| vllm, tokens/s | openai, tokens/s |",
        "|---|---|---|---|---|---|",
        f"| {found.tokens} | {found.differing} | {found.differing_reasons} | {found.largest_logprob_gap:.1e} "
        f"| {found.vllm_speed:.0f} | {found.openai_speed:.0f} |",
        "",
        f"Model {MODEL}; server, engine and client share the machine. Speed is that of the best of {arguments.rounds} "
        "rounds.",
    ]
    flags = f"--requests {arguments.requests} --rounds {arguments.rounds}"
    write("openai_tokens", "\n".join(lines), f"python -m benchmarks.openai_tokens {flags}")


if __name__ == "__main__":
    main()
