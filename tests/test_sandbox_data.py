"""The data sets' own solutions in the sandbox. Needs their files; skips where they are absent."""

import asyncio
import gzip
import json

import pytest

from tests.shared_data import data_file
from verifiers.base import Outcome
from verifiers.sandbox.judge import judge
from verifiers.sandbox.types import CodeTests, Limits, Policy
from verifiers.workers import WorkerPool

ANY = Policy(allow_weakest=True)
USER_CLASSES = {367, 601, 927}  # the tests make objects of the program's classes
SHORT = Limits(cpu_seconds=2)


def rows(name):
    opened = gzip.open if name.endswith("gz") else open
    with opened(data_file(name), "rt") as file:
        return [json.loads(line) for line in file]


def human_eval(name="humaneval.jsonl"):
    for row in rows(name):
        tests = CodeTests(setup=row["prompt"], test=row["test"], entry_point=row["entry_point"], calls_check=True)
        yield row["task_id"], row["prompt"] + row["canonical_solution"], tests


def broken(program, entry_point):
    """The same program, but what the function returns is wrapped once."""
    return f"{program}\n_right = {entry_point}\ndef {entry_point}(*given):\n    return [_right(*given)]\n"


@pytest.mark.engine
def test_all_solutions_of_human_eval_pass_and_none_does_when_it_is_broken():
    for name, program, tests in human_eval():
        assert judge(program, tests, policy=ANY).outcome is Outcome.CORRECT, name
        assert judge(broken(program, tests.entry_point), tests, policy=ANY).outcome is Outcome.WRONG, name


@pytest.mark.engine
def test_all_solutions_of_human_eval_plus_pass():
    """But one: the tests of HumanEval/32 in this release say ``*candidate(*inp)`` of a float, and pass no program."""
    found = {
        name: judge(program, tests, limits=Limits(cpu_seconds=60, wall_seconds=180), policy=ANY)
        for name, program, tests in human_eval("HumanEvalPlus-OriginFmt.jsonl.gz")
    }
    assert len(found) == 164
    failed = {name: verdict.rule for name, verdict in found.items() if verdict.outcome is not Outcome.CORRECT}
    assert failed == {"HumanEval/32": "raised TypeError"}


def test_a_few_solutions_of_human_eval_pass():
    for name, program, tests in list(human_eval())[::16]:
        assert judge(program, tests, policy=ANY).outcome is Outcome.CORRECT, name


@pytest.mark.engine
def test_all_solutions_of_mbpp_pass():
    passed = 0
    for row in rows("mbpp.jsonl"):
        test = "\n".join(row["test_list"])
        defined = [line.split("(")[0][4:].strip() for line in row["code"].split("\n") if line.startswith("def ")]
        tests = CodeTests(
            setup=row["test_setup_code"],
            test=test,
            entry_point=[name for name in defined if name in test][-1],
            calls_check=False,
        )
        policy = Policy(allow_weakest=True, one_process=row["task_id"] in USER_CLASSES)
        passed += judge(row["code"], tests, policy=policy).outcome is Outcome.CORRECT
    assert passed >= 969


@pytest.mark.engine
def test_one_worker_and_three_agree():
    work = [
        (written, tests, SHORT)
        for _, program, tests in list(human_eval())[::2]
        for written in (program, broken(program, tests.entry_point), f"{program}\nimport os\nos._exit(0)\n")
    ]
    found = [asyncio.run(verdicts(work, size)) for size in (1, 3)]
    assert found[0] == found[1]
    assert {outcome for outcome, _ in found[0]} == {Outcome.CORRECT, Outcome.WRONG}


async def verdicts(work, size):
    async with WorkerPool(size=size) as pool:
        found = await asyncio.gather(*(pool.call(judge_any, *item) for item in work))
    return [(verdict.outcome, verdict.rule) for verdict in found]


def judge_any(program, tests, limits):
    return judge(program, tests, limits=limits, policy=ANY)
