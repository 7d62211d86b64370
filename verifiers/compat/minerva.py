r"""The grader of lm-evaluation-harness's ``minerva_math``: a difference that sympy simplifies to zero.

Source: EleutherAI/lm-evaluation-harness, ``lm_eval/tasks/minerva_math/utils.py`` (``exact_match``), whose table of
replacements is appendix D of Lewkowycz et al. 2022. Faults kept: an answer is only what stands in "Final Answer: The
final answer is ... I hope it is correct."; a spelling is not equal to itself where sympy can't read it, so every tuple,
interval and percentage is wrong; ``ft`` is cut out of ``\left`` and ``\infty`` as a unit.

What differs: there is no alarm of 5 s; the worker's CPU limit ends what runs long, and the verdict says ``timeout``.
``parse_latex`` builds sympy objects from a grammar, numerals by ``sympify``, which is ``eval``: while it reads here,
`verifiers.math.safe_sympy` stands for that.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from decoding.errors import ConfigError
from verifiers.base import Extraction, Outcome, Verdict
from verifiers.exact import NO_ANSWER, UNANSWERED
from verifiers.math.safe_sympy import no_eval

_BEGINNING = "Final Answer: The final answer is"
_END = " I hope it is correct"
_REPLACED = (
    *(("an ", ""), ("a ", ""), (".$", "$"), (r"\$", ""), (r"\ ", ""), (" ", ""), ("mbox", "text")),
    *((r",\text{and}", ","), (r"\text{and}", ","), (r"\text{m}", r"\text{}")),
)
_REMOVED = (
    *("square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units", r"\ldots", "sue"),
    *("points", "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges"),
    *("students", "childrentickets", "multiples", r"\text{s}", r"\text{.}", "\\text{\ns}", r"\text{}^2"),
    *(r"\text{}^3", "\\text{\n}", r"\text{}", r"\mathrm{th}", r"^\circ", r"^{\circ}", r"\;", r",\!", "{,}", '"'),
    r"\dots",
)
_UNWRAPPED = (
    (r"(.*?)(\$)(.*?)(\$)(.*)", r"$\3$"),
    *((rf"(\\{command}\{{)(.*?)(\}})", r"\2") for command in ("text", "textbf", "overline")),
    *((r"(\\boxed\{)(.*)(\})", r"\2"), (r"(frac)([^{])(.)", r"frac{\2}{\3}"), (r"(sqrt)([^{])", r"sqrt{\2}")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinervaFormat:
    """What stands behind "Final Answer: The final answer is", on the same line."""

    name = "minerva"

    def extract(self, text: str) -> Extraction:
        """The answer in a model's text, by lines: the pattern of the original would be quadratic."""
        offset = 0
        for line in (text + _END[1:] + ".").split("\n"):
            start = line.find(_BEGINNING) + len(_BEGINNING)
            end = line.find(_END, start + 1) if start >= len(_BEGINNING) else -1
            if 0 <= end < len(line) - len(_END):
                inside = line[start : end - 1]
                first = offset + start + len(inside) - len(inside.lstrip())
                value = inside.strip()
                return Extraction(value=value, rule="minerva", span=(first, first + len(value)))
            offset += len(line) + 1
        return NO_ANSWER

    def key(self, value: str) -> str:
        """The spelling itself."""
        return value

    @property
    def equality(self) -> "MinervaVerifier":
        """The same that grades."""
        return MinervaVerifier()


@dataclass(frozen=True, slots=True, kw_only=True)
class MinervaVerifier:
    """``is_equiv``: right if ``simplify(parse_latex(answer) - parse_latex(reference))`` is 0."""

    def quick(self, answer: str | None, reference: str) -> Verdict | None:
        """Only that there is no answer."""
        return UNANSWERED if answer is None else None

    def verify(self, answer: str | None, reference: str) -> Verdict:
        """Judge an extracted answer, with sympy: in a worker."""
        if answer is None:
            return UNANSWERED
        same = _is_zero(spelling(answer), spelling(reference))
        return Verdict(outcome=Outcome.CORRECT if same else Outcome.WRONG, rule="minerva")


def spelling(text: str) -> str:
    """What ``normalize_final_answer`` makes of a text."""
    text = text.split("=")[-1]
    for old, new in (*_REPLACED, *((expression, "") for expression in _REMOVED)):
        text = text.replace(old, new)
    for pattern, replacement in _UNWRAPPED:
        text = re.sub(pattern, replacement, text)
    text = text.replace("$", "")
    without = text.replace(",", "")
    return without if without.isdigit() else text


@cache
def _sympy() -> tuple[Callable[[str], Any], Callable[[Any], Any]]:
    try:
        from sympy import simplify
        from sympy.parsing.latex import parse_latex

        parse_latex("x")  # loads the rest, and looks for a version of antlr that fits
    except ImportError as error:
        raise ConfigError(f"minerva reads LaTeX with sympy ({error}): pip install 'bethink[math]'") from error
    return parse_latex, simplify


def _is_zero(answer: str, reference: str) -> bool:
    parse_latex, simplify = _sympy()
    try:
        with no_eval():
            given, truth = parse_latex(answer), parse_latex(reference)
        return bool(simplify(given - truth) == 0)
    except Exception:  # as the original: what can't be read, subtracted or simplified is not equal
        return False
