"""The particle filter: exact laws on tiny languages by walking every random path; planted errors that they catch."""

import asyncio
import math
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import permutations, product

import pytest

from decoding.engines import scripted
from decoding.engines.scripted import ScriptedEngine, Table
from decoding.errors import ConfigError, EngineError
from reasoning import resampling
from reasoning.api import execute
from reasoning.budget import Budget
from reasoning.resampling import RESAMPLERS
from reasoning.run import Run
from reasoning.search import weights as weights_module
from reasoning.search.tree import Grown, Node, Selected
from reasoning.search.weights import Evidence, Potential, Resampled, merged, normalised
from reasoning.steps import Steps
from reasoning.strategies import particle_filter
from reasoning.strategies.particle_filter import ParticleFilter
from reasoning.trajectory import Candidate, Step, Trajectory
from tests.judges import TextJudge, lines_model
from tests.walk import all_paths
from tests.worlds import PROMPT, answers_table, settings
from verifiers.judges.types import ScoreKind

END, A, B = 0, 2, 3
BLOCKS = Steps(delimiter="none", max_tokens=1)  # a step is a token
VOCABULARY = ("<end>", "q", "1", "2")

# Two languages whose solutions have 1 to 3 steps, the last one being the end token.
LONG = {
    (): {END: 0.2, A: 0.5, B: 0.3},
    (A,): {END: 0.4, B: 0.6},
    (B,): {END: 0.7, A: 0.3},
    (A, B): {END: 1.0},
    (B, A): {END: 1.0},
}
SHORT = {(): {END: 0.3, A: 0.7}, (A,): {END: 0.6, B: 0.4}, (A, B): {END: 1.0}}
REWARDS = {
    (END,): 0.3,
    (A,): 0.05,
    (B,): 0.9,
    (A, END): 0.6,
    (A, B): 0.2,
    (B, END): 0.1,
    (B, A): 0.5,
    (A, B, END): 0.95,
    (B, A, END): 0.02,
}


class Rewards:
    """A score written down, by the ids of a prefix."""

    name, role, needs = "rewards", "prm", frozenset()

    def __init__(self, table=REWARDS):
        self.table = table

    def refuse(self, judges):
        pass

    async def __call__(self, run, candidate):
        return self.table[candidate.trajectory.generated_ids]

    def tell(self, run, candidates):
        pass


CONSTANT = Rewards(dict.fromkeys(REWARDS, 0.37))


def table(language):
    laws = {(1, *key): [law.get(token, 0.0) for token in range(4)] for key, law in language.items()}
    return Table(vocabulary=VOCABULARY, eos_token_ids=frozenset({END}), laws=laws)


def filter_of(**keywords):
    return ParticleFilter(**{"n": 2, "score": Rewards(), **keywords})


def played(monkeypatch, strategy, language=LONG):
    """Probabilities of (log-evidence, ((solution, weight) of each slot)), over all random paths."""
    model, slots = table(language), []

    def catch(nodes, weights):
        slots.append(tuple((n.trajectory.generated_ids, w) for n, w in zip(nodes, weights, strict=True)))
        return merged(nodes, weights)

    async def play():
        chosen = settings(ScriptedEngine(model), judges={"prm": TextJudge()}, max_tokens=8)
        run = Run(replace(chosen, steps=BLOCKS), "p")
        await strategy(run, PROMPT)
        evidence = [event.log_evidence for event in run.trace if isinstance(event, Evidence)]
        return (evidence or [None])[0], slots.pop()

    with monkeypatch.context() as patches, asyncio.Runner() as runner:
        patches.setattr(particle_filter, "merged", catch)
        patches.setattr(scripted, "REACTION_ROUNDS", 2)
        law = all_paths(patches, lambda walk: runner.run(play()))
    assert sum(law.values()) == pytest.approx(1, abs=1e-12)
    return law


def solutions(language):
    """Each solution's probability."""
    found, open_ = {}, {(): 1.0}
    while open_:
        prefix, share = open_.popitem()
        for token, probability in language[prefix].items():
            (found if token == END else open_)[*prefix, token] = share * probability
    return found


def odds(reward):
    return reward / (1 - reward)


def target(language, weights, temperature=1.0, rewards=REWARDS):
    """p(x) phi(x), from the definition."""
    made = {}
    for x, share in solutions(language).items():
        each = [rewards[x[:length]] for length in range(1, len(x) + 1)]
        phi = {"twist": each[-1], "product": math.prod(each), "odds": math.prod(map(odds, each))}[weights]
        made[x] = share * phi ** (1 / temperature)
    return made


def deviation(law, wanted):
    """How far E[Z-hat sum W_i f(x_i)] is from the target, relative, over f = 1 and all indicators."""
    found = defaultdict(float)
    for (log_evidence, slots), probability in law.items():
        for x, weight in slots:
            found[x] += probability * math.exp(log_evidence) * weight
    assert set(found) <= set(wanted)
    errors = [abs(found[x] / wanted[x] - 1) for x in wanted]
    estimate = sum(probability * math.exp(log_evidence) for (log_evidence, _), probability in law.items())
    return max(*errors, abs(estimate / sum(wanted.values()) - 1))


# -- mode proper: the estimates are unbiased ----------------------------------------------------------------------


@pytest.mark.parametrize("weights", weights_module.WEIGHTS)
@pytest.mark.parametrize("ess", [0.0, 0.8, 2.0])
@pytest.mark.parametrize("how", RESAMPLERS)
def test_the_evidence_and_all_weighted_sums_are_unbiased(monkeypatch, how, ess, weights):
    law = played(monkeypatch, filter_of(resampling=how, ess=ess, weights=weights))
    assert deviation(law, target(LONG, weights)) < 1e-12
    assert len({log for log, _ in law}) > 1  # it does vary


@pytest.mark.parametrize("weights", weights_module.WEIGHTS)
@pytest.mark.parametrize(
    "settings_",
    [
        {"temperature": 0.5},
        {"temperature": 0.5, "start_temperature": 8.0, "anneal_steps": 3},
        {"temperature": 3.0, "start_temperature": 0.2, "anneal_steps": 9},
    ],
)
def test_temperature_and_annealing_leave_them_unbiased(monkeypatch, settings_, weights):
    law = played(monkeypatch, filter_of(ess=0.9, weights=weights, **settings_))
    assert deviation(law, target(LONG, weights, settings_["temperature"])) < 1e-12


@pytest.mark.parametrize(
    ("n", "islands", "language", "how"),
    [(1, 2, LONG, "systematic"), (2, 2, SHORT, "systematic"), (3, 1, SHORT, "residual")],
)
def test_so_do_islands_that_count_by_their_evidence(monkeypatch, n, islands, language, how):
    law = played(monkeypatch, filter_of(n=n, islands=islands, ess=2.0, weights="product", resampling=how), language)
    assert deviation(law, target(language, "product")) < 1e-12


@pytest.mark.parametrize("mode", ["proper", "paper"])
def test_one_particle_is_plain_sampling(monkeypatch, mode):
    law = played(monkeypatch, filter_of(n=1, mode=mode, ess=2.0))
    found = Counter()
    for (_, ((x, weight),)), probability in law.items():
        assert weight == 1
        found[x] += probability
    assert found == pytest.approx(solutions(LONG), abs=1e-12)


@pytest.mark.parametrize("ess", [0.5, 2.0])
def test_a_constant_reward_changes_nothing(monkeypatch, ess):
    law = played(monkeypatch, filter_of(score=CONSTANT, ess=ess))
    assert {round(math.exp(log), 12) for log, _ in law} == {0.37}
    found = Counter()
    for (_, slots), probability in law.items():
        for x, weight in slots:
            found[x] += probability * weight
    assert found == pytest.approx(solutions(LONG), abs=1e-12)
    if ess < 1:  # nothing is ever resampled: the slots are independent
        pairs = product(solutions(LONG).items(), repeat=2)
        assert by_slots(law) == pytest.approx({(x, y): p * q for (x, p), (y, q) in pairs}, abs=1e-12)


def by_slots(law):
    """Probabilities of which solution is in which slot."""
    found = Counter()
    for (_, slots), probability in law.items():
        found[tuple(x for x, _ in slots)] += probability
    return found


@pytest.mark.parametrize("mode", ["proper", "paper"])
def test_slots_are_exchangeable(monkeypatch, mode):
    found = by_slots(played(monkeypatch, filter_of(mode=mode, resampling="multinomial", ess=2.0)))
    for slots, probability in found.items():
        for other in permutations(slots):
            assert found[other] == pytest.approx(probability, abs=1e-12)


def test_at_the_limits_of_temperature_all_or_one_go_on(monkeypatch):
    law = played(monkeypatch, filter_of(temperature=math.inf, ess=2.0))
    assert deviation(law, solutions(LONG)) < 1e-12  # the target is what is sampled from
    assert {log for log, _ in law} == {0.0}
    for mode in ("proper", "paper"):
        cold = filter_of(n=6, mode=mode, temperature=1e-6, ess=2.0, weights="auto", score="prm")
        _, run = solved(cold)
        nodes = scores_by_node(run)
        for event, held in held_before(run, 6):
            top = max(nodes[node] for node in held)
            assert {nodes[held[index]] for index in event.ancestors} == {top}


# -- mode paper ---------------------------------------------------------------------------------------------------


def released(n, finished, language=LONG, rewards=REWARDS):
    """The law of the slots, from the description of the released code alone (search by enumeration)."""
    law = {((),) * n: 1.0}
    ended = Counter()
    for step in range(1, 10):
        stepped = Counter()
        for state, share in law.items():
            options = [[(x, 1.0)] if x[-1:] == (END,) else _extensions(language, x) for x in state]
            for combination in product(*options):
                stepped[tuple(x for x, _ in combination)] += share * math.prod(p for _, p in combination)
        law = Counter()
        for state, share in stepped.items():
            if all(x[-1] == END for x in state):
                ended[state] += share
                continue
            takes = [_parents(state, slot, step, finished, rewards) for slot in range(n)]
            for combination in product(*takes):
                law[tuple(x for x, _ in combination)] += share * math.prod(p for _, p in combination)
        # Who was resampled to finished solutions alone has ended too.
        for state in [state for state in law if all(x[-1] == END for x in state)]:
            ended[state] += law.pop(state)
    assert not law
    return ended


def _extensions(language, prefix):
    return [((*prefix, token), probability) for token, probability in language[prefix].items()]


def _parents(state, slot, step, finished, rewards):
    """Whom a slot may hold after resampling, and how probably."""
    done = [x[-1] == END for x in state]
    if finished == "set_aside" and done[slot]:
        return [(state[slot], 1.0)]
    among = [i for i in range(len(state)) if not (finished == "set_aside" and done[i])]
    weights = [
        1.0 if finished == "frozen" and done[i] and len(state[i]) < step else odds(rewards[state[i]]) for i in among
    ]
    return [(state[i], weight / sum(weights)) for i, weight in zip(among, weights, strict=True)]


def released_deviation(monkeypatch, finished):
    wanted = released(2, finished)
    found = by_slots(played(monkeypatch, filter_of(mode="paper", finished=finished)))
    assert sum(wanted.values()) == pytest.approx(1, abs=1e-12)
    return max(abs(found[slots] - wanted[slots]) for slots in found | wanted)


@pytest.mark.parametrize("finished", ["reweight", "frozen", "set_aside"])
def test_mode_paper_has_the_law_of_the_released_code(monkeypatch, finished):
    assert released_deviation(monkeypatch, finished) < 1e-12


def test_frozen_mode_paper_is_proper_with_the_weights_of_the_code(monkeypatch):
    paper = played(monkeypatch, filter_of(mode="paper", finished="frozen"))
    proper = played(monkeypatch, filter_of(weights="odds", resampling="multinomial", ess=2.0))
    assert by_slots(paper) == pytest.approx(by_slots(proper), abs=1e-12)


def test_many_particles_of_mode_paper_approach_the_law_in_its_docstring(monkeypatch):
    """And not the target: early finishers of high reward own the population."""
    strategy, last = filter_of(n=2000, mode="paper"), 3
    limit = {}
    for x, share in solutions(LONG).items():
        before = math.prod(odds(REWARDS[x[:length]]) for length in range(1, len(x)))
        limit[x] = share * before * odds(REWARDS[x]) ** (last - len(x))
    found = Counter()

    def catch(nodes, weights):
        found.update(node.trajectory.generated_ids for node in nodes)
        return merged(nodes, weights)

    monkeypatch.setattr(particle_filter, "merged", catch)
    solved(strategy, model=table(LONG), steps=BLOCKS, max_tokens=8)
    assert distance(found, limit) < 0.06
    assert distance(found, target(LONG, "twist")) > 0.3
    assert distance(found, target(LONG, "odds")) > 0.3


def distance(one, other):
    """Total variation."""
    a, b = sum(one.values()), sum(other.values())
    return sum(abs(one.get(x, 0) / a - other.get(x, 0) / b) for x in {*one, *other}) / 2


# -- planted errors -----------------------------------------------------------------------------------------------


def keep_weights(monkeypatch):
    real = ParticleFilter._resample

    def mutant(self, run, island, step):
        before, resampled = island.log_weights, len(run.trace)
        real(self, run, island, step)
        if len(run.trace) > resampled:
            island.log_weights = [before[index] for index in run.trace[-1].ancestors]

    monkeypatch.setattr(ParticleFilter, "_resample", mutant)


def reweigh_finished(monkeypatch):
    real = particle_filter._extend

    async def mutant(search, potential, islands):
        for island in islands:
            for slot, node in enumerate(island.nodes):
                island.log_weights[slot] += potential.log_increment(node) if node.finished else 0.0
        await real(search, potential, islands)

    monkeypatch.setattr(particle_filter, "_extend", mutant)


def forget_the_parent(monkeypatch):
    monkeypatch.setattr(Potential, "log_increment", Potential.log_final)


def leave_the_last_term_out(monkeypatch):
    monkeypatch.setattr(particle_filter.Island, "total", property(lambda island: island.log_evidence))


def average_the_logarithms(monkeypatch):
    monkeypatch.setattr(particle_filter, "log_mean", lambda logs: math.fsum(logs) / len(logs))


def resample_the_unfinished_only(monkeypatch):
    def mutant(self, run, island, step):
        slots = [slot for slot, node in enumerate(island.nodes) if not node.finished]
        island.log_evidence = island.total
        weights = normalised([island.log_weights[slot] for slot in slots])
        drawn = resampling.resample("multinomial", weights, run.rng("resample", step, island.number))
        old = list(island.nodes)
        for slot, index in zip(slots, drawn, strict=True):
            island.nodes[slot] = old[slots[index]]
        island.log_weights = [0.0] * self.n

    monkeypatch.setattr(ParticleFilter, "_resample", mutant)


def end_at_the_starting_temperature(monkeypatch):
    monkeypatch.setattr(Potential, "tau", lambda self, node: self.tau_at(node.depth))


PROPER_MUTANTS = [
    keep_weights,
    reweigh_finished,
    forget_the_parent,
    leave_the_last_term_out,
    average_the_logarithms,
    resample_the_unfinished_only,
    end_at_the_starting_temperature,
]


@pytest.mark.parametrize("plant", PROPER_MUTANTS)
def test_the_law_of_mode_proper_catches(monkeypatch, plant):
    strategy = filter_of(ess=2.0, start_temperature=2.0, anneal_steps=4)
    assert deviation(played(monkeypatch, strategy), target(LONG, "twist")) < 1e-9
    plant(monkeypatch)
    assert deviation(played(monkeypatch, strategy), target(LONG, "twist")) > 1e-3


def freeze(monkeypatch):
    real = ParticleFilter._log_theta
    monkeypatch.setattr(
        ParticleFilter,
        "_log_theta",
        lambda self, potential, node, step: 0.0 if node.finished else real(self, potential, node, step),
    )


def remember(monkeypatch):
    monkeypatch.setattr(ParticleFilter, "_log_theta", lambda self, potential, node, step: potential.log_final(node))


def weigh_by_probability(monkeypatch):
    monkeypatch.setattr(particle_filter.Potential, "log_reward", lambda self, node: math.log(node.score))


@pytest.mark.parametrize("plant", [freeze, remember, weigh_by_probability])
def test_the_law_of_mode_paper_catches(monkeypatch, plant):
    plant(monkeypatch)
    assert released_deviation(monkeypatch, "reweight") > 1e-3


def trigger_errors(ess):
    """How often particles were resampled after the first step, and how often that was wrong, in 40 runs."""
    resampled = errors = 0
    for number in range(40):
        _, run = solved(filter_of(n=4, ess=ess), model=table(LONG), steps=BLOCKS, problem=f"p{number}", max_tokens=8)
        first = [event for event in run.trace if isinstance(event, Grown)][:4]
        scores = [event.score for event in first]
        size = sum(scores) ** 2 / sum(score**2 for score in scores)
        done = [event for event in run.trace if isinstance(event, Resampled) and event.step == 1]
        wanted = size < ess * 4 and not all(event.finished for event in first)
        resampled += bool(done)
        errors += wanted != bool(done) or any(abs(event.ess - size) > 1e-9 for event in done)
    return resampled, errors


def test_particles_are_resampled_where_their_weights_are_unequal_by_their_shares(monkeypatch):
    resampled, errors = trigger_errors(0.7)
    assert 0 < resampled < 40
    assert errors == 0
    monkeypatch.setattr(particle_filter, "normalised", lambda logs: [math.exp(log) for log in logs])
    monkeypatch.setattr(resampling, "effective_sample_size", lambda weights: 1 / sum(w * w for w in weights))
    assert trigger_errors(0.7)[1] > 0  # the size of weights that aren't normalised


# -- votes, traces, events ----------------------------------------------------------------------------------------


def solved(strategy, *, model=None, steps=None, judge=None, problem="p", **keywords):
    async def work():
        chosen = settings(ScriptedEngine(model or lines_model()), judges={"prm": judge or TextJudge()}, **keywords)
        run = Run(replace(chosen, steps=steps or Steps(delimiter="line")), problem)
        return await execute(strategy, run, PROMPT), run

    return asyncio.run(work())


def scores_by_node(run):
    return {event.node: event.score for event in run.trace if isinstance(event, Grown)}


def held_before(run, n):
    """Each resampling with the nodes that the slots held; of one island."""
    held, grown, finished = [0] * n, {}, {0: False}
    for event in run.trace:
        if isinstance(event, Grown):
            grown.setdefault(event.parent, []).append(event.node)
            finished[event.node] = event.finished
        if isinstance(event, Resampled):
            held = [node if finished[node] else grown[node].pop(0) for node in held]
            yield event, held
            held = [held[index] for index in event.ancestors]


def copies_that_vote(strategy):
    """Candidates that are the same node as another one."""
    result, run = solved(strategy)
    assert any(len(set(event.ancestors)) < 12 for event in run.trace if isinstance(event, Resampled))
    finished = sum(event.finished for event in run.trace if isinstance(event, Grown))
    return max(0, len(result.candidates) - finished)


@pytest.mark.parametrize("choose", ["vote", "best", "majority", "sample"])
@pytest.mark.parametrize("mode", ["proper", "paper"])
def test_a_copy_adds_weight_and_is_no_candidate(monkeypatch, mode, choose):
    strategy = ParticleFilter(n=12, mode=mode, ess=2.0, temperature=0.1, choose=choose)
    assert copies_that_vote(strategy) == 0
    monkeypatch.setattr(particle_filter, "merged", lambda nodes, weights: (list(nodes), list(weights)))
    assert copies_that_vote(strategy) > 0


def test_the_last_reward_decides_in_mode_paper_and_weight_in_mode_proper():
    result, _ = solved(ParticleFilter(n=12, mode="paper"))
    assert result.candidates[result.chosen].score == max(c.score for c in result.candidates if c.answer is not None)
    nodes = [node(1, None, 0.5), node(2, None, 0.2)]
    found, sums = merged([nodes[1], nodes[0], nodes[1]], [0.3, 0.5, 0.2])
    assert found == [nodes[1], nodes[0]]
    assert sums == [0.5, 0.5]


@pytest.mark.parametrize("mode", ["proper", "paper"])
def test_finished_particles_get_no_tokens_and_no_second_judgement(mode):
    judge = TextJudge()
    _, run = solved(ParticleFilter(n=24, mode=mode, ess=2.0), judge=judge)
    grown = [event for event in run.trace if isinstance(event, Grown)]
    ended = {event.node for event in grown if event.finished}
    assert ended
    assert not ended & {event.parent for event in grown}
    assert len(judge.asked) == len(set(judge.asked))
    for event in run.trace:
        if isinstance(event, Selected):
            assert not ended & {*event.among, *event.kept}
            assert set(event.kept) <= set(event.among)


def test_every_round_is_recorded():
    _, run = solved(ParticleFilter(n=8, islands=2, ess=2.0))
    events = [event for event in run.trace if isinstance(event, Selected)]
    resampled = [event for event in run.trace if isinstance(event, Resampled)]
    assert {event.island for event in resampled} == {0, 1}
    assert {event.step for event in resampled} <= set(range(1, len(events) + 1))
    assert all(event.kept_tokens <= event.held_tokens for event in events)
    (evidence,) = [event for event in run.trace if isinstance(event, Evidence)]
    assert math.exp(evidence.log_evidence) == pytest.approx(sum(map(math.exp, evidence.islands)) / 2)
    _, run = solved(ParticleFilter(n=8, ess=0.0))
    assert not any(isinstance(event, Resampled) for event in run.trace)
    assert any(isinstance(event, Selected) for event in run.trace)


# -- potentials ---------------------------------------------------------------------------------------------------


def node(number, parent, score, *, finished=False):
    written = Step(token_ids=(2,), logprob=None, finish_reason="stop", open=not finished)
    before = parent.trajectory if parent else Trajectory(prompt=PROMPT)
    trajectory = before.extend(written) if number else before
    candidate = Candidate(slot=number, trajectory=trajectory, text="", answer=None, score=score)
    return Node(id=number, parent=parent, candidate=candidate, finished=finished)


def chain(*scores):
    nodes = [node(0, None, None)]
    for number, score in enumerate(scores, start=1):
        nodes.append(node(number, nodes[-1], score, finished=number == len(scores)))
    return nodes


@pytest.mark.parametrize("weights", weights_module.WEIGHTS)
def test_increments_multiply_to_the_potential_of_the_whole(weights):
    root, *nodes = chain(0.2, 0.9, 1.0, 0.4)
    for anneal_steps in (1, 3, 9):
        potential = Potential(
            weights=weights,
            kind=ScoreKind.PROBABILITY,
            temperature=0.5,
            start_temperature=4.0,
            anneal_steps=anneal_steps,
        )
        assert potential.log_increment(root) == potential.log_final(root) == 0
        total = math.fsum(potential.log_increment(each) for each in nodes)
        assert total == pytest.approx(potential.log_final(nodes[-1]), abs=1e-12)
        shares = [0.2, 0.9, 1 - 1e-7, 0.4]
        phi = {"twist": 0.4, "product": math.prod(shares), "odds": math.prod(map(odds, shares))}[weights]
        assert total == pytest.approx(2 * math.log(phi), abs=1e-9)
    assert [potential.tau_at(step) for step in (9, 10)] == [0.5, 0.5]
    assert potential.tau_at(3) == pytest.approx(4 - 3.5 / 3)


def test_a_score_is_read_by_its_kind():
    value, certain = chain(-0.2), chain(-1.0)
    assert Potential(weights="twist", kind=ScoreKind.VALUE).log_final(value[1]) == pytest.approx(math.log(0.4))
    assert Potential(weights="twist", kind=ScoreKind.VALUE).log_final(certain[1]) == pytest.approx(math.log(1e-7))
    assert Potential(weights="odds", kind=ScoreKind.LOGIT).log_final(value[1]) == pytest.approx(-0.2)


# -- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["proper", "paper"])
@pytest.mark.parametrize("score", [0.0, 1.0, -math.inf])
def test_a_judge_that_is_certain_of_all_ends_nothing(mode, score):
    """Rewards are clipped, so nothing ever dies: the filter goes on as with any constant reward."""
    result, _ = solved(ParticleFilter(n=8, mode=mode, choose="vote"), judge=TextJudge(lambda text: score))
    assert result.stop_reason == "done"
    assert result.answer is not None


@pytest.mark.parametrize("steps", [Steps(delimiter="line", max_tokens=4), Steps(delimiter="line", max_steps=3)])
def test_a_step_that_never_ends_does(steps):
    babble = answers_table({"1": 1.0}, babble=1.0)
    result, _ = solved(ParticleFilter(n=4, ess=2.0), model=babble, steps=steps, max_tokens=20)
    assert (result.stop_reason, result.answer) == ("done", None)
    assert all(len(candidate.trajectory.generated_ids) == 20 for candidate in result.candidates)


@pytest.mark.parametrize("islands", [1, 2])
@pytest.mark.parametrize("mode", ["proper", "paper"])
@pytest.mark.parametrize(
    "budget", [Budget(generated_tokens=1), Budget(generated_tokens=30), Budget(samples=2), Budget(scored_tokens=40)]
)
def test_a_budget_ends_it_with_the_best_so_far(mode, islands, budget):
    result, run = solved(ParticleFilter(n=8, mode=mode, islands=islands), budget=budget)
    assert result.stop_reason == "budget"
    assert run.usage.decoded_tokens <= (budget.generated_tokens or math.inf)
    assert run.usage.scored_tokens <= (budget.scored_tokens or math.inf)
    assert run.samples <= (budget.samples or math.inf)
    assert 1 <= len(result.candidates) <= run.samples
    assert (result.chosen is None) == all(candidate.answer is None for candidate in result.candidates)
    assert not any(isinstance(event, Evidence) for event in run.trace)  # of a filter that was cut there is no estimate


def test_a_budget_that_has_no_room_for_a_first_step():
    result, _ = solved(ParticleFilter(n=2), budget=Budget(seconds=1e-9))
    assert (result.candidates, result.chosen, result.stop_reason) == ((), None, "budget")


def test_a_judge_that_fails_midway_is_an_error_and_the_trace_is_intact():
    class Failing(TextJudge):
        async def score_steps(self, solution):
            if len(solution.steps) == 3:
                raise EngineError("the judge has gone")
            return await super().score_steps(solution)

    async def work():
        chosen = settings(ScriptedEngine(lines_model()), judges={"prm": Failing()})
        run = Run(replace(chosen, steps=Steps(delimiter="line")), "p")
        with pytest.raises(EngineError, match="has gone"):
            await ParticleFilter(n=8, ess=2.0)(run, PROMPT)
        return run

    run = asyncio.run(work())
    grown = [event for event in run.trace if isinstance(event, Grown)]
    assert [event.node for event in grown] == list(range(1, len(grown) + 1))
    assert [event.step for event in run.trace if isinstance(event, Resampled)] == [1, 2]


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"mode": "Proper"}, "unknown mode"),
        ({"weights": "log"}, "unknown weights"),
        ({"mode": "paper", "weights": "twist"}, "weights is odds"),
        ({"finished": "reweight"}, "finished is frozen"),
        ({"mode": "paper", "finished": "gone"}, "unknown finished"),
        ({"resampling": "roulette"}, "unknown resampling"),
        ({"choose": "first"}, "unknown choice"),
        ({"score": "prn"}, "unknown score"),
        ({"n": 0}, "n must be"),
        ({"islands": 0}, "islands must be"),
        ({"anneal_steps": 0}, "no annealing"),
        ({"temperature": 0.0}, "temperature must be"),
        ({"start_temperature": math.nan}, "start_temperature must be"),
        ({"ess": -0.1}, "ess must be"),
    ],
)
def test_what_is_wrong_is_said(keywords, said):
    with pytest.raises(ConfigError, match=said):
        ParticleFilter(**keywords)


def test_a_score_that_is_no_judges_is_refused_before_the_first_token():
    with pytest.raises(ConfigError, match="asks no judge"):
        ParticleFilter(score="logprob").refuse({"prm": TextJudge()})
    with pytest.raises(ConfigError, match="no judge of the role"):
        ParticleFilter().refuse({})
    ParticleFilter().refuse({"prm": TextJudge()})
