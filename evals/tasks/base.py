"""A task: problems, how their answers read, and what is true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reasoning.steps import Steps
from verifiers.base import AnswerFormat, Check, Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem of a task."""

    id: str  # unique in its task, stable between versions: seeds and stores hang on it
    question: str
    reference: str
    metadata: Mapping[str, Any] = field(default_factory=dict)  # what the data set says beside, JSON values only


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Problems with one way to read and to judge their answers."""

    name: str  # as typed: gsm8k, reference:6, gym:chain_sum, jsonl:my.jsonl
    problems: Sequence[Problem]
    answers: AnswerFormat
    verifier: Verifier
    prompt: str  # name of the template that fits best where the user names none
    max_tokens: int  # of a completion, where the user names none
    stop: tuple[str, ...] = ()  # stop strings of base models on this task
    source: str  # where the data came from, in words
    checksum: str  # sha256 of the problems, so that a store knows its data
    check: Check | None = None  # what may steer a search on this task, where the task has such a thing
    steps: Steps | None = None  # how solutions fall into steps, where that follows from the task
