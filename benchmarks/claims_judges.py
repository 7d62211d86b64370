"""Claims about judges: formats, backends, the shipped ones, what judging costs."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.claim import ROOT, Claim, Shown, evaluate, tests


def formats(data: Path, out: Path) -> Shown:
    """Ids, read positions and pair ids of each format, on real tokenizers, against the authors' rules."""
    from benchmarks.judge_formats import CASES, measure

    wrong = measure(out / "tokenizers")
    return Shown(not wrong, "; ".join(wrong) or f"{len(CASES)} formats agree with their authors' rules")


def read_outs(data: Path, out: Path) -> Shown:
    """The five read-outs on tiny random models against plain forwards; any order, batch and eviction."""
    return tests("test_readers", "test_judge_formats", "test_generated_judges")


def backends(data: Path, out: Path) -> Shown:
    """One judge through transformers, vLLM and HTTP: the same numbers to 1e-3; stepwise equals whole."""
    return tests("test_judge_backends", "test_chosen_logprobs")


def training(data: Path, out: Path) -> Shown:
    """One seed reproduces data and weights, to the byte; labels, compression, adapters."""
    return tests("test_judge_training")


def shipped(data: Path, out: Path) -> Shown:
    """The shipped judges on held-out problems, and what choosing by them is worth; whatever comes out."""
    line = [sys.executable, "-m", "benchmarks.judges", "--out", str(out / "judges")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    table = (ROOT / "benchmarks" / "results" / "judges.md").read_text()
    aucs = re.findall(r"AUC[^.|]*?(0\.\d+)", table)
    headline = next((row for row in table.splitlines()[1:] if row and not row.startswith("#")), "no headline")
    return Shown(
        done.returncode == 0, f"AUC {', '.join(aucs[:2])}; {headline}" if not done.returncode else done.stderr[-300:]
    )


def kept(data: Path, out: Path) -> Shown:
    """Tokens needed over tokens computed on transformers: at least 0.9 over 10-step chains, and over trees."""
    from benchmarks.judging import measure_backend

    with tempfile.TemporaryDirectory() as folder:
        speeds = measure_backend("transformers", Path(folder), problems=48)
    told = ", ".join(
        f"{workload} {speed.needed_over_computed:.3f} at {speed.prefixes_per_second:.0f} prefixes/s"
        for workload, speed in zip(("chains", "trees"), speeds, strict=True)
    )
    return Shown(all(speed.needed_over_computed >= 0.9 for speed in speeds), told)


def overlaps(data: Path, out: Path) -> Shown:
    """The share of judging time during which the policy was generating too."""
    from benchmarks.judging_overlap import overlap

    found = overlap("transformers", problems=30, samples=4)
    return Shown(found.share > 0.5, f"{100 * found.share:.0f} % of judging time")


def processbench(data: Path, out: Path) -> Shown:
    """ProcessBench GSM8K as a task, by a critic that writes, and its solutions under a judge; whatever they say."""
    from evals.store import read_rows

    model, folder = "smollm2-135m-instruct", out / "processbench-smollm2"
    evaluate(
        *(folder, "processbench", model, 8, "--data-dir", str(data), "--temperature", "0.6"),
        *("--max-tokens", "128", "-s", "self_consistency:n=2"),
    )
    rows = list(read_rows(folder, "results"))
    judged = out / "processbench-judge"
    line = [sys.executable, "-m", "bethink", "judge", "processbench", "--prm", "llm-judge", "--limit", "8"]
    line += ["--judge-option", f"model={model}", "--judge-option", "max_tokens=64", "--backend", "vllm"]
    done = subprocess.run(
        [*line, "--data-dir", str(data), "--out", str(judged)], capture_output=True, text=True, check=False
    )
    figures = json.loads((judged / "judge.json").read_text()) if done.returncode == 0 else {}
    outcomes = ", ".join(f"{row['outcome']}" for row in rows)
    return Shown(
        len(rows) == 8 and all(row["outcome"] != "error" for row in rows) and bool(figures),
        f"critic: {outcomes}; judge: {figures.get('solutions')} solutions" if figures else done.stderr[-300:],
    )


CLAIMS = (
    Claim("judge formats", formats),
    Claim("judge read-outs", read_outs),
    Claim("judge backends", backends),
    Claim("judge training", training),
    Claim("shipped judges", shipped),
    Claim("judging keeps what it read", kept),
    Claim("judging overlaps generating", overlaps),
    Claim("ProcessBench", processbench),
)
