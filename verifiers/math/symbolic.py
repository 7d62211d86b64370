r"""The last layer: Math-Verify (Hugging Face, Apache-2.0), which compares LaTeX by sympy. Runs in a worker, never here.

It is given one answer between dollar signs, with its timeouts off: they are alarms that can't interrupt C code and
would count as "wrong"; the worker's CPU limit stops it for certain. Only its LaTeX reader is used, which builds sympy
objects from a grammar. Numerals go through its ``parse_expr``, which is ``eval``; `safe_sympy` stands for it there.
"""

import logging
from functools import cache
from typing import Any

from decoding.errors import ConfigError
from verifiers.math.safe_sympy import no_eval

_DOLLAR = r"\dollar"  # ours, for a sign of currency


def equivalent(answer: str, reference: str) -> bool | None:
    """Whether Math-Verify takes one for the other, in either direction, as it treats the two differently.

    None if it can't read the reference. The texts are normalised, so that no dollar sign in them ends the formula.
    """
    parse, verify, configuration = _math_verify()
    with no_eval():
        left, right = (
            parse(f"${text.replace(_DOLLAR, '')}$", [configuration], parsing_timeout=None)
            for text in (answer, reference)
        )
    if all(isinstance(found, str) for found in right):
        return None
    return any(
        verify(gold, given, timeout_seconds=None, allow_set_relation_comp=True)
        for gold, given in ((right, left), (left, right))
    )


@cache
def _math_verify() -> tuple[Any, Any, Any]:
    try:
        from math_verify import LatexExtractionConfig, parse, verify
    except ImportError as error:
        raise ConfigError(f"this answer needs symbolic work ({error}): pip install 'bethink[math]'") from error
    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)  # it warns that its timeouts are off
    return parse, verify, LatexExtractionConfig(boxed_match_priority=-1)
