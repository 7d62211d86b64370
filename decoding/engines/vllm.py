"""vLLM's `AsyncLLM` behind the engine protocol: the main engine, on a GPU or on the CPU build.

Requests go in as token ids and come back whole (`FINAL_ONLY`) unless streamed.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decoding.engine import (
    Capability,
    EngineInfo,
    RequestNames,
    Tokenizer,
    check_chosen,
    check_context,
    finish_or_abort,
)
from decoding.engines.capabilities import CAPABILITIES
from decoding.engines.vllm_start import start_vllm, stop_vllm, version_of_vllm
from decoding.errors import ConfigError, EngineError
from decoding.models import ModelSource, load_tokenizer, model_shape
from decoding.types import Completion, Delta, FinishReason, GenerationRequest, SamplingParams, Usage

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm import SamplingParams as VllmSampling
    from vllm.v1.engine.async_llm import AsyncLLM

MOST_CHOSEN = 128  # its own limit, on GPUs


async def open_vllm(source: ModelSource, **options: Any) -> "VllmEngine":
    """Start vLLM on a model; takes tens of seconds. `options` are `AsyncEngineArgs` fields, by name.

    Raises ``ConfigError`` for an unknown option, ``ModelError`` if vLLM can't load the model.
    """
    return VllmEngine(*start_vllm(source, options), source)


class VllmEngine:
    """An `Engine` over `AsyncLLM`. It belongs to the event loop that it was opened on."""

    def __init__(self, llm: "AsyncLLM", log: Path, source: ModelSource) -> None:
        from vllm import TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        self._llm, self._log = llm, log
        self._tokenizer = load_tokenizer(source)
        self._prompt, self._kind = TokensPrompt, RequestOutputKind
        self._in_flight: set[str] = set()
        self._names = RequestNames()
        config = llm.vllm_config
        self._vocabulary = config.model_config.get_vocab_size()
        self._info = EngineInfo(
            engine="vllm",
            version=version_of_vllm(),
            model=source.name,
            revision=source.revision,
            parameters=model_shape(source).parameters,
            context_length=config.model_config.max_model_len,
            slots=config.scheduler_config.max_num_seqs,
            capabilities=_capabilities(config),
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
        rows: list[tuple[float, ...]] = []
        # Not in deltas: vLLM merges what waits for its reader by id, and an id that was drawn and asked for has one
        # number there instead of two.
        async for output in self._outputs(request, self._kind.CUMULATIVE):
            new = output.outputs[0].token_ids[len(written) :]
            written += new
            rows += _rows(output, request.sampling, len(rows))
            yield Delta(
                token_ids=tuple(new),
                completion=self._completion(request, output, written, rows) if output.finished else None,
            )

    async def abort(self, request_id: str) -> None:
        """End a request early."""
        if request_id in self._in_flight:
            await self._llm.abort(request_id)

    async def aclose(self) -> None:
        """End all requests as cancelled and stop vLLM's processes."""
        for request_id in list(self._in_flight):
            await self.abort(request_id)
        stop_vllm(self._llm, self._log)

    def _admit(self, request: GenerationRequest) -> GenerationRequest:
        """The request with an id and with no more tokens than the context has room for."""
        room = check_context(request, self._info.context_length)
        check_chosen(request, self._info, self._vocabulary)
        chosen = len(request.sampling.logprob_token_ids)
        if chosen > MOST_CHOSEN:
            raise ConfigError(f"logprob_token_ids has {chosen} ids, and vLLM takes {MOST_CHOSEN} at most")
        request = self._names.name(request, self._in_flight)
        self._in_flight.add(request.id)
        return replace(request, sampling=replace(request.sampling, max_tokens=room))

    async def _finish(self, request: GenerationRequest) -> Completion:
        async for output in self._outputs(request, self._kind.FINAL_ONLY):
            if output.finished:
                ids = list(output.outputs[0].token_ids)
                return self._completion(request, output, ids, _rows(output, request.sampling))
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
        self, request: GenerationRequest, output: "RequestOutput", ids: list[int], rows: list[tuple[float, ...]]
    ) -> Completion:
        """What came, with rows of log-probabilities: the drawn token's, then those of the chosen ids."""
        reason = self._finish_reason(output, ids)
        cancelled = reason is FinishReason.CANCELLED
        cached = output.num_cached_tokens or 0
        whole = len(rows) == len(ids)
        model_law = Capability.LOGPROBS in self._info.capabilities
        numbers = tuple(row[0] for row in rows) if whole and request.sampling.logprobs else None
        return Completion(
            token_ids=tuple(ids),
            logprobs=numbers if model_law else None,
            sampling_logprobs=None if model_law else numbers,
            chosen_logprobs=tuple(row[1:] for row in rows) if whole and request.sampling.logprob_token_ids else None,
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

    chosen = list(sampling.logprob_token_ids)
    return VllmSampling(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=sampling.seed if sampling.temperature > 0 else None,
        max_tokens=sampling.max_tokens,
        stop_token_ids=list(sampling.stop_token_ids),
        stop=list(sampling.stop) or None,
        # 0: of the drawn token alone. Chosen ids come with it, and vLLM then wants no number beside them.
        logprobs=0 if sampling.logprobs and not chosen else None,
        flat_logprobs=bool(sampling.logprobs or chosen),
        detokenize=bool(sampling.stop),  # stop strings are found in text; otherwise nobody reads it
        output_kind=kind,
        skip_clone=True,
        **({"logprob_token_ids": chosen} if chosen else {}),
    )


def _rows(output: "RequestOutput", sampling: SamplingParams, first: int = 0) -> list[tuple[float, ...]]:
    """From the `first` drawn token on its log-probability and the chosen ids', [T][1 + K]; nothing if not asked for."""
    flat = output.outputs[0].logprobs
    if flat is None:
        return []
    # A position begins with the drawn token and the chosen ids. What follows is padding to the longest of the batch's
    # rows, under the id 0: read by place, since by id it would hide that id's own entry.
    width = 1 + len(sampling.logprob_token_ids)
    return [tuple(map(float, flat.logprobs[start : start + width])) for start in flat.start_indices[first:]]


def _capabilities(config: Any) -> frozenset[Capability]:
    """What an engine has that was opened like this."""
    from vllm import SamplingParams as VllmSampling

    capabilities = CAPABILITIES["vllm"]
    if config.model_config.logprobs_mode == "processed_logprobs":
        capabilities = capabilities - {Capability.LOGPROBS} | {Capability.SAMPLING_LOGPROBS}
    if Capability.LOGPROBS not in capabilities or not hasattr(VllmSampling, "logprob_token_ids"):
        capabilities -= {Capability.CHOSEN_LOGPROBS}
    if not config.cache_config.enable_prefix_caching:
        capabilities -= {Capability.PREFIX_CACHE}
    return capabilities
