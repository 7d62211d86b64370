"""Monte-Carlo tree search: its law on a tiny world, counts and means from the trace, the best that can be found."""

import asyncio
import copy
import itertools
import math
from collections import defaultdict
from dataclasses import replace

import pytest

import reasoning.search.puct as healthy_puct
import reasoning.strategies.mcts as healthy
from decoding.engines.scripted import ScriptedEngine, Table
from decoding.errors import CapabilityError, ConfigError
from decoding.types import FinishReason
from reasoning.api import execute
from reasoning.budget import Budget
from reasoning.run import Run
from reasoning.scores import score_by_name
from reasoning.search.puct import branches, most_valued, prior, value_of
from reasoning.search.search import Search
from reasoning.search.tree import Grown, Selected
from reasoning.steps import Steps
from reasoning.strategies.mcts import MCTS, BackedUp
from reasoning.trajectory import Step
from tests.judges import TextJudge, lines_model
from tests.mutants import deviation, planted
from tests.walk import all_paths
from tests.worlds import PROMPT, RandomModel, settings
from verifiers.judges.types import ScoreKind

LINES = Steps(delimiter="line")


def run_over(model, *, judge=None, score=None, **keywords):
    judge = judge or TextJudge(**({"score": score, "kind": ScoreKind.VALUE} if score else {}))
    chosen = settings(ScriptedEngine(model), judges={"value": judge}, **keywords)
    return Run(replace(chosen, steps=LINES), "p")


def solve(strategy, model, **keywords):
    async def work():
        return await execute(strategy, run_over(model, **keywords), PROMPT)

    return asyncio.run(work())


def explore(strategy, model, **keywords):
    """The tree, its search and its run."""

    async def work():
        run = run_over(model, **keywords)
        search = Search(run, PROMPT, strategy.scoring, logprobs=True)
        return await strategy.explore(run, search), search, run

    return asyncio.run(work())


# -- the law ----------------------------------------------------------------------------------------------------------

TINY = Table(
    vocabulary=("<end>", "q", "a\n", "b", "\n", "#1", "x"),
    eos_token_ids=frozenset({0}),
    laws={
        (): [0, 0, 0.5, 0.3, 0, 0.2, 0],
        (2,): [0, 0, 0, 0.6, 0, 0.4, 0],  # a, then b or the answer
        (3,): [0, 0, 0, 0, 1.0, 0, 0],
        (4,): [0, 0, 0, 0, 0, 0.9, 0.1],  # b, then the answer or none
        **{(token,): [1.0] + [0] * 6 for token in (5, 6)},
    },
)
STEPS = {"": {"a\n": 0.5, "b\n": 0.3, "#1": 0.2}, "a\n": {"b\n": 0.6, "#1": 0.4}, "b\n": {"#1": 0.9, "x": 0.1}}
VALUES = {"a": 0.4, "b": 0.35, "#1": 0.05, "a\nb": 0.2, "a\n#1": -0.3, "b\n#1": 0.6, "a\nb\n#1": 0.7}
VALUES |= {"b\nx": 0.5, "a\nb\nx": 0.5}  # no answer: it does not count what the judge says


class ByHand:
    """The search written down a second time: over whole steps, with lists by number of the node."""

    def __init__(self):
        self.texts, self.parents, self.priors, self.values = [""], [None], [1.0], [[]]

    def below(self, node):
        return [child for child, parent in enumerate(self.parents) if parent == node]

    def ended(self, node):
        return node > 0 and not self.texts[node].endswith("\n")

    def over(self, node):
        below = self.below(node)
        return self.ended(node) or (bool(below) and all(map(self.over, below)))

    def mean(self, node):
        return sum(self.values[node]) / len(self.values[node]) if self.values[node] else 0.0

    def bound(self, node, c):
        up = math.sqrt(len(self.values[self.parents[node]]))
        return self.mean(node) + c * self.priors[node] * up / (1 + len(self.values[node]))

    def leaf(self, c):
        node = 0
        while below := [child for child in self.below(node) if not self.over(child)]:
            node = max(below, key=lambda child: (self.bound(child, c), -child))
        return node

    def learn(self, node, value):
        while node is not None:
            self.values[node].append(value)
            node = self.parents[node]

    def grow(self, leaf, drawn):
        self.learn(leaf, VALUES[self.texts[leaf].strip()] if leaf else 0.0)
        for step, share in drawn:
            self.texts.append(self.texts[leaf] + step)
            self.parents.append(leaf)
            self.values.append([])
            self.priors.append(share if step == "a\n" else math.sqrt(share))  # the others are two tokens
        for node in range(len(self.texts) - len(drawn), len(self.texts)):
            if self.ended(node):
                self.learn(node, VALUES[self.texts[node]] if self.texts[node].endswith("#1") else -1.0)

    def chosen(self, node=0):
        holding = [child for child in self.below(node) if self.chosen(child)]
        if not holding:
            return self.texts[node] if self.texts[node].endswith("#1") else None
        return self.chosen(max(holding, key=lambda child: (self.mean(child), -child)))


def by_hand(simulations, children, c, unique):
    """Outcomes and their probabilities."""
    outcomes = defaultdict(float)

    def simulate(tree, done, probability):
        if done == simulations or tree.over(0):
            nodes = range(len(tree.texts))
            counts = tuple(len(tree.values[node]) for node in nodes)
            means = tuple(round(tree.mean(node), 9) for node in nodes)
            outcomes[counts, means, tree.chosen()] += probability
            return
        leaf = tree.leaf(c)
        last = tree.texts[leaf][tree.texts[leaf].rfind("\n", 0, -1) + 1 :]
        for drawn in itertools.product(STEPS[last].items(), repeat=children):
            grown = copy.deepcopy(tree)
            grown.grow(leaf, list(dict.fromkeys(drawn)) if unique == "steps" else drawn)
            simulate(grown, done + 1, probability * math.prod(share for _, share in drawn))

    simulate(ByHand(), 0, 1.0)
    return dict(outcomes)


def law_deviates(monkeypatch, module, simulations, children, c, seeing, unique="steps"):
    strategy = module.MCTS(simulations=simulations, children=children, c_puct=c, unique=unique)

    def play(walk):
        async def work():
            run = run_over(TINY, score=VALUES.__getitem__)
            search = Search(run, PROMPT, strategy.scoring, logprobs=True)
            root = await strategy.explore(run, search)
            found = seeing(root)
            chosen = (await strategy._conclude(run, search, root)).text
            return tuple(b.visits for b in found), tuple(round(b.q, 9) for b in found), chosen

        return asyncio.run(work())

    monkeypatch.setattr("decoding.engines.scripted.REACTION_ROUNDS", 4)
    return deviation(all_paths(monkeypatch, play), by_hand(simulations, children, c, unique))


@pytest.mark.parametrize("sizes", [(3, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize(("c", "unique"), [(0.8, "steps"), (1.0, "none")])
def test_its_outcomes_have_the_law_that_is_written_down(sizes, c, unique, monkeypatch):
    assert law_deviates(monkeypatch, healthy, *sizes, c, branches, unique) < 1e-9


PLANTED = {
    "only the leaf learns": ("for each in branch.path():", "for each in [branch]:"),
    "signs alternate as between two players": ("each.total += value", "each.total += value; value = -value"),
    "values are discounted": ("each.total += value", "each.total += value; value = 0.9 * value"),
    "counts one too many": ("visits: int = 0", "visits: int = 1"),
    "divides by N": ("(1 + branch.visits + branch.pending)", "max(1, branch.visits + branch.pending)"),
    "the root of the own count": ("math.sqrt(tried)", "math.sqrt(branch.visits)"),
    "no root": ("math.sqrt(tried)", "tried"),
    "the prior is the product": ("step.logprob / max(1, len(step.token_ids) - step.given)", "step.logprob"),
    "no prior": ("c * branch.prior *", "c *"),
    "the unvisited have the value -1": ("/ count if count else 0.0", "/ count if count else -1.0"),
    "by the visits at the end": ("key=lambda child: (child.q, -child.node.id)", "key=lambda child: child.visits"),
    "of equals the younger": ("(puct(child, c), -child.node.id)", "(puct(child, c), child.node.id)"),
}
PLANTED_ABOVE = {
    "solutions that ended teach nothing": ("for child in children if child.node.finished", "for child in []"),
    "no answer is as good as its value": ("if node.finished and node.candidate.answer is None", "if False"),
    "copies are children of their own": ("unique_siblings(nodes, self.unique)", "nodes"),
    "the leaf's own value is forgotten": ("in (leaf, *(", "in (*leaf.children[:0], *("),
}


EXPLORING = {"divides by N": 1.25, "no root": 1.0}  # where the error changes a choice in three simulations


@pytest.mark.parametrize("what", [*PLANTED, *PLANTED_ABOVE])
def test_errors_that_are_planted_are_caught(what, monkeypatch):
    puct = planted(monkeypatch, healthy_puct, *([PLANTED[what]] if what in PLANTED else []))
    strategy = planted(monkeypatch, healthy, *([PLANTED_ABOVE[what]] if what in PLANTED_ABOVE else []))
    c = EXPLORING.get(what, 0.8)
    unique = "steps" if what.startswith("copies") else "none"
    assert law_deviates(monkeypatch, strategy, 3, 2, c, puct.branches, unique) > 1e-3


def test_a_solution_that_ended_is_never_expanded(monkeypatch):
    open_ = ("closed = branch.node.finished or", "closed = False or"), (", closed=node.finished)", ")")
    puct = planted(monkeypatch, healthy_puct, *open_)
    strategy = planted(monkeypatch, healthy)
    with pytest.raises(AssertionError, match="gets no tokens"):
        law_deviates(monkeypatch, strategy, 3, 2, 0.8, puct.branches)


# -- what the trace holds ---------------------------------------------------------------------------------------------


def learnt(trace):
    """Values that were backed up through each node, computed from the trace alone."""
    parents = {event.node: event.parent for event in trace if isinstance(event, Grown)}
    values = defaultdict(list)
    for event in trace:
        if isinstance(event, BackedUp):
            node = event.node
            while node is not None:
                values[node].append(event.value)
                node = parents.get(node)
    return values, parents


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_counts_add_up_and_q_is_the_mean_of_what_was_backed_up(seed, parallel):
    strategy = MCTS(simulations=25, children=3, parallel=parallel, unique="none")
    root, _, run = explore(strategy, RandomModel(), seed=seed, max_tokens=30)
    found = branches(root)
    values, parents = learnt(run.trace)
    for branch in found:
        below = [values[node] for node, parent in parents.items() if parent == branch.node.id]
        assert branch.visits == len(values[branch.node.id])
        assert branch.pending == 0
        assert branch.q == pytest.approx(math.fsum(values[branch.node.id]) / max(1, branch.visits), abs=1e-12)
        if branch.children:  # expanded once, and then each visit went on to a child
            assert branch.visits == 1 + sum(map(len, below))
        else:
            assert branch.visits == int(branch.node.finished)
    expanded = sum(bool(branch.children) for branch in found)
    assert expanded == 25 or root.closed
    assert root.visits == expanded + sum(branch.node.finished for branch in found)
    assert len(found) == 1 + 3 * expanded
    grown = [event for event in run.trace if isinstance(event, Grown)]
    assert not {event.parent for event in grown} & {event.node for event in grown if event.finished}
    assert sum(event.tokens for event in grown) == run.usage.generated_tokens


def test_leaves_side_by_side_are_different_and_one_by_one_is_the_usual_search():
    for seed in range(3):
        _, _, run = explore(MCTS(simulations=24, children=3, parallel=4), lines_model(), seed=seed)
        selections = [event for event in run.trace if isinstance(event, Selected)]
        assert max(len(event.kept) for event in selections) > 1
        assert all(count == 3 for event in selections for count in event.kept.values())
        assert all(set(event.kept) <= set(event.among) for event in selections)


# -- what it finds ----------------------------------------------------------------------------------------------------


def digits(depth=3):
    """A tree of binary steps; each leaf is an answer."""
    laws = {(): [0, 0, 0.5, 0.5, 0], (4,): [1.0, 0, 0, 0, 0]}
    laws |= {path: [0, 0, 0, 0, 1.0] for path in itertools.product((2, 3), repeat=depth)}
    return Table(vocabulary=("<end>", "q", "1\n", "2\n", "#1"), eos_token_ids=frozenset({0}), laws=laws)


LEAVES = {"".join(f"{d}\n" for d in path) + "#1": rank for rank, path in enumerate(itertools.product("12", repeat=3))}


def perfect(text):
    """The best leaf below."""
    return max(rank for leaf, rank in LEAVES.items() if leaf.startswith(text)) / 8


@pytest.mark.parametrize("choose", ["best", "vote"])
def test_with_exact_values_it_finds_the_best_leaf(choose):
    for seed in range(3):
        found = solve(MCTS(simulations=40, children=4, c_puct=0.3, choose=choose), digits(), score=perfect, seed=seed)
        texts = {candidate.text for candidate in found.candidates}
        assert "2\n2\n2\n#1" in texts
        if choose == "best":
            assert found.text == "2\n2\n2\n#1"


def test_simulations_that_come_to_no_end_still_give_a_solution():
    """On solutions of nine steps, 16 simulations had spread over the first ones and ended without an answer."""
    model = digits(9)
    tree, _, _ = explore(MCTS(simulations=3, children=2), model)
    assert not any(branch.node.finished for branch in branches(tree))
    result = solve(MCTS(simulations=3, children=2), model)
    (candidate,) = result.candidates
    assert (result.chosen, candidate.answer is not None, result.stop_reason) == (0, True, "done")
    grown = [event for event in result.trace if isinstance(event, Grown)]
    assert len(grown) == 3 * 2 + 10 - most_valued(tree).node.depth  # nine lines and the answer


def test_without_exploration_it_goes_where_q_is_highest():
    _, _, run = explore(MCTS(simulations=20, children=3, c_puct=1e-12), RandomModel(), seed=1, max_tokens=30)
    values, parents, closed = defaultdict(list), {}, set()
    for event in run.trace:
        if isinstance(event, Grown):
            parents[event.node] = event.parent
            closed |= {event.node} if event.finished else set()
        elif isinstance(event, BackedUp):
            node = event.node
            while node is not None:
                values[node].append(event.value)
                node = parents.get(node)
        elif isinstance(event, Selected):
            (leaf,), node = event.kept, 0
            for other in sorted(set(parents.values()), reverse=True):  # nothing is left below
                if all(child in closed for child in parents if parents[child] == other):
                    closed.add(other)
            while below := [child for child in parents if parents[child] == node and child not in closed]:
                means = {child: math.fsum(values[child]) / max(1, len(values[child])) for child in below}
                best = max(means.values())
                node = next(each for each in (leaf, *path_above(leaf, parents)) if parents.get(each) == node)
                assert means[node] == pytest.approx(best, abs=1e-9)
            assert node == leaf


def path_above(node, parents):
    while (node := parents.get(node)) is not None:
        yield node


def test_the_same_seed_gives_the_same_tree_and_another_seed_another():
    one, two, other = (
        explore(MCTS(simulations=8), lines_model(), seed=seed, judge=TextJudge(seed=delay))[2].trace
        for seed, delay in ((1, 1), (1, 2), (2, 1))
    )
    assert one == two != other


@pytest.mark.parametrize("choose", ["best", "vote"])
@pytest.mark.parametrize("limit", [1, 5, 20, 60, 150])
def test_a_budget_gives_the_best_so_far(limit, choose):
    found = solve(MCTS(simulations=12, choose=choose), lines_model(), budget=Budget(generated_tokens=limit))
    assert found.usage.decoded_tokens <= limit
    if found.stop_reason == "budget":
        assert found.candidates
        assert (found.answer is None) == all(candidate.answer is None for candidate in found.candidates)
    scored = solve(MCTS(simulations=12, choose=choose), lines_model(), budget=Budget(scored_tokens=limit))
    assert scored.usage.scored_tokens <= limit


def test_it_ends_when_nothing_is_left_to_expand():
    short = Table(
        vocabulary=("<end>", "q", "#1"), eos_token_ids=frozenset({0}), laws={(): [0, 0, 1.0], (2,): [1.0, 0, 0]}
    )
    found = solve(MCTS(simulations=40, children=4), short)
    assert (found.answer, found.stop_reason, len(found.candidates)) == ("1", "done", 1)


# -- what it is made of -----------------------------------------------------------------------------------------------


def test_a_prior_is_the_geometric_mean_over_the_tokens_that_were_drawn():
    step = Step(token_ids=(3, 4, 5, 6), logprob=math.log(0.5 * 0.02), finish_reason=FinishReason.STOP, given=2)
    assert prior(step) == pytest.approx(math.sqrt(0.01))
    with pytest.raises(CapabilityError, match="logprobs"):
        prior(replace(step, logprob=None))


@pytest.mark.parametrize(
    ("kind", "number", "value"),
    [
        (ScoreKind.VALUE, -0.4, -0.4),
        (ScoreKind.PROBABILITY, 0.0, -1.0),
        (ScoreKind.PROBABILITY, 0.75, 0.5),
        (ScoreKind.LOGIT, 0.0, 0.0),
        (ScoreKind.LOGIT, math.log(3), 0.5),
        (ScoreKind.LOG_RATIO, -1e9, -1.0),
    ],
)
def test_scores_become_values(kind, number, value):
    judges = {"value": TextJudge(kind=kind)}
    assert value_of(number, score_by_name("value"), judges) == pytest.approx(value, abs=1e-6)


def test_what_is_no_value_is_refused():
    with pytest.raises(ConfigError, match="take a judge"):
        MCTS(score="logprob").refuse({})
    with pytest.raises(ConfigError, match="pass value=NAME"):
        MCTS().refuse({})
    with pytest.raises(ConfigError, match=r"lie in \[-1, 1\]"):
        value_of(1.5, score_by_name("value"), {"value": TextJudge(kind=ScoreKind.VALUE)})
    for wrong in (
        {"choose": "majority"},
        {"unique": "all"},
        {"simulations": 0},
        {"children": 0},
        {"parallel": -1},
        {"c_puct": -1.0},
        {"c_puct": float("nan")},
        {"score": "valeu"},
    ):
        with pytest.raises(ConfigError):
            MCTS(**wrong)
