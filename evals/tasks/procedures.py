"""Procedures that can be followed without a choice: what is given, what to do at each step, and all states.

Eight kinds after the tasks of ProcBench (Fujisawa et al. 2024, arXiv 2410.03117, table 1), with wordings and generators
of our own. Theirs leave out steps that change nothing and have lengths that follow from the data; here every step has a
state, so a problem of n steps has n states.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from decoding.seeds import Rng
from evals.tasks.generated import draw_int, pick

LETTERS = "abcdefghijklmnopqrstuvwxyz"
FRUITS = ("apple", "fig", "kiwi", "lemon", "mango", "pear", "plum")
MAX_VALUE = 999  # of a running number


class Procedure(NamedTuple):
    """A problem with its true states."""

    start: str  # the state before the first step
    actions: Sequence[str]  # [steps], or none where the rule alone says what to do
    states: Sequence[str]  # [steps], after each step


class Kind(NamedTuple):
    """A kind of procedure."""

    rule: str  # for the reader of the problem
    make: Callable[[Rng, int], Procedure]  # from randomness and the number of steps


def _sort(rng: Rng, steps: int) -> Procedure:
    letters = [pick(rng, LETTERS) for _ in range(steps + 1)]
    start, states = "".join(letters), []
    for position in range(steps):
        smallest = min(range(position, len(letters)), key=letters.__getitem__)
        letters[position], letters[smallest] = letters[smallest], letters[position]
        states.append("".join(letters))
    return Procedure(start, (), states)


def _delete_char(rng: Rng, steps: int) -> Procedure:
    start = text = "".join(pick(rng, LETTERS[:12]) for _ in range(steps + draw_int(rng, 2, 5)))
    actions, states = [], []
    for _ in range(steps):
        actions.append(pick(rng, text))
        text = text.replace(actions[-1], "", 1)
        states.append(text)
    return Procedure(start, actions, states)


def _push_pop(rng: Rng, steps: int) -> Procedure:
    start = text = "".join(pick(rng, LETTERS) for _ in range(draw_int(rng, 4, 8)))
    actions, states = [], []
    for _ in range(steps):
        letter = pick(rng, LETTERS)
        results = {f"push_left({letter})": letter + text, f"push_right({letter})": text + letter}
        if len(text) > 1:
            results |= {"pop_left": text[1:], "pop_right": text[:-1]}
        actions.append(pick(rng, list(results)))
        text = results[actions[-1]]
        states.append(text)
    return Procedure(start, actions, states)


def _rotate(rng: Rng, steps: int) -> Procedure:
    length = draw_int(rng, 6, 10)
    start = text = "".join(pick(rng, LETTERS) for _ in range(length))
    actions, states = [], []
    for _ in range(steps):
        first = draw_int(rng, 1, length - 1)
        last = draw_int(rng, first + 1, length)
        actions.append(f"{first} to {last}")
        text = text[: first - 1] + text[last - 1] + text[first - 1 : last - 1] + text[last:]
        states.append(text)
    return Procedure(start, actions, states)


def _cumulate(rng: Rng, steps: int) -> Procedure:
    start = value = draw_int(rng, 1, 20)
    actions, states = [], []
    for _ in range(steps):
        addend, factor = draw_int(rng, 2, 99), draw_int(rng, 2, 9)
        results = {f"+ {addend}": value + addend, f"- {addend}": value - addend, f"* {factor}": value * factor}
        actions.append(pick(rng, [action for action, result in results.items() if 0 <= result <= MAX_VALUE]))
        value = results[actions[-1]]
        states.append(str(value))
    return Procedure(str(start), actions, states)


def _move_cyclic(rng: Rng, steps: int) -> Procedure:
    length = draw_int(rng, 6, 12)
    place = draw_int(rng, 0, length - 1)
    actions, states = [], [_cells(place, length)]
    for _ in range(steps):
        way, distance = pick(rng, ("left", "right")), draw_int(rng, 1, 9)
        actions.append(f"{way} {distance}")
        place = (place + (distance if way == "right" else -distance)) % length
        states.append(_cells(place, length))
    return Procedure(states[0], actions, states[1:])


def _cells(place: int, length: int) -> str:
    return "-" * place + "x" + "-" * (length - 1 - place)


def _tally(rng: Rng, steps: int) -> Procedure:
    counts = dict.fromkeys(FRUITS[: draw_int(rng, 3, len(FRUITS))], 0)
    actions: list[str] = []
    states = [_spell(f"{key}={count}" for key, count in counts.items())]
    for _ in range(steps):
        actions.append(pick(rng, list(counts)))
        counts[actions[-1]] += 1
        states.append(_spell(f"{key}={count}" for key, count in counts.items()))
    return Procedure(states[0], actions, states[1:])


def _edit_list(rng: Rng, steps: int) -> Procedure:
    numbers = [draw_int(rng, 0, 99) for _ in range(draw_int(rng, 4, 7))]
    actions: list[str] = []
    states = [_spell(numbers)]
    for _ in range(steps):
        new, addend = draw_int(rng, 0, 99), draw_int(rng, 1, 9)
        results = {
            f"append {new}": [*numbers, new],
            "reverse": numbers[::-1],
            "swap the first and the last": [numbers[-1], *numbers[1:-1], numbers[0]],
            f"add {addend} to the first": [numbers[0] + addend, *numbers[1:]],
        }
        if len(numbers) > 2:
            results |= {"remove the first": numbers[1:], "remove the last": numbers[:-1]}
        actions.append(pick(rng, list(results)))
        numbers = results[actions[-1]]
        states.append(_spell(numbers))
    return Procedure(states[0], actions, states[1:])


def _spell(items: Iterable[object]) -> str:
    return ",".join(map(str, items))


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "sort": Kind(
            "Sort the letters of a string into alphabetical order. Positions count from 1. At step i, look at the "
            "letters from position i to the end and find the one that comes first in the alphabet, the leftmost of "
            "them if there are several. Swap it with the letter at position i. If it is at position i already, nothing "
            "changes, and the step still counts.",
            _sort,
        ),
        "delete_char": Kind(
            "Delete letters from a string. At each step, delete one letter: the first occurrence, from the left, of "
            "the letter named.",
            _delete_char,
        ),
        "push_pop": Kind(
            "Change a string at its ends. push_left(a) puts the letter a before the string, push_right(a) puts it "
            "behind. pop_left removes the first letter, pop_right the last one.",
            _push_pop,
        ),
        "rotate": Kind(
            "Rotate parts of a string. Positions count from 1. At each step, take the part between the two positions "
            "named, both included: its last letter moves to the front of the part, and the others move one place to "
            "the right. The rest of the string stays.",
            _rotate,
        ),
        "cumulate": Kind(
            "Apply operations to a number, one after another, each to the result of the one before.", _cumulate
        ),
        "move_cyclic": Kind(
            'Move the "x" in a row of cells by the number of cells named. The row is a circle: left of the first cell '
            "is the last one, and right of the last cell is the first one.",
            _move_cyclic,
        ),
        "tally": Kind(
            "Count things as they come. The state has the count of every thing, in the order of the start. At each "
            "step, the count of the thing named goes up by 1.",
            _tally,
        ),
        "edit_list": Kind("Change a list of numbers as told, one action after another.", _edit_list),
    }
)
