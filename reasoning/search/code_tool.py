"""Code in the loop: a step's program is run, and what it prints is put behind it.

The form is that of AlphaMath (Chen et al. 2024, arXiv 2405.03553, section 3.1): ``<code>`` and ``</code>`` around a
program, and then ``<output>``, what it printed, ``</output>``. A solution's programs go on with each other, as cells of
a notebook do: what the earlier ones define is there, since they are run again, unseen, in a fresh sandbox. So equal
texts give equal outputs, whoever else is running.
"""

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from verifiers.sandbox.judge import examine
from verifiers.sandbox.types import Examination, Limits, Policy

_BLOCK = re.compile(r"<code>(?P<code>.*?)</code>(?:\s*<output>(?P<output>.*?)</output>)?", re.DOTALL)
_FENCE = re.compile(r"\s*```[^\n]*\n(?P<code>.*?)\s*(?:```\s*)?", re.DOTALL)
_STOPPED = "Stopped: "  # a program that was ended is not run again
_PROGRAM = '''
import ast, io, sys, types

module = sys.modules["__main__"] = types.ModuleType("__main__")


def run(cell):
    """Run a cell and show the value of an expression that ends it."""
    body = ast.parse(cell, "<code>").body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "<code>", "exec"), module.__dict__)
    value = last and eval(compile(ast.Expression(last.value), "<code>", "eval"), module.__dict__)
    if value is not None:
        print(repr(value))


def run_all(earlier, last):
    shown = sys.stdout
    for cell in earlier:
        sys.stdout = sys.stderr = io.StringIO()
        try:
            run(cell)
        except (Exception, SystemExit):
            pass  # it was told when the cell was new
    sys.stdout = sys.stderr = shown
    run(last)
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonTool:
    """A `reasoning.steps.Tool` that runs the program with which a step ends, under ``Steps(delimiter="code")``.

    It runs in a worker program, in the sandbox of `verifiers.sandbox`. Errors and exceeded limits are output, too.
    """

    name: ClassVar[str] = "python"

    limits: Limits = field(default_factory=lambda: Limits(cpu_seconds=5.0, wall_seconds=30.0))
    policy: Policy = field(default_factory=Policy)
    packages: tuple[str, ...] = ("numpy", "sympy")  # beside the standard library, where they are installed
    longest: int = 1000  # characters of output that are shown
    opening: str = "\n<output>\n"
    closing: str = "\n</output>\n"  # AlphaMath's models go on behind "\n</output>\n</step>\n"

    async def __call__(self, run: Any, text: str) -> str:
        """What to put behind the text: its last program's output; nothing where that has one, or there is none.

        Raises ``ConfigError`` where the run has no worker programs, ``WorkerError`` where the machine has no sandbox.
        """
        blocks = list(_BLOCK.finditer(text))
        if not blocks or blocks[-1]["output"] is not None:
            return ""
        earlier = [_code(block["code"]) for block in blocks[:-1] if not _was_stopped(block["output"])]
        output: str = await run.call(_run, self, earlier, _code(blocks[-1]["code"]))
        return self.opening + output + self.closing


def _run(tool: PythonTool, earlier: list[str], last: str) -> str:
    """The output of the last program, run after the earlier ones."""
    call = f"run_all({earlier!r}, {last!r})"
    told = _told(examine(_PROGRAM, call, packages=tool.packages, limits=tool.limits, policy=tool.policy), tool.limits)
    return told if len(told) <= tool.longest else told[: tool.longest] + "..."


def _told(seen: Examination, limits: Limits) -> str:
    if seen.outcome == "returned":
        return seen.stdout.strip()
    if seen.outcome == "raised":
        return f"{seen.stdout}{seen.value}".strip()
    reason = f"it used more than {limits.cpu_seconds:g} s of CPU time" if seen.outcome == "cpu limit" else seen.outcome
    return _STOPPED + reason


def _code(block: str) -> str:
    """A program without a fence around it."""
    fenced = _FENCE.fullmatch(block)
    return (fenced["code"] if fenced else block).strip("\n")


def _was_stopped(output: str | None) -> bool:
    return output is not None and output.lstrip().startswith(_STOPPED)
