"""Training judges: labels that are true, rows that are the policy's own, the same bytes from the same seed."""

import asyncio
import json
import math
from dataclasses import replace

import pytest
import torch
import typer
from typer.testing import CliRunner

from bethink.cli_train import add_train
from decoding.errors import ConfigError, StoreError
from evals.tasks.reference import Chain, check_steps
from evals.tasks.reference_task import reference_problem
from training.judges.completions import Tally, complete, step_ends
from training.judges.data import Example, collate, compressed, queried, render, render_everywhere
from training.judges.fit import FitRecipe, fit, read_scores
from training.judges.labels import completion_labels, continuing_labels, exact_labels, exact_length, outcome_labels
from training.judges.likelihood import least_likely
from training.judges.models import build, make_trainable, save_model
from training.judges.recipes import RECIPES, JudgeRecipe, train_judge
from training.judges.rollouts import Rollout, RolloutRecipe, evaluation_questions, load_problems, roll_out, split_of
from training.policy import tokenizer
from verifiers.judges.formats import format_by_name
from verifiers.judges.open import open_judge
from verifiers.judges.types import Solution

READ = tokenizer()
PRM, VALUE = format_by_name("reference-prm"), format_by_name("reference-value")


@pytest.fixture
def policy():
    return "reference-small"


def tiny(policy, role="prm", **changes):
    rollouts = RolloutRecipe(policy=policy, tasks=("reference:2", "reference:3"), problems=30, samples=2)
    recipe = replace(RECIPES[role], start=policy, rollouts=rollouts, fit=FitRecipe(epochs=2, batch=8))
    return replace(recipe, **changes)


def rollout(question, text, *, finished=True, right=True):
    ids = tuple(READ(text, add_special_tokens=False)["input_ids"])
    prompt = tuple(READ(question)["input_ids"])
    return Rollout(
        task="reference:3",
        problem="p",
        slot=0,
        split="train",
        question=question,
        prompt_token_ids=prompt,
        token_ids=ids,
        text=text,
        finished=finished,
        right=right,
    )


CHAIN = Chain.parse("47,+38,*6,-19\n")
RIGHT = rollout(CHAIN.question, CHAIN.solution)


def with_wrong(character, instead):
    return rollout(CHAIN.question, CHAIN.solution.replace(character, instead, 1), right=False)


WRONG = with_wrong("*6=510", "*6=500")


def corrupted():
    """Every solution that differs from the right one in one character, or ends early."""
    for place in range(len(CHAIN.solution)):
        for other in "\n7#":
            yield CHAIN.solution[:place] + other + CHAIN.solution[place + 1 :]
        yield CHAIN.solution[:place]


def test_exact_labels_are_those_of_the_world_at_steps_and_at_characters():
    for text in corrupted():
        each = rollout(CHAIN.question, text)
        labels = exact_labels(each)
        assert len(labels) == len(each.steps)
        checked = check_steps(CHAIN, "\n".join(each.steps))
        assert labels == [all(checked[: end + 1]) for end in range(len(checked))]
        ends = [sum(len(step) + 1 for step in each.steps[: end + 1]) for end in range(len(labels))]
        assert labels == [end <= exact_length(each) for end in ends]


def test_a_solution_that_was_cut_off_has_no_last_step():
    cut = rollout(CHAIN.question, "47+38=85\n85*6=5", finished=False, right=False)
    assert cut.steps == ("47+38=85",)
    assert step_ends(READ.decode, cut.token_ids, cut.finished) == [9]
    assert step_ends(READ.decode, RIGHT.token_ids, True)[-1] == len(RIGHT.token_ids)
    spelt = {1: "a", 2: "b\n\n", 3: " \n", 4: "\nc"}  # tokens of other models hold more than a character
    assert step_ends(lambda ids: spelt[ids[0]], [1, 2, 3, 1, 4, 1], True) == [2, 5, 6]
    assert step_ends(lambda ids: spelt[ids[0]], [1, 2, 3, 1, 4, 1], False) == [2, 5]


def test_a_judge_reads_the_policys_ids_and_a_newline_for_its_end():
    newline = READ("\n", add_special_tokens=False)["input_ids"]
    for form in (PRM, VALUE):
        (example,) = render(READ, form, [(WRONG, exact_labels(WRONG))])
        assert example.token_ids == (*WRONG.prompt_token_ids, *WRONG.token_ids, *newline)
        first = len(WRONG.prompt_token_ids)
        assert [position - first + 1 for position in example.positions[:-1]] == step_ends(
            READ.decode, WRONG.token_ids, True
        )[:-1]
        assert example.targets == (1.0, 0.0, 0.0, 0.0)
        (dense,) = render_everywhere(READ, form, [(WRONG, exact_length(WRONG))])
        assert dense.token_ids == example.token_ids
        targets = dict(zip(dense.positions, dense.targets, strict=True))
        assert tuple(targets[position] for position in example.positions) == example.targets


def test_completions_say_what_counts():
    tallies = {0: Tally(2, 4), 1: Tally(3, 4), 2: Tally(0, 4), 3: Tally(2, 4), 4: Tally(0, 1)}
    assert completion_labels(WRONG, tallies, hard=True) == [1.0, 0.0, 1.0, 0.0]
    assert completion_labels(WRONG, tallies, hard=False) == [0.75, 0.0, 0.5, 0.0]
    assert continuing_labels(WRONG, tallies) == [1.0, 0.0, 0.5, 0.0]
    assert outcome_labels(WRONG) == [0.0] * 4
    with pytest.raises(KeyError):  # never a label out of nothing
        completion_labels(WRONG, {1: Tally(1, 1)}, hard=True)


def test_merged_steps_have_the_label_of_the_later():
    whole = render(READ, PRM, [(WRONG, exact_labels(WRONG))])
    (merged,) = compressed(READ, PRM, [(WRONG, exact_labels(WRONG))], share=1.0, joint=",", seed=0)
    assert len(merged.token_ids) == len(whole[0].token_ids)  # a comma for a newline
    assert len(merged.positions) == len(whole[0].positions) - 1
    kept = dict(zip(whole[0].positions, whole[0].targets, strict=True))
    assert merged.targets == tuple(kept[position] for position in merged.positions)
    assert compressed(READ, PRM, [(WRONG, exact_labels(WRONG))], share=0.0, joint=",", seed=0) == []


def test_a_query_stands_behind_each_prefix():
    ends = {RIGHT.key: step_ends(READ.decode, RIGHT.token_ids, True)}
    rows = queried(3, [(RIGHT, [1.0, 0.5, 0.0, 1.0])], ends)
    assert [row.token_ids[-1] for row in rows] == [3] * 4
    assert [row.positions for row in rows] == [(len(row.token_ids) - 1,) for row in rows]
    assert [READ.decode(row.token_ids[len(RIGHT.prompt_token_ids) : -1]) for row in rows] == [
        "".join(f"{step}\n" for step in RIGHT.steps[: end + 1]).removesuffix("\n" if end == 3 else "")
        for end in range(4)
    ]


def test_no_problem_of_an_evaluation_is_trained_on():
    recipe = RolloutRecipe(tasks=("reference:1", "reference:8"), problems=300)
    asked = {reference_problem(difficulty, 0, index).question for difficulty in (1, 8) for index in range(500)}
    assert asked == evaluation_questions(recipe)
    groups = load_problems(recipe)
    questions = [problem.question for _, group in groups for problem in group]
    assert not asked & set(questions)
    assert len(questions) == len(set(questions))
    splits = [split_of(question, recipe.seed) for question in questions]
    shares = {split: splits.count(split) / len(splits) for split in ("train", "tune", "held-out")}
    assert 0.75 < shares["train"] < 0.87
    assert 0.08 < shares["held-out"] < 0.18
    assert 0.03 < shares["tune"] < 0.1


def test_rollouts_go_on_where_they_stopped(policy, tmp_path):
    recipe = tiny(policy).rollouts
    whole = roll_out(recipe, tmp_path)
    path = tmp_path / "rollouts.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:10]) + lines[10][:20])
    assert roll_out(recipe, tmp_path) == whole
    with pytest.raises(StoreError):
        roll_out(replace(recipe, samples=3), tmp_path)


def test_completions_are_counted_from_the_prefix_and_go_on(policy, tmp_path):
    recipe = tiny(policy).rollouts
    rollouts = [each for each in roll_out(recipe, tmp_path) if each.steps][:6]
    tallies = complete(recipe, rollouts, tmp_path, samples=3)
    for each in rollouts:
        assert sorted(tallies[each.key]) == list(range(len(each.steps) + 1))
        assert all(0 <= tally.right <= tally.of for tally in tallies[each.key].values())
        if each.finished:
            assert tallies[each.key][len(each.steps)] == Tally(int(each.right), 1)
    path = tmp_path / "completions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    assert complete(recipe, rollouts, tmp_path, samples=3) == tallies


@pytest.mark.engine
@pytest.mark.parametrize("role", ["prm", "value"])
def test_one_seed_gives_the_same_bytes_and_the_judge_that_was_measured(role, policy, tmp_path):
    recipe = tiny(policy, role)
    figures = [train_judge(recipe, tmp_path / name, data=tmp_path / f"{name}-data") for name in "ab"]
    assert figures[0] == figures[1]
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"calibration.png", "figures.json", "judge.json", "recipe.json", "report.md"} < set(names)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    other = train_judge(replace(recipe, fit=replace(recipe.fit, seed=1)), tmp_path / "c", data=tmp_path / "a-data")
    assert other["auc"] != figures[0]["auc"]

    form = PRM if role == "prm" else VALUE
    model, _ = build(role, str(tmp_path / "a"), fresh=False, seed=9)
    wanted = read_scores(model, render(READ, form, [(WRONG, [0.0] * 4)]))[0]
    assert asyncio.run(_judged(str(tmp_path / "a"), role)) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.engine
@pytest.mark.parametrize("role", ["prm", "value"])
def test_a_likelihood_is_read_as_it_was_fitted(role, policy, tmp_path):
    recipe = tiny(policy, role, trained="likelihood", layers=0, dense=False)
    figures = [train_judge(recipe, tmp_path / name, data=tmp_path / f"{name}-data") for name in "ab"]
    assert figures[0] == figures[1]
    assert (tmp_path / "a" / "judge.json").read_bytes() == (tmp_path / "b" / "judge.json").read_bytes()

    said = json.loads((tmp_path / "a" / "judge.json").read_text())
    assert said["format"] == "reference-lm"
    model, _ = build("prm", str(tmp_path / "a"), fresh=False, seed=9)
    (least,) = least_likely(model.model, READ, [WRONG])
    wanted = [1 / (1 + math.exp(-(said["slope"] * each + said["intercept"]))) for each in least]
    judged = asyncio.run(_judged(str(tmp_path / "a"), role))
    assert judged == pytest.approx(wanted, abs=1e-5)


async def _judged(name, role):
    judge = open_judge(name)
    try:
        steps = WRONG.steps
        if role == "prm":
            return (await judge.score_steps(Solution(question=WRONG.question, steps=steps))).scores
        prefixes = [
            Solution(question=WRONG.question, steps=steps[: end + 1], finished=end + 1 == len(steps))
            for end in range(len(steps))
        ]
        return [(await judge.value(prefix)).scores[0] for prefix in prefixes]
    finally:
        await judge.aclose()


@pytest.mark.engine
@pytest.mark.parametrize("trained", ["head", "lora"])
@pytest.mark.parametrize("role", ["prm", "value"])
def test_a_head_leaves_the_body_alone_and_adapters_are_merged(role, trained, policy, tmp_path):
    if trained == "lora":
        pytest.importorskip("peft")
    form = PRM if role == "prm" else VALUE
    examples = render(READ, form, [(RIGHT, [1.0] * 4), (WRONG, exact_labels(WRONG))])
    model, read = build(role, policy, fresh=False, seed=0)
    before = {name: tensor.clone() for name, tensor in model.model.base_model.state_dict().items()}
    losses = []
    parameters = make_trainable(model, trained, 4, 0)
    recipe = FitRecipe(epochs=120, batch=2, learning_rate=1e-2)
    fit(model, parameters, examples, recipe, lambda p: losses.append(p.loss), frozen=trained == "head")
    assert losses[-1] < losses[0]
    wanted = read_scores(model, examples)
    save_model(model, read, tmp_path)
    again, _ = build(role, str(tmp_path), fresh=False, seed=1)
    assert [pytest.approx(row, abs=1e-5) for row in wanted] == read_scores(again, examples)
    after = again.model.base_model.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], before[name]) for name in before) == (trained == "head")


def test_padding_does_not_change_what_is_read(policy):
    model, _ = build("prm", policy, fresh=False, seed=0)
    short = Example(RIGHT.prompt_token_ids, (3, 5), (1.0, 0.0))
    (long,) = render(READ, PRM, [(RIGHT, [1.0] * 4)])
    batch = collate([short, long])
    assert batch.ids.shape == (2, len(long.token_ids))
    assert read_scores(model, [short, long])[0] == pytest.approx(read_scores(model, [short])[0], abs=1e-6)


@pytest.mark.engine
def test_a_policy_that_judges_itself_writes_as_before(policy, tmp_path):
    recipe = tiny(policy, "self-eval", completions=2, completed=20)
    figures = train_judge(recipe, tmp_path / "kept", data=tmp_path / "data")
    loose = train_judge(replace(recipe, keep=0.0), tmp_path / "loose", data=tmp_path / "data")
    assert figures["kl"] < loose["kl"]
    said = json.loads((tmp_path / "kept" / "judge.json").read_text())
    assert said == {"role": "value", "format": "self-evaluation", "query": "<mask>", "good": "<yes>", "bad": "<no>"}
    judge = open_judge(str(tmp_path / "kept"), backend="transformers")
    try:
        assert judge.info.format == "self-evaluation"
        ids = (*RIGHT.prompt_token_ids, *RIGHT.token_ids)
        solution = Solution(question=RIGHT.question, steps=RIGHT.steps, token_ids=ids)
        assert 0 < asyncio.run(judge.value(solution)).scores[0] < 1
    finally:
        asyncio.run(judge.aclose())


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": "true"},
        {"role": "judge"},
        {"trained": "half"},
        {"labels": "soft", "dense": True},
        {"rollouts": RolloutRecipe(tasks=("gsm8k",))},
    ],
)
def test_recipes_that_cannot_work_are_refused(changes):
    with pytest.raises(ConfigError):
        JudgeRecipe(**{"role": "prm", "labels": "exact", **changes})


@pytest.mark.engine
def test_the_command_line_trains_a_judge_by_completions(policy, tmp_path):
    app = typer.Typer()
    add_train(app)
    line = ["train", "prm", "--out", str(tmp_path / "judge"), "--policy", policy, "--task", "reference:3"]
    line += ["--labels", "hard", "--completions", "1", "--completed", "8", "--problems", "30", "--epochs", "1"]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    assert "AUC" in (tmp_path / "judge" / "report.md").read_text()
    assert json.loads((tmp_path / "judge" / "recipe.json").read_text())["recipe"]["labels"] == "hard"
