"""Graders of numbers by name: ours, and those of other harnesses."""

import difflib
import re
from typing import NamedTuple

from decoding.errors import ConfigError
from verifiers.base import AnswerFormat, Verifier
from verifiers.lm_eval import LmEvalFormat, LmEvalVerifier
from verifiers.numeric import NumberFormat, NumberVerifier


class Grader(NamedTuple):
    """How answers are found, and how they are judged."""

    answers: AnswerFormat
    verifier: Verifier


def grader_by_name(name: str) -> Grader:
    """``number`` (ours), ``lm_eval_strict`` or ``lm_eval_flexible``; raises ``ConfigError`` for an unknown name."""
    lm_eval = {
        "lm_eval_strict": (r"#### (-?[0-9.,]+)", False),
        "lm_eval_flexible": (r"(-?[$0-9.,]{2,})|(-?[0-9]+)", True),
    }
    if name == "number":
        return Grader(NumberFormat(), NumberVerifier())
    if name not in lm_eval:
        close = difflib.get_close_matches(name, ["number", *lm_eval], n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"unknown grader {name!r}: {hint}there are number, {', '.join(lm_eval)}")
    pattern, last = lm_eval[name]
    return Grader(LmEvalFormat(name=name, pattern=re.compile(pattern), last=last), LmEvalVerifier())
