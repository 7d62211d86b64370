"""Graders by name: ours, and those of other harnesses."""

import difflib
import re
from collections.abc import Callable
from typing import NamedTuple

from decoding.errors import ConfigError
from verifiers.base import AnswerFormat, Verifier
from verifiers.compat.hendrycks import BoxedFormat, HendrycksVerifier
from verifiers.compat.math_verify import MathVerifyFormat, MathVerifyVerifier
from verifiers.compat.minerva import MinervaFormat, MinervaVerifier
from verifiers.compat.prm800k import Prm800kFormat, Prm800kVerifier
from verifiers.lm_eval import LmEvalFormat, LmEvalVerifier
from verifiers.math import MathFormat, MathVerifier
from verifiers.numeric import NumberFormat, NumberVerifier


class Grader(NamedTuple):
    """How answers are found, and how they are judged."""

    answers: AnswerFormat
    verifier: Verifier


def grader_by_name(name: str) -> Grader:
    """One of `GRADERS`; raises ``ConfigError`` for an unknown name, and for ``qwen_math``."""
    if name == "qwen_math":
        raise ConfigError(
            "the grader of Qwen2.5-Math runs model output as Python (sympy's parse_expr is eval), and without that it "
            "is another grader: use math, or math_verify"
        )
    if name not in GRADERS:
        close = difflib.get_close_matches(name, GRADERS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"unknown grader {name!r}: {hint}there are {', '.join(GRADERS)}")
    return GRADERS[name]()


def _lm_eval(name: str, pattern: str, *, last: bool) -> Grader:
    return Grader(LmEvalFormat(name=name, pattern=re.compile(pattern), last=last), LmEvalVerifier())


GRADERS: dict[str, Callable[[], Grader]] = {
    "number": lambda: Grader(NumberFormat(), NumberVerifier()),
    "math": lambda: Grader(MathFormat(), MathVerifier()),
    "lm_eval_strict": lambda: _lm_eval("lm_eval_strict", r"#### (-?[0-9.,]+)", last=False),
    "lm_eval_flexible": lambda: _lm_eval("lm_eval_flexible", r"(-?[$0-9.,]{2,})|(-?[0-9]+)", last=True),
    "hendrycks": lambda: Grader(BoxedFormat(), HendrycksVerifier()),
    "minerva": lambda: Grader(MinervaFormat(), MinervaVerifier()),
    "prm800k": lambda: Grader(Prm800kFormat(), Prm800kVerifier()),
    "math_verify": lambda: Grader(MathVerifyFormat(), MathVerifyVerifier()),
}
