"""What all searches by steps stand on: steps, the tree, budgets, what is put between steps."""

import asyncio
from dataclasses import replace
from typing import ClassVar

import pytest

from decoding.engines.scripted import ScriptedEngine, Table
from decoding.errors import EngineError
from decoding.types import FinishReason
from reasoning.budget import Budget
from reasoning.run import Run
from reasoning.scores import score_by_name
from reasoning.search.search import Search
from reasoning.search.tree import Grown, Node, held_tokens
from reasoning.steps import Steps
from reasoning.trajectory import Candidate, Step, Trajectory
from tests.judges import TextJudge, lines_model
from tests.worlds import PROMPT, settings

LINES = Steps(delimiter="line")


def search_of(*, steps=LINES, judge=None, engine=None, **keywords):
    engine = engine or ScriptedEngine(lines_model())
    chosen = settings(engine, judges={"prm": judge or TextJudge()}, **keywords)
    run = Run(replace(chosen, steps=steps), "p")
    return Search(run, PROMPT, score_by_name("prm")), run


async def to_the_end(search, n):
    nodes = [search.root] * n
    while not search.exhausted and (going := [node for node in nodes if not node.finished]):
        grown = iter(await search.grow(going))
        nodes = [node if node.finished else next(grown, node) for node in nodes]
    return nodes


def ended(n=8, **keywords):
    async def work():
        search, run = search_of(**keywords)
        return await to_the_end(search, n), search, run

    return asyncio.run(work())


def test_steps_end_behind_their_delimiter_and_join_to_the_whole():
    nodes, search, run = ended(20)
    for node in nodes:
        steps = node.trajectory.steps
        texts = [run.text(step.token_ids) for step in steps]
        assert "".join(texts) == node.candidate.text
        assert all(text.endswith("\n") and step.open for text, step in zip(texts[:-1], steps[:-1], strict=True))
        assert (node.finished, steps[-1].open, steps[-1].finish_reason) == (True, False, FinishReason.EOS)
        assert len(node.path()) == len(steps) + 1
    assert [node.id for node in search.nodes] == list(range(len(search.nodes)))
    grown = [event for event in run.trace if isinstance(event, Grown)]
    assert [event.node for event in grown] == list(range(1, len(search.nodes)))
    assert sum(event.tokens for event in grown) == run.usage.generated_tokens
    assert not {event.parent for event in grown} & {event.node for event in grown if event.finished}


def test_every_node_is_judged_once_and_a_first_step_is_no_whole_solution():
    judge = TextJudge()
    _, search, _ = ended(20, judge=judge)
    distinct = {node.trajectory.token_ids for node in search.nodes[1:]}
    assert len(judge.asked) == len(distinct)
    by_ids = {node.trajectory.token_ids: node for node in search.nodes}
    for solution in judge.asked:
        assert solution.finished == by_ids[solution.token_ids].finished
        assert len(solution.steps) == by_ids[solution.token_ids].depth


def test_a_model_without_a_delimiter_writes_blocks():
    nodes, _, run = ended(8, steps=Steps(delimiter="none", max_tokens=3))
    for node in nodes:
        lengths = [len(step.token_ids) for step in node.trajectory.steps]
        assert set(lengths[:-1]) <= {3}
        assert lengths[-1] <= 3
    assert run.usage.generated_tokens == sum(len(step.token_ids) for node in nodes for step in node.trajectory.steps)


@pytest.mark.parametrize(("limit", "steps"), [({"max_tokens": 7}, LINES), ({}, replace(LINES, max_steps=2))])
def test_a_trajectory_that_reaches_a_limit_is_finished_and_says_so(limit, steps):
    nodes, _, _ = ended(30, steps=steps, **limit)
    reasons = {node.trajectory.finish_reason for node in nodes}
    assert reasons == {FinishReason.EOS, FinishReason.LENGTH}
    for node in nodes:
        assert node.finished
        assert len(node.trajectory.generated_ids) <= limit.get("max_tokens", 64)
        assert node.depth <= steps.max_steps
        if node.trajectory.finish_reason is FinishReason.LENGTH:
            assert limit == {} or len(node.trajectory.generated_ids) == limit["max_tokens"]


def test_one_that_reaches_a_limit_is_asked_for_its_answer():
    nodes, search, run = ended(30, steps=replace(LINES, max_steps=2, ask="#", ask_tokens=2))
    asked = [node for node in nodes if node.parent.last]
    assert asked
    for node in asked:
        assert node.finished
        assert node.candidate.answer is not None
        before = node.parent.step
        assert (before.given, run.text(before.token_ids)[-1]) == (1, "#")
    drawn = sum(len(node.step.token_ids) - node.step.given for node in search.nodes[1:])
    assert drawn == run.usage.generated_tokens  # what was put there was not generated


def test_one_that_would_end_too_early_is_told_to_go_on():
    early, _, _ = ended(30)
    nodes, _, _ = ended(30, steps=replace(LINES, min_steps=4, wait="\n"), max_tokens=200)
    assert min(node.depth for node in early) < 4
    for node in nodes:
        assert node.depth >= 4
        for step in node.trajectory.steps[:-1]:
            assert 0 not in step.token_ids  # the end itself is taken out


def test_an_answer_can_end_a_solution():
    endless = Table(
        vocabulary=("<end>", "q", "#", "1", "\n"),
        eos_token_ids=frozenset({0}),
        laws={(2,): [0, 0, 0, 1, 0], (3,): [0, 0, 0, 0.5, 0.5], (): [0, 0, 1, 0, 0]},
    )
    nodes, _, _ = ended(20, steps=replace(LINES, until_answer=True), engine=ScriptedEngine(endless))
    assert {node.depth for node in nodes} == {1}
    nodes, _, _ = ended(
        20, steps=Steps(delimiter="none", max_tokens=2, until_answer=True), engine=ScriptedEngine(endless)
    )
    for node in nodes:  # a block that ends in the middle of an answer has none yet
        *lines, _ = node.candidate.text.split("\n")
        assert lines[-1] == f"#{node.candidate.answer}"


def test_a_tool_puts_something_behind_a_step():
    class Echo:
        name = "echo"

        async def __call__(self, run, text):
            return "1\n" if text.endswith("6\n") else ""

    nodes, _, run = ended(30, steps=replace(LINES, tool=Echo()), max_tokens=100)
    texts = [run.text(step.token_ids) for node in nodes for step in node.trajectory.steps]
    assert any(text.endswith("6\n1\n") for text in texts)
    assert not any(text.endswith("6\n") for text in texts)


@pytest.mark.parametrize("limit", [1, 2, 10, 37])
def test_a_budget_ends_a_search_in_slot_order(limit):
    nodes, search, run = ended(8, budget=Budget(generated_tokens=limit))
    assert search.exhausted
    assert run.usage.decoded_tokens == limit
    cut = [node for node in search.nodes[1:] if node.step.finish_reason is FinishReason.BUDGET]
    assert len(cut) <= 1
    assert len(nodes) == 8


def test_a_budget_of_judging_ends_it_too():
    _, search, run = ended(8, budget=Budget(scored_tokens=30))
    assert search.exhausted
    assert run.usage.scored_tokens <= 30


def test_a_score_that_is_no_number_is_an_error_and_the_trace_is_intact():
    class Odd:
        name, role, needs, calls = "odd", None, frozenset(), 0

        async def __call__(self, run, candidate):
            return float("nan") if len(candidate.trajectory.steps) == 2 else 0.5

    async def work():
        search, run = search_of()
        search._score = Odd()
        with pytest.raises(EngineError, match="no number"):
            await to_the_end(search, 8)
        return run

    run = asyncio.run(work())
    assert [event.node for event in run.trace] == list(range(1, 9))


@pytest.mark.parametrize(("score", "asked"), [("prm", False), ("mean_logprob", True)])
def test_log_probabilities_are_asked_for_where_they_are_read(score, asked):
    class Heard(ScriptedEngine):
        asked: ClassVar[set[bool]] = set()

        async def generate(self, request):
            self.asked.add(request.sampling.logprobs)
            return await super().generate(request)

    async def work():
        engine = Heard(lines_model())
        run = Run(replace(settings(engine, judges={"prm": TextJudge()}), steps=LINES), "p")
        await to_the_end(Search(run, PROMPT, score_by_name(score)), 4)
        return engine.asked

    Heard.asked.clear()
    assert asyncio.run(work()) == {asked}


def test_held_tokens_are_those_of_the_trie():
    def node(number, *steps):
        made = tuple(Step(token_ids=ids, logprob=None, finish_reason=FinishReason.STOP, open=True) for ids in steps)
        candidate = Candidate(slot=0, trajectory=Trajectory(prompt=PROMPT, steps=made), text="", answer=None)
        return Node(id=number, parent=None, candidate=candidate, finished=False)

    one, two, three = node(1, (3, 4), (5,)), node(2, (3, 4), (6, 7)), node(3, (3, 9))
    assert held_tokens([]) == 0
    assert held_tokens([one]) == 4
    assert held_tokens([one, one, node(4, (3, 4, 5))]) == 4
    assert held_tokens([one, two, three]) == 1 + 2 + 1 + 2 + 1
