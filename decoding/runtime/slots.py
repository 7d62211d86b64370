"""A causal language model over a static KV cache with slots: one row a request, all rows in one forward.

The cache is allocated once, [slots, heads, context, head size] a layer. Each row has a length of its own; a forward
computes a contiguous range of rows and attends no further than the longest of them reaches.
"""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from decoding.errors import ConfigError, EngineError

DEFAULT_CONTEXT = 4096  # tokens; so that many slots of a model with a long context fit into memory
PREFILL_TOKENS = 8192  # rows x longest of one prefill forward, padding included
# What a plain mask over the whole row computes; the last two only while the row is shorter than their window.
_ATTENTION = frozenset({"full_attention", "sliding_attention", "chunked_attention"})


class _Window(NamedTuple):
    """What a forward reads and writes."""

    first: int  # its first row; the others follow
    rows: torch.Tensor  # [B, 1]
    positions: torch.Tensor  # [B, T] where the new keys and values go
    end: int  # positions below this one are attended to


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer."""

    is_sliding = False

    def __init__(self, slots: int, context: int) -> None:
        super().__init__()
        self.slots, self.context = slots, context

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the rows, shaped like the first keys and values, [B, H, T, D]."""
        self.keys = zeros((self.slots, key_states.shape[1], self.context, key_states.shape[3]), key_states)
        self.values = zeros((self.slots, value_states.shape[1], self.context, value_states.shape[3]), value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, window: _Window
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys and values, [B, H, T, D], into their rows; the rows up to the window's end, without copies."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows = slice(window.first, window.first + len(window.rows))
        # Two index tensors around a slice put the indexed axes first: [B, T, H, D].
        self.keys[window.rows, :, window.positions] = key_states.transpose(1, 2)
        self.values[window.rows, :, window.positions] = value_states.transpose(1, 2)
        return self.keys[rows, :, : window.end], self.values[rows, :, : window.end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Not asked for: every forward brings its own mask."""
        raise NotImplementedError

    def get_seq_length(self) -> int:
        """Rows have lengths of their own; positions are always given."""
        return 0

    def get_max_length(self) -> int:
        """Positions in a row."""
        return self.context


class SlotCache(Cache):  # type: ignore[misc]
    """Rows of keys and values. `window` says what the next forward works on."""

    def __init__(self, slots: int, context: int) -> None:
        super().__init__(layer_class_to_replicate=lambda: _SlotLayer(slots, context))
        self.window: _Window | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by the model's attention; `args` are for other kinds of cache."""
        keys, values = super().update(key_states, value_states, layer_idx, self.window)
        return keys, values

    @torch.inference_mode()
    def move(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Copy the first `length` positions of rows onto other rows."""
        for layer in self.layers:
            layer.keys[list(targets), :, :length] = layer.keys[list(sources), :, :length]
            layer.values[list(targets), :, :length] = layer.values[list(sources), :, :length]

    def clear(self) -> None:
        """Forget everything, numbers that are not numbers included; the next forward allocates again."""
        self.layers.clear()


class SlotModel:
    """A model and its slots. Not thread-safe."""

    def __init__(self, model: Any, *, slots: int, context: int) -> None:
        """Take a transformers model in eval mode; raises ``ConfigError`` if slots do not compute what it computes."""
        self.cache = SlotCache(slots, context)
        self._model, self._slots, self._context = model, slots, context
        takes = inspect.signature(model.forward).parameters
        # Prefill needs no logits at all; one position is the least that models compute.
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self._check(takes)

    @torch.inference_mode()
    def forward(self, first: int, ids: Sequence[Sequence[int]], starts: Sequence[int]) -> torch.Tensor:
        """Run ids through rows ``first, first + 1, ...``, written from position ``starts[row]`` on.

        Shorter rows are padded on the right: what that writes lies past the row's end, where the next forward
        overwrites it before anything attends to it. Returns logits of the last column, [B, V].
        """
        device, longest = self._model.device, max(map(len, ids))
        tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids], device=device)
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(longest, device=device)
        end = max(starts) + longest
        hidden = torch.arange(end, device=device) > positions[..., None]
        mask = torch.zeros(hidden.shape, dtype=self._model.dtype, device=device).masked_fill_(hidden, -torch.inf)
        rows = torch.arange(first, first + len(ids), device=device)[:, None]
        self.cache.window = _Window(first, rows, positions, end)
        output = self._model(
            input_ids=tokens,
            attention_mask=mask[:, None],
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            **self._last_only,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def prefill(self, first: int, prompts: Sequence[Sequence[int]]) -> None:
        """Write prompts into the rows from `first` on, in forwards of at most `PREFILL_TOKENS` or one row."""
        start = 0
        while start < len(prompts):
            stop, longest = start, 0
            while stop < len(prompts):
                longest = max(longest, len(prompts[stop]))
                if stop > start and longest * (stop + 1 - start) > PREFILL_TOKENS:
                    break
                stop += 1
            if any(prompts[start:stop]):
                self.forward(first + start, prompts[start:stop], [0] * (stop - start))
            start = stop

    def decode(self, ids: Sequence[int], positions: Sequence[int]) -> npt.NDArray[np.float32]:
        """One token into each of the rows ``0, 1, ...``; logits of the next, [B, V]. ``EngineError`` if not numbers."""
        logits: npt.NDArray[np.float32] = self.forward(0, [[token] for token in ids], positions).float().cpu().numpy()
        if not np.isfinite(logits.max(axis=1)).all():
            raise EngineError("the model's logits are not finite numbers: try dtype float32, or check the weights")
        return logits

    def _check(self, takes: Any) -> None:
        """Refuse models that read position or mask in another way: compare two ragged rows with plain forwards."""
        advice = "the transformers engine can't batch it; take the vllm engine"
        name = type(self._model).__name__
        if "position_ids" not in takes or "past_key_values" not in takes:
            raise ConfigError(f"{name} takes no position_ids or keeps no KV cache: {advice}")
        rows = [[1, 2, 3, 4], [3, 1]][: self._slots]
        try:
            self.prefill(0, [row[:-1] for row in rows])
            slotted = self.decode([row[-1] for row in rows], [len(row) - 1 for row in rows])
        except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError, IndexError) as error:
            raise ConfigError(f"{name} does not run over a cache with slots ({error}): {advice}") from error
        tolerance = 1e-3 if self._model.dtype == torch.float32 else 0.05  # of probability
        for row, logits in zip(rows, slotted, strict=True):
            with torch.inference_mode():
                plain = self._model(input_ids=torch.tensor([row], device=self._model.device)).logits[0, -1]
            apart = (torch.from_numpy(logits).softmax(-1) - plain.float().cpu().softmax(-1)).abs().sum() / 2
            if not apart <= tolerance:
                raise ConfigError(f"{name} answers differently over a cache with slots ({apart:.3g}): {advice}")


def usable_context(config: Any, max_context: int | None, default: int = DEFAULT_CONTEXT) -> int:
    """Tokens in a row: what the model allows, and `max_context`, or else `default`, at most.

    Within its window a sliding layer is a full one, so rows end where the window does. Some rotary embeddings change
    all frequencies once one row of a batch is long, which would let requests touch each other; rows end before that.
    """
    text = config.get_text_config(decoder=True)
    kinds = frozenset(getattr(text, "layer_types", None) or ())
    if kinds - _ATTENTION:
        raise ConfigError(
            f"the model has layers without keys and values ({', '.join(sorted(kinds - _ATTENTION))}): "
            "the transformers engine can't run them, take the vllm engine"
        )
    limits = [getattr(text, "max_position_embeddings", None)]
    if not kinds or "sliding_attention" in kinds:
        limits.append(getattr(text, "sliding_window", None))
    if "chunked_attention" in kinds:
        limits.append(getattr(text, "attention_chunk_size", None))
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("dynamic", "longrope"):
        limits.append(rope.get("original_max_position_embeddings"))
    limit = min((limit for limit in limits if limit is not None), default=None)
    if max_context is None:
        return min(limit or default, default)
    if max_context < 8 or max_context > (limit or max_context):
        raise ConfigError(f"max_context must be from 8 to {limit} for this model, got {max_context}")
    return max_context


def zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Zeros with the type and place of `like`: what lies past a row's end has weight 0, and 0 x NaN is NaN."""
    if like.device.type != "cpu":
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    # NumPy's zeros are handed out by the kernel page by page, so rows that no request reaches take no memory.
    entries = np.zeros(int(np.prod(shape)) * like.element_size(), dtype=np.uint8)
    return torch.from_numpy(entries).view(like.dtype).view(shape)
