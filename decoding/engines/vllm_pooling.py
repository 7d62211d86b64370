"""vLLM as a reader: the numbers of a classification head at every token of a row (`runner="pooling"`).

vLLM does not use its prefix cache here: it gives numbers only for what it computes.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from decoding.engines.vllm_start import start_vllm, stop_vllm
from decoding.errors import ConfigError, EngineError, ModelError
from decoding.models import ModelSource

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

TASK = "token_classify"


async def open_vllm_pooling(source: ModelSource, **options: Any) -> "VllmPooling":
    """Start vLLM on a model with a head; takes tens of seconds. `options` are `AsyncEngineArgs` fields, by name.

    Raises ``ConfigError`` for an unknown option, ``ModelError`` if vLLM can't load the model or read it so.
    """
    if "runner" in options:
        raise ConfigError("a model with a head is read with vLLM's runner 'pooling': leave the option runner out")
    from vllm.config import PoolerConfig

    # ALL: a number for each token. Models of Qwen's process reward kind would give those of one token's places alone.
    defaults = {"pooler_config": PoolerConfig(tok_pooling_type="ALL"), "enable_prefix_caching": False}
    llm, log = start_vllm(source, {**defaults, **options, "runner": "pooling"})
    opened = VllmPooling(llm, log, source)
    tasks = await llm.get_supported_tasks()
    if TASK not in tasks:
        await opened.aclose()
        raise ModelError(f"vLLM reads {source.name} by {', '.join(tasks)} only, not by token ({TASK})")
    return opened


class VllmPooling:
    """Rows of ids in, numbers out. It belongs to the event loop that it was opened on."""

    def __init__(self, llm: "AsyncLLM", log: Path, source: ModelSource) -> None:
        self._llm, self._log, self._name = llm, log, source.name
        self._numbered = 0
        self.context_length = int(llm.vllm_config.model_config.max_model_len)  # tokens

    async def logits(self, token_ids: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """What the head says at each token, before any activation, [T, C].

        Raises ``EngineError`` if vLLM failed. Cancelling it lets go of the row inside vLLM.
        """
        from vllm import PoolingParams, TokensPrompt
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        self._numbered += 1
        parameters = PoolingParams(task=TASK, use_activation=False)
        prompt = TokensPrompt(prompt_token_ids=list(token_ids))
        rows: npt.NDArray[np.float32] | None = None
        try:
            async for output in self._llm.encode(prompt, parameters, f"#{self._numbered}"):
                rows = output.outputs.data.float().numpy()
        except (EngineDeadError, EngineGenerateError) as error:
            raise EngineError(f"vLLM failed to read {self._name}: {error}; its log is {self._log}") from error
        if rows is None or rows.ndim != 2 or len(rows) != len(token_ids):
            shape = None if rows is None else list(rows.shape)
            raise EngineError(f"vLLM answered {len(token_ids)} tokens of {self._name} with numbers of shape {shape}")
        return rows

    async def aclose(self) -> None:
        """Stop vLLM's processes. Closing twice does nothing."""
        stop_vllm(self._llm, self._log)
