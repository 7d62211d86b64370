r"""Grading anybody's outputs: rows with a text and a reference in, the same rows with a verdict out.

Extraction and what can be told at once happen here; what takes computer algebra goes to worker programs, several at a
time. Rows come out in their order.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from decoding.errors import DataError
from evals.data import Row, read_jsonl, text_field
from evals.store import whole_file
from verifiers.base import Outcome, Verdict
from verifiers.graders import Grader, grader_by_name
from verifiers.grading import Grading
from verifiers.workers import WorkerPool

CPU_SECONDS = 10.0  # that one judgement may take
AHEAD = 4  # rows being judged for each worker: a dear one doesn't stop the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How texts and references of a benchmark are read."""

    grader: Grader
    reference: Callable[[str], str] = str.strip  # from a reference field to the reference answer


def style_named(name: str) -> Style:
    r"""``gsm8k``, ``math`` or a grader's name; raises ``ConfigError`` for an unknown name.

    References of ``gsm8k`` may be the data set's whole answer fields, those of ``math`` solutions with the answer in
    ``\boxed``.
    """
    if name == "gsm8k":
        return Style(grader=grader_by_name("number"), reference=_behind_hashes)
    grader = grader_by_name(name)
    if name == "math":
        return Style(grader=grader, reference=lambda text: _boxed(grader, text))
    return Style(grader=grader)


def grade_file(source: Path, target: Path, style: Style, workers: int | None = None) -> Counter[str]:
    """Grade a file's rows into another; how often each verdict was given.

    A row has its output under ``text`` and the truth under ``reference``; it comes back with ``verdict`` (correct,
    wrong, no_answer, timeout, error), ``extracted`` and ``rule``. The target appears when all rows are graded.

    Raises:
        DataError: The source can't be read, or a row lacks a field.
        StoreError: The target can't be written.
    """
    rows = read_jsonl(source)
    for number, row in enumerate(rows, start=1):
        _fields(row, f"{source}, row {number}")
    with whole_file(target) as file:
        return asyncio.run(_write(rows, style, workers or os.cpu_count() or 1, file))


async def grade_rows(rows: Iterable[Row], style: Style, workers: WorkerPool, ahead: int) -> AsyncIterator[Row]:
    """Rows with their verdicts, in order; up to `ahead` of them are being judged at once."""
    grading = Grading(style.grader.answers, workers)
    running: list[asyncio.Task[Row]] = []
    try:
        for row in rows:
            running.append(asyncio.ensure_future(_graded(row, style, grading)))
            if len(running) >= ahead:
                yield await running.pop(0)
        while running:
            yield await running.pop(0)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _write(rows: Sequence[Row], style: Style, workers: int, file: TextIO) -> Counter[str]:
    counts: Counter[str] = Counter()
    async with WorkerPool(size=workers, cpu_seconds=CPU_SECONDS) as pool:
        async for row in grade_rows(rows, style, pool, AHEAD * workers):
            counts[row["verdict"]] += 1
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return counts


async def _graded(row: Row, style: Style, grading: Grading) -> Row:
    text, reference = _fields(row, "row")
    found = style.grader.answers.extract(text)
    verdict = await grading.verify(style.grader.verifier, found.value, style.reference(reference))
    return {**row, "verdict": verdict.outcome, "extracted": found.value, "rule": _rule(found.rule, verdict)}


def _rule(extraction: str, verdict: Verdict) -> str:
    """What found the answer, and what decided."""
    return extraction if verdict.outcome is Outcome.NO_ANSWER else f"{extraction}; {verdict.rule}"


def _fields(row: Mapping[str, object], where: str) -> tuple[str, str]:
    if not isinstance(row.get("text"), str):
        raise DataError(f"{where} has no text under text: it has {', '.join(row) or 'nothing'}")
    return str(row["text"]), text_field(row, ["reference"], where)


def _behind_hashes(reference: str) -> str:
    return reference.rpartition("####")[2].strip()


def _boxed(grader: Grader, reference: str) -> str:
    r"""The reference itself, or what its last box holds."""
    found = grader.answers.extract(reference) if r"\boxed" in reference or r"\fbox" in reference else None
    return reference.strip() if found is None or found.value is None else found.value
