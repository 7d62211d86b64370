"""Tools by name: what may work on a step that has ended (`reasoning.steps.Tool`)."""

import difflib
from dataclasses import replace

from decoding.errors import ConfigError
from reasoning.steps import Tool
from verifiers.sandbox.types import Policy

TOOLS = ("python",)


def tool_named(name: str, policy: Policy | None = None) -> Tool:
    """A tool by its name.

    Args:
        name: ``python``: a step's program is run, and what it prints is put behind it.
        policy: How programs are held. The tier that is reached here is required of every worker.

    Raises:
        ConfigError: There is no such tool.
        SandboxError: The machine can't do what the policy asks for.
    """
    from reasoning.search.code_tool import PythonTool
    from verifiers.sandbox.tiers import reached

    if name not in TOOLS:
        close = difflib.get_close_matches(name, TOOLS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"there is no tool {name!r}: {hint}there are {', '.join(TOOLS)}")
    policy = policy or Policy()
    return PythonTool(policy=replace(policy, require_tier=reached(policy)))
