"""Particle Gibbs: each sweep leaves its target invariant, exactly; what breaks that is found."""

import asyncio
import math
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest

from decoding.engines.scripted import ScriptedEngine, Table
from decoding.errors import ConfigError, EngineError
from decoding.seeds import SeededRng
from reasoning import resampling
from reasoning.budget import Budget
from reasoning.run import Run
from reasoning.search import conditional
from reasoning.search.conditional import Retained, Sweep, averaged, resample_around_last
from reasoning.search.tree import Grown, Selected
from reasoning.search.weights import Potential, Resampled
from reasoning.steps import Steps
from reasoning.strategies import particle_gibbs
from reasoning.strategies.particle_gibbs import ParticleGibbs
from tests.judges import TextJudge, lines_model
from tests.sweeps import LONG, SHORT, Language, distance, kernel, moved, reward, rule, walking
from tests.walk import all_paths
from tests.worlds import PROMPT, settings
from verifiers.judges.types import ScoreKind


def drift(monkeypatch, language, how, n):
    """How far one sweep moves the target that its weights say; 0 where it is invariant."""
    # The target is of what was asked for: a mutation of the potential does not reach it.
    target = language.target(how.potential.weights, how.potential.temperature)
    kernels = {text: kernel(monkeypatch, language, how, n, text) for text in target}
    for law in kernels.values():
        assert sum(law.values()) == pytest.approx(1, abs=1e-9)
    return distance(moved(target, kernels), target)


@pytest.mark.parametrize("scheme", ["multinomial", "systematic"])
@pytest.mark.parametrize("ess", [0.0, 0.9, 2.0])
@pytest.mark.parametrize("weights", ["twist", "product", "odds"])
def test_a_sweep_of_two_leaves_its_target_invariant(monkeypatch, weights, ess, scheme):
    """Over solutions of one, two and three steps; some finish while their letters tie with those of others."""
    language = Language(LONG, 3)
    assert {len(text) for text in language.solutions()} == {1, 2, 3}
    assert drift(monkeypatch, language, rule(weights, resampling=scheme, ess=ess), 2) < 1e-12


@pytest.mark.parametrize(
    ("scheme", "ess", "limit"),
    [("multinomial", 0.97, 2), ("multinomial", 2.0, 2), ("systematic", 0.9, 3), ("systematic", 2.0, 3)],
)
def test_a_sweep_of_three_leaves_its_target_invariant(monkeypatch, scheme, ess, limit):
    assert drift(monkeypatch, Language(SHORT, limit), rule(resampling=scheme, ess=ess), 3) < 1e-12


def test_a_constant_reward_changes_nothing(monkeypatch):
    language = Language(LONG, 3, score=lambda _: 0.3)
    for text in (None, "a.", "bab"):
        law = kernel(monkeypatch, language, rule("twist"), 2, text)
        kept = 0.0 if text is None else 0.5  # weights are equal: it stays with probability 1/2, or is drawn anew
        expected = {x: (1 - kept) * p + kept * (x == text) for x, p in language.solutions().items()}
        assert distance(law, expected) < 1e-12


# -- mutations -----------------------------------------------------------------------------------------------------


def _weighing_the_reference(log_weight):
    """Sweeps whose reference has another weight."""
    real = Sweep.advance

    def advance(self, children):
        before = self.log_weights[-1]
        real(self, children)
        if self.reference:
            self.log_weights[-1] = log_weight(self, before)

    return lambda patch: patch.setattr(Sweep, "advance", advance)


def _final_from_the_start(sweep, _):
    return sweep.rule.potential.log_final(sweep.reference[-1])


def _one_step_too_late(sweep, before):
    if sweep.step >= len(sweep.reference):
        return before
    return before + sweep.rule.potential.log_increment(sweep.reference[min(sweep.step + 1, len(sweep.reference) - 1)])


def _resampling(ancestors):
    return lambda patch: patch.setattr(conditional, "resample_around_last", ancestors)


def _all_drawn_and_the_last_put_back(how, weights, rng):
    return [*resampling.resample(how, weights, rng)[:-1], len(weights) - 1]


def _the_others_among_themselves(how, weights, rng):
    return [*resampling.resample(how, weights[:-1], rng), len(weights) - 1]


def _weights_kept(patch):
    real = Sweep.resample

    def resample(self, run):
        before = list(zip(self.nodes, self.log_weights, strict=True))
        real(self, run)
        self.log_weights = [next(weight for old, weight in before if old is node) for node in self.nodes]

    patch.setattr(Sweep, "resample", resample)


def _a_trigger_that_does_not_see_the_reference(patch):
    real = resampling.effective_sample_size
    patch.setattr(resampling, "effective_sample_size", lambda weights: real(weights[:-1]) * 1.5)


def _an_end_that_does_not_wait_for_the_reference(patch):
    patch.setattr(Sweep, "done", property(lambda self: all(node.finished for node in self.free)))


def _finished_ones_weighed_again(patch):
    def weigh(self, node, old, log_weight):
        return log_weight + self.rule.potential.log_increment(node)

    patch.setattr(Sweep, "_weigh", weigh)


def _retained_from_the_others(patch):
    real = Sweep.weights.fget
    patch.setattr(Sweep, "retain", lambda self, run: self.nodes[run.rng("retain").categorical(real(self)[:-1])])


def _no_reference(patch):
    real = Sweep.__post_init__

    def begin(self):
        real(self)
        self.reference = ()

    patch.setattr(Sweep, "__post_init__", begin)


def _no_temperature(patch):
    patch.setattr(Potential, "tau", lambda self, node: 1.0)


MUTATIONS = {
    "the reference has its final weight from the start": _weighing_the_reference(_final_from_the_start),
    "the reference's weight is of the next step": _weighing_the_reference(_one_step_too_late),
    "n are drawn, and the reference is written over the last": _resampling(_all_drawn_and_the_last_put_back),
    "nobody goes on from the reference": _resampling(_the_others_among_themselves),
    "weights are kept after resampling": _weights_kept,
    "the trigger does not see the reference": _a_trigger_that_does_not_see_the_reference,
    "a sweep ends before its reference": _an_end_that_does_not_wait_for_the_reference,
    "finished particles are weighed again": _finished_ones_weighed_again,
    "the reference is never retained": _retained_from_the_others,
    "the reference is forgotten": _no_reference,
    "rewards are not tempered": _no_temperature,
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_breaks_invariance_is_found(monkeypatch, name):
    scheme = "systematic" if name.startswith("n are") else "multinomial"
    language, n, how = Language(LONG, 3), 2, rule(resampling=scheme, ess=2.0)
    if name == "the trigger does not see the reference":  # it takes two others to tell weights apart
        language, n, how = Language(SHORT, 2), 3, rule(resampling=scheme, ess=0.97)
    if name == "the reference is forgotten":
        language = Language(SHORT, 3)
    with monkeypatch.context() as patch:
        MUTATIONS[name](patch)
        assert drift(patch, language, how, n) > 1e-3
    assert drift(monkeypatch, language, how, n) < 1e-12


# -- around a reference --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights", [[0.2, 0.5, 0.3], [0.6, 0.4], [0.05, 0.05, 0.05, 0.85], [0.5, 0.0, 0.5], [0.3, 0.7, 0.0]]
)
def test_a_systematic_draw_around_the_last_slot_is_the_systematic_draw_where_the_last_descends_from_itself(weights):
    """Turned at random, as the slots of a circle are; by a fine grid of the uniform."""
    n, cells, ends = len(weights), 4000, [sum(weights[: i + 1]) for i in range(len(weights))]

    def at(point):
        return next((i for i, end in enumerate(ends) if point % 1.0 < end and weights[i]), n - 1)

    turned = (tuple(at((u + 0.5) / cells + (i + 1) / n) for i in range(n)) for u in range(cells))
    expected = Counter(row for row in turned if row[-1] == n - 1)
    if not expected:  # one without weight can't be drawn, but a reference that has none stays all the same
        assert resample_around_last("systematic", weights, SeededRng(0))[-1] == n - 1
        return
    drawn = Counter(tuple(resample_around_last("systematic", weights, Fixed((u + 0.5) / cells))) for u in range(cells))
    for row in {*expected, *drawn}:
        assert drawn[row] / cells == pytest.approx(expected[row] / expected.total(), abs=3 / (cells * weights[-1]))


class Fixed:
    def __init__(self, value):
        self.value = value

    def uniform(self):
        return self.value


# -- the strategy --------------------------------------------------------------------------------------------------

LETTERS = Table(
    vocabulary=(".", "q", "a"),
    eos_token_ids=frozenset({0}),
    laws={(): [0.4, 0.0, 0.6], (2,): [0.5, 0.0, 0.5]},  # SHORT
)


class Rewards:
    """The score that `Language` has, by the letters."""

    name, role, needs = "rewards", "prm", frozenset()

    async def __call__(self, run, candidate):
        return reward(letters_of(candidate.trajectory))


def run_of(judge=None, engine=None, steps=None, **keywords):
    judges = dict.fromkeys(("prm", "value"), judge or TextJudge())
    chosen = settings(engine or ScriptedEngine(lines_model()), judges=judges, **keywords)
    return Run(replace(chosen, steps=steps or Steps(delimiter="line")), "p")


def played(monkeypatch, strategy, of_sweeps):
    """The law of something of the sweeps of a strategy, on the real engine; `SHORT`, of up to two letters."""

    def play(_):
        seen = []
        monkeypatch.setattr(
            particle_gibbs, "averaged", lambda sweeps, keep: seen.append(of_sweeps(sweeps, keep)) or ([], [])
        )
        steps = Steps(delimiter="none", max_tokens=1)
        asyncio.run(strategy(run_of(engine=ScriptedEngine(LETTERS), steps=steps, max_tokens=2), PROMPT))
        return seen[0]

    monkeypatch.setattr(conditional, "resample_around_last", walking(conditional.resample_around_last))
    return all_paths(monkeypatch, play)


def letters_of(trajectory):
    """Written as `Language` writes it."""
    return "".join(".qa"[token] for token in trajectory.generated_ids)


@pytest.mark.parametrize("scheme", ["multinomial", "systematic"])
def test_the_weights_after_two_sweeps_are_the_filter_moved_by_the_kernel(monkeypatch, scheme):
    strategy = ParticleGibbs(
        n=2, sweeps=2, weights="product", temperature=0.7, resampling=scheme, score=Rewards(), ess=0.9
    )

    def last(sweeps, keep):
        assert keep == "later"
        nodes, weights = averaged(sweeps, keep)
        return tuple((letters_of(node.trajectory), weight) for node, weight in zip(nodes, weights, strict=True))

    law = Counter()
    for weighted, probability in played(monkeypatch, strategy, last).items():
        for text, weight in weighted:
            law[text] += probability * weight
    language, how = Language(SHORT, 2), rule(resampling=scheme, ess=0.9)
    kernels = {text: kernel(monkeypatch, language, how, 2, text) for text in (None, *language.solutions())}
    assert distance(law, moved(kernels[None], kernels)) < 1e-12
    target = language.target("product", 0.7)
    assert distance(law, target) < 0.6 * distance(kernels[None], target)


def as_released(language, n, temperature, reference=None):
    """The law of the texts that a sweep of mode paper ends with, by recursion."""
    law = Counter()

    def draw(texts, step, probability):
        if all(map(language.ended, texts)):
            law[(*texts, reference) if reference else texts] += probability
            return
        pool = (*texts, reference[:step]) if reference else texts
        rewards = [language.score(text) for text in pool]
        theta = [(r / (1 - r)) ** (1 / temperature) for r in rewards]
        for ancestors in product(range(len(pool)), repeat=len(texts)):
            share = math.prod(theta[index] / sum(theta) for index in ancestors)
            extend([pool[index] for index in ancestors], step, probability * share)

    def extend(texts, step, probability):
        options = [[("", 1.0)] if language.ended(text) else list(language.law(text).items()) for text in texts]
        for letters in product(*options):
            longer = tuple(text + letter for text, (letter, _) in zip(texts, letters, strict=True))
            draw(longer, step + 1, probability * math.prod(share for _, share in letters))

    extend([""] * (n - bool(reference)), 0, 1.0)
    return law


def test_mode_paper_is_algorithm_2_as_released_with_its_index_mended(monkeypatch):
    language, temperature = Language(SHORT, 2), 0.7
    strategy = ParticleGibbs(n=2, sweeps=2, mode="paper", temperature=temperature, score=Rewards())
    law = played(
        monkeypatch, strategy, lambda sweeps, keep: tuple(letters_of(node.trajectory) for node in sweeps[-1].nodes)
    )
    expected = Counter()
    for texts, probability in as_released(language, 2, temperature).items():
        rewards = [language.score(text) for text in texts]
        theta = [(r / (1 - r)) ** (1 / temperature) for r in rewards]
        for text, weight in zip(texts, theta, strict=True):
            for row, share in as_released(language, 2, temperature, text).items():
                expected[row] += probability * weight / sum(theta) * share
    assert distance(law, expected) < 1e-12


def test_mode_paper_leaves_no_target_of_ours_invariant(monkeypatch):
    language = Language(LONG, 3)
    how = rule("odds", resampling="multinomial", ess=2.0, released=True)
    assert drift(monkeypatch, language, how, 2) > 0.01
    twist = replace(how, potential=replace(how.potential, weights="twist"))
    kernels = {text: kernel(monkeypatch, language, how, 2, text) for text in language.solutions()}
    target = language.target(twist.potential.weights, 0.7)
    assert distance(moved(target, kernels), target) > 0.01


def solved(strategy, judge=None, **keywords):
    run = run_of(judge, **keywords)
    return asyncio.run(strategy(run, PROMPT)), run


@pytest.mark.parametrize("strategy", [ParticleGibbs(n=6, ess=0.9), ParticleGibbs(n=6, mode="paper")])
def test_finished_ones_get_no_tokens_and_the_tree_can_be_drawn(strategy):
    result, run = solved(strategy)
    grown = [event for event in run.trace if isinstance(event, Grown)]
    finished = {event.node for event in grown if event.finished}
    assert not finished & {event.parent for event in grown}
    assert sum(event.parent == 0 for event in grown) == run.samples == strategy.most_samples
    retained = [event.node for event in run.trace if isinstance(event, Retained)]
    assert len(retained) == 3
    assert set(retained) <= finished
    assert any(isinstance(event, Resampled) for event in run.trace)
    selections = [event for event in run.trace if isinstance(event, Selected)]
    for event in selections:
        assert set(event.kept) <= set(event.among)
        assert not finished & set(event.among)
        assert event.kept_tokens <= event.held_tokens
    assert result.answer is not None


def test_a_retained_trajectory_ends_up_in_the_next_sweep(monkeypatch):
    seen = []
    monkeypatch.setattr(particle_gibbs, "averaged", lambda sweeps, keep: seen.extend(sweeps) or averaged(sweeps, keep))
    _, run = solved(ParticleGibbs(n=4, sweeps=5))
    retained = [event.node for event in run.trace if isinstance(event, Retained)]
    assert [sweep.nodes[-1].id for sweep in seen[1:]] == retained


def test_keep_says_which_sweeps_answer():
    language = Language(SHORT, 2)
    rows = [("a.", "a."), ("aa", "."), (".", "aa"), ("a.", "aa")]
    sweeps = [Sweep(rule=rule(), nodes=[language.node(text) for text in row]) for row in rows]

    def weights(keep, among=sweeps):
        nodes, shares = averaged(among, keep)
        sums = Counter()
        for node, share in zip(nodes, shares, strict=True):
            sums[node.candidate.text] += share
        return dict(sums)

    assert weights("last") == {"a.": 0.5, "aa": 0.5}
    assert weights("later") == pytest.approx({".": 1 / 3, "aa": 1 / 2, "a.": 1 / 6})
    assert weights("all") == pytest.approx({".": 1 / 4, "aa": 3 / 8, "a.": 3 / 8})
    sweeps[1].cut = True  # by the budget: what the first ended with is kept
    assert weights("later", sweeps[:2]) == {"a.": 1.0}
    assert weights("later", sweeps[1:2]) == {"aa": 0.5, ".": 0.5}


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "score", [lambda _: 0.0, lambda step: float("#3" in step), lambda step: -1.0 + 2 * ("#" in step)]
)
@pytest.mark.parametrize("mode", ["proper", "paper"])
def test_a_judge_that_is_certain_ends_nothing(mode, score):
    kind = ScoreKind.VALUE if score("#3") == 1 and score("") == -1 else ScoreKind.PROBABILITY
    result, _ = solved(ParticleGibbs(n=6, mode=mode, score="value"), TextJudge(score, kind=kind))
    assert result.stop_reason == "done"
    assert result.answer is not None


class Failing(TextJudge):
    async def score_steps(self, solution):
        if len(self.asked) == 20:
            raise EngineError("the judge is gone")
        return await super().score_steps(solution)


def test_a_judge_that_fails_midway_is_an_error_and_the_trace_is_intact():
    run = run_of(Failing())
    with pytest.raises(EngineError, match="is gone"):
        asyncio.run(ParticleGibbs(n=8)(run, PROMPT))
    grown = [event for event in run.trace if isinstance(event, Grown)]
    assert [event.node for event in grown] == list(range(1, len(grown) + 1))
    assert grown


@pytest.mark.parametrize("limit", [1, 5, 100, 400])
@pytest.mark.parametrize("kind", ["generated_tokens", "scored_tokens"])
def test_a_budget_leaves_what_the_whole_sweeps_ended_with(kind, limit):
    result, run = solved(ParticleGibbs(n=8, sweeps=20), budget=Budget(**{kind: limit}))
    assert result.stop_reason == "budget"
    assert getattr(run.usage, kind) <= limit
    if limit == 400:
        assert any(isinstance(event, Retained) for event in run.trace)
        assert all(not candidate.trajectory.open for candidate in result.candidates)


def test_steps_that_never_end_are_cut():
    endless = Table(vocabulary=("<end>", "q", "1"), eos_token_ids=frozenset({0}), laws={(): [0.0, 0.0, 1.0]})
    result, run = solved(ParticleGibbs(n=4), engine=ScriptedEngine(endless), max_tokens=30)
    assert (result.stop_reason, result.answer) == ("done", None)
    assert run.usage.generated_tokens == 30 * ParticleGibbs(n=4).most_samples


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n": 1}, "n of at least 2"),
        ({"sweeps": 0}, "sweeps=0"),
        ({"mode": "wild"}, "unknown mode"),
        ({"weights": "logit"}, "unknown weights"),
        ({"mode": "paper", "weights": "twist"}, "leave it out"),
        ({"resampling": "residual"}, "around a reference"),
        ({"ess": float("nan")}, "ess"),
        ({"keep": "first"}, "unknown keep"),
        ({"choose": "any"}, "unknown choice"),
        ({"temperature": 0.0}, "temperature"),
        ({"score": "pmr"}, "unknown score"),
    ],
)
def test_what_is_wrong_with_it_is_said(wrong, said):
    with pytest.raises(ConfigError, match=said):
        ParticleGibbs(**wrong)


def test_it_is_a_judge_whose_numbers_are_weights():
    with pytest.raises(ConfigError, match="asks no judge"):
        ParticleGibbs(score="logprob").refuse({})
