"""What a claim is, and what those who show them share."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Shown(NamedTuple):
    """What a claim came to."""

    holds: bool
    figure: str


class Claim(NamedTuple):
    """A claim and how it is shown; the function gets the data folder and a folder for its results."""

    name: str
    show: Callable[[Path, Path], Shown]


def evaluate(folder: Path, task: str, model: str, limit: int, *rest: str) -> None:
    """Run `bethink eval` into a folder; what is there already is not done again."""
    head = [sys.executable, "-m", "bethink", "eval", task, "--model", model, "--limit", str(limit)]
    subprocess.run([*head, "--out", str(folder), *rest], check=True, stdout=subprocess.DEVNULL)


def tests(*names: str) -> Shown:
    """Run whole test modules, the real engines included; nothing may be skipped."""
    files = [f"tests/{name}.py" for name in names]
    line = [sys.executable, "-m", "pytest", "-m", "engine or not engine", *files]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    last = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    return Shown(done.returncode == 0 and "skipped" not in last, last)
