"""MBPP+ (Liu et al. 2023, arXiv 2305.01210), Apache-2.0: 378 problems of MBPP with about 35 times the tests.

The data set has inputs and a canonical solution; what is right is what that solution gives. Inputs that JSON can't
spell (tuples, sets, complex numbers) and results that may differ are evalplus 0.3's, evalplus/data/mbpp.py and
evalplus/eval/_special_oracle.py, reproduced here as data.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evals.data import Row

Inputs = Sequence[Any]

_SET_EQUAL = (
    *("similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum"),
    *("intersection_array", "find_dissimilar", "Diff"),
)
NOT_NONE = frozenset({"check_str", "text_match_three", "text_starta_endb"})  # they may return `re.Match`

# How each result is compared where equality is not the rule; `out`, `exp` and `inputs` are there.
_RULES: Mapping[str, str] = {
    **dict.fromkeys(_SET_EQUAL, "set(out) == set(exp)"),
    **dict.fromkeys(NOT_NONE, "(out if isinstance(out, bool) else out is not None) == (exp is not None)"),
    "are_equivalent": "True",
    "sum_div": "out == exp or out == 0",
    "surface_Area": "out == exp or abs(out - surface_area(*inputs)) <= ATOL",
    "digit_distance_nums": "out == exp or out == digit_distance(*inputs)",
}

_CHECK = """
import copy
import math
from math import inf, nan

ATOL = {atol!r}
INPUTS = {inputs!r}
REFERENCE = {reference!r}


def surface_area(base, height):  # Mbpp/581: the height of the pyramid itself
    return round(base**2 + 2 * base * math.sqrt((base / 2) ** 2 + height**2))


def digit_distance(a, b):  # Mbpp/558: numbers of unequal length, padded with zeros
    width = max(len(str(a)), len(str(b)))
    return sum(abs(int(x) - int(y)) for x, y in zip(str(a).zfill(width), str(b).zfill(width)))


def floats(value):
    parts = value if isinstance(value, (list, tuple)) else [value]
    return bool(parts) and all(isinstance(part, float) for part in parts)


def close(out, exp, atol):
    import numpy

    if type(out) is not type(exp) or (isinstance(exp, (list, tuple)) and len(out) != len(exp)):
        return False
    return bool(numpy.allclose(out, exp, rtol=1e-07, atol=atol))


def compare(candidate):
    names = {{}}
    exec(REFERENCE, names)
    for inputs in INPUTS:
        exp = names[{entry_point!r}](*copy.deepcopy(inputs))
        out = candidate(*copy.deepcopy(inputs))
        atol = ATOL or (1e-6 if floats(exp) else 0)
        assert ({rule}) or (atol and close(out, exp, atol))


compare({entry_point})
"""


def plus_test(row: Row) -> str:
    """Source that tests the function of a row of ``MbppPlus.jsonl``, by its name."""
    number = int(str(row["task_id"]).rpartition("/")[2])
    shape = _SHAPES.get(number, list)
    return _CHECK.format(
        entry_point=row["entry_point"],
        atol=row["atol"],
        inputs=[shape(inputs) for inputs in (*row["base_input"], *row["plus_input"])],
        reference=row["canonical_solution"],
        rule=_RULES.get(row["entry_point"], "out == exp"),
    )


def _each(inputs: Inputs) -> list[Any]:
    """Every argument is a tuple."""
    return [tuple(argument) for argument in inputs]


def _inner(inputs: Inputs) -> list[Any]:
    """Every argument is a list of tuples."""
    return [[tuple(item) for item in argument] for argument in inputs]


def _nested(inputs: Inputs) -> list[Any]:
    """Every argument is a tuple of tuples."""
    return [tuple(tuple(item) for item in argument) for argument in inputs]


def _first(inputs: Inputs) -> list[Any]:
    """The first argument is a tuple."""
    return [tuple(inputs[0]), *inputs[1:]]


def _deep(value: Any) -> Any:
    """Tuples all the way down."""
    return tuple(_deep(item) for item in value) if isinstance(value, list) else value


# By the number of the problem; the others take their inputs as they are.
_SHAPES: Mapping[int, Callable[[Inputs], list[Any]]] = {
    **dict.fromkeys(
        (2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809),
        _each,
    ),
    **dict.fromkeys((63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780), _inner),
    **dict.fromkeys((75, 413, 444, 753), lambda inputs: [[tuple(item) for item in inputs[0]], inputs[1]]),
    **dict.fromkeys((106, 750), lambda inputs: [inputs[0], tuple(inputs[1])]),
    115: lambda inputs: [[set(item) if isinstance(item, list) and item else {} for item in inputs[0]]],
    124: lambda inputs: [float(inputs[0]), complex(inputs[1])],
    **dict.fromkeys((250, 405, 446, 617, 720, 763, 808), _first),
    **dict.fromkeys((259, 401, 445), _nested),
    278: lambda inputs: [tuple(tuple(item) if isinstance(item, list) else item for item in inputs[0])],
    307: _first,
    722: lambda inputs: [{key: tuple(value) for key, value in inputs[0].items()}, *inputs[1:]],
    252: lambda inputs: [complex(inputs[0])],
    **dict.fromkeys((580, 615, 791), lambda inputs: [_deep(argument) for argument in inputs]),
}
