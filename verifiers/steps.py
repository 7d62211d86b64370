"""Answers that are a sequence of states, one written step a line, and how far they agree with the true ones.

    Step 1: remove c -> [hhoumkd]
    Step 2: remove u -> [hhomkd]

A state stands in square brackets, the last ones of its line. A line that was cut off has no closing bracket, so a state
is read whole or not at all. The last step's state is the final state.

The measures are those of ProcBench (Fujisawa et al. 2024, arXiv 2410.03117, and its code).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from verifiers.base import Extraction, Outcome, Verdict
from verifiers.exact import NO_ANSWER, UNANSWERED, Spelt

MAX_STEPS = 10_000  # a step with a higher number is not read
_LONGEST = 2000  # characters of a line that is read
_INTEGER = re.compile(r"([+-]?)0*([0-9]+)", re.ASCII)
_STATE = re.compile(r"\[([^\[\]]*)\][^\[\]]*\Z")

States = Sequence[str | None]  # None: a step that was left out


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFormat(Spelt):
    """The states of lines such as ``Step 3: [state]``, as a JSON list.

    Of two lines with one number the later counts, and a first step begins anew.
    """

    label: str = "Step"
    name: str = field(default="steps", init=False)

    def extract(self, text: str) -> Extraction:
        """The states that a text gives; a number that was left out before others has the state null."""
        line = re.compile(rf"^[ \t>*#-]*{self.label}[ \t]*([0-9]{{1,5}})\b(.*)$", re.IGNORECASE | re.MULTILINE)
        states: dict[int, str] = {}
        span: tuple[int, int] | None = None
        for match in line.finditer(text):
            number, rest = int(match[1]), match[2]
            state = _STATE.search(rest) if len(rest) <= _LONGEST else None
            if state is None or not 1 <= number <= MAX_STEPS:
                continue
            if number == 1:
                states.clear()
            states[number] = spell_state(state[1])
            # Without the closing bracket: where that is there, a completion that was cut off behind it is no worse.
            span = (match.start(2) + state.start(1), match.start(2) + state.end(1))
        if span is None:
            return NO_ANSWER
        sequence = [states.get(number) for number in range(1, max(states) + 1)]
        return Extraction(value=spell_states(sequence), rule=self.name, span=span)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepVerifier:
    """Right if every state is right and none is too many; the rule says how many were right from the first on."""

    def quick(self, answer: str | None, reference: str) -> Verdict:
        """Judge states that `StepFormat` read; None is ``no_answer``."""
        if answer is None:
            return UNANSWERED
        measured = measure_steps(json.loads(answer), json.loads(reference))
        outcome = Outcome.CORRECT if measured.sequential_match else Outcome.WRONG
        return Verdict(outcome=outcome, rule=str(measured))

    verify = quick


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMeasures:
    """How far written states agree with the true ones."""

    prefix_match_length: int  # states that are right before the first that is not
    final_match: bool  # the last state written is the true final state
    steps: int  # true ones
    written: int

    @property
    def prefix_accuracy(self) -> float:
        """The prefix match length over the longer of both sequences, in [0, 1]."""
        return self.prefix_match_length / max(self.steps, self.written)

    @property
    def sequential_match(self) -> bool:
        """Whether both sequences are the same."""
        return self.prefix_match_length == self.steps == self.written

    def __str__(self) -> str:
        surplus = f" of {self.written} written" if self.written > self.steps else ""
        final = ", final right" if self.final_match and not self.sequential_match else ""
        return f"steps {self.prefix_match_length}/{self.steps}{surplus}{final}"


def measure_steps(written: States, true: Sequence[str]) -> StepMeasures:
    """Compare written states, [any], with the true ones, [steps], at least one."""
    matches = 0
    for given, wanted in zip(written, true, strict=False):
        if given != wanted:
            break
        matches += 1
    return StepMeasures(
        prefix_match_length=matches,
        final_match=bool(written) and written[-1] == true[-1],
        steps=len(true),
        written=len(written),
    )


def spell_states(states: States) -> str:
    """States as the JSON list that answers and references are."""
    return json.dumps(list(states))


def spell_state(text: str) -> str:
    """The spelling by which states are compared: no spaces, no quotes, integers without a plus or leading zeros."""
    plain = text.replace("\N{MINUS SIGN}", "-")
    return ",".join(_spell_item("".join(re.sub(r"[\"'`]", "", item).split())) for item in plain.split(","))


def _spell_item(item: str) -> str:
    integer = _INTEGER.fullmatch(item)
    if integer is None:
        return item
    return ("-" if integer[1] == "-" and integer[2] != "0" else "") + integer[2]
