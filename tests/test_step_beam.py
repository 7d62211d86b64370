"""Step-level beam search with values: the law of its outcomes, its width, and the best that can be found."""

import asyncio
import itertools
import math
from collections import defaultdict
from dataclasses import replace

import pytest

import reasoning.strategies.step_beam as healthy
from decoding.engines.scripted import ScriptedEngine, Table
from decoding.errors import ConfigError
from decoding.types import FinishReason
from reasoning.api import execute
from reasoning.budget import Budget
from reasoning.run import Run
from reasoning.search.tree import Grown, Selected
from reasoning.steps import Steps
from reasoning.strategies.repeated_sampling import RepeatedSampling
from reasoning.strategies.step_beam import StepBeam
from tests.judges import TextJudge, lines_model
from tests.mutants import deviation, planted
from tests.walk import all_paths
from tests.worlds import PROMPT, RandomModel, settings
from verifiers.judges.types import ScoreKind

LINES = Steps(delimiter="line")


def beam(strategy, model, *, score=None, **keywords):
    async def work():
        judge = TextJudge(**({"score": score, "kind": ScoreKind.VALUE} if score else {}))
        chosen = settings(ScriptedEngine(model), judges={"value": judge}, **keywords)
        return await execute(strategy, Run(replace(chosen, steps=LINES), "p"), PROMPT)

    return asyncio.run(work())


# -- the law ----------------------------------------------------------------------------------------------------------


def tiny(start):
    """Writes the line a first with the probability `start`, else b; then what `steps` says."""
    laws = {
        (): [0, 0, start, 1 - start, 0, 0, 0],
        (2,): [0, 0, 0, 0.4, 0.6, 0, 0],
        (3,): [0, 0, 0, 0, 0, 0.8, 0.2],
        **{(token,): [1.0] + [0] * 6 for token in (4, 5, 6)},
    }
    return Table(vocabulary=("<end>", "q", "a\n", "b\n", "#1", "#2", "x"), eos_token_ids=frozenset({0}), laws=laws)


def steps(start):
    first = {"a\n": start, "b\n": 1 - start} if start < 1 else {"a\n": 1.0}
    return {"": first, "a\n": {"b\n": 0.4, "#1": 0.6}, "b\n": {"#2": 0.8, "x": 0.2}}


VALUES = {"a": 0.3, "b": 0.3, "a\nb": 0.6, "a\n#1": 0.5, "b\n#2": 0.4, "b\nx": 0.9, "a\nb\n#2": 0.2, "a\nb\nx": -0.5}


def by_hand(start, b1, b2, unique):
    """Outcomes of the search and their probabilities, written down a second time: over steps, not over tokens."""
    outcomes = defaultdict(float)

    def rounds(frontier, finished, copies, probability):
        if not frontier:
            answers = [text for text in finished if "#" in text]
            top = max(answers, key=lambda text: VALUES[text], default=None)  # the first of equals
            outcomes[tuple(finished), top and top[-1]] += probability
            return
        parents = [text for text in frontier for _ in range(copies)]
        for drawn in itertools.product(
            *(steps(start)[text[text.rfind("\n", 0, -1) + 1 :]].items() for text in parents)
        ):
            share = math.prod(share for _, share in drawn)
            numbered = list(enumerate(zip(parents, (step for step, _ in drawn), strict=True)))
            if unique:
                slot = {index: index // copies for index, _ in numbered}
                seen = {}
                for index, (_, step) in numbered:
                    seen.setdefault((slot[index], step), index)
                numbered = [entry for entry in numbered if entry[0] in seen.values()]
            ranked = sorted(numbered, key=lambda entry: (-VALUES["".join(entry[1]).strip()], entry[0]))
            kept = ["".join(parts) for _, parts in ranked[: b1 - len(finished)]]
            ended = [text for text in kept if not text.endswith("\n")]
            rounds([text for text in kept if text.endswith("\n")], finished + ended, b2, probability * share)

    rounds([""], [], b1 * b2, 1.0)
    return dict(outcomes)


def law_deviates(monkeypatch, strategy, b1, b2, unique):
    start = 1.0 if b1 == b2 == 2 else 0.7  # all paths of two by two are too many

    def play(walk):
        result = beam(strategy(b1=b1, b2=b2, unique=unique), tiny(start), score=VALUES.__getitem__)
        return tuple(candidate.text for candidate in result.candidates), result.answer

    monkeypatch.setattr("decoding.engines.scripted.REACTION_ROUNDS", 4)
    return deviation(all_paths(monkeypatch, play), by_hand(start, b1, b2, unique == "steps"))


@pytest.mark.parametrize(
    ("b1", "b2", "unique"),
    [(1, 1, "steps"), (1, 2, "none"), (1, 3, "steps"), (2, 1, "none"), (3, 1, "steps"), (2, 2, "steps")],
)
def test_its_outcomes_have_the_law_that_is_written_down(b1, b2, unique, monkeypatch):
    assert law_deviates(monkeypatch, StepBeam, b1, b2, unique) < 1e-9


@pytest.mark.parametrize(
    ("old", "new", "b1", "b2"),
    [
        ("beam = self.b1 - len(pool)", "beam = self.b1", 2, 2),  # the width does not shrink
        ("(-node.score, node.id)", "(node.score, node.id)", 1, 2),  # the worst go on
        ("[search.root], self.b1 * self.b2", "[search.root], self.b2", 2, 1),  # too few first steps
        ("other < score", "other > score", 3, 1),  # the worst of the pool
        ("for node in top if node.finished]", "for node in grown if node.finished]", 1, 2),  # all that ended
        ("unique_siblings(grown, self.unique)", "grown", 2, 1),  # copies compete
        ("unique_siblings(grown, self.unique)", "grown[:1]", 1, 2),  # the first step, whatever it reads
    ],
)
def test_errors_that_are_planted_are_caught(old, new, b1, b2, monkeypatch):
    assert law_deviates(monkeypatch, planted(monkeypatch, healthy, (old, new)).StepBeam, b1, b2, "steps") > 1e-3


def test_a_finished_solution_gets_no_tokens(monkeypatch):
    greedy = planted(monkeypatch, healthy, ("for node in top if not node.finished]", "for node in top]"))
    with pytest.raises(AssertionError, match="gets no tokens"):
        law_deviates(monkeypatch, greedy.StepBeam, 2, 1, "steps")


# -- what it finds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_one_by_one_at_temperature_0_is_greedy_token_for_token(seed):
    for model in (lines_model(), RandomModel()):
        greedy = beam(RepeatedSampling(n=1), model, temperature=0.0, seed=seed)
        found = beam(StepBeam(b1=1, b2=1), model, temperature=0.0, seed=seed)
        assert len(found.candidates) == 1
        (one,), (other,) = found.candidates, greedy.candidates
        assert one.trajectory.generated_ids == other.trajectory.generated_ids
        assert (one.answer, found.answer) == (other.answer, greedy.answer)


def grid():
    """A tree of three binary steps; the goal is 2, 1, 2 and each leaf is an answer of its own."""
    vocabulary = ("<end>", "q", "1\n", "2\n", "#1")
    laws = {(): [0, 0, 0.9, 0.1, 0], (4,): [1.0, 0, 0, 0, 0]}
    for path in itertools.product((2, 3), repeat=3):
        laws[path] = [0, 0, 0, 0, 1.0]
    return Table(vocabulary=vocabulary, eos_token_ids=frozenset({0}), laws=laws)


GOAL = ("2", "1", "2")


def distance(text):
    return -sum(one != other for one, other in zip(text.split("\n"), GOAL, strict=False)) / 3


def test_with_the_distance_to_a_goal_as_value_it_goes_straight_there():
    # The policy writes 2 one time in ten: so many draws that each step has both.
    found = beam(StepBeam(b1=1, b2=60), grid(), score=distance)
    assert found.text == "2\n1\n2\n#1"
    kept = [event.kept for event in found.trace if isinstance(event, Selected)]
    assert [len(each) for each in kept] == [1, 1, 1, 0]
    grown = {event.node: event for event in found.trace if isinstance(event, Grown)}
    for event in grown.values():  # best first: whoever has children is the best of its generation
        siblings = [other for other in grown.values() if other.parent == event.parent]
        if any(other.parent == event.node for other in grown.values()):
            assert event.score == max(other.score for other in siblings)


def test_a_beam_as_wide_as_the_tree_finds_the_optimum_of_a_perfect_value():
    leaves = {
        "".join(f"{digit}\n" for digit in path) + "#1": rank
        for rank, path in enumerate(itertools.product("12", repeat=3))
    }

    def perfect(text):  # the best leaf below
        return max(rank for leaf, rank in leaves.items() if leaf.startswith(text)) / 8

    even = Table(
        vocabulary=grid().vocabulary, eos_token_ids=frozenset({0}), laws={**grid().laws, (): [0, 0, 0.5, 0.5, 0]}
    )
    for seed in range(5):
        assert beam(StepBeam(b1=8, b2=8), even, score=perfect, seed=seed).text == "2\n2\n2\n#1"


def test_its_width_never_increases_and_what_ends_takes_its_place_with_it():
    for seed in range(10):
        found = beam(StepBeam(b1=4, b2=3, unique="none"), RandomModel(), seed=seed, max_tokens=40)
        rounds = [event for event in found.trace if isinstance(event, Selected)]
        widths = [4, *(len(event.kept) for event in rounds)]
        assert widths == sorted(widths, reverse=True)
        assert widths[-1] == 0
        assert len(found.candidates) == 4  # every place of the beam has ended in one
        assert [len(event.among) for event in rounds] == [12, *(3 * width for width in widths[1:-1])]
        assert all(c.trajectory.finish_reason in (FinishReason.EOS, FinishReason.LENGTH) for c in found.candidates)


def test_a_step_that_reads_like_another_does_not_compete_but_one_that_ended_does():
    once = Table(
        vocabulary=("<end>", "q", "#1", "\n"),
        eos_token_ids=frozenset({0}),
        laws={(): [0, 0, 1.0, 0], (2,): [0.5, 0, 0, 0.5], (3,): [1.0, 0, 0, 0]},
    )
    found = beam(StepBeam(b1=4, b2=4), once)
    assert [candidate.text for candidate in found.candidates] == ["#1", "#1\n"]
    found = beam(StepBeam(b1=4, b2=4, unique="none"), once)
    assert len(found.candidates) == 4


def test_a_vote_in_the_pool_can_overrule_the_best():
    table = Table(
        vocabulary=("<end>", "q", "#1", "#2", "#2 "),
        eos_token_ids=frozenset({0}),
        laws={(): [0, 0, 0.5, 0.5, 0], **{(token,): [1.0, 0, 0, 0, 0] for token in (2, 3, 4)}},
    )
    values = {"#1": 0.6, "#2": 0.5}
    answers = {}
    for choose in ("best", "vote", "majority"):
        found = beam(StepBeam(b1=9, b2=1, unique="none", choose=choose), table, score=values.__getitem__, seed=4)
        counts = [candidate.answer for candidate in found.candidates]
        answers[choose] = found.answer
    assert counts.count("2") > counts.count("1") > 0
    assert answers == {"best": "1", "vote": "2", "majority": "2"}


@pytest.mark.parametrize("limit", [1, 3, 8, 25, 80])
def test_a_budget_gives_the_best_so_far_open_prefixes_too(limit):
    found = beam(StepBeam(b1=3, b2=2), lines_model(), budget=Budget(generated_tokens=limit))
    assert found.usage.decoded_tokens <= limit
    if found.stop_reason == "budget":
        assert found.candidates
        answering = [candidate for candidate in found.candidates if candidate.answer is not None]
        assert (found.answer is None) == (not answering)


@pytest.mark.parametrize("wrong", [{"choose": "mode"}, {"unique": "yes"}, {"b1": 0}, {"b2": -1}, {"score": "valeu"}])
def test_what_cannot_work_is_refused(wrong):
    with pytest.raises(ConfigError):
        StepBeam(**wrong)
    with pytest.raises(ConfigError, match="asks no judge"):
        StepBeam(score="logprob", choose="vote").refuse({})
    StepBeam(score="logprob").refuse({})
