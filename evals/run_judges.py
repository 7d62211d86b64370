"""The judges of an evaluation: what was asked for, what they turned out to be, and the memory that they get."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from decoding.engines.open import engine_named
from decoding.errors import ConfigError
from evals.exact_judge import ExactJudge
from reasoning.judging import ROLES
from reasoning.open_judges import SELF, JudgeChoice, open_judges
from reasoning.strategies import Strategy, scoring_of, spell
from verifiers.judges.types import Judge

EXACT = "exact"
ASKED = ("name", "options")  # of a judge in run.json: what was asked for; the rest is what was found
FOUND = ("revision", "format", "backend", "kind", "oracle", "verified")
GPU_SHARE, JUDGE_SHARE = 0.9, 0.35  # of a GPU's memory: for all, and for a judge where its options say nothing
_MEMORY = "gpu_memory_utilization"
_NOT_OF_SCORES = {_MEMORY}  # options that change no score


def refuse_judges(choice: JudgeChoice, strategies: Sequence[Strategy], task: str) -> None:
    """Raises ``ConfigError`` where a strategy asks a judge that was not named, or the exact one can't work."""
    for strategy in strategies:
        score = scoring_of(strategy)
        if score is not None and score.role is not None and score.role not in choice.named:
            raise ConfigError(f"{spell(strategy)} asks a judge of the role {score.role!r}: pass {ROLES[score.role][1]}")
    if EXACT in choice.named.values() and task.partition(":")[0] != "reference":
        raise ConfigError(f"the exact judge knows the truth of reference:<difficulty> only, not of {task}")


def asked(choice: JudgeChoice) -> dict[str, dict[str, Any]]:
    """What was asked for, by role, for run.json."""
    return {
        role: {
            "name": _name(named),
            "options": {k: v for k, v in choice.options.get(role, {}).items() if k not in _NOT_OF_SCORES},
        }
        for role, named in choice.named.items()
    }


def identities(asked_for: Mapping[str, Mapping[str, Any]], judges: Mapping[str, Judge]) -> dict[str, dict[str, Any]]:
    """What was asked for and what was found, by role; the policy as its own judge is in run.json already."""
    found = {role: asdict(judge.info) for role, judge in judges.items()}
    return {role: {**entry, **{k: found[role][k] for k in FOUND if role in found}} for role, entry in asked_for.items()}


@contextmanager
def opened_judges(choice: JudgeChoice) -> Iterator[dict[str, Judge]]:
    """As `open_judges`; `EXACT` names the judge that knows the truth."""
    named = {role: ExactJudge() if judge == EXACT else judge for role, judge in choice.named.items()}
    with open_judges(replace(choice, named=named)) as judges:
        yield judges


def tell_unverified(judges: Mapping[str, Judge]) -> None:
    """A note on standard error for each judge whose format nobody has checked."""
    for judge in judges.values():
        if not judge.info.verified:
            print(
                f"note: the format {judge.info.format} of {judge.info.name} was not checked against its tokenizer",
                file=sys.stderr,
            )


class Shares(NamedTuple):
    """Who gets which memory."""

    options: Mapping[str, Any]  # the engine's
    choice: JudgeChoice
    stated: dict[str, str]  # for run.json


def share_memory(engine: str, options: Mapping[str, Any], choice: JudgeChoice, *, gpu: bool | None = None) -> Shares:
    """Share one GPU between a policy on vLLM and the judges that are opened beside it.

    A judge gets `JUDGE_SHARE` of the memory and the policy what is left of `GPU_SHARE`, unless options say otherwise.
    On a CPU each vLLM process has a cache of VLLM_CPU_KVCACHE_SPACE GiB of its own, which is stated.

    Raises ``ConfigError`` if nothing is left for the policy.
    """
    opened = [role for role, named in choice.named.items() if isinstance(named, str) and named not in (EXACT, SELF)]
    if engine != "vllm" or not opened or choice.backend == "http":
        return Shares(options, choice, {})
    if not (_has_gpu() if gpu is None else gpu):
        each = "VLLM_CPU_KVCACHE_SPACE holds for each process, policy and judges"
        return Shares(options, choice, {"memory": each} if any(_takes_share(choice, role) for role in opened) else {})
    shares = {role: float(choice.options.get(role, {}).get(_MEMORY, JUDGE_SHARE)) for role in opened}
    left = round(GPU_SHARE - sum(shares.values()), 4)
    policy = float(options.get(_MEMORY, left))
    if not policy > 0:
        raise ConfigError(
            f"judges take {sum(shares.values()):g} of the GPU's memory and leave the policy nothing: give them less "
            f"(--judge-option {_MEMORY}=...)"
        )
    told = [role for role in opened if _takes_share(choice, role)]  # other backends take what they need
    judges = {role: {**choice.options.get(role, {}), _MEMORY: shares[role]} for role in told}
    choice = replace(choice, options={**choice.options, **judges})
    stated = ", ".join(f"{role} {share:g}" for role, share in {"policy": policy, **shares}.items())
    return Shares({**options, _MEMORY: policy}, choice, {"memory": f"{stated} of the GPU"})


def _takes_share(choice: JudgeChoice, role: str) -> bool:
    """Whether a judge runs on vLLM."""
    by_engine = (
        choice.backend == "engine" and engine_named(choice.options.get(role, {}).get("engine", "auto")) == "vllm"
    )
    return choice.backend == "vllm" or by_engine


def _name(named: str | Judge) -> str:
    if not isinstance(named, str):
        return named.info.name
    return Path(named).name if Path(named).exists() else named


def _has_gpu() -> bool:
    """Whether vLLM would run on one here."""
    try:
        version("vllm-cpu")
    except PackageNotFoundError:
        return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()
    return False
