"""Engines for the contract suite: how each is opened, and a reference that knows its laws without it.

An engine joins the suite with one more `Subject` in `SUBJECTS`.
"""

import atexit
import functools
import random
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from decoding.engines.open import open_engine
from decoding.engines.recording import Recorder
from decoding.engines.replay import ReplayEngine
from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ContextError
from decoding.host import OpenEngine
from decoding.sampling import Floats, log_softmax
from decoding.types import GenerationRequest, SamplingParams
from evals.tasks.reference import generate
from tests.worlds import RandomModel

TOKENS = 32
SCRIPT = RandomModel(end=0.01)
SCRIPT_CONTEXT = 64


class Opener(Protocol):
    def __call__(self, *, slots: int = 64) -> OpenEngine: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    name: str
    open: Opener
    logprobs: Callable[
        [Sequence[int], Sequence[int]], Floats
    ]  # (prompt, completion) -> its laws at temperature 1, [T, V]
    prompts: tuple[tuple[int, ...], ...]  # 16
    context: int
    size: int  # of the vocabulary
    mismatches: int  # completions of 16 that may differ with their company
    recorded: str | None = None  # the engine whose capabilities a recording has


def request(prompt: Sequence[int], *, seed: int = 0, name: str = "", **sampling) -> GenerationRequest:
    sampling = {"max_tokens": TOKENS, **sampling}
    return GenerationRequest(id=name, prompt_token_ids=tuple(prompt), sampling=SamplingParams(seed=seed, **sampling))


def _open_scripted(*, slots: int = 64) -> OpenEngine:
    async def opening() -> ScriptedEngine:
        return ScriptedEngine(SCRIPT, slots=slots, context_length=SCRIPT_CONTEXT)

    return OpenEngine(opening)


def _script_logprobs(prompt: Sequence[int], completion: Sequence[int]) -> Floats:
    return np.log([SCRIPT.law((*prompt, *completion[:i]))[: SCRIPT.size] for i in range(len(completion))])


@functools.cache
def random_policy(folder: Path):
    """A policy with random weights, saved to `folder`: sure of nothing, unlike a trained one.

    Its logits are spread out, so that laws have likely and unlikely tokens. Those of special tokens are near 0: rare,
    but not equal, since engines differ in which of two equal tokens a filter drops.
    """
    from training.policy import SPECIAL, PolicyRecipe, save, untrained

    recipe = PolicyRecipe(hidden=64, layers=2, heads=2, feed_forward=128, steps=0)
    model = untrained(recipe).eval()
    model.lm_head.weight.data[len(SPECIAL) :] *= 12
    save(model, recipe, folder)
    return model


def plain_logprobs(model, prompt: Sequence[int], completion: Sequence[int]) -> Floats:
    """The laws of a completion's tokens by one forward over the whole text, without a cache, [T, V]."""
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *completion]]), use_cache=False).logits[0]
    return np.stack([log_softmax(row) for row in logits[len(prompt) - 1 : -1].float().numpy()])


def script() -> Subject:
    return Subject(
        name="scripted",
        open=_open_scripted,
        logprobs=_script_logprobs,
        prompts=tuple((1 + i % 7, *(2 + j % 5 for j in range(i // 7))) for i in range(16)),
        context=SCRIPT_CONTEXT,
        size=SCRIPT.size,
        mismatches=0,
    )


def _real(folder: Path, name: str, mismatches: int, slots_option: str, **options: Any) -> Subject:
    from training.policy import CONTEXT, tokenizer

    model = random_policy(folder)
    encode, rng = tokenizer().encode, random.Random(0)
    return Subject(
        name=name,
        open=lambda *, slots=64: open_engine(str(folder), name, **{slots_option: slots}, **options),
        logprobs=functools.partial(plain_logprobs, model),
        prompts=tuple(tuple(encode(generate(2 + i // 2, rng).question)) for i in range(16)),
        context=CONTEXT,
        size=model.config.vocab_size,
        mismatches=mismatches,
    )


class Rehearsed:
    """A replay whose every request is recorded, on the scripted engine, right before it is played."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._replay = ReplayEngine(recorder.recording, recorder.tokenizer)
        self.info, self.tokenizer, self.abort = self._replay.info, self._replay.tokenizer, self._replay.abort

    async def generate(self, request):
        await self._rehearse(request)
        return await self._replay.generate(request)

    async def stream(self, request):
        await self._rehearse(request)
        async with aclosing(self._replay.stream(request)) as deltas:
            async for delta in deltas:
                yield delta

    async def aclose(self):
        await self._replay.aclose()
        await self._recorder.aclose()

    async def _rehearse(self, request):
        if not self._recorder.recording.find(request):
            with suppress(ContextError):
                await self._recorder.generate(replace(request, id=""))


def _open_rehearsed(*, slots: int = 64) -> OpenEngine:
    async def opening() -> Rehearsed:
        engine = ScriptedEngine(SCRIPT, slots=slots, context_length=SCRIPT_CONTEXT)
        return Rehearsed(Recorder(engine, Path(tempfile.mkdtemp()) / "recording.jsonl", "scripted"))

    return OpenEngine(opening)


@functools.cache
def server_of(folder: Path) -> str:
    """The address of a vLLM server of the random policy, one a session; it ends with the tests."""
    from benchmarks.openai_tokens import serve
    from decoding.models import resolve

    random_policy(folder)
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(serve(resolve(str(folder))))


def served(folder: Path) -> Subject:
    """The random policy behind a vLLM server."""
    subject = _real(folder, "openai", 1, "concurrency")
    url = server_of(folder)
    return replace(
        subject,
        open=lambda *, slots=64: open_engine("auto", "openai", base_url=url, concurrency=slots, tokenizer=str(folder)),
    )


# Each takes the folder that the random policy is saved in. Floating-point sums depend on a batch's shape: with a real
# model a draw within 1e-6 of the boundary between two tokens may fall on its other side.
SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "scripted": lambda _: script(),
    "transformers": lambda folder: _real(folder, "transformers", 1, "slots", threads=1),
    "vllm": lambda folder: _real(folder, "vllm", 1, "max_num_seqs"),
    "openai": served,
    "replay": lambda _: replace(script(), name="replay", open=_open_rehearsed, recorded="scripted"),
}
REAL = [pytest.param(name, marks=pytest.mark.engine) for name in ("vllm", "openai")]
VLLM = pytest.mark.parametrize("subject", REAL[:1], indirect=True)  # the session's vLLM of the random policy
