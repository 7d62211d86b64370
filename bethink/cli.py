"""The command line: what makes runs; `cli_results`, `cli_grade` and others have what reads and judges."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bethink import open_engine
from bethink.cli_code import AllowWeakest, RequireTier, add_run_code, parse_policy
from bethink.cli_demonstrations import add_demonstrations
from bethink.cli_grade import add_grade
from bethink.cli_judge import add_judge
from bethink.cli_results import register
from bethink.cli_train import add_train
from bethink.cli_tree import add_tree, print_candidates
from bethink.judge_options import Itself, JudgeBackend, JudgeOptions, Orm, Prm, Value, literal, parse_judges
from bethink.run_options import (
    BudgetText,
    EngineName,
    EngineOptions,
    MaxTokens,
    Model,
    Revision,
    Seed,
    Temperature,
    TopP,
    TrustRemoteCode,
    parse_budget,
)
from bethink.step_options import (
    Ask,
    MaxSteps,
    MinSteps,
    StepDelimiter,
    StepTokens,
    ToolName,
    UntilAnswer,
    Wait,
    parse_steps,
)
from bethink.tables import print_estimate, print_models, print_report
from decoding.errors import BethinkError, ConfigError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Spend compute at inference time to get better answers out of a language model.",
)
out = Console()

ERROR_EXIT, INTERRUPTED_EXIT, FAILED_PROBLEMS_EXIT = 2, 130, 3


def main() -> None:
    """Run the command line; an error on purpose is one message and exit code 2, Ctrl-C is 130."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with _told():
        app(standalone_mode=True)


@app.command()
def solve(
    question: Annotated[str, typer.Argument(help="The question; - reads standard input.")],
    model: Model,
    strategy: Annotated[str, typer.Option("--strategy", "-s", help="As in eval.")] = "self_consistency:n=16",
    task: Annotated[str, typer.Option(help="Whose prompt and answer format to use.")] = "number",
    engine: EngineName = "auto",
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    engine_option: EngineOptions = None,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    max_tokens: MaxTokens = None,
    budget: BudgetText = None,
    prm: Prm = None,
    value: Value = None,
    orm: Orm = None,
    itself: Itself = False,
    judge_backend: JudgeBackend = "auto",
    judge_option: JudgeOptions = None,
    step_delimiter: StepDelimiter = None,
    step_tokens: StepTokens = None,
    max_steps: MaxSteps = None,
    min_steps: MinSteps = None,
    wait: Wait = None,
    ask: Ask = None,
    until_answer: UntilAnswer = False,
    tool: ToolName = None,
    seed: Seed = 0,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print every candidate, and the tree of a search.")
    ] = False,
) -> None:
    """Answer one question.

    Examples:

        bethink solve "83,+56,+3,*7" --task reference --model reference-base -s self_consistency:n=16

        bethink solve "What is 12 + 30?" --model smollm2-135m-instruct -s adaptive_self_consistency:n=8
    """
    from decoding.engines.open import engine_named
    from evals.run_judges import share_memory
    from evals.solving import answer_one

    if question == "-":
        question = sys.stdin.read()
    choice = parse_judges(prm, value, orm, itself, judge_backend, judge_option)
    steps = parse_steps(step_delimiter, step_tokens, max_steps, min_steps, wait, ask, until_answer, tool)
    options, choice, _ = share_memory(engine_named(engine), parse_options(engine_option or []), choice)
    print(f"opening {model}", file=sys.stderr)
    with open_engine(model, engine, revision=revision, trust_remote_code=trust_remote_code, **options) as opened:
        result = answer_one(
            opened,
            question,
            task=task,
            strategy=strategy,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            budget=parse_budget(budget),
            judges=choice,
            steps=steps,
            seed=seed,
        )
        if verbose:
            print_candidates(result, opened.engine.tokenizer)
    out.print("no answer" if result.answer is None else result.answer, markup=False, highlight=False)
    usage = result.usage
    note = f"{result.stop_reason}: {len(result.candidates)} candidates, {usage.decoded_tokens} tokens decoded"
    print(note, file=sys.stderr)
    if result.answer is None:
        raise typer.Exit(1)


@app.command(name="eval")
def evaluate(
    task: Annotated[
        str, typer.Argument(help="reference:8, gsm8k, math500, gym:NAME, jsonl:FILE and more; tasks lists all.")
    ],
    model: Model,
    strategy: Annotated[
        list[str],
        typer.Option("--strategy", "-s", help="name:key=value,...; repeat to compare on one pool of samples."),
    ],
    engine: EngineName = "auto",
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    engine_option: EngineOptions = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with data sets as JSON lines, instead of the hub.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="The most problems.")] = None,
    template: Annotated[
        str | None, typer.Option("--prompt", help="Prompt template; the task's own if left out.")
    ] = None,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    top_k: Annotated[int, typer.Option(help="0 is off.")] = 0,
    min_p: Annotated[float, typer.Option(help="0 is off.")] = 0.0,
    max_tokens: MaxTokens = None,
    budget: BudgetText = None,
    oracle_check: Annotated[
        bool, typer.Option(help="Check candidates against the reference; for experiments.")
    ] = False,
    require_tier: RequireTier = None,
    allow_weakest: AllowWeakest = False,
    prm: Prm = None,
    value: Value = None,
    orm: Orm = None,
    itself: Itself = False,
    judge_backend: JudgeBackend = "auto",
    judge_option: JudgeOptions = None,
    step_delimiter: StepDelimiter = None,
    step_tokens: StepTokens = None,
    max_steps: MaxSteps = None,
    min_steps: MinSteps = None,
    wait: Wait = None,
    ask: Ask = None,
    until_answer: UntilAnswer = False,
    tool: ToolName = None,
    seed: Seed = 0,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Results folder; named by the settings if left out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and stop.")] = False,
) -> None:
    """Run strategies over a task and report; run the same line again to go on where it stopped.

    Examples:

        bethink eval reference:8 -m reference-base -s repeated_sampling:n=64 -s self_consistency:n=64

        bethink eval reference:8 -m reference-base -s best_of_n:n=16,score=prm --prm reference-prm

        bethink eval gsm8k -m smollm2-135m-instruct -s self_consistency:n=8 --limit 24 --data-dir data --max-tokens 320
    """
    from evals.plan import Request, estimate, make_plan, required_context
    from evals.session import run_plan, write_report

    options = parse_options(engine_option or [])
    policy = parse_policy(require_tier, allow_weakest)
    steps = parse_steps(step_delimiter, step_tokens, max_steps, min_steps, wait, ask, until_answer, tool, policy)
    plan = make_plan(
        Request(
            task=task,
            strategies=strategy,
            model=model,
            engine=engine,
            revision=revision,
            trust_remote_code=trust_remote_code,
            options=options,
            data_dir=data_dir,
            limit=limit,
            template=template,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            max_tokens=max_tokens,
            seed=seed,
            budget=parse_budget(budget),
            oracle_check=oracle_check,
            policy=policy,
            judges=parse_judges(prm, value, orm, itself, judge_backend, judge_option),
            steps=steps,
        )
    )
    target = folder or Path("runs") / plan.folder_name
    if warning := required_context(plan):
        print(f"note: {warning}", file=sys.stderr)
    if dry_run:
        print_estimate(estimate(plan, target.parent), target)
        return
    print(f"results go to {target}", file=sys.stderr)
    try:
        run_plan(plan, target, options)
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, run the same line again to go on", file=sys.stderr)
        raise typer.Exit(INTERRUPTED_EXIT) from None
    report = write_report(target)
    print_report(report, target)
    if failed := sum(line.errors for line in report.strategies):
        print(f"error: {failed} problems ended in an error; see results.jsonl in {target}", file=sys.stderr)
        raise typer.Exit(FAILED_PROBLEMS_EXIT)


@app.command()
def models() -> None:
    """List the models that need no hub, the engines that are installed, and which strategy runs on which engine."""
    print_models()


@app.command()
def tasks() -> None:
    """List the tasks and how they are spelt."""
    from evals.tasks.registry import TASKS

    for line in TASKS.values():
        out.print(line, markup=False, highlight=False)


register(app)
add_grade(app)
add_run_code(app)
add_demonstrations(app)
add_judge(app)
add_train(app)
add_tree(app)


def parse_options(items: list[str]) -> dict[str, Any]:
    """Engine options from ``name=value``, values as Python literals where they are, else as text."""
    options: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"an engine option is name=value, got {item!r}")
        options[key] = literal(value)
    return options


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn errors into one message and an exit code."""
    try:
        yield
    except BethinkError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(ERROR_EXIT) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED_EXIT) from None
