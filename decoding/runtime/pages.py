"""A causal model over a pool of tokens: keys, values and hidden states of every token, found by slot.

A row is a list of slots, so that rows share what they have in common and nothing is copied when one forks. All keys and
values of a forward are written before any of them is attended to, layer by layer: a row may build upon tokens that
another row of the same forward computes, and a long row is cut into pieces that are computed side by side.
"""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from decoding.errors import ConfigError
from decoding.runtime.prefix_tree import Slots
from decoding.runtime.slots import zeros

NOTHING, DUMP = 0, 1  # slots: always zero, read beyond a row's end; where padding is written, read by nobody
RESERVED = 2


class Piece(NamedTuple):
    """Tokens to be computed."""

    ids: tuple[int, ...]  # [T]
    slots: Slots  # [start + T], of what stands before them and of themselves

    @property
    def start(self) -> int:
        """The position of the first of them."""
        return len(self.slots) - len(self.ids)


class _Window(NamedTuple):
    """What a forward reads and writes."""

    writes: torch.Tensor  # [R x T] slots of the new tokens
    table: torch.Tensor  # [R x end] slots of all that is attended to
    rows: int


class _PoolLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, [slots, heads, head size]."""

    is_sliding = False

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots = slots

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the slots, shaped like the first keys and values, [R, H, T, D]."""
        self.keys = zeros((self.slots, key_states.shape[1], key_states.shape[3]), key_states)
        self.values = zeros((self.slots, value_states.shape[1], value_states.shape[3]), value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, window: _Window
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys and values, [R, H, T, D]; all that the rows attend to, [R, H, end, D]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return _exchange(self.keys, key_states, window), _exchange(self.values, value_states, window)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Not asked for: every forward brings its own mask."""
        raise NotImplementedError

    def get_seq_length(self) -> int:
        """Rows have lengths of their own; positions are always given."""
        return 0

    def get_max_length(self) -> int:
        """Slots."""
        return self.slots


class _PoolCache(Cache):  # type: ignore[misc]
    """The pool's layers. `window` says what the next forward works on."""

    def __init__(self, slots: int) -> None:
        super().__init__(layer_class_to_replicate=lambda: _PoolLayer(slots))
        self.window: _Window | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by the model's attention; `args` are for other kinds of cache."""
        keys, values = super().update(key_states, value_states, layer_idx, self.window)
        return keys, values


class PagedModel:
    """A model's body, without its head, over a pool. Slots from `RESERVED` on are the caller's. Not thread-safe."""

    def __init__(self, body: Any, *, slots: int) -> None:
        """Take a body in eval mode; raises ``ConfigError`` if it computes something else over a pool than alone."""
        self._body, self._slots = body, slots + RESERVED
        self.clear()
        self._check()

    def clear(self) -> None:
        """Forget everything, numbers that are not numbers included."""
        self._cache = _PoolCache(self._slots)
        self._hidden: torch.Tensor | None = None  # [slots, hidden size]

    @torch.inference_mode()
    def forward(self, pieces: Sequence[Piece]) -> None:
        """Compute tokens; each piece's earlier tokens have been computed, or are in this forward too."""
        body, rows = self._body, len(pieces)
        longest, end = max(len(piece.ids) for piece in pieces), max(len(piece.slots) for piece in pieces)
        ids = np.zeros((rows, longest), dtype=np.int64)
        writes = np.full((rows, longest), DUMP)
        table = np.full((rows, end), NOTHING)
        starts = np.array([piece.start for piece in pieces])
        for row, piece in enumerate(pieces):
            ids[row, : len(piece.ids)] = piece.ids
            writes[row, : len(piece.ids)] = piece.slots[piece.start :]
            table[row, : len(piece.slots)] = piece.slots
        positions = starts[:, None] + np.arange(longest)
        hidden = torch.from_numpy(np.arange(end) > positions[..., None]).to(body.device)
        mask = torch.zeros(hidden.shape, dtype=body.dtype, device=body.device).masked_fill_(hidden, -torch.inf)
        self._cache.window = _Window(self._tensor(writes).view(-1), self._tensor(table).view(-1), rows)
        states = body(
            input_ids=self._tensor(ids),
            attention_mask=mask[:, None],
            position_ids=self._tensor(positions),
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        if self._hidden is None:
            self._hidden = zeros((self._slots, states.shape[-1]), states)
        self._hidden.index_copy_(0, self._cache.window.writes, states.flatten(0, 1))

    @torch.inference_mode()
    def hidden(self, slots: Slots) -> torch.Tensor:
        """Last hidden states of computed tokens, [P, hidden size]."""
        assert self._hidden is not None
        return self._hidden[self._tensor(slots)]

    def _tensor(self, array: Slots) -> torch.Tensor:
        return torch.from_numpy(array).to(self._body.device)

    def _check(self) -> None:
        """Refuse models that read position or mask in another way: compare a forked row with plain forwards."""
        name, takes = type(self._body).__name__, inspect.signature(self._body.forward).parameters
        advice = "the transformers backend can't keep what it reads; take a vllm backend"
        if "position_ids" not in takes or "past_key_values" not in takes:
            raise ConfigError(f"{name} takes no position_ids or keeps no KV cache: {advice}")
        rows, paths = [(1, 2, 3, 4), (1, 2, 1)], [np.array([2, 3, 4, 5]), np.array([2, 3, 6])]
        pieces = [Piece(rows[0][:3], paths[0][:3]), Piece(rows[0][3:], paths[0]), Piece(rows[1][2:], paths[1])]
        try:
            self.forward(pieces)
            pooled = self.hidden(np.array([path[-1] for path in paths]))
        except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError, IndexError) as error:
            raise ConfigError(f"{name} does not run over a pool of tokens ({error}): {advice}") from error
        tolerance = 1e-3 if self._body.dtype == torch.float32 else 0.05
        for row, states in zip(rows, pooled.float(), strict=True):
            with torch.inference_mode():
                ids = torch.tensor([row], device=self._body.device)
                plain = self._body(input_ids=ids, use_cache=False).last_hidden_state[0, -1].float()
            apart = ((states - plain).norm() / plain.norm()).item()
            if apart > tolerance:  # what is no number is told by who reads it
                raise ConfigError(f"{name} answers differently over a pool of tokens ({apart:.3g}): {advice}")
        self.clear()


def _exchange(pool: torch.Tensor, states: torch.Tensor, window: _Window) -> torch.Tensor:
    """Write new keys or values, then read all that is attended to."""
    pool.index_copy_(0, window.writes, states.transpose(1, 2).flatten(0, 1))
    return pool.index_select(0, window.table).view(window.rows, -1, *pool.shape[1:]).transpose(1, 2)
