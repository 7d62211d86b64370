"""Exact closed forms: quotients of polynomials over the rationals, with roots of primes, i and pi among the letters.

Roots of rationals are products of primes to powers in [0, 1), which are linearly independent over the rationals
(Besicovitch 1940), and pi is transcendental, so a sum of such terms is zero only if no term is left: two forms are
equal exactly if their difference has no terms. Letters stand for unknowns. A function of a form that has no exact value
here (``sin 1``, ``sqrt(1 + sqrt 2)``, ``2^n``) is a letter of its own, an opaque one: it is equal to itself, and
nothing is concluded from its being different.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Self

MAX_TERMS = 300
MAX_BITS = 20_000  # of a numerator or denominator
MAX_POWER = 2_000  # of a sum
MAX_EXPANDED = 60  # power of a sum that is multiplied out
_TRIAL = 1_000  # primes up to here are found in the number under a root


class Unreadable(ValueError):
    """A text that is no expression of those read here. Its message says why, in a few words."""


class Absurd(Unreadable):
    """An expression whose value could not be written down."""


@dataclass(frozen=True, slots=True, order=True)
class Letter:
    """What a polynomial is in. Ordered, so that spellings are canonical."""

    kind: str  # prime, i, pi, unknown, e, or the name of a function
    name: str = ""  # the prime, the unknown, or the spelling of the arguments
    arguments: "tuple[Form, ...]" = field(default=(), compare=False)

    @property
    def opaque(self) -> bool:
        """Whether the value may be related to those of other letters."""
        return self.kind not in ("prime", "i", "pi", "unknown")


Monomial = tuple[tuple[Letter, Fraction], ...]  # sorted by letter, no power is 0
Terms = dict[Monomial, Fraction]  # no coefficient is 0
_ONE: Monomial = ()


@dataclass(frozen=True, eq=False)
class Form:
    """A quotient of two sums of terms. Equal values may have different forms: see `is_zero`."""

    over: Mapping[Monomial, Fraction]
    under: Mapping[Monomial, Fraction] = field(default_factory=lambda: {_ONE: Fraction(1)})

    @classmethod
    def number(cls, value: Fraction | int) -> Self:
        """A rational constant."""
        return cls({_ONE: Fraction(value)} if value else {})

    @classmethod
    def letter(cls, letter: Letter) -> Self:
        """A letter alone."""
        return cls({((letter, Fraction(1)),): Fraction(1)})

    @property
    def is_zero(self) -> bool:
        """Whether it is zero as written; unequal to zero is certain only if no letter is `Letter.opaque`."""
        return not self.over

    @cached_property
    def letters(self) -> frozenset[Letter]:
        """The letters that occur, not counting those inside functions."""
        return frozenset(letter for terms in (self.over, self.under) for monomial in terms for letter, _ in monomial)

    @cached_property
    def spelling(self) -> str:
        """Equal spellings mean equal values."""
        over = _spell(self.over)
        return over if set(self.under) == {_ONE} else f"({over})/({_spell(self.under)})"

    @property
    def rational(self) -> Fraction | None:
        """Its value if it is a rational number."""
        if self.is_zero:
            return Fraction(0)
        return self.over[_ONE] if set(self.over) == set(self.under) == {_ONE} else None

    def __add__(self, other: "Form") -> "Form":
        if self.under == other.under:
            return _quotient(_sum(self.over, other.over), self.under)
        over = _sum(_product(self.over, other.under), _product(other.over, self.under))
        return _quotient(over, _product(self.under, other.under))

    def __neg__(self) -> "Form":
        return Form({monomial: -value for monomial, value in self.over.items()}, self.under)

    def __sub__(self, other: "Form") -> "Form":
        return self + -other

    def __mul__(self, other: "Form") -> "Form":
        return _quotient(_product(self.over, other.over), _product(self.under, other.under))

    def __truediv__(self, other: "Form") -> "Form":
        if other.is_zero:
            raise Unreadable("division by zero")
        return _quotient(_product(self.over, other.under), _product(self.under, other.over))

    def __pow__(self, power: int) -> "Form":
        if power < 0:
            return ONE / self**-power
        if (rational := self.rational) is not None:
            return Form.number(_rational_power(rational, power))
        if power > MAX_POWER and len(self.over) + len(self.under) > 2:
            raise Unreadable(f"a power above {MAX_POWER} of a sum")
        result, square = ONE, self
        while power:
            result = result * square if power & 1 else result
            power >>= 1
            square = square * square if power else square
        return result


ONE = Form.number(1)
I = Form.letter(Letter("i"))  # noqa: E741
PI = Form.letter(Letter("pi"))
E = Form.letter(Letter("e"))


def unknown(name: str) -> Form:
    """A variable."""
    return Form.letter(Letter("unknown", name))


def opaque(function: str, *arguments: Form) -> Form:
    """The value of a function, as a letter."""
    return Form.letter(Letter(function, ", ".join(argument.spelling for argument in arguments), arguments))


def power(base: Form, exponent: Form) -> Form:
    """``base ** exponent``, exact for whole exponents and for rational powers of positive rationals."""
    value, rational = exponent.rational, base.rational
    if value is not None and value.denominator == 1:
        expands = len(base.over) + len(base.under) == 2 or abs(value) <= MAX_EXPANDED
        return base ** int(value) if expands else opaque("power", base, exponent)
    if value is None or rational is None or rational == 0 or abs(value) > MAX_POWER:
        return opaque("power", base, exponent)
    if rational < 0:
        return I * power(-base, exponent) if value == Fraction(1, 2) else opaque("power", base, exponent)
    factors = _factors(rational.numerator), _factors(rational.denominator)
    if factors[0] is None or factors[1] is None:
        return opaque("power", base, exponent)
    result = ONE
    for primes, sign in ((factors[0], 1), (factors[1], -1)):
        for prime, times in primes:
            whole, part = divmod(sign * times * value, 1)
            result = result * Form.number(_rational_power(Fraction(prime), whole))
            if part:
                result = result * Form({((Letter("prime", str(prime)), part),): Fraction(1)})
    return result


def _rational_power(value: Fraction, power: int) -> Fraction:
    bits = max(abs(value.numerator).bit_length(), value.denominator.bit_length())
    if abs(value) != 1 and value and bits * abs(power) > MAX_BITS:
        raise Absurd(f"a number of more than {MAX_BITS} bits")
    return value**power


@lru_cache(maxsize=4096)
def _factors(number: int) -> tuple[tuple[int, int], ...] | None:
    """Prime factors and how often they divide; None if a part is left that is not known to be prime."""
    found, prime = [], 2
    while prime <= _TRIAL and prime * prime <= number:
        times = 0
        while number % prime == 0:
            number, times = number // prime, times + 1
        if times:
            found.append((prime, times))
        prime += 1 if prime == 2 else 2
    if number >= _TRIAL * _TRIAL:
        return None
    return (*found, (number, 1)) if number > 1 else tuple(found)


def _sum(left: Mapping[Monomial, Fraction], right: Mapping[Monomial, Fraction]) -> Terms:
    terms = dict(left)
    for monomial, value in right.items():
        _put(terms, monomial, value)
    return terms


def _product(left: Mapping[Monomial, Fraction], right: Mapping[Monomial, Fraction]) -> Terms:
    if len(left) * len(right) > MAX_TERMS * 10:
        raise Unreadable(f"more than {MAX_TERMS} terms")
    terms: Terms = {}
    for one, a in left.items():
        for other, b in right.items():
            monomial, factor = _join(one, other)
            _put(terms, monomial, a * b * factor)
    return terms


def _put(terms: Terms, monomial: Monomial, value: Fraction) -> None:
    total = terms.get(monomial, 0) + value
    if max(total.numerator.bit_length(), total.denominator.bit_length()) > MAX_BITS:
        raise Absurd(f"a number of more than {MAX_BITS} bits")
    if total:
        terms[monomial] = total
    else:
        terms.pop(monomial, None)
    if len(terms) > MAX_TERMS:
        raise Unreadable(f"more than {MAX_TERMS} terms")


def _join(one: Monomial, other: Monomial) -> tuple[Monomial, Fraction]:
    """The product of two monomials, and the factor that comes out of it."""
    if not one or not other:
        return one or other, Fraction(1)
    powers = dict(one)
    for letter, exponent in other:
        powers[letter] = powers.get(letter, Fraction(0)) + exponent
    return _reduce(powers)


def _reduce(powers: dict[Letter, Fraction]) -> tuple[Monomial, Fraction]:
    """Powers of primes brought below 1, of i to 0 or 1, and the factor that this leaves."""
    factor = Fraction(1)
    for letter in powers:
        if letter.kind == "prime":
            whole, powers[letter] = divmod(powers[letter], 1)
            factor *= Fraction(int(letter.name)) ** whole
        elif letter.kind == "i":
            powers[letter] %= 4
            if powers[letter] >= 2:
                powers[letter], factor = powers[letter] - 2, -factor
    return tuple(sorted((letter, exponent) for letter, exponent in powers.items() if exponent)), factor


def _quotient(over: Mapping[Monomial, Fraction], under: Mapping[Monomial, Fraction]) -> Form:
    """A form whose denominator is 1 or has several terms, the first of them with the coefficient 1."""
    if not over:
        return Form({})
    first = min(under)
    scale = {_ONE: 1 / under[first]}
    if len(under) > 1:
        return Form(_product(over, scale), _product(under, scale))
    monomial, factor = _reduce({letter: -exponent for letter, exponent in first})
    return Form(_product(_product(over, scale), {monomial: factor}))


def _spell(terms: Mapping[Monomial, Fraction]) -> str:
    return " + ".join(_terms(terms)) or "0"


def _terms(terms: Mapping[Monomial, Fraction]) -> Iterator[str]:
    for monomial in sorted(terms):
        letters = [
            f"{letter.kind}[{letter.name}]" + ("" if exponent == 1 else f"^{exponent}") for letter, exponent in monomial
        ]
        yield " ".join([str(terms[monomial]), *letters])
