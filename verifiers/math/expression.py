r"""Reading normalised LaTeX as a closed form, by a grammar of its own: no text is ever evaluated as a program.

A term is a chain of factors, a bar or a frac its quotient, ``1\frac{2}{3}`` is mixed. ``1/2x`` can be read in two ways
and isn't. Letters are unknowns, but for i and e; ``\sin``, ``\log`` and other functions take what follows them.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import comb, factorial

from verifiers.math.form import MAX_POWER, ONE, PI, Absurd, E, Form, I, Unreadable, opaque, power, unknown

_NUMBER = re.compile(
    r"(?:[0-9]{1,3}(?:\x20[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,4}(?![0-9.]))?|\.[0-9]+"
)
_REPEATING = re.compile(r"([0-9]*)\.([0-9]*)\\(?:overline|bar)(?:\{([0-9]+)\}|([0-9]))")
_MIXED = re.compile(
    r"([0-9]+)(?:\\frac(?:\{([0-9]+)\}|([0-9]))(?:\{([0-9]+)\}|([0-9]))|\x20([0-9]+)/([0-9]+))(?![0-9(\\{])"
)
_COMMAND = re.compile(r"\\[A-Za-z]+")
_SUBSCRIPT = re.compile(r"_(?:\{([0-9A-Za-z,]{1,8})\}|([0-9A-Za-z]))")
_GREEK = frozenset(
    """alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa lambda mu nu xi rho sigma tau phi varphi
    chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell""".split()  # noqa: SIM905
)
_FUNCTIONS = frozenset("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log lg exp".split())  # noqa: SIM905
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_HALF = Form.number(Fraction(1, 2))


@lru_cache(maxsize=4096)
def read_expression(text: str) -> Form:
    """The form of a normalised text; raises `Unreadable` where this grammar doesn't hold it, `Absurd` for giants."""
    reader = _Reader(text)
    form = reader.sum()
    if reader.position < len(text):
        raise Unreadable(f"{text[reader.position]!r} is not understood there")
    return form


class _Reader:
    """A position in a text, and one method a rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text, self.position = text, 0

    def sum(self) -> Form:
        total = self._signed(self.term)
        while self._next() in ("+", "-"):
            total = total - self._after("-", self.term) if self._next() == "-" else total + self._after("+", self.term)
        return total

    def term(self) -> Form:
        product, divided = self.factor(), False
        while True:
            if self._take("*") or self._take(r"\cdot"):
                product = product * self._signed(self.factor)
            elif self._take("/"):
                product, divided = product / self._signed(self.factor), True
                continue
            elif self._begins_factor():
                if divided:
                    raise Unreadable("a quotient that can be read in two ways")
                product = product * self.factor()
            else:
                return product

    def factor(self) -> Form:
        """An atom with factorials and a power."""
        if (mixed := _MIXED.match(self.text, self.position)) is not None:
            self.position = mixed.end()
            whole, *parts = (int(group) for group in mixed.groups() if group is not None)
            if not parts[0] < parts[1]:
                raise Unreadable("a mixed number that can be read in two ways")
            return Form.number(whole) + Form.number(parts[0]) / Form.number(parts[1])
        base = self._atom()
        while self._take("!"):
            base = _factorial(base)
        if self._take("^"):
            base = power(base, self._exponent())
        if self._next() in ("^", "_", "!"):
            raise Unreadable("a power of a power without brackets")
        return base

    def _atom(self) -> Form:
        sign = self._next()
        if sign.isdigit() or sign == ".":
            return self._number()
        if sign in _PAIRS and sign:
            return self._bracket(sign, _PAIRS[sign])
        if sign == "|":
            return opaque("absolute", self._bracket("|", "|"))
        if sign == "\\":
            return self._command()
        if sign.isascii() and sign.isalpha():
            self.position += 1
            return self._letter(sign)
        raise Unreadable(f"{sign!r} is not understood" if sign else "it ends too soon")

    def _number(self) -> Form:
        if (repeating := _REPEATING.match(self.text, self.position)) is not None:
            self.position = repeating.end()
            whole, fixed, *groups = repeating.groups()
            period = groups[0] or groups[1]
            value = Fraction(int(whole + fixed + period or "0") - int(whole + fixed or "0"), 10 ** len(period) - 1)
            return Form.number(value / 10 ** len(fixed))
        match = _NUMBER.match(self.text, self.position)
        if match is None:
            raise Unreadable("a point without digits")
        self.position = match.end()
        if self._next() == "_":
            raise Unreadable("a numeral in another base")
        if self._next() == " ":
            raise Unreadable("two numbers side by side")
        mantissa, _, exponent = match[0].replace(" ", "").lower().partition("e")
        if abs(int(exponent or 0)) > MAX_POWER:
            raise Absurd(f"a power of ten above {MAX_POWER}")
        return Form.number(Fraction(mantissa) * Fraction(10) ** int(exponent or 0))

    def _bracket(self, opening: str, closing: str) -> Form:
        self._expect(opening)
        inner = self.sum()
        self._expect(closing)
        return inner

    def _letter(self, name: str) -> Form:
        match = _SUBSCRIPT.match(self.text, self.position)
        if match is not None:
            self.position = match.end()
            return unknown(f"{name}_{match[1] or match[2]}")
        if name in "fgh" and self._next() == "(":
            raise Unreadable("a function that is not known")
        return {"i": I, "e": E}.get(name) or unknown(name)

    def _command(self) -> Form:
        match = _COMMAND.match(self.text, self.position)
        name = match[0][1:] if match else ""
        self.position += 1 + len(name)
        self._take(" ")
        if name == "frac":
            over = self._argument()
            return over / self._argument()
        if name == "sqrt":
            return self._root()
        if name == "binom":
            over = self._argument()
            return _binomial(over, self._argument())
        if name in _FUNCTIONS:
            return self._function(name)
        if name in _GREEK:
            return self._letter("\\" + name)
        if name in ("pi", "infty"):
            return PI if name == "pi" else unknown("\\infty")
        raise Unreadable(f"\\{name} is not understood")

    def _root(self) -> Form:
        degree = self._bracket("[", "]").rational if self._next() == "[" else Fraction(2)
        if degree is None or degree.denominator != 1 or not 2 <= degree <= MAX_POWER:
            raise Unreadable("a root of no whole degree")
        return power(self._argument(), _HALF if degree == 2 else Form.number(1 / degree))

    def _function(self, name: str) -> Form:
        base = None
        if name == "log" and self._take("_"):
            base = self._argument()
        exponent = self._argument() if self._take("^") else ONE
        if (whole := exponent.rational) is None or whole < 1 or whole.denominator != 1:
            raise Unreadable("an inverse function, or its power")
        self._take(" ")
        argument = self._argument() if self._next() in ("(", "{") else self._chain()
        if name == "exp":
            return power(E, argument * exponent)
        value = opaque(name, argument) if base is None else opaque("logarithm", argument, base)
        return value ** int(whole)

    def _chain(self) -> Form:
        r"""What a function without brackets takes: factors up to a sign or another function, ``2x`` of ``\sin 2x``."""
        product = self.factor()
        while self._begins_factor() and not any(self.text.startswith(f"\\{n}", self.position) for n in _FUNCTIONS):
            if self._next() == "(":
                raise Unreadable("a function's argument that can be read in two ways")
            product = product * self.factor()
        return product

    def _exponent(self) -> Form:
        if self._next() == "{":
            return self._bracket("{", "}")
        return self._signed(self._plain)

    def _plain(self) -> Form:
        """An exponent without braces: all digits of a number, for it is typed so more often than meant as one digit."""
        if self._next().isdigit():
            return self._number()
        return self._atom()

    def _argument(self) -> Form:
        """What a command takes: a group, or one sign."""
        sign = self._next()
        if sign in _PAIRS and sign:
            return self._bracket(sign, _PAIRS[sign])
        if sign.isdigit():
            self.position += 1
            return Form.number(int(sign))
        return self._atom()

    def _begins_factor(self) -> bool:
        sign = self._next()
        if sign == "\\":
            match = _COMMAND.match(self.text, self.position)
            name = match[0][1:] if match else ""
            return name in _GREEK or name in _FUNCTIONS or name in ("frac", "sqrt", "binom", "pi", "infty")
        return sign in ("(", "[", "{", ".") or (sign.isascii() and sign.isalnum())

    def _signed(self, rule: Callable[[], Form]) -> Form:
        negative = False
        while self._next() in ("+", "-"):
            negative ^= self._next() == "-"
            self.position += 1
        return -rule() if negative else rule()

    def _after(self, sign: str, rule: Callable[[], Form]) -> Form:
        self._expect(sign)
        return self._signed(rule)

    def _next(self) -> str:
        return self.text[self.position : self.position + 1]

    def _take(self, sign: str) -> bool:
        if not self.text.startswith(sign, self.position):
            return False
        self.position += len(sign)
        return True

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise Unreadable(f"{sign!r} is missing")


def _factorial(form: Form) -> Form:
    value = form.rational
    if value is None or value.denominator != 1 or value < 0:
        return opaque("factorial", form)
    if value > MAX_POWER:
        raise Absurd(f"the factorial of more than {MAX_POWER}")
    return Form.number(factorial(int(value)))


def _binomial(over: Form, under: Form) -> Form:
    n, k = over.rational, under.rational
    if n is None or k is None or n.denominator != 1 or k.denominator != 1 or n < 0 or k < 0:
        return opaque("binomial", over, under)
    if n > MAX_POWER:
        raise Absurd(f"a binomial of more than {MAX_POWER}")
    return Form.number(comb(int(n), int(k)))
