"""Proofs that two forms differ: bounds of their difference, by interval arithmetic, that leave out zero.

A difference is never shown to be zero in this way. Unknowns are given positive rational values; where a function is not
real there, nothing is shown.
"""

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from typing import Any

from verifiers.math.form import Form, Letter, Monomial

_BITS = 200  # of precision
_LARGEST = 10**6  # beyond it a function's bounds may take long
_POINTS = (Fraction(27, 13), Fraction(5, 23), Fraction(151, 19))  # values of the unknowns start here
_NO_BOUNDS = (ArithmeticError, ValueError, NotImplementedError, TypeError)  # mpmath's too, at a pole
_STEP = Fraction(17, 29)  # and the next unknown is this much larger


def surely_differ(difference: Form) -> bool:
    """Whether a difference is shown not to be zero, for at least one value of its unknowns."""
    if difference.is_zero:
        return False
    if not any(letter.opaque for letter in difference.letters):
        return True  # what is left has no relation by which it could vanish
    unknowns = sorted(_unknowns(difference))
    return any(
        _leaves_out_zero(difference, {name: start + index * _STEP for index, name in enumerate(unknowns)})
        for start in (_POINTS if unknowns else _POINTS[:1])
    )


def surely_close(left: Form, right: Form, tolerance: float) -> bool:
    """Whether two numbers are shown to differ by no more than this part of the larger one."""
    iv = _context()
    if iv is None or _unknowns(left) or _unknowns(right):
        return False
    try:
        one, other = _value(iv, left, {}), _value(iv, right, {})
        largest = max(abs(one).a, abs(other).a)
        return bool(abs(one - other).b <= tolerance * largest)
    except _NO_BOUNDS:
        return False


def _unknowns(form: Form) -> set[str]:
    names: set[str] = set()
    for letter in form.letters:
        names |= {letter.name} if letter.kind == "unknown" else set()
        names = names.union(*map(_unknowns, letter.arguments))
    return names


def _leaves_out_zero(form: Form, values: Mapping[str, Fraction]) -> bool:
    iv = _context()
    if iv is None:
        return False
    try:
        over, under = _sum(iv, form.over, values), _sum(iv, form.under, values)
        # A denominator whose bounds hold zero shows nothing: the form may have no value there.
        return 0 not in over and 0 not in under
    except _NO_BOUNDS:
        return False


@cache
def _context() -> Any:
    """Interval arithmetic with a precision of its own; None where mpmath is missing."""
    try:
        from mpmath.ctx_iv import MPIntervalContext
    except ImportError:
        return None
    context = MPIntervalContext()
    context.prec = _BITS
    return context


def _value(iv: Any, form: Form, values: Mapping[str, Fraction]) -> Any:
    return _sum(iv, form.over, values) / _sum(iv, form.under, values)


def _sum(iv: Any, terms: Mapping[Monomial, Fraction], values: Mapping[str, Fraction]) -> Any:
    total = iv.mpf(0)
    for monomial, factor in terms.items():
        product = _rational(iv, factor)
        for letter, exponent in monomial:
            product *= _power(iv, _letter(iv, letter, values), exponent)
        total += product
    return total


def _power(iv: Any, base: Any, exponent: Fraction) -> Any:
    if exponent.denominator == 1:
        return base ** int(exponent)
    return _real_power(iv, base, _rational(iv, exponent))


def _real_power(iv: Any, base: Any, exponent: Any) -> Any:
    _require(base.a > 0)
    return iv.exp(_small(exponent * iv.log(base)))


def _letter(iv: Any, letter: Letter, values: Mapping[str, Fraction]) -> Any:
    if letter.kind == "unknown":
        return _rational(iv, values[letter.name])
    if letter.kind == "prime":
        return iv.mpf(int(letter.name))
    if letter.kind in ("pi", "e"):
        return iv.pi + 0 if letter.kind == "pi" else iv.exp(1)
    return _function(iv, letter.kind, [_value(iv, each, values) for each in letter.arguments])


def _function(iv: Any, name: str, arguments: list[Any]) -> Any:
    """Bounds of a function's value; raises ``ValueError`` for one that is not known here, or not real."""
    _require(bool(arguments))
    first = _small(arguments[0])
    if name == "power":
        return _real_power(iv, first, arguments[1])
    if name in ("sin", "cos", "exp"):
        return getattr(iv, name)(first)
    if name in ("tan", "sec"):
        cosine = iv.cos(first)
        _require(0 not in cosine)
        return (iv.sin(first) if name == "tan" else 1) / cosine
    if name in ("cot", "csc"):
        sine = iv.sin(first)
        _require(0 not in sine)
        return (iv.cos(first) if name == "cot" else 1) / sine
    if name in ("ln", "logarithm"):  # the base comes second
        _require(all(argument.a > 0 for argument in arguments))
        return iv.log(first) if name == "ln" else iv.log(first) / iv.log(arguments[1])
    if name == "absolute":
        return abs(first)
    raise ValueError(name)


def _small(bounds: Any) -> Any:
    _require(bounds.a > -_LARGEST and bounds.b < _LARGEST)
    return bounds


def _require(condition: Any) -> None:
    if not condition:
        raise ValueError("not in the domain")


def _rational(iv: Any, value: Fraction) -> Any:
    return iv.mpf(value.numerator) / iv.mpf(value.denominator)
