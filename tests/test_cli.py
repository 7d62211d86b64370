"""The command line as a user meets it: errors that say what to do, and an interrupt that loses nothing."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

import decoding
from bethink.cli import main
from decoding.engines.open import open_engine
from evals.store import read_config, read_rows
from reasoning.api import asolve, solve
from reasoning.strategies import SelfConsistency

LINE = [sys.executable, "-m", "bethink"]
EVAL = [*LINE, "eval", "reference:4", "--model", "reference-small", "-s", "self_consistency:n=4", "--limit", "20"]
EMBEDDED = Path(decoding.__file__).parent / "embedded"
SLOW = 120  # seconds that starting an engine may take on a busy machine


def run(*arguments, expect=0):
    """A line as a user types it, in a process of its own."""
    done = subprocess.run([*LINE, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == expect, done.stderr
    return done


def run_here(*arguments, expect=0):
    """The same in this process, without the seconds that importing everything takes."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["bethink", *arguments]),
        mock.patch.dict(os.environ),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        main()
    assert left.value.code == expect, err.getvalue()
    return subprocess.CompletedProcess(arguments, expect, out.getvalue(), err.getvalue())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--model", "refrence-base"], "reference-base"),
        (["-s", "self_consistancy"], "did you mean 'self_consistency'"),
        (["-s", "best_of_n:m=3"], "no parameter 'm'"),
        (["--budget", "samples=0"], "must be above 0"),
        (["--budget", "sampels=3"], "there are samples"),
        (["--engine", "vlm"], "did you mean"),
        (["--temperature", "-1"], "at least 0"),
        (["--prompt", "plan"], "did you mean plain"),
        (["--limit", "0"], "at least 1"),
        (["--engine-option", "slots"], "name=value"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(tmp_path, change, said):
    done = run_here(*EVAL[3:], "--out", str(tmp_path / "run"), *change, expect=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists() or "engine-option" in change[0]


def test_an_unknown_task_lists_the_tasks(tmp_path):
    done = run("eval", "refrence:8", "--model", "reference-base", "-s", "self_consistency", expect=2)
    assert "gsm8k" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(tmp_path):
    done = run_here(*EVAL[3:], "--out", str(tmp_path / "run"), "--dry-run")
    assert "80" in done.stdout
    assert not (tmp_path / "run").exists()


def test_models_lists_models_and_what_runs_where():
    done = run_here("models")
    for word in ("reference-base", "smollm2-135m-instruct", "self_consistency", "vllm", "transformers"):
        assert word in done.stdout


def test_importing_bethink_is_light():
    code = "import bethink, sys; print([m for m in ('torch', 'vllm', 'transformers', 'datasets') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_an_evaluation_leaves_tables_and_plots_and_is_not_done_twice(tmp_path):
    """Nor changed by a later process, which has a hash seed of its own."""
    folder = tmp_path / "run"
    line = [*EVAL[3:], "--engine", "transformers", "--out", str(folder)]
    run_here(*line)
    assert len(list(read_rows(folder, "samples"))) == 80
    names = {"samples.jsonl", "run.json", "report.md", "report.csv", "curves.png", "curves.svg"}
    assert names <= {path.name for path in folder.iterdir()}
    first = {name: (folder / name).read_bytes() for name in names}
    run(*line)
    assert {name: (folder / name).read_bytes() for name in names} == first
    run_here("report", str(folder))
    assert {name: (folder / name).read_bytes() for name in names} == first
    done = run_here(*line, "--seed", "1", expect=2)
    assert "seed: 0 there, 1 now" in done.stderr


@pytest.mark.engine
def test_a_model_in_a_folder_and_an_oracle_check(tmp_path):
    """The folder's checksum was taken for a revision on the hub, because a path has slashes."""
    model = str(EMBEDDED / "reference-small")
    line = ["eval", "reference:3", "--model", model, "-s", "resample:k=6", "--oracle-check", "--limit", "6"]
    run_here(*line, "--engine", "transformers", "--out", str(tmp_path))
    assert read_config(tmp_path)["config"]["oracle"] is True
    checked = [event for row in read_rows(tmp_path, "results") for event in row["trace"] if event["event"] == "Checked"]
    assert checked
    assert all(event["oracle"] for event in checked)
    for row in read_rows(tmp_path, "results"):
        assert (row["outcome"] == "correct") == (row["stop_reason"] == "accepted")


@pytest.mark.engine
def test_ctrl_c_ends_with_one_message_and_keeps_what_was_finished(tmp_path):
    folder = tmp_path / "run"
    line = [*EVAL, "--engine", "transformers", "--out", str(folder), "--limit", "400"]
    process = subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts this test in the background has it ignore interrupts, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    path, deadline = folder / "samples.jsonl", time.monotonic() + SLOW
    while not path.exists() or path.read_bytes().count(b"\n") < 40:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same line again" in stderr
    assert "Traceback" not in stderr
    kept = path.read_bytes().count(b"\n")
    assert 40 <= kept < 1600
    subprocess.run(line, check=True, capture_output=True, timeout=300)
    rows = [(row["problem"], row["slot"]) for row in read_rows(folder, "samples")]
    assert len(rows) == len(set(rows)) == 1600


def test_solve_works_in_plain_code_in_a_running_loop_and_side_by_side():
    with open_engine("reference-small", "transformers") as engine:
        alone = solve("83,+56,+3\n", engine=engine, strategy=SelfConsistency(n=4))

        async def notebook():
            inside = solve("83,+56,+3\n", engine=engine, strategy=SelfConsistency(n=4))  # a cell of a notebook
            pair = await asyncio.gather(
                *(asolve("83,+56,+3\n", engine=engine, strategy="self_consistency:n=4") for _ in "ab")
            )
            return [inside, *pair]

        for other in asyncio.run(notebook()):
            assert [c.trajectory.generated_ids for c in other.candidates] == [
                c.trajectory.generated_ids for c in alone.candidates
            ]


def test_an_option_of_no_engine_is_refused(tmp_path):
    done = run_here(
        *EVAL[3:], "--engine", "transformers", "--engine-option", "nonsense=3", "--out", str(tmp_path), expect=2
    )
    assert "no option ['nonsense']" in done.stderr


def test_a_prompt_longer_than_the_context_is_an_error_row_and_an_exit_code(tmp_path):
    questions = [{"question": "1" * 300, "answer": "1"}, {"question": "12,+3\n", "answer": "15"}]
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in questions))
    line = ["eval", f"jsonl:{data}", "--model", "reference-small", "-s", "self_consistency:n=2", "--prompt", "plain"]
    done = run_here(*line, "--engine", "transformers", "--max-tokens", "50", "--out", str(tmp_path / "run"), expect=3)
    assert "1 problems ended in an error" in done.stderr
    outcomes = sorted((row["outcome"], row["rule"][:12]) for row in read_rows(tmp_path / "run", "results"))
    assert ("error", "ContextError") in outcomes
    assert len(outcomes) == 2
