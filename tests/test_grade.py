"""Grading without generating: anybody's outputs in a file, and a run's stored samples."""

import asyncio
import json
from dataclasses import asdict

import pytest

from decoding.engines.scripted import ScriptedEngine
from decoding.errors import ConfigError, DataError, StoreError
from decoding.types import SamplingParams
from evals.grade import grade_file, style_named
from evals.regrade import regrade
from evals.runner import Evaluation, evaluate
from evals.store import Store, read_rows
from evals.tasks.registry import load_task
from reasoning.budget import Budget
from reasoning.run import RunSettings
from reasoning.strategies import parse_strategy
from reasoning.trajectory import Prompt
from tests.shared_data import DATA, needs_data
from tests.worlds import answers_table
from verifiers.graders import grader_by_name


def graded(tmp_path, rows, style="gsm8k", workers=2):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = grade_file(source, target, style_named(style), workers)
    return counts, [json.loads(line) for line in target.read_text(errors="surrogatepass").splitlines()]


def test_rows_come_back_in_order_with_all_that_they_had(tmp_path):
    rows = [
        {"text": "so \\boxed{18}", "reference": "16 - 3 = 13\n#### 1,8", "id": [1, {"é": None}]},
        {"text": "it is 17.", "reference": "18"},
        {"text": "no idea\x00\ud800", "reference": 18, "verdict": "old"},
        {"text": "x" * 10**6, "reference": "18"},
    ]
    rows[0]["reference"] = "16 + 2 = 18\n#### 18"
    counts, out = graded(tmp_path, rows)
    assert counts == {"correct": 1, "wrong": 1, "no_answer": 2}
    assert [row["verdict"] for row in out] == ["correct", "wrong", "no_answer", "no_answer"]
    assert [row["extracted"] for row in out] == ["18", "17", None, None]
    assert out[0]["rule"] == "boxed; number"
    for before, after in zip(rows, out, strict=True):
        assert before | {k: after[k] for k in ("verdict", "extracted", "rule")} == after


def test_a_row_without_a_text_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(DataError, match="row 2 has no text under text: it has reference"):
        graded(tmp_path, [{"text": "1", "reference": "1"}, {"reference": "1"}])
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    with pytest.raises(ConfigError, match="unknown grader"):
        style_named("gms8k")


@needs_data
def test_all_labels_of_the_published_solutions_are_reproduced(tmp_path):
    rows, labels = [], []
    for line in (DATA / "gsm8k_openai_model_solutions.jsonl").read_text().splitlines()[:300]:
        row = json.loads(line)
        for name in ("6b_finetuning", "175b_verification"):
            reference = row["ground_truth"].rpartition("A:")[2].strip()
            rows.append({"text": row[name]["solution"], "reference": reference})
            labels.append(row[name]["is_correct"])
    _, out = graded(tmp_path, rows)
    assert [row["verdict"] == "correct" for row in out] == labels


# A run's samples

STRATEGIES = ("repeated_sampling:n=6", "self_consistency:n=6", "best_of_n:n=6,score=logprob")


def run_into(folder, budget=None):
    """A small run of the reference world with a model that writes "#" and a digit."""
    task = load_task("reference:1", limit=8)
    sampling = SamplingParams(seed=0, max_tokens=6)
    engine = ScriptedEngine(answers_table({str(d): 0.1 for d in range(10)}, babble=0.3))
    budget = budget or Budget()
    settings = RunSettings(engines={"policy": engine}, sampling=sampling, answers=task.answers, budget=budget)
    config = {
        "task": task.name,
        "problems": 8,
        "data": task.checksum,
        "model": "table",
        "revision": None,
        "engine": "scripted",
        "sampling": {k: v for k, v in asdict(sampling).items() if k not in ("seed", "logprobs")},
        "seed": 0,
        "budget": asdict(budget),
        "check": None,
        "oracle": False,
    }
    chosen = [parse_strategy(text) for text in STRATEGIES]
    prompts = {p.id: Prompt(question=p.question, token_ids=(1,)) for p in task.problems}
    with Store(folder, config, {}) as store:
        asyncio.run(evaluate(Evaluation(task=task, strategies=chosen, prompts=prompts, settings=settings), store))
    return task


def rows_of(folder, table):
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in read_rows(folder, table)]
    return sorted(rows, key=lambda row: (row["problem"], row.get("slot") or 0, row.get("strategy", "")))


def test_the_same_grader_says_the_same_of_everything(tmp_path):
    run_into(tmp_path / "run")
    changes = regrade(tmp_path / "run", tmp_path / "again")
    assert (changes.samples, changes.changed_samples, changes.changed_results, changes.kept) == (48, 0, 0, 0)
    for table in ("samples", "grades", "results"):
        assert rows_of(tmp_path / "run", table) == rows_of(tmp_path / "again", table), table
    with pytest.raises(StoreError, match="exists"):
        regrade(tmp_path / "run", tmp_path / "again")


def test_another_grader_grades_and_votes_anew(tmp_path):
    """lm-eval's strict filter wants "#### " before a number, and the model writes "#"."""
    task = run_into(tmp_path / "run")
    regrade(tmp_path / "run", tmp_path / "strict", grader="lm_eval_strict")
    answers = grader_by_name("lm_eval_strict").answers
    for row in read_rows(tmp_path / "strict", "grades"):
        assert row["answer"] == answers.extract(row["text"]).value
    assert all(row["answer"] is None for row in read_rows(tmp_path / "strict", "results"))
    assert {row["problem"] for row in read_rows(tmp_path / "strict", "grades")} == {p.id for p in task.problems}


def test_what_a_budget_cut_keeps_its_answer_and_is_judged_again(tmp_path):
    """The cut sample is not in the pool, so the strategy can't be run again."""
    run_into(tmp_path / "run", Budget(generated_tokens=13))
    before = {(r["problem"], r["strategy"]): r["answer"] for r in read_rows(tmp_path / "run", "results")}
    changes = regrade(tmp_path / "run", tmp_path / "again")
    assert changes.changed_results == 0
    assert changes.kept > 0
    after = {(r["problem"], r["strategy"]): r["answer"] for r in read_rows(tmp_path / "again", "results")}
    assert before == after


def test_other_problems_are_refused(tmp_path):
    run_into(tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["config"]["task"] = "reference:2"
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="not those of the run"):
        regrade(tmp_path / "run", tmp_path / "again")
    assert not list(tmp_path.glob("again*"))
