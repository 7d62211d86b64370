"""vLLM's `AsyncLLM` behind the engine protocol: the main engine, on a GPU or on the CPU build.

Requests go in as token ids and come back whole (`FINAL_ONLY`) unless streamed. Whatever else vLLM can do (tensor,
pipeline and data parallelism, quantisation, its own speculative decoding) is passed through by name.
"""

import os
import sys
import tempfile
import types
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decoding.engine import Capability, EngineInfo, Tokenizer, check_context, finish_or_abort
from decoding.engines.capabilities import CAPABILITIES
from decoding.engines.vllm_orphans import OWNER
from decoding.errors import ConfigError, EngineError, ModelError
from decoding.models import ModelSource, load_tokenizer, model_shape
from decoding.types import Completion, Delta, FinishReason, GenerationRequest, SamplingParams, Usage

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm import SamplingParams as VllmSampling
    from vllm.v1.engine.async_llm import AsyncLLM

CPU_DEFAULTS: dict[str, Any] = {
    "dtype": "float32",  # 2.5 times faster than bfloat16 on CPUs without bf16 instructions
    "enforce_eager": True,  # starts in a third of the time; compiled decodes about a fifth faster
    "enable_chunked_prefill": False,  # a seeded request caught in a chunked prefill crashes the CPU build
    "block_size": 32,  # the least; prompts shorter than a block never hit the prefix cache
    "max_num_seqs": 256,
}
QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # its processes' standard error goes to a file, see `started_quietly`
    "VLLM_NO_USAGE_STATS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
CPU_KV_GIB = "2"


async def open_vllm(source: ModelSource, **options: Any) -> "VllmEngine":
    """Start vLLM on a model; takes tens of seconds. `options` are `AsyncEngineArgs` fields, by name.

    Raises ``ConfigError`` for an unknown option, ``ModelError`` if vLLM can't load the model.
    """
    log = Path(tempfile.gettempdir()) / f"bethink-vllm-{os.getpid()}.log"
    with started_quietly(log):
        arguments = engine_arguments(source, options)
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise ModelError(f"vLLM could not start {source.name}: {what}\nIts log is {log}") from error
    return VllmEngine(llm, source, log)


def engine_arguments(source: ModelSource, options: Mapping[str, Any]) -> dict[str, Any]:
    """What vLLM is started with: our defaults for this kind of machine, and over them the user's options."""
    _prepare_environment()
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    unknown = set(options) - set(AsyncEngineArgs.__dataclass_fields__)
    if unknown:
        raise ConfigError(f"vLLM {version_of_vllm()} has no engine option {sorted(unknown)}: see AsyncEngineArgs")
    arguments: dict[str, Any] = {
        "model": source.path,
        "trust_remote_code": source.trust_remote_code,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **(CPU_DEFAULTS if current_platform.is_cpu() else {}),
        **options,
    }
    if current_platform.is_cpu():  # without chunked prefill a whole prompt has to fit into a batch
        length = arguments.get("max_model_len") or model_shape(source).context_length
        arguments.setdefault("max_num_batched_tokens", max(2048, length))
    return arguments


def version_of_vllm() -> str:
    """The installed vLLM's version, whichever build it is."""
    import vllm

    return str(vllm.__version__)


class VllmEngine:
    """An `Engine` over `AsyncLLM`. It belongs to the event loop that it was opened on."""

    def __init__(self, llm: "AsyncLLM", source: ModelSource, log: Path) -> None:
        from vllm import TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        self._llm, self._log = llm, log
        self._tokenizer = load_tokenizer(source)
        self._prompt, self._kind = TokensPrompt, RequestOutputKind
        self._in_flight: set[str] = set()
        self._numbered = 0
        config = llm.vllm_config
        capabilities = CAPABILITIES["vllm"]
        if config.model_config.logprobs_mode == "processed_logprobs":
            capabilities = capabilities - {Capability.LOGPROBS} | {Capability.SAMPLING_LOGPROBS}
        if not config.cache_config.enable_prefix_caching:
            capabilities -= {Capability.PREFIX_CACHE}
        self._info = EngineInfo(
            engine="vllm",
            version=version_of_vllm(),
            model=source.name,
            revision=source.revision,
            parameters=model_shape(source).parameters,
            context_length=config.model_config.max_model_len,
            slots=config.scheduler_config.max_num_seqs,
            capabilities=capabilities,
        )

    @property
    def info(self) -> EngineInfo:
        """Name, versions, limits and capabilities."""
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._tokenizer

    async def generate(self, request: GenerationRequest) -> Completion:
        """Draw one completion."""
        request = self._admit(request)
        return await finish_or_abort(self._finish(request), lambda: self.abort(request.id))

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """Draw one completion, a delta for whatever the engine hands out at once."""
        request = self._admit(request)
        written: list[int] = []
        logprobs: list[float] = []
        async for output in self._outputs(request, self._kind.DELTA):
            piece = output.outputs[0]
            written += piece.token_ids
            logprobs += _logprobs(output) or ()
            yield Delta(
                token_ids=tuple(piece.token_ids),
                completion=self._completion(request, output, written, logprobs) if output.finished else None,
            )

    async def abort(self, request_id: str) -> None:
        """End a request early."""
        if request_id in self._in_flight:
            await self._llm.abort(request_id)

    async def aclose(self) -> None:
        """End all requests as cancelled and stop vLLM's processes."""
        for request_id in list(self._in_flight):
            await self.abort(request_id)
        self._llm.shutdown()
        # Its destructor shuts down again, which fails once the interpreter has begun to end.
        self._llm.shutdown = lambda timeout=None: None
        self._log.unlink(missing_ok=True)

    def _admit(self, request: GenerationRequest) -> GenerationRequest:
        """The request with an id and with no more tokens than the context has room for."""
        room = check_context(request, self._info.context_length)
        self._numbered += 1
        request = replace(
            request, id=request.id or f"#{self._numbered}", sampling=replace(request.sampling, max_tokens=room)
        )
        if request.id in self._in_flight:
            raise ConfigError(f"a request with the id {request.id!r} is in flight: ids must be unique")
        self._in_flight.add(request.id)
        return request

    async def _finish(self, request: GenerationRequest) -> Completion:
        async for output in self._outputs(request, self._kind.FINAL_ONLY):
            if output.finished:
                return self._completion(request, output, list(output.outputs[0].token_ids), _logprobs(output))
        raise EngineError(f"vLLM ended the request {request.id!r} without an answer")

    async def _outputs(self, request: GenerationRequest, kind: Any) -> "AsyncIterator[RequestOutput]":
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        try:
            prompt = self._prompt(prompt_token_ids=list(request.prompt_token_ids))
            async for output in self._llm.generate(prompt, vllm_sampling(request.sampling, kind), request.id):
                yield output
        except (EngineDeadError, EngineGenerateError) as error:
            raise EngineError(f"vLLM failed: {error}; its log is {self._log}") from error
        finally:
            self._in_flight.discard(request.id)

    def _completion(
        self, request: GenerationRequest, output: "RequestOutput", ids: list[int], logprobs: list[float] | None
    ) -> Completion:
        reason = self._finish_reason(output, ids)
        cancelled = reason is FinishReason.CANCELLED
        cached = output.num_cached_tokens or 0
        wanted = request.sampling.logprobs and logprobs is not None and len(logprobs) == len(ids)
        model_law = Capability.LOGPROBS in self._info.capabilities
        numbers = tuple(logprobs) if wanted and logprobs is not None else None
        return Completion(
            token_ids=tuple(ids),
            logprobs=numbers if model_law else None,
            sampling_logprobs=None if model_law else numbers,
            finish_reason=reason,
            usage=Usage(
                requests=1,
                prompt_tokens_computed=len(request.prompt_token_ids) - cached if ids or not cancelled else 0,
                prompt_tokens_cached=cached,
                generated_tokens=0 if cancelled else len(ids),
                aborted_tokens=len(ids) if cancelled else 0,
            ),
        )

    def _finish_reason(self, output: "RequestOutput", ids: list[int]) -> FinishReason:
        match output.outputs[0].finish_reason:
            case "stop":
                # vLLM turns further EOS ids of the generation config into stop tokens; they are still the model's end.
                return FinishReason.EOS if ids and ids[-1] in self._tokenizer.eos_token_ids else FinishReason.STOP
            case "length":
                return FinishReason.LENGTH
            case "abort":
                return FinishReason.CANCELLED
            case other:
                raise EngineError(f"vLLM ended a request with the reason {other!r}, which bethink does not know")


def vllm_sampling(sampling: SamplingParams, kind: Any) -> "VllmSampling":
    """The same parameters in vLLM's type."""
    from vllm import SamplingParams as VllmSampling

    return VllmSampling(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=sampling.seed if sampling.temperature > 0 else None,
        max_tokens=sampling.max_tokens,
        stop_token_ids=list(sampling.stop_token_ids),
        stop=list(sampling.stop) or None,
        logprobs=0 if sampling.logprobs else None,  # 0: of the drawn token alone
        flat_logprobs=sampling.logprobs,
        detokenize=bool(sampling.stop),  # stop strings are found in text; otherwise nobody reads it
        output_kind=kind,
        skip_clone=True,
    )


def _logprobs(output: "RequestOutput") -> list[float] | None:
    """Log-probability of each drawn token, or None where none were asked for."""
    flat = output.outputs[0].logprobs
    if flat is None:
        return None
    # Without candidates beside it each position holds the drawn token alone, or twice where it is the likeliest too.
    return [float(flat.logprobs[start]) for start in flat.start_indices]


def _prepare_environment() -> None:
    """Settings that vLLM reads from the environment, where the user has none of their own."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", CPU_KV_GIB)
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # no fork of a process that has threads
    os.environ[OWNER] = str(os.getpid())


@contextmanager
def started_quietly(log: Path) -> Iterator[None]:
    """Start processes that write to `log` instead of the terminal and that don't run the caller's script again.

    vLLM's processes inherit standard error and have much to say that a user can't change. And a spawned process
    imports its parent's main module: a script without an ``if __name__ == "__main__"`` would start another engine in
    there, and so on.
    """
    main, terminal = sys.modules["__main__"], os.dup(2)
    with log.open("ab") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.modules["__main__"] = types.ModuleType("__main__")
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            sys.modules["__main__"] = main
