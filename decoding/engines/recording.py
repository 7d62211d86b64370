"""Recordings: completions of an engine in a file, and the engine that writes them while it works.

    line 1   {"format": 1, "tokenizer": name of the model whose tokenizer it is, or null for text, "info": EngineInfo}
    others   {"prompt": hash of the prompt's ids, "sampling": SamplingParams, "completion": Completion}

Cancelled completions are recorded too, so that a run whose decisions cancel requests finds them when it is played
back; a request may be cancelled for one strategy and drawn to its end for the next. A last line that a kill tore is
cut off.
"""

import hashlib
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from decoding.engine import Capability, Engine, EngineInfo, Tokenizer, finish_or_abort
from decoding.errors import EngineError
from decoding.types import FINAL, Completion, Delta, FinishReason, GenerationRequest, SamplingParams, Usage

FORMAT = 1


class Recording:
    """What a file holds: an engine's info and completions by what determines them."""

    def __init__(self, info: EngineInfo, tokenizer: str | None) -> None:
        self.info = info
        self.tokenizer = tokenizer  # name of the model whose tokenizer it is; None: ids are code points
        self._completions: dict[str, dict[SamplingParams, list[Completion]]] = {}  # by prompt

    @classmethod
    def read(cls, path: Path) -> "Recording":
        """Read a file; raises ``EngineError`` if it is no recording."""
        try:
            head, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            header = json.loads(head)
            if header["format"] != FORMAT:
                raise EngineError(f"{path} has the format {header['format']!r}, and this bethink reads {FORMAT}")
            info = header["info"]
            info["capabilities"] = frozenset(map(Capability, info["capabilities"]))
            recording = cls(EngineInfo(**info), header["tokenizer"])
            for line in lines:
                if line.endswith("\n"):
                    recording._keep(json.loads(line))
        except FileNotFoundError:
            raise EngineError(f"there is no recording {path}: make one with the engine option record={path}") from None
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise EngineError(f"{path} is not a recording that can be read: {error}") from error
        return recording

    def find(self, request: GenerationRequest) -> Sequence[Completion]:
        """The completions of equal requests, their ids apart, in their order; only the last has ended by itself."""
        return self._completions.get(prompt_key(request.prompt_token_ids), {}).get(request.sampling, ())

    def add(self, request: GenerationRequest, completion: Completion) -> bool:
        """Keep a completion; False if there is one already that has ended by itself."""
        known = self._completions.setdefault(prompt_key(request.prompt_token_ids), {})
        outcomes = known.setdefault(request.sampling, [])
        if outcomes and outcomes[-1].finish_reason in FINAL:
            return False
        outcomes.append(completion)
        return True

    def nearest(self, request: GenerationRequest) -> str:
        """What is recorded instead of a request that is not, in words."""
        known = self._completions.get(prompt_key(request.prompt_token_ids))
        if not known:
            return f"none of the {len(self._completions)} recorded prompts is this one"
        differences = min((_differences(sampling, request.sampling) for sampling in known), key=len)
        return f"the prompt is recorded, but with {', '.join(differences)}"

    def header(self) -> dict[str, Any]:
        """The first line."""
        info = {**asdict(self.info), "capabilities": sorted(self.info.capabilities)}
        return {"format": FORMAT, "tokenizer": self.tokenizer, "info": info}

    def _keep(self, row: Mapping[str, Any]) -> None:
        sampling = row["sampling"]
        tuples = {name: tuple(value) for name, value in sampling.items() if isinstance(value, list)}
        completion = row["completion"]
        chosen = completion.get("chosen_logprobs")  # older recordings have none
        known = self._completions.setdefault(row["prompt"], {})
        known.setdefault(SamplingParams(**{**sampling, **tuples}), []).append(
            Completion(
                token_ids=tuple(completion["token_ids"]),
                logprobs=_numbers(completion["logprobs"]),
                sampling_logprobs=_numbers(completion["sampling_logprobs"]),
                finish_reason=FinishReason(completion["finish_reason"]),
                usage=Usage(**completion["usage"]),
                logprob=completion["logprob"],
                chosen_logprobs=None if chosen is None else tuple(map(tuple, chosen)),
            )
        )


class Recorder:
    """An `Engine` that works as another one does and appends what it completes to a file."""

    def __init__(self, engine: Engine, path: Path, tokenizer: str | None) -> None:
        """Record to a file, or go on with one of the same engine and model; raises ``EngineError``.

        `tokenizer` names the model whose tokenizer it is; None for servers that speak text.
        """
        self._engine = engine
        self._numbered = 0
        self.recording = Recording(engine.info, tokenizer)
        exists = path.exists() and path.stat().st_size > 0
        if exists:
            _cut_torn_line(path)
            self.recording = Recording.read(path)
            _refuse_other(path, self.recording.info, engine.info)
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise EngineError(f"the recording {path} can't be written: {error.strerror or error}") from error
        if not exists:
            self._write(self.recording.header())

    @property
    def info(self) -> EngineInfo:
        """The recorded engine's."""
        return self._engine.info

    @property
    def tokenizer(self) -> Tokenizer:
        """The recorded engine's."""
        return self._engine.tokenizer

    async def generate(self, request: GenerationRequest) -> Completion:
        """Draw one completion and record it, also if it is cancelled."""
        self._numbered += 1
        named = replace(request, id=request.id or f"#recorded-{self._numbered}")
        completion = await finish_or_abort(
            self._engine.generate(named),
            lambda: self._engine.abort(named.id),
            last_counts=lambda completion: self._record(request, completion),
        )
        self._record(request, completion)
        return completion

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """Draw one completion piece by piece and record it when it has ended."""
        deltas = self._engine.stream(request)
        try:
            async for delta in deltas:
                if delta.completion is not None:
                    self._record(request, delta.completion)
                yield delta
        finally:
            if isinstance(deltas, AsyncGenerator):  # the reader may have gone
                await deltas.aclose()

    async def abort(self, request_id: str) -> None:
        """End a request early."""
        await self._engine.abort(request_id)

    async def aclose(self) -> None:
        """Close the engine and then the file."""
        await self._engine.aclose()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _record(self, request: GenerationRequest, completion: Completion) -> None:
        if not self.recording.add(request, completion):
            return
        self._write(
            {
                "prompt": prompt_key(request.prompt_token_ids),
                "sampling": asdict(request.sampling),
                "completion": asdict(completion),
            }
        )

    def _write(self, row: Mapping[str, Any]) -> None:
        line = (json.dumps(row, separators=(",", ":")) + "\n").encode()
        if self._file < 0 or os.write(self._file, line) < len(line):
            raise EngineError("the recording can't be written: it is closed, or no space is left on the device")


def prompt_key(token_ids: tuple[int, ...]) -> str:
    """A hash of a prompt's ids."""
    return hashlib.blake2b(np.asarray(token_ids, dtype="<i8").tobytes(), digest_size=16).hexdigest()


def _differences(recorded: SamplingParams, wanted: SamplingParams) -> list[str]:
    """Where two settings differ; seeds last."""
    pairs = [(f.name, getattr(recorded, f.name), getattr(wanted, f.name)) for f in fields(SamplingParams)]
    different = [f"{name} {old!r} instead of {new!r}" for name, old, new in pairs if old != new]
    return different[::-1]


def _numbers(values: list[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)


def _refuse_other(path: Path, recorded: EngineInfo, wanted: EngineInfo) -> None:
    for name in ("engine", "model", "revision"):
        old, new = getattr(recorded, name), getattr(wanted, name)
        if old != new:
            raise EngineError(f"{path} is a recording of {name} {old!r}, not {new!r}: take another file")


def _cut_torn_line(path: Path) -> None:
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
