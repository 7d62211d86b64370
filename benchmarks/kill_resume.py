"""SIGKILL in the middle of an evaluation, twice, and what is left of it.

An evaluation on the real vLLM engine is killed at two random points between 10 and 90 % of its samples and started
again with the same line each time. In the end its store must equal that of an uninterrupted run, nothing that was
finished may have been generated again, and no process of a killed run may be alive 10 seconds later.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.machine import write
from evals.store import read_rows

POLL_SECONDS = 0.02
GRACE_SECONDS = 10.0
START_SECONDS = 300.0


class Kill(NamedTuple):
    """One kill."""

    samples: int  # in the store when the signal was sent
    processes: int  # of the run, just before
    survivors: int  # of them, `GRACE_SECONDS` later
    seconds: float  # until the last of them was gone


class Outcome(NamedTuple):
    """What the whole test showed."""

    total: int
    kills: list[Kill]
    regenerated: int  # samples that were generated although they were finished
    differing: int  # samples in one store and not in the other
    differing_results: int


def command(folder: Path, problems: int, samples: int) -> list[str]:
    """The line that is run, each time the same."""
    return [
        *(sys.executable, "-m", "bethink", "eval", "reference:8", "--model", "reference-base", "--engine", "vllm"),
        *("-s", f"repeated_sampling:n={samples}", "-s", f"self_consistency:n={samples}"),
        *("--limit", str(problems), "--out", str(folder)),
    ]


def measure(problems: int, samples: int, seed: int) -> Outcome:
    """Run once without and once with two kills, and compare."""
    rng = random.Random(seed)
    total = problems * samples
    first, second = total * rng.uniform(0.1, 0.5), total * rng.uniform(0.5, 0.9)
    with tempfile.TemporaryDirectory() as temporary:
        whole, killed = Path(temporary) / "whole", Path(temporary) / "killed"
        subprocess.run(command(whole, problems, samples), check=True, stdout=subprocess.DEVNULL)
        kills = [kill_at(command(killed, problems, samples), killed, int(point)) for point in (first, second)]
        subprocess.run(command(killed, problems, samples), check=True, stdout=subprocess.DEVNULL)
        keys = Counter((row["problem"], row["slot"]) for row in read_rows(killed, "samples"))
        return Outcome(
            total=total,
            kills=kills,
            regenerated=sum(keys.values()) - len(keys),
            differing=len(_samples(whole) ^ _samples(killed)),
            differing_results=len(_results(whole) ^ _results(killed)),
        )


def kill_at(line: list[str], folder: Path, samples: int) -> Kill:
    """Start the line, kill it when its store holds so many samples, and watch its processes go."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = folder / "samples.jsonl"
    deadline = time.monotonic() + START_SECONDS
    while (held := _lines(path)) < samples:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the run ended, or did not start, before it had {samples} samples: it had {held}")
        time.sleep(POLL_SECONDS)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    start = time.monotonic()
    _, alive = psutil.wait_procs(family, timeout=GRACE_SECONDS)
    return Kill(_lines(path), 1 + len(family), len(alive), time.monotonic() - start)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _samples(folder: Path) -> set[tuple[object, ...]]:
    verdicts = {(row["problem"], row["slot"]): row["outcome"] for row in read_rows(folder, "grades")}
    return {
        (
            *(row["problem"], row["slot"], row["seed"], tuple(row["token_ids"]), row["finish_reason"]),
            verdicts[row["problem"], row["slot"]],
        )
        for row in read_rows(folder, "samples")
    }


def _results(folder: Path) -> set[tuple[object, ...]]:
    return {
        (row["problem"], row["strategy"], row["slot"], row["answer"], row["outcome"])
        for row in read_rows(folder, "results")
    }


def main() -> None:
    """Measure and write the table; exit code 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcome = measure(arguments.problems, arguments.samples, arguments.seed)
    lines = [
        f"# Killed twice and started again: {arguments.problems} problems x {arguments.samples} samples, vLLM",
        "",
        "| kill | samples in the store | processes | alive after 10 s | last one gone after |",
        "|---|---|---|---|---|",
        *(
            f"| {i} | {kill.samples} of {outcome.total} | {kill.processes} | {kill.survivors} | {kill.seconds:.1f} s |"
            for i, kill in enumerate(outcome.kills, start=1)
        ),
        "",
        f"Against an uninterrupted run: {outcome.differing} of {outcome.total} samples differ in (problem, slot, seed, "
        f"token_ids, finish_reason, verdict), {outcome.differing_results} results differ, "
        f"{outcome.regenerated} finished samples were generated again.",
    ]
    name = f"--problems {arguments.problems} --samples {arguments.samples} --seed {arguments.seed}"
    write("kill_resume", "\n".join(lines), f"python -m benchmarks.kill_resume {name}")
    survivors = sum(kill.survivors for kill in outcome.kills)
    sys.exit(bool(survivors or outcome.regenerated or outcome.differing or outcome.differing_results))


if __name__ == "__main__":
    main()
