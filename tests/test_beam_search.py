"""Beam search and DVTS: their exact laws against a second writing, where they are greedy or plain sampling, optima."""

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import product
from math import prod

import pytest

from decoding.engines.scripted import ScriptedEngine, Table
from decoding.errors import ConfigError, EngineError
from decoding.types import FinishReason
from reasoning.api import execute
from reasoning.budget import Budget
from reasoning.run import Run
from reasoning.search.beams import Beams
from reasoning.search.search import Search
from reasoning.search.tree import Grown, Selected
from reasoning.steps import Steps
from reasoning.strategies import RepeatedSampling, beam_search, dvts
from reasoning.strategies.beam_search import BeamSearch
from reasoning.strategies.dvts import DVTS
from tests.judges import TextJudge, by_hash, lines_model
from tests.walk import all_paths
from tests.worlds import PROMPT, RandomModel, settings

LINES = Steps(delimiter="line")

# Worlds in which a step is two tokens: "a\n" and "b\n" end by the cap of tokens, "#1" and "#2" by the end token.
FOUR = {"a\n": 0.3, "b\n": 0.2, "#1": 0.1, "#2": 0.4}
OPEN = {"a\n": 0.6, "b\n": 0.4}
ONE = {"a\n": 0.4, "#1": 0.2, "#2": 0.4}
LAST = {"#1": 0.6, "#2": 0.4}  # after two open steps
CAP = Steps(delimiter="none", max_tokens=2, max_steps=2)


def world(shares=FOUR):
    vocabulary = ("<end>", "q", "a", "b", "\n", "#1", "#2")
    a, b, newline, one, two = range(2, 7)

    def law(of):
        return [of.get(token, of.get(f"{token}\n", 0.0)) for token in vocabulary]

    laws = {(): law(shares), **dict.fromkeys([(a,), (b,)], law({"\n": 1.0}))}
    laws |= dict.fromkeys([(one,), (two,)], law({"<end>": 1.0}))
    laws |= {(x, newline, y, newline): law(LAST) for x in (a, b) for y in (a, b)}
    return Table(vocabulary=vocabulary, eos_token_ids=frozenset({0}), laws=laws)


def tempting(text):
    """ "a" looks best and leads nowhere."""
    return {"a": 0.9, "b": 0.1}.get(text, 0.2 if text[0] == "a" else 0.5 if text[0] == "#" else 0.8)


def coarse(text):
    """Scores with many ties."""
    return int(3 * by_hash(text)) / 2


def play(strategy, *, model=None, score=by_hash, steps=CAP, problem="p", judge=None, **keywords):
    async def work():
        judges = dict.fromkeys(("prm", "value"), judge or TextJudge(score, turns=1))
        run = Run(replace(settings(ScriptedEngine(model or world()), judges=judges, **keywords), steps=steps), problem)
        return await execute(strategy, run, PROMPT)

    return asyncio.run(work())


def events(result, kind):
    return [event for event in result.trace if isinstance(event, kind)]


# -- laws, written a second time ---------------------------------------------------------------------------------------


def ended(prefix):
    return prefix[-1][0] == "#" or len(prefix) == CAP.max_steps


def value(score, prefix, lookahead=0):
    """What the judge says of a prefix, or of where the likeliest steps lead from there: the likeliest token is "#2"."""
    if lookahead and not ended(prefix):
        prefix = (*prefix, "#2")  # ends it
    return score("\n".join(step.strip() for step in prefix))


def choose(strategy, score, prefixes):
    """The outcome: what is chosen from, and what is chosen."""
    answering = [prefix for prefix in prefixes if prefix[-1][0] == "#"]
    if strategy.choose == "best":
        chosen = max(answering, key=lambda prefix: value(score, prefix), default=("",))[-1]
    else:
        weights = Counter()
        for prefix in answering:
            weights[prefix[-1]] += min(max(value(score, prefix), 1e-7), 1 - 1e-7)
        chosen = max(weights, key=weights.__getitem__, default="")
    return tuple(map("".join, prefixes)), chosen[1:] or None


def families(parents, shares):
    """All ways to write a step for each parent, and their probabilities."""
    for steps in product(shares.items(), repeat=len(parents)):
        yield [(*parent, step) for parent, (step, _) in zip(parents, steps, strict=True)], prod(p for _, p in steps)


def beam_by_hand(strategy, score, shares):
    law = Counter()

    def go(parents, done, places, probability):
        if not parents:
            law[choose(strategy, score, done)] += probability
            return
        for children, share in families(parents, shares):
            now = done + [child for child in children if ended(child)]
            still_open = [child for child in children if not ended(child)]
            pool = {"extra": still_open, "slot": children, "compete": now + still_open}[strategy.finished]
            if strategy.duplicates == "merge":
                pool = list(dict.fromkeys(pool))
            top = sorted(pool, key=lambda prefix: -value(score, prefix, strategy.lookahead))[:places]
            beams = [prefix for prefix in top if not ended(prefix)]
            held = len(top) - len(beams)
            # Number i of the children to come is of the beam whose rank is i modulo the number of beams.
            to_come = sorted(i % len(beams) for i in range((places - held) * strategy.width) if beams)
            go(
                [beams[rank] for rank in to_come],
                now,
                places - held * (strategy.finished == "slot"),
                probability * share,
            )

    go([()] * strategy.n, [], strategy.n // strategy.width, 1.0)
    return law


def dvts_by_hand(strategy, score, shares):
    law, width = Counter(), strategy.width

    def go(best, done, probability):
        going = [subtree for subtree, prefix in enumerate(best) if not prefix or not ended(prefix)]
        if not going:
            others = [prefix for prefix in done if not any(prefix is kept for kept in best)]
            law[choose(strategy, score, best + others)] += probability
            return
        parents = [best[subtree] for subtree in going for _ in range(width)]
        for children, share in families(parents, shares):
            then = list(best)
            for place, subtree in enumerate(going):
                family = children[place * width : (place + 1) * width]
                then[subtree] = max(family, key=lambda prefix: value(score, prefix, strategy.lookahead))
            go(then, done + [child for child in children if ended(child)], probability * share)

    go([()] * (strategy.n // width), [], 1.0)
    return law


def deviation(monkeypatch, strategy, score, shares=FOUR):
    """Total variation between the law by every random path and the law by hand."""

    def outcome(_):
        result = play(strategy, model=world(shares), score=score)
        return tuple(c.text for c in result.candidates), result.answer

    law = all_paths(monkeypatch, outcome)
    expected = (dvts_by_hand if isinstance(strategy, DVTS) else beam_by_hand)(strategy, score, shares)
    assert sum(expected.values()) == pytest.approx(1, abs=1e-12)
    return sum(abs(law.get(key, 0.0) - expected[key]) for key in law.keys() | expected.keys()) / 2


def beams(**parameters):
    return BeamSearch(**{"n": 2, "width": 1, "score": "value", **parameters})


LAWS = {
    "extra": (beams(finished="extra"), coarse),
    "lookahead": (beams(width=2, lookahead=1), tempting),
    "extra, kept apart": (beams(finished="extra", duplicates="keep", choose="vote"), by_hash),
    "slot": (beams(), by_hash),
    "slot, one": (beams(width=2, choose="vote"), coarse),
    "compete": (beams(finished="compete"), by_hash),
    "three": (beams(n=3), by_hash, OPEN),
    "subtrees": (DVTS(n=2, width=1, score="value"), by_hash),
    "subtree": (DVTS(n=2, width=2, score="value"), coarse),
    "subtree, lookahead": (DVTS(n=2, width=2, score="value", lookahead=1, choose="vote"), tempting),
}


@pytest.mark.parametrize("which", LAWS)
def test_the_law_of_every_outcome_is_the_one_by_hand(monkeypatch, which):
    assert deviation(monkeypatch, *LAWS[which]) < 1e-9


# -- mistakes that the law shows ---------------------------------------------------------------------------------------


def tiled(nodes, children):
    """search-and-learn's (active * repeats)[:n]: surplus copies for those that come first in the list."""
    in_list = sorted(nodes, key=lambda node: node.id)
    return dict(Counter(in_list[i % len(nodes)] for i in range(children) if nodes))


async def by_the_parent(search, nodes, steps):
    return {node: node.parent.score for node in nodes}


async def unjudged_lookahead(search, nodes, steps):
    return {node: node.score for node in nodes}


def patched_conclusion(change):
    async def conclude_(self, run, search, nodes, real=Beams._conclude):
        return await real(self, run, search, change(nodes, self.n))

    return conclude_


def length_is_the_end(self, completion, candidate):
    return completion.finish_reason in (FinishReason.EOS, FinishReason.LENGTH)


MUTANTS = {
    "ended ones truncated to the first n": (
        "extra",
        Beams,
        "_conclude",
        patched_conclusion(lambda nodes, n: nodes[:n]),
    ),
    "ended ones copied up to n": (
        "extra, kept apart",
        Beams,
        "_conclude",
        patched_conclusion(lambda nodes, n: (nodes * n)[:n]),
    ),
    "surplus children for low indices": ("three", beam_search, "spread", tiled),
    "ranked by the parent's score": ("slot", beam_search, "look_ahead", by_the_parent),
    "ranked by the parent's score, in a subtree": ("subtree", dvts, "look_ahead", by_the_parent),
    "lookahead not judged": ("lookahead", beam_search, "look_ahead", unjudged_lookahead),
    "the worst kept": ("subtree", dvts, "ranked", lambda scores: sorted(scores, key=scores.__getitem__)),
    "equal prefixes kept apart": ("three", beam_search, "distinct", list),
    "length taken for the end": ("extra", Search, "_is_whole", length_is_the_end),
}


@pytest.mark.parametrize("mistake", MUTANTS)
def test_a_mistake_changes_the_law(monkeypatch, mistake):
    which, owner, name, wrong = MUTANTS[mistake]
    monkeypatch.setattr(owner, name, wrong)
    assert deviation(monkeypatch, *LAWS[which]) > 1e-3


# -- where they are something simpler ----------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [BeamSearch(n=1, width=1), DVTS(n=1, width=1)], ids=repr)
@pytest.mark.parametrize("steps", [LINES, Steps(delimiter="none", max_tokens=3)])
def test_one_beam_at_temperature_0_is_greedy_token_for_token(strategy, steps):
    lengths = set()
    for problem in range(8):
        model = RandomModel(end=0.05 * problem)
        one = play(strategy, model=model, steps=steps, temperature=0.0)
        plain = play(RepeatedSampling(n=1), model=model, temperature=0.0)
        (node,), (sample,) = one.candidates, plain.candidates
        assert node.trajectory.generated_ids == sample.trajectory.generated_ids
        assert (node.answer, node.trajectory.finish_reason) == (sample.answer, sample.trajectory.finish_reason)
        assert one.usage.decoded_tokens == plain.usage.decoded_tokens
        lengths.add(len(sample.trajectory.generated_ids))
    assert len(lengths) > 1


def samples(shares):
    """Every solution within three steps, and its probability."""
    opens, ends = ([step for step in shares if (step[0] == "#") == end] for end in (False, True))
    every = [steps for length in range(3) for steps in product(*[opens] * length, ends if length < 2 else LAST)]
    return {steps: prod((shares if depth < 2 else LAST)[s] for depth, s in enumerate(steps)) for steps in every}


@pytest.mark.parametrize(
    "strategy",
    [
        BeamSearch(n=1, width=1, score="value"),
        DVTS(n=2, width=1, score="value"),
        DVTS(n=2, width=2, score="value"),
    ],
    ids=repr,
)
def test_a_judge_that_says_nothing_leaves_the_models_law(monkeypatch, strategy):
    """Ties go to what the search kept. Were they to go to what ended first, short solutions would be favoured."""

    def chosen(_):
        return play(strategy, model=world(ONE), score=lambda _: 0.5, steps=replace(CAP, max_steps=3)).text

    law = all_paths(monkeypatch, chosen)
    assert law == {"".join(steps): pytest.approx(share, rel=1e-9) for steps, share in samples(ONE).items()}


@pytest.mark.parametrize("lookahead", [0, 2])
def test_one_subtree_is_a_beam_with_one_place(lookahead):
    parameters = {"n": 4, "width": 4, "lookahead": lookahead}
    for problem in range(4):
        tree = play(DVTS(**parameters), model=lines_model(), steps=LINES, problem=problem)
        beam = play(
            BeamSearch(**parameters, duplicates="keep"),
            model=lines_model(), steps=LINES, problem=problem,
        )  # fmt: skip
        assert events(tree, Grown) == events(beam, Grown)
        assert events(tree, Selected) == events(beam, Selected)
        assert tree.usage == beam.usage
        texts = Counter(candidate.text for candidate in tree.candidates if not candidate.trajectory.open)
        assert texts == Counter(candidate.text for candidate in beam.candidates)


@pytest.mark.parametrize("lookahead", [0, 1])
def test_subtrees_do_not_notice_each_other(lookahead):
    """More samples add subtrees and change none: the first ones' steps are those of the smaller search."""

    def steps_of(n, problem):
        result = play(DVTS(n=n, width=4, lookahead=lookahead), model=lines_model(), steps=LINES, problem=problem)
        return [candidate.trajectory.generated_ids for candidate in result.candidates[: n // 4]]

    for problem in range(4):
        four = steps_of(16, problem)
        assert len(set(four)) > 1
        assert steps_of(4, problem) == four[:1]
        assert steps_of(8, problem) == four[:2]


# -- optima ------------------------------------------------------------------------------------------------------------


def reward(steps):
    return by_hash("\n".join(step.strip() for step in steps))


def foresight(text):
    """The best reward that can be had from here."""
    begun = text.split("\n")
    return max(reward(steps) for steps in samples(FOUR) if [step.strip() for step in steps][: len(begun)] == begun)


@pytest.mark.parametrize(
    "strategy",
    [
        BeamSearch(n=64, width=64, score="value"),
        BeamSearch(n=64, width=32, score="value", finished="compete"),
        DVTS(n=64, width=64, score="value"),
    ],
    ids=repr,
)
def test_wide_enough_and_with_a_perfect_judge_the_optimum_is_found(strategy):
    result = play(strategy, score=foresight, steps=replace(CAP, max_steps=3))
    best = max(samples(FOUR), key=reward)
    assert len(best) > 1
    assert result.text == "".join(best)


def test_guided_by_its_own_likelihood_it_is_beam_search_as_of_old():
    """It finds the likeliest solution, which greedy decoding misses."""
    shares = {"a\n": 0.5, "#1": 0.35, "#2": 0.15}
    parameters = {"model": world(shares), "steps": replace(CAP, max_steps=3)}
    found = play(BeamSearch(n=64, width=16, score="logprob"), **parameters).text
    greedy = play(BeamSearch(n=1, width=1, score="logprob"), temperature=0.0, **parameters).text
    known = samples(shares)
    assert found == "".join(max(known, key=known.get)) != greedy


# -- accounts ----------------------------------------------------------------------------------------------------------

SEARCHES = [
    BeamSearch(n=8, width=2, finished="extra"),
    BeamSearch(n=8, width=4, lookahead=1),
    BeamSearch(n=8, width=2, finished="compete", duplicates="keep"),
    BeamSearch(n=8, width=1, score="prm_min", choose="vote"),
    DVTS(n=8, width=2, score="prm_product"),
    DVTS(n=8, width=4, lookahead=2),
]


@pytest.mark.parametrize("strategy", SEARCHES, ids=repr)
def test_selections_add_up_and_nothing_is_written_behind_an_end(strategy):
    for problem in range(3):
        result = play(strategy, model=lines_model(), steps=LINES, problem=problem, max_tokens=32)
        grown = {event.node: event for event in events(result, Grown)}
        assert sum(event.tokens for event in grown.values()) == result.usage.decoded_tokens
        assert not any(grown[event.parent].finished for event in grown.values() if event.parent)
        children = Counter(event.parent for event in grown.values())
        places = strategy.n // strategy.width
        for event in events(result, Selected):
            assert event.kept.keys() <= set(event.among)
            assert not any(grown[node].finished for node in event.kept)
            assert event.kept_tokens <= event.held_tokens
            assert len(event.kept) <= places
            if isinstance(strategy, DVTS):
                assert set(event.kept.values()) <= {strategy.width}
            else:
                assert max(event.kept.values(), default=0) - min(event.kept.values(), default=0) <= 1
                assert sum(event.kept.values()) in (
                    {strategy.n, 0} if strategy.finished == "extra" else range(strategy.n + 1)
                )
            if not strategy.lookahead:
                assert event.kept == {node: children[node] for node in event.among if children[node]}
        assert children[0] == strategy.n
        assert len(grown) <= strategy.most_steps(LINES.max_steps)
        whole = Counter(c.trajectory.generated_ids for c in result.candidates if not c.trajectory.open)
        if not strategy.lookahead:  # every solution that ended is chosen from, once
            assert whole.total() == sum(event.finished for event in grown.values())


def test_lookahead_costs_what_it_writes_and_is_thrown_away():
    plain = play(DVTS(n=24, width=24), model=lines_model(), steps=LINES)
    ahead = play(DVTS(n=24, width=24, lookahead=1), model=lines_model(), steps=LINES)
    first = next(index for index, event in enumerate(ahead.trace) if isinstance(event, Selected))
    begun, rolled = ahead.trace[:24], ahead.trace[24:first]
    assert list(begun) == events(plain, Grown)[:24]
    assert len(rolled) == len({event.text for event in begun}) < 24  # equal prefixes go on alike, once
    assert ahead.trace[first].among == tuple(range(1, 25))
    later = {event.parent for event in ahead.trace[first:] if isinstance(event, Grown)}
    assert not later & {event.node for event in rolled}
    assert ahead.usage.decoded_tokens == sum(event.tokens for event in events(ahead, Grown))


# -- budgets and bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", SEARCHES, ids=repr)
def test_where_the_budget_ends_it_returns_its_best_so_far(strategy):
    whole = play(strategy, model=lines_model(), steps=LINES, max_tokens=32).usage
    for share in (0.01, 0.5, 0.9):
        for kind in ("decoded", "scored"):
            limit = max(1, int(share * getattr(whole, f"{kind}_tokens")))
            name = {"decoded": "generated"}.get(kind, kind)
            result = play(
                strategy, model=lines_model(), steps=LINES, budget=Budget(**{f"{name}_tokens": limit}), max_tokens=32
            )
            assert getattr(result.usage, f"{kind}_tokens") <= limit
            assert result.stop_reason == "budget"
            assert len(result.candidates) >= (1 if kind == "decoded" or share > 0.01 else 0)


def test_an_open_solution_that_has_an_answer_is_returned_where_the_budget_ends():
    """The world ends every line with an answer and never ends."""
    endless = Table(
        vocabulary=("<end>", "q", "#1", "#2", "\n"),
        eos_token_ids=frozenset({0}),
        laws={(): [0, 0, 0.5, 0.5, 0], (2,): [0, 0, 0, 0, 1], (3,): [0, 0, 0, 0, 1]},
    )
    for strategy in (BeamSearch(n=4, width=2), DVTS(n=4, width=2)):
        for limit in (11, 13, 16, 21):
            result = play(strategy, model=endless, steps=LINES, budget=Budget(generated_tokens=limit))
            assert (result.stop_reason, result.answer in {"1", "2"}) == ("budget", True)
            assert all(candidate.trajectory.steps for candidate in result.candidates)


def test_a_step_that_never_ends_is_ended_by_the_caps():
    result = play(BeamSearch(n=4, width=2), model=RandomModel(end=0.0), steps=Steps(delimiter="heading"), max_tokens=9)
    assert {c.trajectory.finish_reason for c in result.candidates} == {FinishReason.LENGTH}
    assert len(result.candidates) == 4


@pytest.mark.parametrize("strategy", [BeamSearch(n=4, width=2), DVTS(n=4, width=2)], ids=repr)
def test_a_judge_that_fails_midway_is_its_own_error(strategy):
    class Fails(TextJudge):
        async def score_steps(self, solution):
            if len(self.asked) > 6:
                raise EngineError("the judge is gone")
            return await super().score_steps(solution)

    with pytest.raises(EngineError, match="is gone"):
        play(strategy, model=lines_model(), steps=LINES, judge=Fails())


@pytest.mark.parametrize("kind", [BeamSearch, DVTS])
@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"n": 10}, "multiple of width"),
        ({"width": 0}, "at least 1"),
        ({"n": 0}, "at least 1"),
        ({"lookahead": -1}, "lookahead"),
        ({"choose": "first"}, "unknown choice 'first'"),
        ({"score": "prn"}, "did you mean 'prm'"),
    ],
)
def test_wrong_parameters_are_refused_when_they_are_typed(kind, parameters, said):
    with pytest.raises(ConfigError, match=said):
        kind(**parameters)


def test_what_beams_do_is_named():
    with pytest.raises(ConfigError, match="slot, extra, compete"):
        BeamSearch(finished="first")
    with pytest.raises(ConfigError, match="merge, keep"):
        BeamSearch(duplicates="drop")


def test_a_score_that_can_weigh_no_vote_is_refused_before_the_first_token():
    BeamSearch(score="logprob").refuse({})
    with pytest.raises(ConfigError, match="asks no judge"):
        BeamSearch(score="logprob", choose="vote").refuse({})
    with pytest.raises(ConfigError, match="prm"):
        DVTS().refuse({})
