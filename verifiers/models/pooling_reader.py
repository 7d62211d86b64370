"""A judge's head over tokens read by vLLM, on a GPU or on the CPU build (`Head.CLASSES`, `Head.SCALAR`).

Nothing is kept between calls: vLLM computes every row from its start, batched across calls. Beside a policy on the same
GPU, give each its share of the memory (``gpu_memory_utilization=0.3``).
"""

import asyncio
from typing import Any

from decoding.engines.vllm_pooling import VllmPooling, open_vllm_pooling
from decoding.host import Hosted
from decoding.models import ModelSource, load_tokenizer, model_shape
from verifiers.judges.format import ReadOut
from verifiers.judges.reader import Head, Reader, ReaderInfo, Readings
from verifiers.models.asked import check_head, check_row, finite
from verifiers.models.head_folder import servable


def open_pooling_reader(source: ModelSource, read_out: ReadOut, **options: Any) -> Reader:
    """Start vLLM on a judge; blocks, for tens of seconds. `options` are `AsyncEngineArgs` fields, by name.

    Raises:
        ConfigError: An option is unknown, or the read-out reads no head over tokens.
        ModelError: The model has no such head, or vLLM can't load it.
    """
    check_head(source.name, read_out, (Head.CLASSES, Head.SCALAR), "take the engine or the transformers backend")
    served, overrides = servable(source, read_out.head)
    options = {**options, "hf_overrides": {**overrides, **options.get("hf_overrides", {})}}
    return PoolingReader(Hosted(lambda: open_vllm_pooling(served, **options)), source)


class PoolingReader:
    """A `Reader` over vLLM."""

    def __init__(self, opened: Hosted[VllmPooling], source: ModelSource) -> None:
        self._opened = opened
        tokenizer: Any = load_tokenizer(source)
        self._tokenizer = tokenizer.raw
        self._info = ReaderInfo(
            backend="vllm",
            model=source.name,
            revision=source.revision,
            parameters=model_shape(source).parameters,
            context_length=opened.held.context_length,
            prefix_cache=False,
        )

    @property
    def info(self) -> ReaderInfo:
        """Name and limits."""
        return self._info

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._tokenizer

    async def read(self, token_ids: tuple[int, ...], positions: tuple[int, ...]) -> Readings:
        """Read at positions; see `Reader.read`."""
        check_row(self._info, token_ids, positions)
        asked = token_ids[: positions[-1] + 1]
        logits = await self._opened.arun(lambda vllm: vllm.logits(asked))
        rows = finite(self._info, positions, logits[list(positions)].tolist())
        return Readings(rows=rows, computed=len(asked), cached=0)

    async def aclose(self) -> None:
        """Stop vLLM's processes."""
        await asyncio.to_thread(self._opened.close)
