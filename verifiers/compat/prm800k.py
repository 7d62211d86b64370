r"""The grader of PRM800K: equal spellings, else text that sympy simplifies to the same, entry by entry.

Source: openai/prm800k, ``prm800k/grading/grader.py`` and ``math_normalize.py``. Faults kept: an unreduced fraction is
wrong, and so is ``6/2`` for a whole reference; ``2,1`` is not ``1,2``; 2.00000001 is 2; ``(a)`` is ``a``; ``\pm`` is
never spelled out; exponents of two digits are not compared by value.

What differs: the original hands model text to ``parse_expr``, which is ``eval``, behind a guard that allows two
letters. Here `verifiers.math.safe_sympy` builds the same value without evaluating; functions other than sqrt, ln, re
and im are refused. What runs long is a ``timeout`` here.
"""

import re
from dataclasses import dataclass

from decoding.errors import ConfigError
from verifiers.base import Outcome, Verdict
from verifiers.compat import hendrycks
from verifiers.compat.hendrycks import BoxedFormat
from verifiers.exact import UNANSWERED
from verifiers.math.safe_sympy import parse_implicit

_UNITS = (
    *("degree", "cm", "centimeter", "meter", "mile", "second", "minute", "hour", "day", "week", "month", "year"),
    *("foot", "feet", "inch", "yard"),
)
_BRACKETS = "()[]"
_ENCLOSED = re.compile(r"^\\text\{(?P<text>.+?)\}$")
_SIGNS = {"√": "sqrt", "π": "pi", "∞": "inf", "∪": "U", "·": "*", "×": "*"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prm800kFormat(BoxedFormat):
    r"""The last ``\boxed{...}``."""

    name: str = "prm800k"

    @property
    def equality(self) -> "Prm800kVerifier":  # type: ignore[override]
        """The same that grades."""
        return Prm800kVerifier()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prm800kVerifier:
    """``grade_answer``."""

    def quick(self, answer: str | None, reference: str) -> Verdict | None:
        """Only that there is no answer."""
        return UNANSWERED if answer is None else None

    def verify(self, answer: str | None, reference: str) -> Verdict:
        """Judge an extracted answer, with sympy: in a worker."""
        if answer is None:
            return UNANSWERED
        if _hendrycks(answer) == _hendrycks(reference):
            return Verdict(outcome=Outcome.CORRECT, rule="prm800k: spelling of MATH")
        given, truth = spelling(answer), spelling(reference)
        if given == truth:
            return Verdict(outcome=Outcome.CORRECT, rule="prm800k: spelling")
        same = bool(given) and _same_entries(truth, given)
        return Verdict(outcome=Outcome.CORRECT if same else Outcome.WRONG, rule="prm800k: sympy")


def spelling(text: str) -> str:
    """What ``_normalize`` makes of a text."""
    enclosed = _ENCLOSED.search(text)
    text = enclosed["text"] if enclosed else text
    for old, new in ((r"\%", "%"), (r"\$", "$"), ("$", ""), ("%", ""), (" or ", " , "), (" and ", " , ")):
        text = text.replace(old, new)
    for word, power in (("million", 6), ("billion", 9), ("trillion", 12)):
        text = text.replace(word, f"*10^{power}")
    for unit in _UNITS:
        text = re.sub(rf"{unit}(es)?(s)? *(\^[0-9]+)?", "", text)
    text = re.sub(r"\^ *\\circ", "", text)
    if text and text[0] == "{" and text[-1] == "}":
        text = text[1:-1]
    text = re.sub(r",\\! *", "", text)
    if (number := _float(text)) is not None and _is_whole(number):
        text = str(round(number))
    if "\\" in text:
        text = _as_text(text)
    text = re.sub("- *", "-", text)
    text = re.sub("([0-9]) +([0-9])", r"\1+\2", text)  # 7 3/4
    text = re.sub("[ {}]", "", text).lower()
    return str(int(float(text.replace(",", "")))) if _is_whole_text(text) else text


def _hendrycks(text: str) -> str:
    """``math_normalize.normalize_answer``."""
    text = text.strip()
    try:
        enclosed = _ENCLOSED.search(text)
        return hendrycks.spelling(enclosed["text"].strip() if enclosed else text)
    except hendrycks.Unspellable:
        return text


def _as_text(text: str) -> str:
    try:
        from pylatexenc.latex2text import LatexNodes2Text
    except ImportError as error:
        raise ConfigError(f"prm800k reads LaTeX with pylatexenc ({error}): pip install 'bethink[math]'") from error
    for command in (r"\tfrac", r"\dfrac"):
        text = text.replace(command, r"\frac")
    try:
        plain = LatexNodes2Text().latex_to_text(text.replace(r"\frac", r" \frac"))
    except Exception:  # as the original
        return text
    for sign, word in _SIGNS.items():
        plain = plain.replace(sign, word)
    return str(plain.strip())


def _same_entries(truth: str, given: str) -> bool:
    entries, others = _entries(truth), _entries(given)
    if len(entries) > 1 and (truth[0] != given[0] or truth[-1] != given[-1]):
        return False
    return len(entries) == len(others) and all(
        _same_entry(entry, other) for entry, other in zip(entries, others, strict=True)
    )


def _same_entry(truth: str, given: str) -> bool:
    fraction = r"^-?[0-9]+.?/0*[1-9][0-9]*.?$"
    if re.search(fraction, truth) and re.search(fraction, given):
        return truth == given
    return _is_whole_text(truth) == _is_whole_text(given) and _is_zero(f"({truth})-({given})")


def _entries(text: str) -> list[str]:
    text = _without_commas(text)
    if not text:
        return []
    inside = text[1:-1]
    if len(text) > 2 and text[0] in _BRACKETS and text[-1] in _BRACKETS and not set(inside) & set(_BRACKETS):
        return [entry.strip() for entry in inside.split(",")]
    return [text]


def _is_zero(difference: str) -> bool:
    """``are_equal_under_sympy``, behind its guard."""
    unknown = {letter for letter in difference.replace("sqrt", "").replace("frac", "") if letter.isalpha()}
    if len(unknown) > 2 or re.search(r"\^\{|\^\(|\^[0-9]+\^|\^[0-9][0-9]+", difference):
        return False
    import sympy

    try:
        return bool(sympy.simplify(parse_implicit(difference.replace("^", "**"))) == 0)
    except Exception:  # as the original: what can't be read or simplified is not equal
        return False


def _without_commas(text: str) -> str:
    while True:
        shorter = re.sub(r"(\d)(,)(\d\d\d)($|\D)", r"\1\3\4", text)
        if shorter == text:
            return text
        text = shorter


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_whole(number: float) -> bool:
    try:
        return abs(number - round(number)) <= 1e-7
    except (ValueError, OverflowError):
        return False


def _is_whole_text(text: str) -> bool:
    number = _float(_without_commas(text))
    return number is not None and _is_whole(number)
