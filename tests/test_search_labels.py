"""Labels from tree search: they are the values of the search, and solutions are the policy's own."""

import asyncio
import json
import math
from dataclasses import replace
from types import MappingProxyType

import pytest
import typer
from typer.testing import CliRunner

from bethink.cli_train import add_train
from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ConfigError
from tests.judges import TextJudge, by_hash, lines_model
from tests.test_mcts import learnt
from tests.worlds import RandomModel, task
from training.judges import searches
from training.judges.labels import completion_labels
from training.judges.recipes import JudgeRecipe
from training.judges.rollouts import RolloutRecipe, roll_out
from training.judges.searches import SearchRecipe, search_all, search_one

ALONE = {"threads": 1}
SMALL = SearchRecipe(simulations=12, children=3)


def searched(monkeypatch, model, seed, judges=MappingProxyType({})):
    """Rows of one search, the run and the tree."""
    kept = []
    for name in ("Run", "branches"):
        real = getattr(searches, name)

        def remember(*arguments, real=real, **keywords):
            kept.append(real(*arguments, **keywords))
            return kept[-1]

        monkeypatch.setattr(searches, name, remember)
    world = replace(task(1), max_tokens=40)
    work = search_one(ScriptedEngine(model), RolloutRecipe(seed=seed), SMALL, world, world.problems[0], judges)
    return asyncio.run(work), *kept


@pytest.mark.parametrize("seed", range(4))
def test_a_line_has_the_mean_of_what_was_backed_up_through_its_node(seed, monkeypatch):
    rows, run, tree = searched(monkeypatch, lines_model(), seed)
    values, parents = learnt(run.trace)
    ends = [branch.node for branch in tree if branch.node.finished]
    assert len(rows) == len(ends) > 3
    for row, end in zip(rows, ends, strict=True):
        assert row["right"] == (end.candidate.answer == "1")
        assert values[end.id] == [1.0 if row["right"] else -1.0]
        path, node = [], end.id
        while node:
            path.insert(0, values[node])
            node = parents[node]
        assert [n for _, n in row["values"]] == [len(each) for each in path]
        assert [q for q, _ in row["values"]] == pytest.approx([math.fsum(each) / len(each) for each in path])
    assert {value for each in values.values() for value in each} == {-1.0, 0.0, 1.0}


def test_in_later_rounds_prefixes_have_the_values_of_the_round_before(monkeypatch):
    judges = {"value": TextJudge()}
    rows, run, tree = searched(monkeypatch, lines_model(), 0, judges)
    values, _ = learnt(run.trace)
    for branch in tree[1:]:
        first = values[branch.node.id][:1]
        if branch.children:
            assert first == [pytest.approx(2 * by_hash(branch.node.candidate.text.strip()) - 1)]
        assert not branch.node.finished or first[0] in (-1.0, 1.0)
    assert rows


def test_blank_lines_have_no_label_and_one_that_was_cut_off_neither(monkeypatch):
    for seed in range(4):
        rows, _, _ = searched(monkeypatch, RandomModel(), seed)
        for row in rows:
            lines = row["text"].split("\n")
            lines = lines if row["finished"] else lines[:-1]
            assert len(row["values"]) == sum(bool(line.strip()) for line in lines)
            assert 0 not in row["token_ids"]
        monkeypatch.undo()


@pytest.mark.engine
def test_searches_go_on_where_they_stopped_and_labels_lie_between_0_and_1(tmp_path):
    recipe = RolloutRecipe(policy="reference-small", tasks=("reference:1",), problems=4, samples=1)
    wanted = {(each.task, each.problem) for each in roll_out(recipe, tmp_path, options=ALONE)}
    found, tallies = search_all(recipe, SMALL, wanted, tmp_path, options=ALONE)
    assert {(each.task, each.problem) for each in found} == wanted
    assert len({each.key for each in found}) == len(found)
    for each in found:
        labels = completion_labels(each, tallies[each.key], hard=False)
        assert len(labels) == len(each.steps)
        assert all(0 <= label <= 1 for label in labels)
        if each.finished:
            assert labels[-1] == each.right
    path = tmp_path / "searches.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:1]) + lines[1][:20])
    assert search_all(recipe, SMALL, wanted, tmp_path, options=ALONE) == (found, tallies)
    search_all(recipe, replace(SMALL, simulations=1), wanted, tmp_path, options=ALONE)  # another search is another row
    assert search_all(recipe, SMALL, wanted, tmp_path, options=ALONE) == (found, tallies)


@pytest.mark.engine
def test_a_value_model_is_trained_on_them_from_the_command_line(tmp_path):
    app = typer.Typer()
    add_train(app)
    line = ["train", "value", "--out", str(tmp_path / "judge"), "--policy", "reference-small", "--task", "reference:2"]
    line += ["--labels", "mcts", "--simulations", "20", "--children", "4", "--problems", "30", "--epochs", "1"]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    recipe = json.loads((tmp_path / "judge" / "recipe.json").read_text())["recipe"]
    assert (recipe["labels"], recipe["search"]["simulations"], recipe["search"]["children"]) == ("mcts", 20, 4)


@pytest.mark.parametrize("changes", [{"role": "prm"}, {"dense": True}])
def test_recipes_that_cannot_work_are_refused(changes):
    with pytest.raises(ConfigError):
        JudgeRecipe(**{"role": "value", "labels": "mcts", **changes})
    with pytest.raises(ConfigError, match="at least 1"):
        SearchRecipe(simulations=0)
