"""Executing a plan for long: ``horizon:<turns>``, ``horizon:50,keys=3``.

After Sinha et al. 2025, *The Illusion of Diminishing Returns: Measuring Long Horizon Execution in LLMs*, arXiv
2509.09677: a dictionary gives a number for every key, each turn names some keys, and the model keeps a running sum that
starts from 0. Plan and knowledge are given, so what goes wrong went wrong in execution. `evals.estimators.execution`
has the figures.

All turns stand in one prompt and are answered in one completion. The paper's main experiment has one message a turn,
with the model's own answers between them; that takes a loop over a growing chat, which tasks do not have. Its keys are
words of five letters from a word list; ours are made of syllables. As its prompt does, ours shows an example.
"""

from collections.abc import Mapping, Sequence

from decoding.seeds import Rng, SeededRng, derive_seed
from evals.tasks.base import Problem, Task
from evals.tasks.generated import DEFAULT_PROBLEMS, draw_int, pick, read_count, read_options, solution, step_task
from verifiers.steps import spell_states

MAX_TURNS = 2000
MAX_ENTRIES = 1000
MAX_VALUE = 99  # of an entry, either sign
LABEL = "Turn"
_VOWELS, _CONSONANTS = "aeiou", "bcdfghjklmnprstvz"
_EXAMPLE_VALUES = {"apple": 5, "grape": -4, "mango": 12}
_EXAMPLE_PLAN = (("grape", "mango"), ("apple", "grape"))
_EXAMPLE_STATES = ("8", "9")
_USAGE = "horizon:TURNS or horizon:TURNS,keys=2,entries=100: keys named a turn, entries in the dictionary"


def load_horizon(spec: str, *, limit: int | None, seed: int) -> Task:
    """The task with `limit` problems of so many turns."""
    argument, options = read_options(spec, _USAGE, {"keys": "2", "entries": "100"})
    turns = read_count(spec, argument, "the number of turns", 1, MAX_TURNS)
    keys = read_count(spec, options["keys"], "keys", 1, MAX_ENTRIES)
    entries = read_count(spec, options["entries"], "entries", 1, MAX_ENTRIES)
    count = DEFAULT_PROBLEMS if limit is None else limit
    problems = [horizon_problem(turns, keys, entries, seed, index) for index in range(count)]
    return step_task(spec, problems, label=LABEL, source=f"generated: running sums, {spec}, seed {seed}")


def horizon_problem(turns: int, keys: int, entries: int, seed: int, index: int) -> Problem:
    """Problem `index` of a number of turns, keys a turn and dictionary entries, from the stream that a seed names."""
    rng = SeededRng(derive_seed(seed, "horizon", turns, keys, entries, index))
    values = _dictionary(rng, entries)
    plan = [[pick(rng, list(values)) for _ in range(keys)] for _ in range(turns)]
    increments = [sum(values[key] for key in named) for named in plan]
    states = [str(sum(increments[: turn + 1])) for turn in range(turns)]
    return Problem(
        id=f"horizon-{turns}-{keys}-{entries}-{index:05d}",
        question=_question(values, plan),
        reference=spell_states(states),
        metadata={"turns": turns, "keys": keys, "increments": increments, "states": states},
    )


def _dictionary(rng: Rng, entries: int) -> dict[str, int]:
    """Keys of five letters that can be spoken, each with a number from -99 to 99."""
    values: dict[str, int] = {}
    while len(values) < entries:
        key = "".join(pick(rng, _VOWELS if place % 2 else _CONSONANTS) for place in range(5))
        values.setdefault(key, draw_int(rng, -MAX_VALUE, MAX_VALUE))
    return values


def _question(values: dict[str, int], plan: list[list[str]]) -> str:
    return (
        "Keep a running sum that starts from 0. A dictionary gives a number for every key. Each turn names keys: add "
        "their numbers to the sum. After each turn write the sum in square brackets, one turn a line. For example, for"
        f"\n\n{_given(_EXAMPLE_VALUES, _EXAMPLE_PLAN)}\n\nthe answer is\n\n{solution(_EXAMPLE_STATES, LABEL)}\n\n"
        f"Now do this, {len(plan)} turns in all:\n\n{_given(values, plan)}"
    )


def _given(values: Mapping[str, int], plan: Sequence[Sequence[str]]) -> str:
    entries = (f"{key}: {value}" for key, value in values.items())
    turns = (f"{LABEL} {turn}: {', '.join(named)}" for turn, named in enumerate(plan, start=1))
    return "\n".join(["Dictionary:", *entries, "", *turns])
