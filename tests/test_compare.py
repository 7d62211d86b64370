"""Comparing runs: pairs on the same problems, and refusals that say what to do."""

import json

import pytest

from decoding.errors import ConfigError, StoreError
from evals.estimators.paired import mcnemar, paired_bootstrap
from evals.reports.compare import compare
from evals.reports.compare_text import to_csv, to_markdown

VOTE, BEST = "self_consistency:n=4", "best_of_n:n=4,score=mean_logprob"
USAGE = {"generated_tokens": 10, "prompt_tokens_computed": 2, "flops": 24.0}


def run(folder, outcomes, *, task="digits", data="d", source="file", pool=(), first=0):
    """A results folder with these outcomes by strategy; `pool` has rows of outcomes by problem."""
    folder.mkdir()
    config = {"task": task, "data": data, "source": source, "model": "table", "sampling": {"temperature": 1.0}}
    (folder / "run.json").write_text(json.dumps({"format": 1, "config": config, "environments": [{}]}))
    results = [
        {
            "problem": f"p{first + i:03d}",
            "strategy": strategy,
            "answer": None if outcome == "no_answer" else f"{strategy[0]}{i}",
            "outcome": outcome,
            "samples": 4,
            "usage": {**USAGE, "generated_tokens": 10 if strategy == VOTE else 30},
        }
        for strategy, row in outcomes.items()
        for i, outcome in enumerate(row)
    ]
    samples, grades = [], []
    for i, row in enumerate(pool):
        for slot, outcome in enumerate(row):
            key = {"problem": f"p{first + i:03d}", "slot": slot}
            samples.append({**key, "token_ids": [1, 2], "finish_reason": "eos", "logprob": -1.0, "usage": USAGE})
            grades.append(
                {**key, "answer": "1" if outcome == "correct" else str(slot + 2), "outcome": outcome, "text": ""}
            )
    for table, rows in (("results", results), ("samples", samples), ("grades", grades)):
        (folder / f"{table}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


RIGHT, WRONG = "correct", "wrong"
A = [RIGHT] * 6 + [WRONG] * 2 + ["timeout", "no_answer"]
B = [RIGHT] * 3 + [WRONG] * 3 + [RIGHT] + [WRONG] * 3


def test_a_pair_is_compared_problem_by_problem(tmp_path):
    one = run(tmp_path / "one", {VOTE: A, BEST: B})
    comparison = compare([one], [VOTE, BEST])
    (pair,) = comparison.pairs
    right_a, right_b = [x == RIGHT for x in A], [x == RIGHT for x in B]
    assert (pair.accuracy_a, pair.accuracy_b) == (0.6, 0.4)
    assert pair.test == mcnemar(right_a, right_b)
    assert pair.test[:4] == (3, 3, 1, 3)
    assert pair.difference == paired_bootstrap(right_a, right_b)
    assert [flip.problem for flip in pair.flips] == ["p003", "p004", "p005", "p006"]
    assert pair.flips[-1] == ("p006", "s6", "wrong", "b6", "correct")
    assert {cost.what: cost.difference.mean for cost in pair.costs} == {"samples": 0, "tokens": -20, "flops": 0}
    text, table = to_markdown(comparison), to_csv(comparison)
    assert "self_consistency:n=4" in text
    assert "| p006 | B | s6 | wrong | b6 | correct |" in text
    assert all(line.count(",") == 8 for line in table.replace("best_of_n:n=4,score", "").splitlines())


def test_strategies_are_named_in_any_spelling_that_is_clear(tmp_path):
    one = run(tmp_path / "one", {VOTE: A, BEST: B})
    two = run(tmp_path / "two", {VOTE: B, BEST: A})
    spelt = compare([f"{one}:{VOTE}", f"{one}:{BEST}"]).pairs
    assert spelt == compare([f"{one}:self_consistency", f"{one}:best_of_n:n=4"]).pairs == compare([one]).pairs
    both = compare([one, two])
    assert [(pair.a, pair.b) for pair in both.pairs] == [(VOTE, VOTE), ("best_of_n:n=4",) * 2]
    assert both.pairs[0].difference.mean == -both.pairs[1].difference.mean == pytest.approx(0.2)
    assert compare([one, two], [VOTE]).pairs == both.pairs[:1]
    assert compare([f"{one}:{VOTE}", f"{two}:{BEST}"]).pairs[0].test[1:3] == (0, 0)


def test_pools_are_compared_at_common_k_on_common_problems(tmp_path):
    deep = [[RIGHT] * 4, [WRONG] * 4, [WRONG, RIGHT, WRONG, WRONG]]
    shallow = [[RIGHT, WRONG], [WRONG, WRONG], [WRONG, WRONG]]
    one = run(tmp_path / "one", {VOTE: A[:3]}, pool=deep)
    two = run(tmp_path / "two", {VOTE: A[:3]}, pool=shallow)
    curves = {(c.metric, c.k): c for c in compare([one, two]).curves}
    assert {k for _, k in curves} == {1, 2}
    assert (curves["coverage", 2].a, curves["coverage", 2].b) == pytest.approx((2 / 3, 1 / 3))
    assert curves["coverage", 1].a == pytest.approx(0.5)  # of the first two samples, as many as both pools have
    assert curves["coverage", 2].test[:2] == (1, 0)
    assert curves["majority", 2].difference == pytest.approx((1 / 3, 0.0, 0.5), abs=0.4)


def test_other_problems_are_refused_unless_the_common_ones_are_asked_for(tmp_path):
    one = run(tmp_path / "one", {VOTE: A})
    part = run(tmp_path / "part", {VOTE: A[:4]})
    other = run(tmp_path / "other", {VOTE: A[:4]}, data="e")
    far = run(tmp_path / "far", {VOTE: A}, first=500)
    with pytest.raises(ConfigError, match=r"10 problems on the first side, 4 on the second, 4 on both.*--common"):
        compare([one, part])
    with pytest.raises(ConfigError, match=r"different problems.*--common"):
        compare([one, other])
    assert compare([one, part], common=True).pairs[0].problems == 4
    notes = compare([one, other], common=True).notes
    assert any("4 common problems" in note for note in notes)
    assert any("equal ids" in note for note in notes)
    with pytest.raises(ConfigError, match="no problem is on both sides"):
        compare([one, far], common=True)


def test_generated_problems_of_other_seeds_have_only_their_ids_in_common(tmp_path):
    one = run(tmp_path / "one", {VOTE: A}, source="generated: seed 0")
    two = run(tmp_path / "two", {VOTE: A}, source="generated: seed 1", data="e")
    with pytest.raises(ConfigError, match="only their ids in common"):
        compare([one, two], common=True)


@pytest.mark.parametrize(
    ("sides", "strategies", "error", "said"),
    [
        (["{0}/none", "{0}/one"], [], StoreError, "no results folder"),
        (["{0}/one", "{0}/one"], [], ConfigError, "both sides are"),
        (["{0}/one:self_consistency", "{0}/one:self_consistency"], [], ConfigError, "both sides are"),
        (["{0}/one:self_consistancy", "{0}/one"], [], ConfigError, "did you mean 'self_consistency"),
        (["{0}/one:best_of_n"], [], ConfigError, "nothing to be compared with"),
        (["{0}/one"], ["best_of_n"], ConfigError, "nothing to be compared with"),
        (["{0}/one:best_of_n", "{0}/two"], ["best_of_n"], ConfigError, "not both"),
        (["{0}/one", "{0}/task"], [], ConfigError, "over digits and .* over words"),
        (["{0}/one", "{0}/two"], [], ConfigError, "share no strategy"),
        (["{0}"], [], StoreError, "no run.json"),
    ],
)
def test_what_can_not_be_compared_is_said(tmp_path, sides, strategies, error, said):
    run(tmp_path / "one", {VOTE: A, BEST: B})
    run(tmp_path / "two", {"repeated_sampling:n=4": A})
    run(tmp_path / "task", {VOTE: A}, task="words")
    with pytest.raises(error, match=said):
        compare([side.format(tmp_path) for side in sides], strategies)
