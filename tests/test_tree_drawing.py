"""Trees of stored searches: every step once, parents before children, and pictures that hold all of it."""

import asyncio
import re
from collections import Counter
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from bethink.cli_tree import add_tree
from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ConfigError, DataError
from evals.reports.tree import Fate, one_line, rows_of, to_dot, to_text, tree_of
from evals.reports.tree_plot import write_tree
from evals.runner import Evaluation, evaluate
from evals.store import Store, pack, read_rows
from reasoning.budget import Budget
from reasoning.steps import Steps
from reasoning.strategies import SelfConsistency
from tests.growing import Halving
from tests.judges import TextJudge, lines_model
from tests.worlds import PROMPT, settings, task

NAME = "halving:n=8,score=prm"


def run(folder, strategies, problems=3, **keywords):
    async def work():
        chosen = task(problems)
        world = settings(ScriptedEngine(lines_model()), judges={"prm": TextJudge()}, **keywords)
        evaluation = Evaluation(
            task=chosen,
            strategies=strategies,
            prompts={problem.id: PROMPT for problem in chosen.problems},
            settings=replace(world, steps=Steps(delimiter="line")),
        )
        with Store(folder, {"task": "digits", "model": "table", "sampling": {"temperature": 1.0}}, {}) as store:
            await evaluate(evaluation, store)

    asyncio.run(work())
    return [row["trace"] for row in read_rows(folder, "results")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("trees") / "run"
    run(path, [Halving(n=8, score="prm"), SelfConsistency(n=2)])
    return path


@pytest.fixture(scope="module")
def traces(folder):
    return [row["trace"] for row in read_rows(folder, "results") if row["strategy"] == NAME]


def grown(trace):
    return [event for event in trace if event["event"] == "Grown"]


def event(node, parent, **fields):
    usual = {"event": "Grown", "tokens": 2, "finish_reason": "stop", "finished": False, "score": 0.5, "text": "x\n"}
    return {**usual, "node": node, "parent": parent, **fields}


def selection(among, kept):
    return {"event": "Selected", "among": among, "kept": kept, "held_tokens": 0, "kept_tokens": 0}


def test_every_step_is_in_the_tree_once_and_parents_come_first(traces):
    for trace in traces:
        tree = tree_of(trace)
        assert list(tree) == [0, *(event["node"] for event in grown(trace))]
        assert sorted(child for node in tree.values() for child in node.children) == list(tree)[1:]
        for place, node in enumerate(tree.values()):
            assert node.parent is None or list(tree).index(node.parent) < place
            assert node.depth == (0 if node.parent is None else tree[node.parent].depth + 1)
        assert sum(node.tokens for node in tree.values()) == sum(event["tokens"] for event in grown(trace))


def test_fates_are_those_of_the_selections(traces):
    for trace in traces:
        tree = tree_of(trace)
        for at in [event for event in trace if event["event"] == "Selected"]:
            kept = {int(node): count for node, count in at["kept"].items()}
            for number in at["among"]:
                assert (tree[number].fate is Fate.KEPT) == (number in kept)
                assert tree[number].copies == kept.get(number, 0)
        assert not [node for node in tree.values() if node.children and node.fate is not Fate.KEPT]


def test_the_last_selection_counts_and_who_was_never_chosen_from_is_left():
    trace = [event(1, 0), event(2, 0), selection([1, 2], {"1": 1, "2": 1}), event(3, 1)]
    trace += [selection([2, 3], {"3": 2}), event(4, 3, finish_reason="budget")]
    tree = tree_of(trace)
    assert [node.fate for node in tree.values()] == [Fate.KEPT, Fate.KEPT, Fate.GIVEN_UP, Fate.KEPT, Fate.LEFT]
    assert [node.cut for node in tree.values()] == [False] * 4 + [True]
    assert not any(node.chosen for node in tree.values())


def test_the_way_to_the_chosen_candidate_is_marked_where_the_trace_says_which_node_it_was():
    trace = [event(1, 0), event(2, 0), event(3, 2, finished=True), event(4, 1), {"event": "Concluded", "nodes": [4, 3]}]
    trace.insert(4, selection([3, 4], {}))
    assert tree_of(trace[:-1])[3].fate is Fate.GIVEN_UP
    assert tree_of(trace)[3].fate is Fate.KEPT  # it was chosen from
    assert [node.id for node in tree_of(trace, 1).values() if node.chosen] == [0, 2, 3]
    assert not any(node.chosen for node in tree_of(trace).values())
    assert to_text(tree_of(trace, 1)).count("<<") == 1 + 2  # the legend's, and the two steps


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        ([{"event": "Stopped"}], "no steps"),
        ([event(1, 0), event(1, 0)], "damaged"),
        ([event(2, 1), event(1, 0)], "damaged"),
    ],
)
def test_what_is_no_tree_is_refused(trace, said):
    with pytest.raises(DataError, match=said):
        tree_of(trace)


def test_text_and_dot_have_a_line_for_each_node_and_an_only_child_takes_no_column(traces):
    for trace in traces:
        tree = tree_of(trace)
        lines = to_text(tree, 60).splitlines()[1:]
        assert sorted(int(re.search(r"[●○■□] (\d+)", line)[1]) for line in lines[1:]) == list(tree)[1:]
        assert max(map(len, lines)) <= 60
        dot = to_dot(tree)
        assert dot.count(" -> ") == len(tree) - 1 == dot.count("shape=") - 1
    chain = tree_of([event(1, 0), event(2, 1), event(3, 2, text='say "hi"\\n')])
    assert {re.search("[●○]", line).start() for line in to_text(chain).splitlines()[2:]} == {0}
    assert r"say \"hi\"\\n" in to_dot(chain)


def test_no_two_nodes_of_one_depth_share_a_row_and_no_line_crosses_another(traces):
    for trace in traces:
        tree = tree_of(trace)
        rows = rows_of(tree)
        places = [(node.depth, rows[node.id]) for node in tree.values()]
        assert len(set(places)) == len(places)
        for node in tree.values():
            reach = [rows[child] for child in node.children]
            if reach:
                assert min(reach) == rows[node.id]
                between = range(rows[node.id], max(reach) + 1)
                # The line down from a node passes no other node of its depth.
                others = [o for o in tree.values() if o.depth == node.depth and rows[o.id] in between and o is not node]
                assert not others


def test_a_picture_has_every_step_and_the_same_tree_gives_the_same_bytes(traces, tmp_path):
    tree = tree_of(traces[0])
    for name in ("a.svg", "b.svg", "a.png"):
        write_tree(tree, tmp_path / name, "a search")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    drawn = (tmp_path / "a.svg").read_text()
    assert "a search" in drawn
    written = Counter(re.findall(r"<!-- (\S+) (?:×\d+ )?-->", drawn))
    assert written >= Counter(one_line(node.text, 12) for node in tree.values() if node.parent is not None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.svg"]


def call(*arguments, fails=False):
    app = typer.Typer()
    app.command("other")(lambda: None)
    add_tree(app)
    done = CliRunner().invoke(app, ["tree", *map(str, arguments)])
    assert bool(done.exception) == fails, done.output
    return done


def test_the_command_draws_to_the_terminal_and_to_files(folder, tmp_path):
    shown = call(folder, "--problem", "p001").output
    assert "p001, halving" in shown
    assert "└─" in shown
    assert call(folder).output != shown  # the first problem's
    for suffix in ("png", "svg", "dot", "txt"):
        call(folder, "-s", "halving", "--out", tmp_path / f"tree.{suffix}")
        assert (tmp_path / f"tree.{suffix}").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--problem", "p9"], "there are p000, p001, p002"),
        (["-s", "beam"], "no search 'beam'"),
        (["-s", "self_consistency"], "no search"),
        (["--out", "tree.pdf"], ".png, .svg, .dot, .txt"),
    ],
)
def test_what_there_is_no_tree_of_is_said(folder, arguments, said):
    done = call(folder, *arguments, fails=True)
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)


def test_several_searches_need_a_name_and_packed_folders_are_read(tmp_path):
    run(tmp_path, [Halving(n=4, score="prm"), Halving(n=8, score="prm")], problems=1)
    pack(tmp_path)
    assert "name one" in str(call(tmp_path, fails=True).exception)
    assert "halving:n=4" in call(tmp_path, "-s", "halving:n=4").output
    assert "several searches" in str(call(tmp_path, "-s", "halving", fails=True).exception)


def test_a_search_that_the_budget_ended_shows_where_it_was_cut(tmp_path):
    (trace,) = run(tmp_path, [Halving(n=8, score="prm")], problems=1, budget=Budget(generated_tokens=9))
    assert sum(node.cut for node in tree_of(trace).values()) == 1
    assert " cut " in to_text(tree_of(trace))
    write_tree(tree_of(trace), tmp_path / "tree.svg")
    assert "cut by the budget" in (tmp_path / "tree.svg").read_text()


def test_a_folder_without_searches_says_so(tmp_path):
    run(tmp_path, [SelfConsistency(n=2)], problems=1)
    assert "none of its strategies searches" in str(call(tmp_path, fails=True).exception)
