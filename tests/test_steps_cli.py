"""How steps reach a run: by task, by model, as typed; and errors that end a search and keep its trace."""

import ast
import asyncio
import inspect
import json
import re
import sys

import pytest
from typer.testing import CliRunner

import evals.plan
import evals.session
import reasoning.strategies
from bethink.cli import app
from bethink.step_options import parse_steps
from decoding.engines.open import Model
from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ConfigError, EngineError
from decoding.host import OpenEngine
from decoding.models import ModelSource
from evals.plan import Request, estimate, make_plan
from evals.reports.report import make_report, to_csv, to_markdown
from evals.runner import Evaluation, evaluate
from evals.solving import answer_one
from evals.store import Store, read_config, read_rows
from evals.tasks.registry import load_task
from reasoning.api import solve
from reasoning.budget import Budget
from reasoning.search.tree import Grown
from reasoning.steps import Steps, steps_for
from reasoning.strategies import STRATEGIES
from reasoning.strategies.base import BySteps
from tests.growing import Halving
from tests.judges import TextJudge, lines_model
from tests.worlds import PROMPT, RandomModel, settings, task
from verifiers.sandbox.types import Policy, Tier

SEARCH, VOTE = "halving:n=4", "self_consistency:n=4"


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setattr(reasoning.strategies, "STRATEGIES", {**STRATEGIES, "halving": Halving})


@pytest.fixture
def _scripted(monkeypatch):
    """Every model is a random one that writes lines."""

    def source(name):
        return ModelSource(name=name, path=name, revision="1")

    def describe(name, *_, **__):
        return Model(source(name), ScriptedEngine(RandomModel(size=9)).tokenizer, 0)

    async def opening():
        return ScriptedEngine(RandomModel(size=9))

    monkeypatch.setattr(evals.plan, "describe", describe)
    monkeypatch.setattr(evals.session, "open_source", lambda *_, **__: OpenEngine(opening))
    monkeypatch.setattr(evals.session, "write_plots", lambda *_: None)  # they take seconds, and have tests of their own


def call(*arguments, fails=False):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert bool(done.exception) == fails, done.output
    return done


def evaluated(folder, *arguments, task="reference:2", strategies=(SEARCH,), **keywords):
    named = [word for strategy in strategies for word in ("-s", strategy)]
    line = ("eval", task, "-m", "anybody", *named, "--limit", 3, "--max-tokens", 40, "--out", folder, *arguments)
    return call(*line, **keywords)


def steps_of(folder):
    events = [event for row in read_rows(folder, "results") for event in row["trace"] if event["event"] == "Grown"]
    return [event["text"] for event in events], [event["tokens"] for event in events]


def test_what_was_typed_goes_before_the_task_and_the_task_before_the_model():
    lines = load_task("reference:4", limit=1).steps
    assert (lines.delimiter, lines.max_steps) == ("line", 40)
    assert steps_for("reference-base").delimiter == steps_for("/models/reference-small").delimiter == "line"
    assert steps_for("MARIO/AlphaMath-7B").delimiter == "code"
    assert steps_for("Qwen/Qwen2.5-Math-7B") == Steps()
    assert steps_for("AlphaMath-7B", lines) == lines
    assert steps_for("AlphaMath-7B", lines, max_tokens=7, delimiter="heading") == Steps(
        delimiter="heading", max_steps=40, max_tokens=7
    )


@pytest.mark.usefixtures("_scripted")
def test_steps_follow_the_task_until_something_else_is_typed(tmp_path):
    evaluated(tmp_path / "lines")
    texts, _ = steps_of(tmp_path / "lines")
    assert any(text.endswith("\n") for text in texts)
    assert not any("\n" in text[:-1] for text in texts)
    evaluated(tmp_path / "blocks", "--step-delimiter", "none", "--step-tokens", 5, "--max-steps", 3)
    texts, tokens = steps_of(tmp_path / "blocks")
    assert max(tokens) == 5
    assert any("\n" in text[:-1] for text in texts)
    evaluated(tmp_path / "typed", "--step-delimiter", r"3\n")
    texts, _ = steps_of(tmp_path / "typed")
    assert any("\n" in text[:-1] for text in texts)
    assert not any("3\n" in text[:-1] for text in texts)


@pytest.mark.usefixtures("_scripted")
def test_run_json_has_the_rule_of_searches_and_of_nobody_else(tmp_path):
    evaluated(tmp_path / "vote", strategies=[VOTE])
    assert "steps" not in read_config(tmp_path / "vote")["config"]
    evaluated(tmp_path / "search", "--wait", r"\nWait", "--min-steps", 2, strategies=[VOTE, SEARCH])
    rule = read_config(tmp_path / "search")["config"]["steps"]
    assert (rule["delimiter"], rule["wait"], rule["min_steps"], rule["tool"]) == ("line", "\nWait", 2, None)
    before = (tmp_path / "search" / "results.jsonl").read_bytes()
    evaluated(tmp_path / "search", "--wait", r"\nWait", "--min-steps", 2, strategies=[VOTE, SEARCH])
    assert (tmp_path / "search" / "results.jsonl").read_bytes() == before
    refused = evaluated(tmp_path / "search", "--max-steps", 3, strategies=[VOTE, SEARCH], fails=True)
    assert "other settings" in str(refused.exception)


@pytest.mark.usefixtures("_scripted")
def test_a_tool_is_named_in_run_json_and_holds_programs_as_was_typed(tmp_path, monkeypatch):
    monkeypatch.setattr("verifiers.sandbox.tiers.reached", lambda policy: policy.require_tier or Tier.FILTERED)
    evaluated(tmp_path, "--step-delimiter", "code", "--tool", "python")
    rule = read_config(tmp_path)["config"]["steps"]
    assert (rule["delimiter"], rule["tool"]) == ("code", "python")
    typed = parse_steps(*[None] * 6, False, "python", Policy(require_tier=Tier.NAMESPACES))
    assert typed["tool"].policy.require_tier is Tier.NAMESPACES


@pytest.mark.usefixtures("_scripted")
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--step-delimiter", "lines"], "did you mean 'line'"),
        (["--step-delimiter", ""], "a delimiter has characters"),
        (["--step-tokens", "0"], "at least 1"),
        (["--max-steps", "-1"], "at least 1"),
        (["--min-steps", "2"], "give wait"),
        (["--min-steps", "50", "--wait", "x"], "from 0 to max_steps"),
        (["--tool", "pyton"], "did you mean 'python'"),
        (["--max-steps", "3", "-s", VOTE], "no search by steps"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(tmp_path, typed, said):
    done = evaluated(tmp_path / "run", *typed, strategies=[] if "-s" in typed else [SEARCH], fails=True)
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("_scripted")
def test_an_estimate_bounds_what_is_generated_and_learns_from_a_run_of_searches(tmp_path):
    def planned(budget=None):
        return make_plan(
            Request(
                task="reference:2",
                strategies=[VOTE, SEARCH],
                model="anybody",
                limit=3,
                max_tokens=40,
                steps={"max_steps": 5, "max_tokens": 6},
                budget=budget or Budget(),
            )
        )

    most = estimate(planned(), tmp_path).most_tokens
    assert most == 3 * (4 * 40 + 4 * 5 * 6)
    assert estimate(planned(Budget(generated_tokens=50)), tmp_path).most_tokens == 3 * (4 * 40 + 50)
    evaluated(tmp_path / "run", "--max-steps", 5, "--step-tokens", 6)
    spent = sum(row["usage"]["generated_tokens"] for row in read_rows(tmp_path / "run", "results"))
    assert 0 < spent <= 3 * 4 * 5 * 6
    assert json.loads((tmp_path / "run" / "speed.json").read_text())["tokens"] == spent
    (tmp_path / "run" / "speed.json").write_text(json.dumps({"tokens": spent, "seconds": 2.0}))
    later = estimate(planned(), tmp_path)
    assert later.likely_tokens == pytest.approx(spent / 12 * 24)
    assert later.basis == "run"


@pytest.mark.usefixtures("_scripted")
def test_a_report_says_what_a_search_cost_and_nothing_new_of_others(tmp_path):
    evaluated(tmp_path / "both", strategies=[VOTE, SEARCH])
    vote, search = make_report(tmp_path / "both").strategies
    assert vote.search is None
    rows = [row for row in read_rows(tmp_path / "both", "results") if row["strategy"].startswith("halving")]
    events = [event for row in rows for event in row["trace"]]
    held = sum(event["held_tokens"] for event in events if event["event"] == "Selected")
    assert search.search.held == pytest.approx(held / 3)
    assert search.search.kept <= search.search.held
    assert search.search.steps == pytest.approx(sum(event["event"] == "Grown" for event in events) / 3)
    text = to_markdown(make_report(tmp_path / "both"))
    assert "## Searches" in text
    assert re.search(rf"\| {VOTE} \| \d+ \| 0 \| - \| - \| - \|", text)
    assert "held halving" in to_csv(make_report(tmp_path / "both"))
    evaluated(tmp_path / "vote", strategies=[VOTE])
    assert "Searches" not in to_markdown(make_report(tmp_path / "vote"))


def opened(model):
    async def opening():
        return ScriptedEngine(model)

    return OpenEngine(opening)


def test_solve_goes_by_the_steps_that_it_is_given():
    with opened(RandomModel(size=9)) as engine:
        plain = solve(PROMPT, engine=engine, strategy=Halving())
        lines = solve(PROMPT, engine=engine, strategy=Halving(), steps=Steps(delimiter="line"))
        typed = {"task": "reference", "strategy": SEARCH, "budget": Budget(), "seed": 0}
        asked = answer_one(engine, "1,+2", **typed)
        blocks = answer_one(engine, "1,+2", steps={"delimiter": "none", "max_tokens": 4}, **typed)
        with pytest.raises(ConfigError, match="no search by steps"):
            answer_one(engine, "1,+2", steps={"max_tokens": 4}, **{**typed, "strategy": VOTE})
    for result, limit in ((lines, 512), (asked, 512), (blocks, 4)):
        grown = [event for event in result.trace if isinstance(event, Grown)]
        assert max(event.tokens for event in grown) <= limit
        assert any("\n" in event.text[:-1] for event in grown) == (limit == 4)
    assert any("\n" in event.text[:-1] for event in plain.trace if isinstance(event, Grown))


def test_solve_shows_candidates_step_by_step_and_the_tree(monkeypatch):
    monkeypatch.setattr("bethink.cli.open_engine", lambda *_, **__: opened(RandomModel(size=9)))
    done = call("solve", "1,+2", "--task", "reference", "-m", "anybody", "-s", SEARCH, "-v", "--seed", 1)
    assert "\n  2  " in done.output
    assert "├─" in done.output


class Failing(TextJudge):
    """Breaks when it is asked for the k-th time."""

    def __init__(self, k):
        super().__init__()
        self.left = k

    async def _answer(self, solution, scores):
        self.left -= 1
        if self.left == 0:
            raise EngineError("the judge's server is gone: start it again")
        return await super()._answer(solution, scores)


def test_an_error_in_the_middle_of_a_search_keeps_its_trace_and_what_was_spent():
    arguments = {"strategy": Halving(n=8, score="prm"), "steps": Steps(delimiter="line")}
    with opened(lines_model()) as engine:
        whole = solve(PROMPT, engine=engine, prm=TextJudge(), **arguments)
        with pytest.raises(EngineError, match="start it again") as caught:
            solve(PROMPT, engine=engine, prm=Failing(14), **arguments)
    trace, usage = caught.value.trace, caught.value.usage
    assert [event.node for event in trace if isinstance(event, Grown)] == list(range(1, 9))
    assert trace == whole.trace[: len(trace)]
    assert 0 < usage.generated_tokens <= whole.usage.generated_tokens
    assert usage.scored_tokens > 0


def test_an_evaluation_whose_judge_breaks_keeps_what_was_finished_and_goes_on(tmp_path):
    def run(folder, judge):
        async def work():
            chosen = task(6)
            evaluation = Evaluation(
                task=chosen,
                strategies=[Halving(score="prm")],
                prompts={problem.id: PROMPT for problem in chosen.problems},
                settings=settings(ScriptedEngine(lines_model(), slots=2), judges={"prm": judge}),
            )
            with Store(folder, {"task": "digits"}, {}) as store:
                await evaluate(evaluation, store)

        asyncio.run(work())

    def rows(folder):
        return {row["problem"]: {**row, "seconds": 0} for row in read_rows(folder, "results")}

    run(tmp_path / "whole", judge := TextJudge())
    calls = len(judge.asked)
    with pytest.raises(EngineError, match="start it again") as caught:
        run(tmp_path / "cut", Failing(calls - 2))
    assert caught.value.usage is not None
    kept = rows(tmp_path / "cut")
    assert 0 < len(kept) < 6
    assert kept.items() <= rows(tmp_path / "whole").items()
    run(tmp_path / "cut", again := TextJudge())
    assert 0 < len(again.asked) < calls
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def imports(module):
    parsed = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.module for node in ast.walk(parsed) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=lambda strategy: strategy.name)
def test_whoever_grows_a_tree_says_so(strategy):
    """Else run.json would not have the rule of its steps, and options of steps would be refused."""
    modules = [base.__module__ for base in strategy.__mro__ if base is not object]
    assert issubclass(strategy, BySteps) == any("reasoning.search.search" in imports(module) for module in modules)
