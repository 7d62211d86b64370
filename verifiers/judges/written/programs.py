"""Programs in a critique: they run in the sandbox, and the judge is shown what they print."""

import re

from verifiers.sandbox.judge import examine
from verifiers.sandbox.types import Limits, Policy

MOST_TOKENS = 1000  # about, of an output as it is shown
_BLOCK = re.compile(r"```python\s*(.*?)\s*```", re.DOTALL)
LIMITS = Limits(cpu_seconds=5.0, wall_seconds=10.0, memory_bytes=2**29)
_OUT_OF_TIME = ("cpu limit", "the program used more than", "no verdict within")
_PACKAGES = ("numpy", "sympy")  # loaded for those that name them
_LONGEST = 2000  # characters of an output
# Programs of one critique share their names. What the earlier ones print has been shown already.
_BEHIND_OTHERS = """\
import contextlib, io
for earlier in {earlier!r}:
    with contextlib.suppress(Exception, SystemExit), contextlib.redirect_stdout(io.StringIO()):
        exec(earlier, globals())
exec({last!r}, globals())
"""


def last_program(text: str) -> str | None:
    """The last fenced block of Python in a text."""
    found = _BLOCK.findall(text)
    return found[-1] if found else None


def output_of(programs: tuple[str, ...], policy: Policy, limits: Limits = LIMITS) -> str:
    """What the last of some programs prints behind the others, or how it failed, in GenPRM's words. Blocks.

    Raises:
        SandboxError: The machine can't hold programs as safely as the policy wants.
    """
    *earlier, last = programs
    program = _BEHIND_OTHERS.format(earlier=earlier, last=last) if earlier else last
    packages = tuple(name for name in _PACKAGES if name in program)
    found = examine(program, "None", packages=packages, limits=limits, policy=policy)
    if found.outcome == "returned":
        return found.stdout.strip()[:_LONGEST]
    if found.outcome == "raised":
        return f"Code execute Error: {found.value}"[:_LONGEST]
    if found.outcome.startswith(_OUT_OF_TIME):
        return "Code execute time out: Code execution timed out"
    return f"Code execute Error: {found.outcome}"[:_LONGEST]
