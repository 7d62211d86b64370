"""Opening a run's judges beside its engine, and closing them whatever happens."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from decoding.errors import ConfigError
from decoding.host import OpenEngine
from reasoning.judging import ROLES, judge_of
from verifiers.judges.types import Judge
from verifiers.judges.written.self_eval import REFERENCE, SelfEvaluation

SELF = "self"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeChoice:
    """Which judges a run shall have."""

    named: Mapping[str, str | Judge] = field(default_factory=dict)  # by role: a name to open, or an open judge
    backend: str = "auto"  # of those that are opened
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by role, of those that are opened

    def __post_init__(self) -> None:
        for role in (*self.named, *self.options):
            if role not in ROLES:
                raise ConfigError(f"there is no role {role!r} for a judge: there are {', '.join(ROLES)}")
        if idle := [role for role in self.options if not isinstance(self.named.get(role), str)]:
            raise ConfigError(f"options are given for a judge of the role {idle[0]!r}, and none is to be opened")


@contextmanager
def open_judges(choice: JudgeChoice) -> Iterator[dict[str, Judge]]:
    """The judges of a choice by role, the policy's own apart (`self_judge`); closes those that it opened."""
    with ExitStack() as stack:
        judges: dict[str, Judge] = {}
        for role, named in choice.named.items():
            if not isinstance(named, str):
                judges[role] = named
            elif role != SELF:
                from verifiers.judges.open import open_judge

                options = choice.options.get(role, {})
                judges[role] = open_judge(named, role=role, backend=choice.backend, **options)
                stack.callback(_close, judges[role])
            else:
                continue
            judge_of(judges, role)  # refuses what can't play the role
        yield judges


def self_judge(opened: OpenEngine, options: Mapping[str, Any]) -> Judge:
    """The policy as a judge of itself.

    A model that `bethink train self-eval` made says in its judge.json how it wants to be asked; `options` say otherwise
    (``query``, ``good``, ``bad``: see `SelfEvaluation`).
    """
    model = opened.engine.info.model
    path = Path(model).expanduser() / "judge.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    trained = {key: known[key] for key in REFERENCE if key in known}
    usual = trained or (REFERENCE if model.startswith("reference-") else {})
    settings: dict[str, Any] = {"verified": bool(trained) and not options, **usual, **options}
    return SelfEvaluation(opened, name=f"{model}, of itself", **settings)


def _close(judge: Judge) -> None:
    # On a thread of its own: the caller's may have a loop that is running.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(lambda: asyncio.run(_aclose(judge))).result()


async def _aclose(judge: Judge) -> None:
    await judge.aclose()
