"""Judging programs against a data set's tests.

Programs run in `verifiers.sandbox` only, started from worker programs. How the verdict came about is written behind the
rule: the tier of the sandbox, and whether values were compared ("passed [namespaces, values]").
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from verifiers.base import Verdict
from verifiers.code.programs import assemble
from verifiers.exact import UNANSWERED
from verifiers.sandbox.judge import judge
from verifiers.sandbox.tiers import reached
from verifiers.sandbox.types import CodeTests, CodeVerdict, Limits, Policy

_WORD = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeReference:
    """What a program is judged by."""

    prompt: str  # what a continuation goes on with, and imports and helpers that a whole program may use
    tests: CodeTests
    one_process: bool = False  # the tests need classes of the program's own

    @classmethod
    def from_json(cls, text: str) -> "CodeReference":
        """From the text that `to_json` gives."""
        fields = json.loads(text)
        return cls(**{**fields, "tests": CodeTests(**fields["tests"])})

    def to_json(self) -> str:
        """As `Problem.reference` holds it."""
        return json.dumps(asdict(self))

    def program(self, answer: str) -> str:
        """The whole program of an extracted answer."""
        # Asserts may use more names of the program than one; `check` gets the function and nothing else.
        used = () if self.tests.calls_check else _WORD.findall(f"{self.tests.setup}\n{self.tests.test}")
        return assemble(answer, prompt=self.prompt, entry_point=self.tests.entry_point, also=used)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeVerifier:
    """Right if the program passes all tests. References are `CodeReference` as JSON."""

    limits: Limits = field(default_factory=Limits)
    policy: Policy = field(default_factory=Policy)

    def quick(self, answer: str | None, reference: str) -> Verdict | None:
        """None: only running it can tell; without a program, ``no_answer``."""
        return UNANSWERED if answer is None else None

    def verify(self, answer: str | None, reference: str) -> Verdict:
        """Run the program against the tests; raises ``SandboxError`` where the machine can't hold it."""
        if answer is None:
            return UNANSWERED
        against = CodeReference.from_json(reference)
        found = judge_program(against.program(answer), against, self.limits, self.policy)
        return Verdict(outcome=found.outcome, rule=f"{found.rule} [{found.tier.name.lower()}, {found.mode}]")

    def environment(self) -> Mapping[str, object]:
        """What of the machine goes into the verdicts, for the run's record; raises ``SandboxError`` as `verify`."""
        return {"sandbox": reached(self.policy).name.lower(), "limits": asdict(self.limits)}


def judge_program(program: str, against: CodeReference, limits: Limits, policy: Policy) -> CodeVerdict:
    """Run a whole program against the tests of a reference, in one process where those need that."""
    return judge(program, against.tests, limits=limits, policy=replace(policy, one_process=against.one_process))
