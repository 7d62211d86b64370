"""Judges in a run: scores by name, budgets, overlap, what is refused, and what an evaluation records of them."""

import asyncio
import sys
from dataclasses import replace
from types import ModuleType

import pytest

from bethink.judge_options import parse_judges
from decoding.engines.scripted import ScriptedEngine
from decoding.errors import BethinkError, ConfigError, DataError, EngineError, StoreError
from decoding.host import OpenEngine
from decoding.models import ModelSource
from decoding.types import FinishReason
from evals.exact_judge import ExactJudge
from evals.plan import Plan, Request, make_plan
from evals.run_judges import asked, share_memory
from evals.session import run_plan
from evals.store import read_config, read_rows
from evals.tasks.reference import Chain, check_steps
from reasoning.api import asolve, execute, solve
from reasoning.budget import Budget
from reasoning.judging import solution_of
from reasoning.open_judges import JudgeChoice, self_judge
from reasoning.run import Run
from reasoning.strategies import BestOfN, WeightedVote, parse_strategy, require
from reasoning.trace import Scored
from reasoning.trajectory import Candidate, Step, Trajectory
from tests.judges import TextJudge, by_hash, lines_model
from tests.worlds import PROMPT, ShuffledDelivery, answers_table, settings, task
from verifiers.judges.types import Judgement, ScoreKind, Solution

ROLES = ("prm", "value", "orm", "self")


def run_of(engine, judge, judgements=None, **keywords):
    return Run(settings(engine, judges=dict.fromkeys(ROLES, judge), **keywords), "p", judgements=judgements)


def best_of_n(score, *, n=8, engine=None, judge=None, strategy=BestOfN, judgements=None, **keywords):
    run = run_of(engine or ScriptedEngine(lines_model()), judge or TextJudge(), judgements, **keywords)
    return asyncio.run(execute(strategy(n=n, score=score), run, PROMPT))


def mean(values):
    return sum(values) / len(values)


def product(values):
    total = 1.0
    for value in values:
        total *= value
    return total


@pytest.mark.parametrize(
    ("name", "aggregate"),
    [
        ("prm", lambda steps: by_hash(steps[-1])),  # as its format says; of an unknown format, the last
        ("prm_last", lambda steps: by_hash(steps[-1])),
        ("prm_min", lambda steps: min(map(by_hash, steps))),
        ("prm_product", lambda steps: product(map(by_hash, steps))),
        ("prm_mean", lambda steps: mean([by_hash(step) for step in steps])),
        ("prm_model", lambda steps: by_hash("\n".join(steps))),
        ("value", lambda steps: by_hash("\n".join(steps))),
        ("orm", lambda steps: by_hash("\n".join(steps))),
        ("self", lambda steps: by_hash("\n".join(steps))),
    ],
)
def test_scores_by_name(name, aggregate):
    result = best_of_n(name, n=30)
    answered = [candidate for candidate in result.candidates if candidate.answer is not None]
    several = 0
    for candidate in answered:
        whole = candidate.trajectory.finish_reason is FinishReason.EOS
        steps = candidate.text.strip().split("\n")
        several += len(steps) > 1
        if whole:
            assert candidate.score == pytest.approx(aggregate(steps), rel=1e-12)
    assert several > 2
    assert result.chosen is not None
    assert result.candidates[result.chosen].score == max(candidate.score for candidate in answered)
    assert all(candidate.score is None for candidate in result.candidates if candidate.answer is None)
    (event,) = [event for event in result.trace if isinstance(event, Scored)]
    assert event.score == name
    assert event.values == {candidate.slot: candidate.score for candidate in answered}


def test_a_judge_says_how_its_scores_are_made_one():
    known = best_of_n("prm", judge=TextJudge(aggregate="min"))
    assert [c.score for c in known.candidates] == [c.score for c in best_of_n("prm_min").candidates]


def test_a_vote_weighs_by_the_judge():
    judge = TextJudge(lambda text: {"#1": 0.9, "#2": 0.1}[text])
    result = best_of_n(
        "prm",
        n=40,
        engine=ScriptedEngine(answers_table({"1": 0.3, "2": 0.7})),
        judge=judge,
        strategy=lambda **k: WeightedVote(weighting="score", **k),
    )
    assert sum(candidate.answer == "2" for candidate in result.candidates) > 20
    assert result.answer == "1"


def test_a_judge_that_is_missing_or_does_not_fit_is_refused_before_the_first_token():
    engine = ScriptedEngine(lines_model())
    for role, said in (("prm", "--prm"), ("value", "--value"), ("orm", "--orm"), ("self", "--self")):
        with pytest.raises(ConfigError, match=said):
            require(BestOfN(score=role), engine, {})
    logits = {"prm": TextJudge(kind=ScoreKind.LOGIT), "value": TextJudge(kind=ScoreKind.VALUE)}
    with pytest.raises(ConfigError, match="product"):
        require(BestOfN(score="prm_product"), engine, logits)
    for score in logits:
        require(BestOfN(score=score), engine, logits)
        require(WeightedVote(score=score), engine, logits)
        with pytest.raises(ConfigError, match="weighting=softmax"):
            require(WeightedVote(score=score, weighting="score"), engine, logits)
    with pytest.raises(ConfigError, match="no ProcessRewardModel"):
        require(BestOfN(score="prm"), engine, {"prm": OnlyValue()})
    with pytest.raises(ConfigError, match="did you mean 'prm_"):
        parse_strategy("best_of_n:score=prm_means")


class OnlyValue(TextJudge):
    score_steps = None

    def __getattribute__(self, name):
        if name == "score_steps":
            raise AttributeError(name)
        return super().__getattribute__(name)


def test_judging_needs_no_log_probabilities():
    engine = ScriptedEngine(lines_model())
    engine._info = replace(engine.info, capabilities=frozenset())
    require(BestOfN(score="prm"), engine, {"prm": TextJudge()})


@pytest.mark.parametrize("budget", [{"scored_tokens": 30}, {"scored_tokens": 8}, {"flops": 3000.0}])
def test_a_budget_of_judging_holds_and_who_is_judged_goes_by_slot(budget):
    def seen(slots, seed):
        engine = ShuffledDelivery(ScriptedEngine(lines_model(), slots=slots, parameters=5), seed)
        result = best_of_n("prm", n=20, engine=engine, judge=TextJudge(seed=seed), budget=Budget(**budget))
        assert result.usage.scored_tokens <= budget.get("scored_tokens", 10**9)
        assert result.usage.flops <= budget.get("flops", 10**9)
        assert result.stop_reason == "budget"
        return [(c.trajectory, c.score) for c in result.candidates], result.chosen, result.trace

    expected = seen(64, 0)
    assert expected[1] is not None
    for slots, seed in ((1, 1), (3, 2), (64, 3)):
        assert seen(slots, seed) == expected


def test_what_a_cached_judgement_gives_back_judges_others():
    """A judge may cost less than it may cost at most; those behind it wait for what comes back."""

    class Cheap(TextJudge):
        def tokens(self, solution):
            return 10

        async def _answer(self, solution, scores):
            judgement = await super()._answer(solution, scores)
            return replace(judgement, usage=replace(judgement.usage, scored_tokens=1, scored_tokens_cached=9))

    model = answers_table(dict.fromkeys("123456789", 1 / 9))
    result = best_of_n("orm", n=9, engine=ScriptedEngine(model), judge=Cheap(), budget=Budget(scored_tokens=13))
    judged = {c.text for c in result.candidates if c.score is not None}
    assert len(judged) == 4 == result.usage.scored_tokens  # after four, nine are left, and the fifth may cost ten


def test_a_candidate_is_judged_while_its_siblings_are_being_written():
    engine = ScriptedEngine(lines_model())
    judge = TextJudge(turns=1)
    begun = []
    plain, judge._answer = judge._answer, lambda *a: begun.append(engine.steps) or plain(*a)
    best_of_n("prm", n=12, engine=engine, judge=judge)
    assert begun == sorted(begun)
    assert begun[0] < engine.steps / 2


def test_an_equal_solution_is_judged_once_and_every_strategy_pays_for_it():
    judge, known = TextJudge(), {}
    engine = ScriptedEngine(answers_table({"1": 0.5, "2": 0.5}))
    first, second = (best_of_n("value", n=20, engine=engine, judge=judge, judgements=known) for _ in range(2))
    assert len(judge.asked) == len(known) == 2
    assert first.usage == second.usage
    assert first.usage.scored_tokens == 2 * 3


def test_a_run_of_seconds_does_not_wait_for_a_judge():
    class Stuck(TextJudge):
        async def _answer(self, solution, scores):
            await asyncio.sleep(60)

    engine = ScriptedEngine(answers_table({"1": 1.0}), parameters=1)
    result = best_of_n("prm", n=2, engine=engine, judge=Stuck(), budget=Budget(seconds=0.3))
    assert (result.stop_reason, result.answer) == ("budget", "1")
    assert result.usage.scored_tokens == 3  # it may have read them: both are one solution, which was asked about once


@pytest.mark.parametrize("scores", [(), (0.1, 0.2), (float("nan"),)])
def test_a_judge_that_gives_no_number_or_too_many_is_an_error(scores):
    class Odd(TextJudge):
        async def _answer(self, solution, _):
            return Judgement(scores=scores)

    with pytest.raises(EngineError, match="test gave"):
        best_of_n("prm", engine=ScriptedEngine(answers_table({"1": 1.0})), judge=Odd())


def test_a_candidate_as_a_judge_reads_it():
    engine = ScriptedEngine(lines_model())

    eos, length, stop = FinishReason.EOS, FinishReason.LENGTH, FinishReason.STOP

    def solution(parts, reason, whole=False):
        encode = engine.tokenizer.encode
        more = reason is stop  # a step's end, and not the solution's
        steps = tuple(Step(token_ids=encode(part), logprob=0.0, finish_reason=reason, open=more) for part in parts)
        trajectory = Trajectory(prompt=PROMPT, steps=steps)
        candidate = Candidate(slot=0, trajectory=trajectory, text="".join(parts), answer=None)
        seen = solution_of(engine.tokenizer, TextJudge(), candidate, whole=whole)
        assert seen.token_ids == trajectory.token_ids
        return seen.steps, seen.finished

    assert solution(["12\n34\n#5"], eos) == (("12", "34", "#5"), True)
    assert solution(["12\n34\n#5"], length) == (("12", "34"), False)  # "#5" may be the beginning of "#53"
    assert solution(["12"], length) == (("12",), False)
    assert solution(["12\n34\n#5\n"], eos, whole=True) == (("12\n34\n#5",), True)
    assert solution(["12\n"], stop) == (("12",), False)  # a first step is no whole solution
    assert solution(["12\n", "34\n"], stop) == (("12", "34"), False)  # its own steps, each ended by a stop
    assert solution(["1\n2\n", "#3", ""], eos) == (("1\n2", "#3"), True)
    assert solution([""], eos) == (("",), True)


# -- the exact judge ---------------------------------------------------------------------------------------------------

CHAIN = Chain.parse("47,+38,*6,-19")


def exact(role, *steps):
    return asyncio.run(getattr(ExactJudge(), role)(Solution(question=CHAIN.question, steps=steps))).scores


def test_the_exact_judge_gives_1_until_something_is_wrong():
    right = tuple(CHAIN.steps)
    assert exact("score_steps", *right) == (1, 1, 1, 1)
    assert exact("score_steps", right[0], "85*6=511", "511-19=492", "#492") == (1, 0, 0, 0)
    assert check_steps(CHAIN, f"{right[0]}\n85*6=511\n511-19=492\n#492") == [True, False, True, True]
    assert exact("score_steps", "\n".join(right)) == (1,)
    assert exact("score_steps", "") == (1,)
    assert (exact("value", *right[:2]), exact("value", right[0], "85*6=511")) == ((1,), (0,))
    assert (exact("reward", *right), exact("reward", *right[:2])) == ((1,), (0,))
    assert ExactJudge().split("\n".join(right)) == right
    with pytest.raises(DataError, match="reference world"):
        asyncio.run(ExactJudge().value(Solution(question="What is 1 + 1?", steps=("2",))))


# -- opening, closing, recording ---------------------------------------------------------------------------------------


@pytest.fixture
def shelf(monkeypatch):
    """Judges that were opened by name."""
    opened = []

    def open_judge(name, *, role, backend, **options):
        if name == "broken":
            raise ConfigError("there is no judge broken")
        opened.append(TextJudge(name=name, backend=backend, revision="r1", verified=False))
        return opened[-1]

    module = ModuleType("verifiers.judges.open")
    module.open_judge = open_judge
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return opened


def host():
    async def opening():
        return ScriptedEngine(lines_model())

    return OpenEngine(opening)


def test_solve_opens_judges_by_name_and_closes_what_it_opened(shelf):
    own = TextJudge()
    answers = settings(None).answers
    with host() as engine:
        arguments = {"engine": engine, "answers": answers, "value": own}
        first = solve(PROMPT, strategy="best_of_n:n=8,score=prm", prm="mine", **arguments)
        again = asyncio.run(asolve(PROMPT, strategy="best_of_n:n=8,score=prm", prm="mine", **arguments))
        assert first.chosen == again.chosen
        with pytest.raises(ConfigError, match="--orm"):
            solve(PROMPT, strategy="best_of_n:n=8,score=orm", prm="mine", **arguments)
        with pytest.raises(ConfigError, match="no judge broken"):
            solve(PROMPT, strategy="best_of_n:n=8,score=prm", prm="mine", orm="broken", **arguments)
    assert len(shelf) == 4
    assert all(judge.closed for judge in shelf)
    assert not own.closed


def plan(**judges):
    choice = JudgeChoice(options=judges.pop("options", {}), named=judges)
    params = settings(None).sampling
    return Plan(
        task=task(3),
        strategies=[parse_strategy("best_of_n:n=3,score=prm")],
        source=ModelSource(name="lines", path="lines", revision=None),
        context_length=0,
        prompts={problem.id: PROMPT for problem in task(3).problems},
        sampling=params,
        budget=Budget(),
        check=None,
        judges=choice,
        seed=0,
        config={"task": "digits", "model": "lines", "engine": "scripted", "judges": asked(choice)},
    )


@pytest.fixture
def scripted(monkeypatch):
    monkeypatch.setattr("evals.session.open_source", lambda *_, **__: host())


def test_an_evaluation_records_its_judges_and_does_not_mix_them(tmp_path, shelf, scripted, capsys):
    run_plan(plan(prm="mine"), tmp_path, {})
    assert "not checked" in capsys.readouterr().err
    (judge,) = shelf
    assert judge.asked
    assert judge.closed
    recorded = read_config(tmp_path)["config"]["judges"]["prm"]
    found = {"revision": "r1", "format": "test", "backend": "auto", "kind": "probability", "oracle": False}
    assert recorded == {"name": "mine", "options": {}, "verified": False, **found}
    rows = list(read_rows(tmp_path, "results"))
    assert all(row["usage"]["scored_tokens"] > 0 for row in rows)
    run_plan(plan(prm="mine"), tmp_path, {})
    assert len(shelf) == 1  # nothing was missing, so nothing was opened
    for other in (plan(prm="other"), plan(prm=ExactJudge()), plan(prm="mine", options={"prm": {"dtype": "bfloat16"}})):
        with pytest.raises(StoreError, match="other settings"):
            run_plan(other, tmp_path, {})
    assert all(judge.closed for judge in shelf)


@pytest.mark.engine
def test_results_of_the_exact_judge_say_so_and_are_right(tmp_path):
    request = Request(
        task="reference:2",
        strategies=["best_of_n:n=16,score=prm_min"],
        model="reference-base",
        engine="transformers",
        limit=10,
        judges=JudgeChoice(named={"prm": "exact"}),
    )
    run_plan(make_plan(request), tmp_path, {})
    config = read_config(tmp_path)["config"]
    assert config["judges"]["prm"]["oracle"] is True
    assert config["oracle"] is False  # of the check
    right = {(row["problem"], row["slot"]): row["outcome"] == "correct" for row in read_rows(tmp_path, "grades")}
    for row in read_rows(tmp_path, "results"):
        solved = any(value for (problem, _), value in right.items() if problem == row["problem"])
        assert (row["outcome"] == "correct") == solved  # all right is right at the end, and the reverse nearly always


@pytest.mark.engine
def test_the_shipped_judges_steer_a_real_run(tmp_path):
    request = Request(
        task="reference:4",
        strategies=["best_of_n:n=8,score=prm", "weighted_vote:n=8,score=value,weighting=score"],
        model="reference-base",
        engine="transformers",
        limit=12,
        judges=JudgeChoice(named={"prm": "reference-prm", "value": "reference-value"}),
    )
    run_plan(make_plan(request), tmp_path, {})
    judges = read_config(tmp_path)["config"]["judges"]
    assert [judges[role]["oracle"] for role in ("prm", "value")] == [False, False]
    assert all(judges[role]["verified"] and judges[role]["revision"] for role in ("prm", "value"))
    rows = list(read_rows(tmp_path, "results"))
    assert len(rows) == 24
    for row in rows:
        assert row["outcome"] != "error"
        assert row["usage"]["scored_tokens"] > 0
        (scored,) = [event for event in row["trace"] if event["event"] == "Scored"]
        assert all(0 <= score <= 1 for score in scored["values"].values())


def test_an_interrupt_closes_the_judges(tmp_path, shelf, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("evals.session.open_source", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan(prm="mine"), tmp_path, {})
    assert [judge.closed for judge in shelf] == [True]


def test_what_is_wrong_with_judges_is_said_before_anything_is_opened():
    with pytest.raises(ConfigError, match="pass prm=NAME"):
        make_plan(Request(task="gsm8k", strategies=["best_of_n:score=prm"], model="x"))
    with pytest.raises(ConfigError, match="there is no role 'pmr'"):
        plan(pmr="mine")
    with pytest.raises(ConfigError, match="none is to be opened"):
        plan(prm="mine", options={"value": {"dtype": "float32"}})
    with pytest.raises(ConfigError, match="reference:<difficulty>"):
        make_plan(
            Request(
                task="gsm8k", strategies=["best_of_n:score=prm"], model="x", judges=JudgeChoice(named={"prm": "exact"})
            )
        )


def test_judges_as_they_are_typed():
    choice = parse_judges("mine", None, None, True, "vllm", ["prm.dtype=float32", "self.query=<mask>"])
    assert choice.named == {"prm": "mine", "self": "self"}
    assert choice.options == {"prm": {"dtype": "float32"}, "self": {"query": "<mask>"}}
    assert parse_judges(None, "v", None, False, "auto", ["slots=4"]).options == {"value": {"slots": 4}}
    for options in (["slots=4"], ["prm.slots"], ["policy.slots=4"]):
        with pytest.raises(BethinkError, match=r"role\.name=value"):
            parse_judges("a", "b", None, False, "auto", options)


def test_policy_and_judges_share_one_gpu():
    two = JudgeChoice(
        named={"prm": "a", "value": "b"}, backend="vllm", options={"prm": {"gpu_memory_utilization": 0.2}}
    )
    options, choice, stated = share_memory("vllm", {"max_num_seqs": 8}, two, gpu=True)
    assert options == {"max_num_seqs": 8, "gpu_memory_utilization": 0.35}
    assert [choice.options[role]["gpu_memory_utilization"] for role in ("prm", "value")] == [0.2, 0.35]
    assert stated == {"memory": "policy 0.35, prm 0.2, value 0.35 of the GPU"}
    given = share_memory("vllm", {"gpu_memory_utilization": 0.5}, two, gpu=True)
    assert given.options == {"gpu_memory_utilization": 0.5}
    with pytest.raises(ConfigError, match="leave the policy nothing"):
        share_memory("vllm", {}, JudgeChoice(named=dict.fromkeys(("prm", "value", "orm"), "a")), gpu=True)
    for engine, named in (("transformers", "a"), ("vllm", "exact"), ("vllm", TextJudge())):
        alone = JudgeChoice(named={"prm": named}, backend="vllm")
        assert share_memory(engine, {}, alone, gpu=True) == ({}, alone, {})
    assert "VLLM_CPU_KVCACHE_SPACE" in share_memory("vllm", {}, two, gpu=False).stated["memory"]


def test_a_model_that_was_trained_to_judge_itself_says_how_it_is_asked(tmp_path):
    (tmp_path / "judge.json").write_text('{"role": "value", "format": "self", "query": "#", "good": "1", "bad": "2"}')
    engine = ScriptedEngine(answers_table({"1": 0.8, "2": 0.2}))
    engine._info = replace(engine.info, model=str(tmp_path))

    async def opening():
        return engine

    with OpenEngine(opening) as opened:
        judge = self_judge(opened, {})
        said = opened.run(lambda _: judge.value(Solution(question="q", steps=("x",), token_ids=(1, 2))))
        assert said.scores[0] == pytest.approx(0.8)
        assert judge.info.verified
        assert not self_judge(opened, {"good": "2", "bad": "1"}).info.verified
