"""Hostile programs: the verdict, what they must not have done, and a right program in the same sandbox behind each."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from decoding.errors import SandboxError
from tests.hostile.programs import OUTSIDE, PROGRAMS
from verifiers.base import Outcome
from verifiers.sandbox.boxes import boxes
from verifiers.sandbox.judge import judge
from verifiers.sandbox.tiers import reached
from verifiers.sandbox.types import CodeTests, Limits, Policy, Tier

TESTS = CodeTests(
    setup="",
    test="def check(candidate):\n    assert candidate(1) == 2  # SECRET\n    assert candidate(41) == 42\n",
    entry_point="f",
    calls_check=True,
)
LIMITS = Limits(cpu_seconds=1, wall_seconds=20, memory_bytes=2**29)
PATIENT = Limits(cpu_seconds=10, wall_seconds=40, memory_bytes=2**29)  # filling memory can take a second by itself
SLEEPER = Limits(cpu_seconds=1, wall_seconds=1)
GOOD = "def f(x):\n    return x + 1\n"
BAD = "def f(x):\n    return x\n"
CASES = [
    pytest.param(row, tier, id=f"{row.name} ({tier.name.lower()})", marks=marks)
    for tier in (Tier.NAMESPACES, Tier.FILTERED)
    for row in PROGRAMS
    for marks in [[pytest.mark.engine] if row.slow or tier is not Tier.NAMESPACES else []]
]


def policy_of(tier):
    policy = Policy(use_tier=tier, allow_weakest=True)
    try:
        reached(policy)
    except SandboxError as error:
        pytest.skip(str(error))
    return policy


@pytest.fixture
def outside():
    """A folder that everybody may write to; pytest's own belong to their user alone."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="bethink-test-") as name:
        os.chmod(name, 0o777)
        victim = Path(name, "victim")
        victim.write_text("unharmed")
        os.chmod(victim, 0o666)
        os.utime(victim, (1000, 1000))
        yield Path(name)


def left():
    """Descriptors, processes, and files of users that only sandboxes have."""
    own = psutil.Process()
    for tier in Tier:
        boxes(tier, os.getpid()).close()
    files = [path for folder in ("/tmp", "/var/tmp", "/dev/shm") for path in Path(folder).iterdir()]
    strangers = [path for path in files if path.is_symlink() or path.exists()]
    return own.num_fds(), set(own.children(recursive=True)), [p for p in strangers if p.lstat().st_uid >= 0x70000000]


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left():
    for tier in Tier:  # what is found out once in a process stays
        with contextlib.suppress(SandboxError):
            judge(GOOD, TESTS, policy=Policy(use_tier=tier, allow_weakest=True))
    before = left()  # with other tests' servers
    yield
    assert left() == before
    assert not before[2]


def harmed(outside):
    """Whether somebody has been there."""
    victim = outside / "victim"
    if (outside / "mark").exists() or not victim.exists() or victim.read_text() != "unharmed":
        return True
    return victim.stat().st_mode & 0o777 != 0o666 or victim.stat().st_mtime != 1000


@pytest.mark.parametrize(("row", "tier"), CASES)
def test_a_hostile_program_gains_nothing(row, tier, outside):
    policy = policy_of(tier)
    limits = SLEEPER if "sleeps" in row.name else LIMITS if row.outcome is Outcome.TIMEOUT else PATIENT
    verdict = judge(row.source.replace(OUTSIDE, str(outside)), TESTS, limits=limits, policy=policy)
    assert (verdict.outcome, verdict.tier, verdict.mode) == (row.outcome, tier, "values")
    assert row.rule in verdict.rule
    assert judge(GOOD, TESTS, limits=LIMITS, policy=policy).outcome is Outcome.CORRECT  # something ran at all
    assert judge(BAD, TESTS, limits=LIMITS, policy=policy).rule == "assertion failed"
    if "later" in row.name:
        time.sleep(0.4)
    assert not harmed(outside)


@pytest.mark.parametrize("row", [row for row in PROGRAMS if row.writes], ids=lambda row: row.name)
def test_without_a_sandbox_it_does_harm(row, outside):
    """Else that no harm is done in a sandbox says nothing."""
    source = row.source.replace(OUTSIDE, str(outside)).replace("/tmp/link", f"{outside}/link")
    subprocess.run([sys.executable, "-c", f"{source}\nf(1)"], check=False, timeout=20)
    deadline = time.monotonic() + 5
    while not harmed(outside) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert harmed(outside)


LEAVE_PROCESSES = [row for row in PROGRAMS if row.name[:2] in ("01", "02", "03", "04", "43")]


@pytest.mark.engine
@pytest.mark.parametrize("row", LEAVE_PROCESSES, ids=lambda row: row.name)
def test_in_the_weakest_tier_no_process_is_left(row, outside):
    """There, programs can start processes; they are found and killed when the check ends."""
    policy = policy_of(Tier.LIMITS)
    for tier in Tier:
        boxes(tier, os.getpid()).close()
    others = set(psutil.Process().children(recursive=True))
    judge(row.source.replace(OUTSIDE, str(outside)), TESTS, limits=LIMITS, policy=policy)
    assert judge(GOOD, TESTS, limits=LIMITS, policy=policy).outcome is Outcome.CORRECT
    time.sleep(0.4)
    assert not harmed(outside)
    for tier in Tier:
        boxes(tier, os.getpid()).close()
    assert set(psutil.Process().children(recursive=True)) <= others
