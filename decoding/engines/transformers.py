"""Any causal language model of transformers behind the engine protocol, on a CPU or one GPU.

The loop is ours, since transformers' continuous batching has no seeds per request: a request occupies a row of a static
KV cache from its admission to its end, and each step decodes one token for every busy row. Forwards and draws run in
one worker thread; the event loop only starts steps and hands out what they wrote.
"""

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

from decoding.engine import EngineInfo
from decoding.engines.capabilities import CAPABILITIES
from decoding.engines.rows import Row, RowEngine
from decoding.errors import ConfigError, EngineError, ModelError
from decoding.models import ModelSource, load_tokenizer
from decoding.runtime.slots import SlotModel, usable_context
from decoding.types import FinishReason, GenerationRequest

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


async def open_transformers(source: ModelSource, **options: Any) -> "TransformersEngine":
    """Load a model; `options` are `TransformersEngine`'s. Raises ``ConfigError`` for an unknown one."""
    known = set(inspect.signature(TransformersEngine).parameters) - {"source"}
    if unknown := set(options) - known:
        raise ConfigError(f"the transformers engine has no option {sorted(unknown)}: there are {sorted(known)}")
    # A thread of its own: the loop's default executor keeps its threads for as long as the loop lives.
    loader = ThreadPoolExecutor(1, "bethink-loader")
    try:
        return await asyncio.get_running_loop().run_in_executor(loader, partial(TransformersEngine, source, **options))
    finally:
        loader.shutdown(wait=False)


class TransformersEngine(RowEngine):
    """An `Engine` over a model of transformers. It belongs to the event loop of its first request."""

    def __init__(
        self,
        source: ModelSource,
        *,
        slots: int = 64,
        dtype: str = "float32",
        device: str | None = None,
        max_context: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Load a model; blocks while it does.

        Args:
            source: The model.
            slots: Requests that are decoded at the same time; the KV cache has room for so many whole contexts.
            dtype: ``float32``, ``bfloat16`` or ``float16``, of weights and cache.
            device: As torch names it; by default the GPU where there is one.
            max_context: Tokens a request may have, prompt and completion; by default the model's, 4096 at most.
            threads: CPU threads of a forward; by default torch's.

        Raises:
            ConfigError: An option can't work, or the model can't be batched here.
            ModelError: The model can't be loaded.
        """
        super().__init__()
        if slots < 1:
            raise ConfigError(f"slots must be at least 1, got {slots}")
        model, self._tokenizer = _load(source, dtype, device), load_tokenizer(source)
        context = usable_context(model.config, max_context)
        import transformers

        self._info = EngineInfo(
            engine="transformers",
            version=transformers.__version__,
            model=source.name,
            revision=source.revision,
            parameters=int(model.num_parameters()),
            context_length=context,
            slots=slots,
            capabilities=CAPABILITIES["transformers"],
        )
        self._vocabulary = int(model.get_input_embeddings().weight.shape[0])
        self._batch: _Batch | None = _Batch(SlotModel(model, slots=slots, context=context))
        # Torch's number of threads belongs to the thread that sets it.
        initializer = None if threads is None else lambda: torch.set_num_threads(threads)
        self._worker = ThreadPoolExecutor(1, "bethink-transformers", initializer)
        self._waiting: deque[Row] = deque()
        self._busy: list[Row] = []  # they occupy slots
        self._stepping = False

    async def abort(self, request_id: str) -> None:
        """End a request early, after the step that it is in."""
        row = self._rows.get(request_id)
        if row is None:
            return
        if row in self._waiting:
            self._waiting.remove(row)
            row.finish_reason = FinishReason.CANCELLED
            self._settle(row)
        row.aborted = True

    async def aclose(self) -> None:
        """End all requests as cancelled, stop the worker and let go of the model. Closing twice does nothing."""
        batch = self._batch
        self._batch = None
        futures = [row.future for row in self._rows.values()]
        for request_id in list(self._rows):
            await self.abort(request_id)
        if futures:
            await asyncio.wait(futures)
        self._worker.shutdown()
        if batch is not None:
            batch.clear()

    def _submit(self, request: GenerationRequest, on_token: Callable[[int], None] | None = None) -> Row:
        if self._batch is None:
            raise EngineError("the engine is closed: open another")
        strange = [token for token in request.prompt_token_ids if not 0 <= token < self._vocabulary]
        if strange:
            raise ConfigError(f"the prompt holds {strange[0]}, and the model's ids end at {self._vocabulary - 1}")
        return super()._submit(request, on_token)

    def _enqueue(self, row: Row) -> None:
        self._waiting.append(row)
        if self._batch is not None and not self._stepping:
            self._stepping = True
            # Requests of this turn of the loop start together.
            asyncio.get_running_loop().call_soon(self._step, self._batch)

    # Steps are chained by callbacks: a task could be cancelled from outside, and everybody would wait for ever.
    def _step(self, batch: "_Batch") -> None:
        """Fill free slots from the queue and start the next step, if there is anything to do."""
        free = self._info.slots - len(self._busy)
        new = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
        self._busy += new
        self._stepping = bool(self._busy)
        if self._stepping:
            step = asyncio.get_running_loop().run_in_executor(self._worker, batch.step, new)
            step.add_done_callback(lambda done: self._stepped(batch, done.exception()))

    def _stepped(self, batch: "_Batch", error: BaseException | None) -> None:
        """Hand out what a step wrote, then start the next."""
        if error is not None:
            self._fail(batch, error)
        for row in self._busy:
            if row.on_token is not None:
                row.on_token(row.token_ids[-1])
            if row.finish_reason is None and row.aborted:
                row.finish_reason = FinishReason.CANCELLED
            if row.finish_reason is not None:
                self._settle(row)
        self._busy = [row for row in self._busy if row.finish_reason is None]
        self._step(batch)

    def _fail(self, batch: "_Batch", cause: BaseException) -> None:
        """Tell all that are in flight; the next request finds an empty cache."""
        rows = list(self._rows.values())
        self._rows.clear()
        self._waiting.clear()
        self._busy.clear()
        batch.clear()
        for row in rows:
            error = EngineError(f"a step of the transformers engine failed: {type(cause).__name__}: {cause}")
            error.__cause__ = cause
            if not row.future.done():
                row.future.set_exception(error)
                row.future.exception()  # retrieved: a stream whose reader has gone leaves nobody to tell


class _Batch:
    """The rows of the cache and who occupies them, without gaps: row `i` belongs to ``_rows[i]``."""

    def __init__(self, model: SlotModel) -> None:
        self._model = model
        self._rows: list[Row] = []

    def step(self, new: Sequence[Row]) -> None:
        """Let go of finished rows, take in new ones, decode one token for each; runs in the worker."""
        self._close_gaps()
        first = len(self._rows)
        self._rows += sorted(new, key=_computed)  # prompts of like length, less padding
        # A prompt's last token is left to the decode forward below, which gives every row its logits.
        self._model.prefill(first, [row.request.prompt_token_ids[:-1] for row in self._rows[first:]])
        logits = self._model.decode([_last(row) for row in self._rows], [_computed(row) for row in self._rows])
        for row, its_logits in zip(self._rows, logits, strict=True):
            row.take(its_logits)

    def clear(self) -> None:
        """Forget all rows and what the cache holds."""
        self._rows.clear()
        self._model.cache.clear()

    def _close_gaps(self) -> None:
        """Move rows from the end into the places of finished ones, so that forwards run over busy rows alone."""
        count = sum(row.finish_reason is None for row in self._rows)
        gaps = [i for i, row in enumerate(self._rows[:count]) if row.finish_reason is not None]
        movers = [i for i, row in enumerate(self._rows) if i >= count and row.finish_reason is None]
        if gaps:
            self._model.cache.move(movers, gaps, max(_computed(self._rows[i]) for i in movers))
            for gap, mover in zip(gaps, movers, strict=True):
                self._rows[gap] = self._rows[mover]
        del self._rows[count:]


def _last(row: Row) -> int:
    """The token that has been decided but not been computed yet."""
    return row.token_ids[-1] if row.token_ids else row.request.prompt_token_ids[-1]


def _computed(row: Row) -> int:
    """Tokens before it: the position that it goes to."""
    return len(row.request.prompt_token_ids) + len(row.token_ids) - 1


def _load(source: ModelSource, dtype: str, device: str | None) -> Any:
    """The model, in eval mode on its device."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}: there are {', '.join(DTYPES)}")
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ConfigError(f"unknown device {device!r}: give one as torch names it, such as cpu or cuda:0") from error
    logging.disable_progress_bar()  # a bar for weights that load in a second hides what matters
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source.path, dtype=DTYPES[dtype], trust_remote_code=source.trust_remote_code
        )
        return model.to(place).eval()
    except Exception as error:  # files, formats, memory and drivers share no root
        raise ModelError(f"{source.name} can't be loaded: {type(error).__name__}: {error}") from error
