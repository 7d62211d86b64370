"""Tasks of written steps: true states by other means, every error found where it is, horizons in closed form."""

import json
import math
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoding.errors import ConfigError
from decoding.types import Completion, FinishReason, Usage
from evals.data import require_unique
from evals.estimators.execution import Row, constant_horizon, horizon_length, measure_execution, step_figures
from evals.tasks.generated import solution
from evals.tasks.horizon import load_horizon
from evals.tasks.procbench import load_procbench
from evals.tasks.procedures import KINDS
from reasoning.trajectory import Prompt, read_candidate
from verifiers.base import Outcome
from verifiers.steps import MAX_STEPS, StepFormat, measure_steps

LOADERS = {"procbench": load_procbench, "horizon": load_horizon}
SPECS = [*(f"procbench:{kind},steps=7" for kind in KINDS), "procbench:mixed,steps=2-12", "horizon:9,keys=3,entries=8"]


def load(spec, limit=10, seed=0):
    return LOADERS[spec.partition(":")[0]](spec, limit=limit, seed=seed)


def judge(task, text, index=0):
    return task.verifier.verify(task.answers.extract(text).value, task.problems[index].reference)


# Problems


@pytest.mark.parametrize("spec", SPECS)
def test_a_beginning_of_a_task_is_a_part_of_it_and_seeds_make_others(spec):
    few, many, other = load(spec, 5), load(spec, 30), load(spec, 30, seed=1)
    assert many.problems[:5] == few.problems
    assert load(spec, 30) == many
    assert not {p.question for p in other.problems} & {p.question for p in many.problems}
    require_unique(many.problems)
    assert json.loads(json.dumps(many.problems[0].metadata)) == many.problems[0].metadata


def test_problems_do_not_depend_on_the_hash_seed():
    code = (
        "from evals.tasks.procbench import load_procbench as p; from evals.tasks.horizon import load_horizon as h;"
        "print(p('procbench', limit=80, seed=3).checksum, h('horizon:5', limit=5, seed=3).checksum)"
    )
    sums = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("0", "1")
    }
    assert len(sums) == 1


def test_a_mixed_task_has_all_kinds_and_lengths_in_turn():
    task = load("procbench", 8 * 24)
    seen = [(p.metadata["kind"], p.metadata["steps"]) for p in task.problems]
    assert set(seen) == {(kind, steps) for kind in KINDS for steps in range(2, 26)}
    assert {kind for kind, _ in seen[:8]} == set(KINDS)
    assert all(len(p.metadata["states"]) == p.metadata["steps"] for p in task.problems)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("procbench:sorted", "did you mean sort"),
        ("procbench:sort,steps=0", "from 1 to 100"),
        ("procbench:sort,steps=9-3", "from 9 to 100"),
        ("procbench:sort,steps=٣", "from 1 to 100"),
        ("procbench:sort,stops=3", "procbench:KIND,steps=8"),
        ("procbench:sort,8", "procbench:KIND,steps=8"),
        ("horizon:", "number of turns"),
        ("horizon:0", "from 1 to"),
        ("horizon:5,keys=x", "keys must be"),
        ("horizon:5,turns=5", "horizon:TURNS"),
    ],
)
def test_what_is_wrong_with_a_spec_is_said(spec, said):
    with pytest.raises(ConfigError, match=said):
        load(spec)


# True states, computed another way: from the question's text alone

PUSHES = {
    "push_left": lambda text, letter: letter + text,
    "push_right": lambda text, letter: text + letter,
    "pop_left": lambda text, _: text[1:],
    "pop_right": lambda text, _: text[:-1],
}


def redo_sort(start, _, steps):
    # After i steps the i smallest letters lead, in order; a swap moves nothing but two letters.
    return [
        lambda s, i=i: s[: i + 1] == "".join(sorted(start)[: i + 1]) and sorted(s) == sorted(start)
        for i in range(steps)
    ]


def redo_delete_char(start, actions, _):
    for letter in actions:
        before, _, after = start.partition(letter)
        start = before + after
        yield start


def redo_push_pop(start, actions, _):
    for action in actions:
        name, _, letter = action.partition("(")
        start = PUSHES[name](start, letter.rstrip(")"))
        yield start


def redo_rotate(start, actions, _):
    letters = list(start)
    for action in actions:
        first, last = (int(place) for place in action.split(" to "))
        letters.insert(first - 1, letters.pop(last - 1))
        yield "".join(letters)


def redo_cumulate(start, actions, _):
    for action in actions:
        start = str(eval(f"{start} {action}", {}))
        yield start


def redo_move_cyclic(start, actions, _):
    ring = list(start)
    for action in actions:
        way, distance = action.split()
        for _ in range(int(distance)):
            ring = [ring[-1], *ring[:-1]] if way == "right" else [*ring[1:], ring[0]]
        yield "".join(ring)


def redo_tally(start, actions, _):
    names = [item.partition("=")[0] for item in start.split(",")]
    for done in range(1, len(actions) + 1):
        yield ",".join(f"{name}={actions[:done].count(name)}" for name in names)


def redo_edit_list(start, actions, _):
    numbers = [int(number) for number in start.split(",")]
    for action in actions:
        words = action.split()
        if words[0] == "append":
            numbers.append(int(words[1]))
        elif words[0] == "reverse":
            numbers.reverse()
        elif words[0] == "swap":
            numbers[0], numbers[-1] = numbers[-1], numbers[0]
        elif words[0] == "add":
            numbers[0] += int(words[1])
        else:
            numbers.pop(0 if words[-1] == "first" else -1)
        yield ",".join(map(str, numbers))


def redo(kind, start, actions, steps):
    states = [line.partition(": ")[2] for line in actions]
    return list(globals()[f"redo_{kind}"](start.removeprefix("Start: ")[1:-1], states, steps))


def sums(given):
    dictionary, plan = given.split("\n\n")
    values = {key: int(value) for key, value in (line.split(": ") for line in dictionary.splitlines()[1:])}
    named = [line.partition(": ")[2].split(", ") for line in plan.splitlines()]
    return [str(sum(values[key] for keys in named[: turn + 1] for key in keys)) for turn in range(len(named))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_true_states_are_what_the_question_says(kind):
    for problem in load(f"procbench:{kind},steps=9", 60).problems:
        lines = problem.question.partition("Now do this")[2].splitlines()
        start, *actions = [line for line in lines if line.startswith(("Start", "Step"))]
        redone = redo(kind, start, actions, 9)
        states = problem.metadata["states"]
        assert len(redone) == len(states) == 9
        assert all(r(s) if callable(r) else r == s for r, s in zip(redone, states, strict=True))


def test_true_sums_are_what_the_question_says():
    for problem in load("horizon:9,keys=3,entries=8", 20).problems:
        given = "\n\n".join(problem.question.split("\n\n")[-2:])
        assert given.count("\n") == 8 + 1 + 9
        assert sums(given) == problem.metadata["states"]


@pytest.mark.parametrize("spec", SPECS)
def test_the_example_is_right_and_not_the_problem(spec):
    task = load(spec)
    for problem in task.problems:
        example, _, rest = problem.question.partition("Now do this")
        states = json.loads(task.answers.extract(example.partition("the answer is")[2]).value)
        assert len(states) == 2
        given = example.partition("For example, for\n\n")[2].partition("\n\nthe answer")[0]
        assert given not in rest
        if spec.startswith("procbench"):
            start, *actions = given.splitlines()
            redone = redo(problem.metadata["kind"], start, actions, 2)
            assert all(r(s) if callable(r) else r == s for r, s in zip(redone, states, strict=True))
        else:
            assert sums(given) == states


# Judging


@pytest.mark.parametrize("spec", SPECS)
def test_a_true_solution_is_right_and_fits_and_every_error_is_found_at_its_step(spec):
    task = load(spec)
    for index, problem in enumerate(task.problems):
        states, label = problem.metadata["states"], task.answers.label
        n = len(states)
        gold = solution(states, label)
        assert judge(task, gold, index).correct
        assert judge(task, f"Sure!\n**{gold.replace(']', ' ]**')}\nDone.", index).correct
        assert len(gold) <= task.max_tokens
        for step in range(n):
            wrong = judge(task, solution([*states[:step], states[step] + "9", *states[step + 1 :]], label), index)
            assert wrong.outcome is Outcome.WRONG
            assert wrong.rule == f"steps {step}/{n}" + (", final right" if step < n - 1 else "")
            missing = "\n".join(line for i, line in enumerate(gold.splitlines()) if i != step)
            assert judge(task, missing, index).rule.startswith(f"steps {step}/{n}")
            assert not judge(task, missing, index).correct
        surplus = judge(task, solution([*states, states[-1]], label), index)
        assert (surplus.outcome, surplus.rule) == (Outcome.WRONG, f"steps {n}/{n} of {n + 1} written, final right")


def test_the_measures_are_those_of_the_paper():
    true = ["a", "b", "c", "d"]
    for written, length, accuracy, final in (
        (true, 4, 1.0, True),
        (["a", "b", "x", "d"], 2, 0.5, True),
        (["a", "b"], 2, 0.5, False),
        (["x", "b", "c", "d"], 0, 0.0, True),
        ([*true, "e", "d"], 4, 4 / 6, True),  # a longer answer has the longer denominator
        (["a", None, "c", "d"], 1, 0.25, True),
        ([], 0, 0.0, False),
    ):
        measured = measure_steps(written, true)
        assert measured.prefix_match_length == length
        assert measured.prefix_accuracy == accuracy
        assert measured.final_match == final
        assert measured.sequential_match == (written == true)


def test_the_papers_figures_are_means_over_problems():
    right, half, none = (measure_steps(written, ["a", "b"]) for written in (["a", "b"], ["a", "x"], []))
    figures = step_figures([("p", right), ("p", half), ("p", half), ("p", none), ("q", right)])
    assert [figure.mean for figure in figures] == [(1 + 2) / 2, (0.5 + 1) / 2, (0.25 + 1) / 2, (0.25 + 1) / 2]
    assert all(figure.low <= figure.mean <= figure.high for figure in figures)
    with pytest.raises(ConfigError, match="at least one problem"):
        step_figures([])


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("Step 1: [ab]\nStep 2: [b]", ["ab", "b"]),
        ("step 1: remove c from [abc] -> ['ab' ]\n- **Step 2:** [b]", ["ab", "b"]),
        ("Step 1: [a]\nStep 2: [b]\nwait\nStep 2: [c]", ["a", "c"]),
        ("Step 1: [x]\nStep 2: [y]\nStep 3: [z]\nAgain.\nStep 1: [a]\nStep 2: [b]", ["a", "b"]),
        ("Step 2: [b]\nStep 4: [d]", [None, "b", None, "d"]),
        ("Step 1: [ 3, +04 ,-0, \N{MINUS SIGN}7 ]", ["3,4,0,-7"]),
        ("Step 0: [a]\nStep 1: b\nStep 2: [c", None),
        ("Step 1: [a]\nStep 99999: [b]", ["a"]),
        ("In step 1: [a]", None),
        ("", None),
    ],
)
def test_states_are_read_from_their_lines(text, states):
    value = StepFormat().extract(text).value
    assert (None if value is None else json.loads(value)) == states


@given(st.text(alphabet="Step 12:[],x\n\0\ud800", max_size=60))
def test_any_text_is_read(text):
    value = StepFormat().extract(text).value
    assert value is None or len(json.loads(value)) <= MAX_STEPS


def test_long_texts_are_read_at_once():
    for text in ("Step 1: " + "[" * 10**6, "\n" * 10**6, "Step 1: [a]\n" * 10**5, "*" * 10**6, "step " * 10**5):
        StepFormat().extract(text)


class Characters:
    def decode(self, ids):
        return "".join(map(chr, ids))


def test_states_that_were_written_before_a_cut_count_and_the_torn_one_does_not():
    text = "Step 1: [ab]\nStep 2: [b]"
    prompt = Prompt(question="q", token_ids=(1,))
    for end, states in ((len(text), ["ab", "b"]), (len(text) - 1, ["ab"]), (len("Step 1: [ab"), None)):
        completion = Completion(
            token_ids=tuple(map(ord, text[:end])),
            logprobs=None,
            sampling_logprobs=None,
            finish_reason=FinishReason.LENGTH,
            usage=Usage(),
        )
        answer = read_candidate(Characters(), StepFormat(), 0, prompt, completion).answer
        assert (None if answer is None else json.loads(answer)) == states


# Execution


def row(problem, written, increments=(1, 2, 3, 4)):
    return Row(problem, [None if value is None else str(value) for value in written], increments)


def means(intervals):
    return [interval.mean for interval in intervals]


def test_a_turn_is_right_by_what_was_written_before_it_and_a_task_by_all_turns():
    right = measure_execution([row("a", [1, 3, 6, 10])])
    assert means(right.turn_accuracy) == means(right.task_accuracy) == [1, 1, 1, 1]
    assert (right.horizon.turns, right.horizon.at_least) == (4, True)
    slip = measure_execution([row("a", [1, 4, 7, 11])])  # one slip, then on from there
    assert means(slip.turn_accuracy) == [1, 0, 1, 1]
    assert means(slip.task_accuracy) == [1, 0, 0, 0]
    assert (slip.horizon.turns, slip.horizon.at_least) == (1, False)
    gap = measure_execution([row("a", [1, None, 6])])  # nothing to go on from, and an end too soon
    assert means(gap.turn_accuracy) == [1, 0, 0, 0]
    assert means(measure_execution([row("a", ["x", "9" * 200, 6, 10])]).turn_accuracy) == [0, 0, 0, 1]


def test_samples_of_a_problem_are_averaged_before_problems_are():
    rows = [row("a", [1]), row("a", [1]), row("a", [1]), row("b", [0])]
    measured = measure_execution(rows)
    assert means(measured.task_accuracy) == [0.5, 0, 0, 0]
    assert measured.horizon.turns == 1
    with pytest.raises(ConfigError, match="one number of turns"):
        measure_execution([row("a", [1]), row("b", [1], increments=(1,))])
    with pytest.raises(ConfigError, match="none"):
        measure_execution([])


@pytest.mark.parametrize("accuracy", [0.3, 0.5, 0.7071067811865476, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("threshold", [0.5, 0.25, 0.8])
def test_at_constant_accuracy_the_horizon_is_the_closed_form(accuracy, threshold):
    curve = [accuracy**turns * (1 + 1e-12) for turns in range(1, 2000)]
    assert horizon_length(curve, threshold) == constant_horizon(accuracy, threshold)


def test_the_closed_form_at_its_ends():
    assert constant_horizon(1.0) == math.inf
    assert constant_horizon(0.0) == 0
    assert constant_horizon(0.5**0.1, 0.5) == 10
    assert constant_horizon(0.9, 1.0) == 0
    with pytest.raises(ConfigError):
        constant_horizon(1.1)


def test_the_interval_of_the_horizon_covers_the_truth():
    """Rows of a model that errs with 5 % a turn: H is 13, and intervals at 95 % hold it in nearly all of 200 draws."""
    import numpy as np

    rng, covered, turns = np.random.default_rng(0), 0, 40
    for _ in range(200):
        right = rng.random((100, turns)) < 0.95
        totals = np.cumsum(np.where(right, 1, 2), axis=1)
        horizon = measure_execution(
            Row(str(i), list(map(str, line)), [1] * turns) for i, line in enumerate(totals)
        ).horizon
        assert horizon.low <= horizon.turns <= horizon.high
        covered += horizon.low <= constant_horizon(0.95) <= horizon.high
    assert covered >= 185
