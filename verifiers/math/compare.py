"""Whether two answers are the same: yes, no, or not to be told without symbolic work."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

from verifiers.math.bounds import surely_close, surely_differ
from verifiers.math.form import Form, Unreadable, unknown
from verifiers.math.rules import Rules
from verifiers.math.structure import Answer, Collection, Equation, Group, Matrix, Named, Numeral, Union, Value, Words
from verifiers.math.units import read_unit

_HUNDREDTH = Form.number(Fraction(1, 100))


def same(left: Answer, right: Answer, rules: Rules) -> bool | None:
    """Whether two answers are the same; None if that can't be told here. Symmetric."""
    left, right = _plain(left, right)
    if type(left) is type(right):
        return _SAME_KIND[type(left)](left, right, rules)
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Matrix) and isinstance(other, Group):
            return _vector(one, other, rules)
        if isinstance(one, Named) and isinstance(other, Equation):
            return _equations(_as_equation(one), other, rules)
    return False


def spell(answer: Answer, rules: Rules) -> str:
    """A spelling that equal answers may share and different ones never do."""
    if isinstance(answer, Value):
        answer = _percent(answer, rules)
        return answer.form.spelling + (f" {answer.unit}" if answer.unit else "")
    if isinstance(answer, Words):
        return f"words {answer.text if rules.case else answer.text.casefold()}"
    if isinstance(answer, Numeral):
        return f"{answer.digits} in base {answer.base}"
    if isinstance(answer, Group):
        items = [spell(item, rules) for item in answer.items]
        return answer.brackets[0] + ", ".join(items if rules.ordered_points else sorted(items)) + answer.brackets[1]
    if isinstance(answer, Collection):
        items = [spell(item, rules) for item in answer.items]
        if answer.braces:
            return f"{{{', '.join(sorted(set(items)))}}}"
        return f"list {', '.join(items if rules.ordered_lists else sorted(items))}"
    if isinstance(answer, Union):
        return " or ".join(sorted(spell(part, rules) for part in answer.parts))
    if isinstance(answer, Matrix):
        return "; ".join(", ".join(spell(entry, rules) for entry in row) for row in answer.rows) + " matrix"
    if isinstance(answer, Named):
        return f"{answer.name} = {spell(answer.body, rules)}"
    return f"{answer.difference.spelling} = 0"


def _plain(left: Answer, right: Answer) -> tuple[Answer, Answer]:
    """Without a name that only one of them has, and without the braces round a single value."""
    for _ in range(2):
        if isinstance(left, Named) and not isinstance(right, Named | Equation):
            left = left.body
        elif isinstance(left, Collection) and len(left.items) == 1 and not isinstance(right, Collection):
            left = left.items[0]
        left, right = right, left
    return left, right


def _percent(value: Value, rules: Rules) -> Value:
    if value.unit == "percent" and rules.percent == "hundredths":
        return Value(value.form * _HUNDREDTH)
    return value


def _values(left: Value, right: Value, rules: Rules) -> bool | None:
    left, right = _percent(left, rules), _percent(right, rules)
    if rules.units and left.unit and right.unit and left.unit != right.unit:
        return False
    left, right = _with_letter_unit(left, right), _with_letter_unit(right, left)
    try:
        difference = left.form - right.form
        if difference.is_zero or (rules.tolerance and surely_close(left.form, right.form, rules.tolerance)):
            return True
        return False if surely_differ(difference) else None
    except Unreadable:
        return None


def _with_letter_unit(value: Value, other: Value) -> Value:
    """5 m has a unit and not an unknown where it meets 5 meters."""
    for letter in value.form.letters if other.unit and not value.unit else ():
        if letter.kind == "unknown" and read_unit(letter.name) == other.unit:
            return Value(value.form / Form.letter(letter), other.unit)
    return value


def _numerals(left: Numeral, right: Numeral, rules: Rules) -> bool | None:
    return left == right


def _words(left: Words, right: Words, rules: Rules) -> bool | None:
    return left.text == right.text if rules.case else left.text.casefold() == right.text.casefold()


def _groups(left: Group, right: Group, rules: Rules) -> bool | None:
    if left.brackets != right.brackets:
        return False
    return _items(left.items, right.items, rules, ordered=rules.ordered_points)


def _collections(left: Collection, right: Collection, rules: Rules) -> bool | None:
    braces = left.braces or right.braces
    one, other = (_distinct(side.items, rules) if braces else side.items for side in (left, right))
    return _items(one, other, rules, ordered=rules.ordered_lists and not braces)


def _unions(left: Union, right: Union, rules: Rules) -> bool | None:
    return _items(left.parts, right.parts, rules, ordered=False)


def _matrices(left: Matrix, right: Matrix, rules: Rules) -> bool | None:
    if [len(row) for row in left.rows] != [len(row) for row in right.rows]:
        return False
    return _all(_items(one, other, rules, ordered=True) for one, other in zip(left.rows, right.rows, strict=True))


def _vector(matrix: Matrix, point: Group, rules: Rules) -> bool | None:
    """A row or a column of a matrix is the point with these coordinates."""
    if point.brackets != "()" or not (len(matrix.rows) == 1 or all(len(row) == 1 for row in matrix.rows)):
        return False
    return _items(tuple(entry for row in matrix.rows for entry in row), point.items, rules, ordered=True)


def _named(left: Named, right: Named, rules: Rules) -> bool | None:
    """Two names of one thing don't matter where they are words or functions; x = 5 is not y = 5."""
    if left.name == right.name or any(len(side.name) != 1 for side in (left, right)):
        return same(left.body, right.body, rules)
    if isinstance(left.body, Value) and isinstance(right.body, Value):
        return _equations(_as_equation(left), _as_equation(right), rules)
    return False


def _as_equation(named: Named) -> Equation:
    body = named.body.form if isinstance(named.body, Value) else Form.number(0)
    return Equation(unknown(named.name) - body)


def _equations(left: Equation, right: Equation, rules: Rules) -> bool | None:
    """The same up to a factor; otherwise only equations of straight lines and planes surely differ."""
    one, other = left.difference, right.difference
    shared = sorted(set(one.over) & set(other.over))
    if shared and one.under == other.under:
        factor = Form.number(one.over[shared[-1]] / other.over[shared[-1]])
        if (one - factor * other).is_zero:
            return True
    return False if _is_linear(one) and _is_linear(other) else None


def _is_linear(form: Form) -> bool:
    return len(form.under) == 1 and all(
        len(monomial) <= 1 and all(letter.kind == "unknown" and power == 1 for letter, power in monomial)
        for monomial in form.over
    )


def _items(left: Sequence[Answer], right: Sequence[Answer], rules: Rules, *, ordered: bool) -> bool | None:
    if len(left) != len(right):
        return False
    if ordered:
        return _all(same(one, other, rules) for one, other in zip(left, right, strict=True))
    remaining, doubtful = list(right), False
    for one in left:
        verdicts = [same(one, other, rules) for other in remaining]
        if True in verdicts:
            del remaining[verdicts.index(True)]
        elif None in verdicts:
            doubtful = True
        else:
            return False
    return None if doubtful else True


def _distinct(items: Iterable[Answer], rules: Rules) -> Sequence[Answer]:
    """Each item once, as far as that shows in the spelling."""
    return list({spell(item, rules): item for item in items}.values())


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    found = set(verdicts)
    return False if False in found else None if None in found else True


_SAME_KIND: dict[type, Callable[..., bool | None]] = {
    Value: _values,
    Numeral: _numerals,
    Words: _words,
    Group: _groups,
    Collection: _collections,
    Union: _unions,
    Matrix: _matrices,
    Named: _named,
    Equation: _equations,
}
