"""What readers over engines and servers have in common: what may be asked of them, and what may be answered."""

import math
from collections.abc import Sequence

from decoding.errors import ConfigError, ContextError, EngineError, ModelError
from verifiers.judges.format import ReadOut
from verifiers.judges.reader import Head, ReaderInfo


def check_head(name: str, read_out: ReadOut, heads: Sequence[Head], instead: str) -> None:
    """Refuse what a backend can't read of a model; `instead` says what can."""
    if read_out.head not in heads:
        readable = " and ".join(heads)
        raise ConfigError(
            f"{name}: this backend reads {readable}, and the judge's format reads {read_out.head}: {instead}"
        )


def check_row(info: ReaderInfo, token_ids: Sequence[int], positions: Sequence[int]) -> None:
    """Refuse a row that does not fit the model, and positions that are not in it."""
    if (
        not positions
        or list(positions) != sorted(set(positions))
        or positions[0] < 0
        or positions[-1] >= len(token_ids)
    ):
        raise ConfigError(f"positions must ascend from 0 to {len(token_ids) - 1} at most, got {list(positions)[:8]}")
    if positions[-1] >= info.context_length:
        raise ContextError(
            f"{info.model} was given {positions[-1] + 1} tokens and can read {info.context_length}: take a judge with "
            "a longer context, or shorter solutions"
        )


def finite(
    info: ReaderInfo, positions: Sequence[int], rows: Sequence[Sequence[float]]
) -> tuple[tuple[float, ...], ...]:
    """The rows, if all their numbers are; else ``EngineError``."""
    for position, row in zip(positions, rows, strict=True):
        if not all(map(math.isfinite, row)):
            raise EngineError(
                f"{info.model} should give finite numbers and gave {tuple(row)} at position {position}: try dtype "
                "float32, or check the weights"
            )
    return tuple(tuple(map(float, row)) for row in rows)


def known_context(model: str, context_length: int) -> int:
    """The context, in tokens; ``ConfigError`` if a server does not say."""
    if not context_length:
        raise ConfigError(f"the server of {model} does not say how long its context is: give context_length=TOKENS")
    return context_length


def check_columns(model: str, head: Head, columns: int) -> None:
    """Refuse a head of another shape than the judge's format reads."""
    if (columns == 1) != (head is Head.SCALAR):
        wanted = "1 output" if head is Head.SCALAR else "2 outputs or more"
        raise ModelError(f"{model}: expected a head with {wanted}, found {columns}")
