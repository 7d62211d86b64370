"""Reads many rows at once: computes what is new, packed with little padding, and applies the head where it is asked."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from decoding.errors import EngineError
from decoding.runtime.pages import RESERVED, PagedModel, Piece
from decoding.runtime.prefix_tree import Path, PrefixTree, Slots
from verifiers.judges.reader import Head, Readings
from verifiers.models.heads import Loaded

Floats = npt.NDArray[np.float32]

_REACH = 32  # a forward's rows x longest prefix, over its tokens: bounds what attention gathers
_LOGITS = 1 << 25  # numbers of one application of the head
_ROW = 4  # what a row costs beside its tokens, in tokens: it gathers all that stands before it


class Question(NamedTuple):
    """A row to be read."""

    token_ids: tuple[int, ...]  # [T], ends at the last position
    positions: tuple[int, ...]  # [P]


class PrefixReader:
    """Body, head, pool and tree. Not thread-safe."""

    def __init__(
        self, loaded: Loaded, head: Head, columns: tuple[int, ...], *, name: str, cache_tokens: int, batch_tokens: int
    ) -> None:
        """Take a model and what is read of it; `name` is for errors."""
        self._head, self._columns, self._name = head, columns, name
        self._module, self._batch_tokens = loaded.head, batch_tokens
        self._model = PagedModel(loaded.body, slots=cache_tokens)
        self._tree = PrefixTree(cache_tokens, first=RESERVED)
        self._is_language = head in (Head.TOKENS, Head.TEXT)
        self._rows: Floats | None = None  # [slots, columns], what was read
        self._read_before = np.zeros(cache_tokens + RESERVED, dtype=bool)  # [slots]
        self.counts = {"asked": 0, "computed": 0, "padded": 0, "forwards": 0}

    def clear(self) -> None:
        """Forget all that is kept."""
        self._model.clear()
        self._tree.clear()
        self._read_before[:] = False

    def new_tokens(self, question: Question) -> int:
        """How many tokens would have to be computed now."""
        return len(question.token_ids) - self._tree.known(question.token_ids)

    def read(self, questions: Sequence[Question]) -> list[Readings | EngineError]:
        """Answers in order; an error where a number is not finite. Rows fit into the cache side by side."""
        self._tree.begin()
        # Rows of like length stand together in a forward, so none attends much further than it reaches.
        order = sorted(range(len(questions)), key=lambda i: len(questions[i].token_ids))
        found = {i: self._tree.extend(questions[i].token_ids) for i in order}
        self._compute([(questions[i].token_ids, found[i]) for i in order])
        paths = [found[i] for i in range(len(questions))]
        self._apply_head(questions, paths)
        assert self._rows is not None
        answers: list[Readings | EngineError] = []
        for question, path in zip(questions, paths, strict=True):
            rows = self._rows[path.slots[list(question.positions)]]
            answers.append(self._answer(question, path, rows))
        if any(isinstance(answer, EngineError) for answer in answers):
            self.clear()  # what is kept may hold such numbers too
        return answers

    def _answer(self, question: Question, path: Path, rows: Floats) -> Readings | EngineError:
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            first = int(bad.argmax())
            return EngineError(
                f"{self._name} should give finite numbers and gave {rows[first].tolist()} at position "
                f"{question.positions[first]}: try dtype float32, or check the weights"
            )
        total = len(question.token_ids)
        self.counts["asked"] += total
        return Readings(rows=tuple(map(tuple, rows.tolist())), computed=total - path.known, cached=path.known)

    def _compute(self, work: Sequence[tuple[tuple[int, ...], Path]]) -> None:
        for _, path in work:
            self._read_before[path.slots[path.known :]] = False
        news = [len(ids) - path.known for ids, path in work if path.known < len(ids)]
        if not news:
            return
        width = _width(news, self._batch_tokens)
        forward: list[Piece] = []
        reach = 0  # of the longest row
        for piece in _pieces(work, width):
            reach = max(reach, len(piece.slots))
            if forward and (len(forward) + 1) * max(width, reach // _REACH) > self._batch_tokens:
                self._forward(forward)
                forward, reach = [], len(piece.slots)
            forward.append(piece)
        self._forward(forward)

    def _forward(self, pieces: Sequence[Piece]) -> None:
        self._model.forward(pieces)
        self.counts["forwards"] += 1
        self.counts["computed"] += sum(len(piece.ids) for piece in pieces)
        self.counts["padded"] += len(pieces) * max(len(piece.ids) for piece in pieces)

    @torch.inference_mode()
    def _apply_head(self, questions: Sequence[Question], paths: Sequence[Path]) -> None:
        """Read all positions of all rows that have not been read before."""
        at = np.concatenate([path.slots[list(q.positions)] for q, path in zip(questions, paths, strict=True)])
        states, labels = at, at
        if self._head is Head.TEXT:
            pairs = list(zip(questions, paths, strict=True))
            states = np.concatenate([path.slots[np.array(q.positions) - 1] for q, path in pairs])
            labels = np.array([q.token_ids[p] for q in questions for p in q.positions])
        new = np.flatnonzero(~self._read_before[at])
        step = max(1, _LOGITS // int(self._module.weight.shape[0])) if self._is_language else max(1, len(new))
        for start in range(0, len(new), step):
            some = new[start : start + step]
            rows = self._read(self._model.hidden(states[some]), labels[some]).cpu().numpy()
            if self._rows is None:
                self._rows = np.empty((len(self._read_before), rows.shape[1]), dtype=np.float32)
            self._rows[at[some]] = rows
        self._read_before[at] = True

    def _read(self, hidden: torch.Tensor, labels: Slots) -> torch.Tensor:
        """The head over hidden states, [P, hidden size]: [P, columns]."""
        numbers: torch.Tensor = self._module(hidden if self._is_language else hidden.float()).float()
        if not self._is_language:
            return numbers
        if self._head is Head.TEXT:
            chosen = numbers.gather(1, torch.from_numpy(labels).to(numbers.device)[:, None])
        else:
            chosen = numbers[:, list(self._columns)]
        return chosen - numbers.logsumexp(1, keepdim=True)


def _pieces(work: Sequence[tuple[tuple[int, ...], Path]], width: int) -> Iterator[Piece]:
    """What is new in rows, cut into pieces of `width` tokens at most."""
    for ids, path in work:
        for start in range(path.known, len(ids), width):
            stop = min(start + width, len(ids))
            yield Piece(ids[start:stop], path.slots[:stop])


def _width(news: Sequence[int], most: int) -> int:
    """The length of pieces for which the least is computed, padding and rows counted."""
    longest = min(max(news), most)
    candidates = sorted({-(-longest // parts) for parts in range(1, 17)})
    lengths = np.array(news)
    costs = [int((-(-lengths // width)).sum()) * (width + _ROW) for width in candidates]
    return candidates[int(np.argmin(costs))]
