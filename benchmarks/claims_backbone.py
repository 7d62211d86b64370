"""Claims about the backbone: engines, scheduling, resuming, the first curves, the two commands."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.claim import ROOT, Claim, Shown, evaluate

HEAVY = ("torch", "transformers", "vllm")


def clean_clone(data: Path, out: Path) -> Shown:
    """`make demo` and `make test` in a fresh clone with an environment and a cache of its own."""
    figures = []
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)  # tests of the sandbox become other users
        clone = Path(temporary) / "bethink"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        environment = {**os.environ, "BETHINK_CACHE": str(Path(temporary) / "cache")}
        for target in ("install", "demo", "test"):
            start = time.monotonic()
            with (out / f"make_{target}.log").open("w") as log:
                line = ["make", target, f"DATA={data.resolve()}"]
                done = subprocess.run(
                    line, cwd=clone, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
                )
            minutes = (time.monotonic() - start) / 60
            figures.append(f"make {target} {'ended well' if done.returncode == 0 else 'FAILED'} in {minutes:.1f} min")
            if done.returncode:
                return Shown(False, ", ".join(figures))
        shutil.copytree(clone / "demo", out / "demo", dirs_exist_ok=True)
    return Shown(True, ", ".join(figures))


def killed_twice(data: Path, out: Path) -> Shown:
    """SIGKILL twice: the store equals that of an uninterrupted run and no process survives."""
    from benchmarks.kill_resume import measure

    outcome = measure(problems=200, samples=16, seed=0)
    survivors = sum(kill.survivors for kill in outcome.kills)
    points = ", ".join(f"{100 * kill.samples / outcome.total:.0f} %" for kill in outcome.kills)
    return Shown(
        not (survivors or outcome.regenerated or outcome.differing or outcome.differing_results),
        f"killed at {points} of {outcome.total} samples: {outcome.differing} samples and {outcome.differing_results} "
        f"results differ, {outcome.regenerated} generated again, {survivors} processes alive after 10 s",
    )


def overhead(data: Path, out: Path) -> Shown:
    """Tokens/s of an evaluation over those of one LLM.generate: 0.8 with the reference policy, 0.95 with SmolLM2."""
    from benchmarks.engine_overhead import WORKLOADS, measure

    wanted = {"reference": 0.8, "smollm2": 0.95}
    found = {}
    for name, workload in WORKLOADS.items():
        found[name] = statistics.median(pair.bethink / pair.seeded for pair in measure(workload, 5))
    figure = ", ".join(
        f"{WORKLOADS[name].model} {ratio:.3f} (at least {wanted[name]})" for name, ratio in found.items()
    )
    return Shown(all(found[name] >= wanted[name] for name in wanted), figure)


def slots_busy(data: Path, out: Path) -> Shown:
    """Busy slot-steps over slots x makespan, tail included, on the scripted engine."""
    from benchmarks.scheduling import measure

    runs = [measure(seed, limit=512) for seed in range(5)]
    share = statistics.median(run.share for run in runs)
    each = ", ".join(f"{run.share:.3f}" for run in runs)
    best = statistics.median(run.best_share for run in runs)
    return Shown(share >= 0.85, f"{share:.3f}, median of 5 seeds ({each}); the best with lengths unknown: {best:.3f}")


def batch_invariance(data: Path, out: Path) -> Shown:
    """64 requests x 64 tokens alone, in a batch, in reverse, with 1, 3 and 64 slots."""
    from benchmarks.batch_invariance import measure

    rows = measure(64, 64)
    figure = ", ".join(f"{row.engine}: {row.mismatches} of {row.completions} completions differ" for row in rows)
    return Shown(all(row.mismatches == 0 for row in rows), figure)


def reference_curves(data: Path, out: Path) -> Shown:
    """500 problems x 64 samples: one sample between 20 and 60 %, coverage clearly above majority."""
    from evals.reports.report import make_report

    folder = out / "reference-8"
    evaluate(
        folder, "reference:8", "reference-base", 500, "-s", "repeated_sampling:n=64", "-s", "self_consistency:n=64"
    )
    points = {(point.metric, point.k): point.value for point in make_report(folder).curves}
    one, coverage, majority = points["coverage", 1], points["coverage", 64], points["majority", 64]
    figure = ", ".join(
        f"{name} {100 * value.mean:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})"
        for name, value in (("one sample", one), ("coverage@64", coverage), ("majority@64", majority))
    )
    return Shown(0.2 <= one.mean <= 0.6 and coverage.low > majority.high, figure)


def real_language(data: Path, out: Path) -> Shown:
    """SmolLM2 on 24 GSM8K problems x 8: the figures, whatever they are."""
    from evals.reports.report import make_report

    folder = out / "gsm8k-smollm2"
    evaluate(
        *(folder, "gsm8k", "smollm2-135m-instruct", 24, "--data-dir", str(data), "--temperature", "0.6"),
        *("--max-tokens", "320", "-s", "repeated_sampling:n=8", "-s", "self_consistency:n=8"),
    )
    report = make_report(folder)
    points = {(point.metric, point.k): point.value.mean for point in report.curves}
    return Shown(
        report.pool_problems == 24 and report.pool_samples == 8,
        f"one sample {100 * points['coverage', 1]:.1f} %, coverage@8 {100 * points['coverage', 8]:.1f} %, majority@8 "
        f"{100 * points['majority', 8]:.1f} %, {report.tokens_a_sample:.0f} tokens a sample",
    )


def labels(data: Path, out: Path) -> Shown:
    """All labels of OpenAI's GSM8K solutions reproduced."""
    from evals.data import read_jsonl
    from verifiers.numeric import NumberFormat, NumberVerifier

    answers, verifier = NumberFormat(), NumberVerifier()
    right = total = 0
    for row in read_jsonl(data / "gsm8k_openai_model_solutions.jsonl"):
        reference = row["ground_truth"].rpartition("A:")[2].strip()
        for name in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            verdict = verifier.verify(answers.extract(row[name]["solution"]).value, reference)
            right += verdict.correct == row[name]["is_correct"]
            total += 1
    return Shown(right == total == 5276, f"{right}/{total} labels reproduced")


def light_import(data: Path, out: Path) -> Shown:
    """`import bethink` in under a second, without what is heavy."""
    code = (
        "import time; t = time.perf_counter(); import bethink; s = time.perf_counter() - t; import sys; "
        f"print(s, [m for m in {HEAVY!r} if m in sys.modules])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(5)
    ]
    seconds = statistics.median(float(run.split()[0]) for run in runs)
    heavy = runs[0].partition(" ")[2].strip()
    return Shown(seconds < 1 and heavy == "[]", f"{seconds:.2f} s, heavy modules loaded: {heavy}")


CLAIMS = (
    Claim("light import", light_import),
    Claim("GSM8K labels", labels),
    Claim("slots busy", slots_busy),
    Claim("batch invariance", batch_invariance),
    Claim("killed twice", killed_twice),
    Claim("engine overhead", overhead),
    Claim("reference curves", reference_curves),
    Claim("real language", real_language),
    Claim("clean clone", clean_clone),
)
