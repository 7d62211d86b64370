"""Programs in the steps of a search, run in the real sandbox."""

import asyncio
from dataclasses import replace

import pytest

from decoding.engines.scripted import ScriptedEngine, Table
from decoding.errors import ConfigError
from reasoning.api import execute
from reasoning.run import Run
from reasoning.search.code_tool import PythonTool
from reasoning.search.tree import Grown
from reasoning.steps import Steps
from reasoning.strategies.mcts import MCTS
from reasoning.strategies.step_beam import StepBeam
from reasoning.tools import tool_named
from tests.judges import TextJudge
from tests.worlds import PROMPT, settings
from verifiers.sandbox.tiers import reached
from verifiers.sandbox.types import Limits, Policy
from verifiers.workers import WorkerPool

ANY = Policy(allow_weakest=True)
TOOL = PythonTool(limits=Limits(cpu_seconds=1, wall_seconds=20), policy=ANY, packages=())


@pytest.fixture(scope="module")
def ask():
    """What the tool puts behind texts; its worker and its sandboxes stay for the module."""
    loop = asyncio.new_event_loop()
    pool = WorkerPool(size=1)
    yield lambda text, tool=TOOL: loop.run_until_complete(tool(pool, text))
    loop.run_until_complete(pool.aclose())
    loop.close()


def block(code, output=None):
    return f"<code>\n{code}\n</code>" + ("" if output is None else f"\n<output>\n{output}\n</output>\n")


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("first\n" + block("print(6 * 7)"), "42"),
        (block("```python\nx = 3\nprint(x)\n```"), "3"),
        (block("x = 3\nx + 1"), "4"),  # as a notebook shows it
        (block("x = 3"), ""),
        (block("print('a')\n1 / 0"), "a\nZeroDivisionError: division by zero"),
        (block("def f(:"), "SyntaxError: invalid syntax (<code>, line 1)"),
        (block("if __name__ == '__main__':\n    print('main')"), "main"),
        (block("x = 3\nprint('seen')", "seen") + "so\n" + block("print(x)"), "3"),  # defined before, printed once
        (block("x = 3\n1 / 0", "ZeroDivisionError") + block("print(x)"), "3"),  # up to its error it counts
        (block("xs = [1]\nxs.append(2)", "") + block("xs.append(3)", "") + block("print(xs)"), "[1, 2, 3]"),
        (block("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int'", "") + block("A(2)"), "A(x=2)"),
    ],
)
def test_what_a_program_prints_is_put_behind_it(ask, text, output):
    assert ask(text) == f"\n<output>\n{output}\n</output>\n"


@pytest.mark.parametrize(
    "text", ["", "no code", block("print(1)", "1"), block("print(1)", "1") + "</step>", "<code>print(1)", "x</code>"]
)
def test_nothing_is_put_where_no_program_waits(ask, text):
    assert ask(text) == ""


def test_limits_are_output_and_what_was_stopped_is_not_run_again(ask):
    endless = block("x = 1\nwhile True:\n    pass")
    told = ask(endless)
    assert told == "\n<output>\nStopped: it used more than 1 s of CPU time\n</output>\n"
    assert ask(endless + told + block("print('on')")) == "\n<output>\non\n</output>\n"
    left = ask(block("import os\nos._exit(3)"))
    assert left == "\n<output>\nStopped: the program ended, exit status 3\n</output>\n"
    long = ask(block("print('x' * 10**6)"))
    assert len(long) < 1100
    assert long.endswith("x...\n</output>\n")


def test_a_program_can_not_leave_the_sandbox(ask, tmp_path):
    path = tmp_path / "made"
    told = ask(block(f"open({str(path)!r}, 'w')"))
    assert "Error" in told
    assert not path.exists()


def test_it_is_known_by_its_name():
    assert tool_named("python", ANY) == PythonTool(policy=replace(ANY, require_tier=reached(ANY)))


# A model that writes a program, and then the answer that the output shows.
CODER = Table(
    vocabulary=(
        "<end>",
        "q",
        "<code>",
        "print(",
        "1",
        "2",
        "*3)",
        "</code>",
        "\n<output>\n",
        "\n</output>\n",
        "#",
        "3",
        "6",
    ),
    eos_token_ids=frozenset({0}),
    laws={
        (): [0, 0, 1.0] + [0] * 10,
        (2,): [0, 0, 0, 1.0] + [0] * 9,
        (3,): [0, 0, 0, 0, 0.5, 0.5] + [0] * 7,
        **{(token,): [0] * 6 + [1.0] + [0] * 6 for token in (4, 5)},
        (6,): [0] * 7 + [1.0] + [0] * 5,
        (9,): [0] * 10 + [1.0, 0, 0],
        (11, 9, 10): [0] * 11 + [1.0, 0],  # it copies
        (12, 9, 10): [0] * 11 + [0, 1.0],
        (10, 11): [1.0] + [0] * 12,
        (10, 12): [1.0] + [0] * 12,
    },
)


@pytest.mark.parametrize("strategy", [StepBeam(b1=2, b2=3), MCTS(simulations=3, children=3)], ids=lambda s: s.name)
def test_a_search_sees_what_its_programs_print(strategy):
    def right(text):
        return 1.0 if "2*3" in text else 0.1

    async def work():
        async with WorkerPool(size=1) as pool:
            judges = {"value": TextJudge(score=right)}
            chosen = settings(ScriptedEngine(CODER), judges=judges, workers=pool)
            run = Run(replace(chosen, steps=Steps(delimiter="code", tool=TOOL)), "p")
            return await execute(strategy, run, PROMPT)

    result = asyncio.run(work())
    assert result.text == "<code>print(2*3)</code>\n<output>\n6\n</output>\n#6"
    first = [event for event in result.trace if isinstance(event, Grown) and event.parent == 0]
    assert {event.text for event in first} <= {
        f"<code>print({n}*3)</code>\n<output>\n{3 * n}\n</output>\n" for n in (1, 2)
    }
    assert all(event.tokens == 5 for event in first)  # the output was put there, not written


def test_without_workers_there_is_no_running():
    run = Run(settings(ScriptedEngine(CODER)), "p")
    with pytest.raises(ConfigError, match="worker programs"):
        asyncio.run(TOOL(run, block("print(1)")))
