"""Following a procedure to the letter: ``procbench``, ``procbench:<kind>``, ``procbench:sort,steps=8``.

After ProcBench (Fujisawa et al. 2024, arXiv 2410.03117): the problem says all that is to be done, there is nothing to
find out, and the states on the way are the answer as much as the last one. The problems are generated, so there is no
end of them; their number of steps is from 2 to 25, as in the paper, unless the task says otherwise. Unlike the paper's
problems each shows a short example: there, a second model brings answers into form.
"""

import difflib

from decoding.errors import ConfigError
from decoding.seeds import SeededRng, derive_seed
from evals.tasks.base import Problem, Task
from evals.tasks.generated import DEFAULT_PROBLEMS, read_count, read_options, solution, step_task
from evals.tasks.procedures import KINDS, Procedure
from verifiers.steps import spell_state, spell_states

MAX_STEPS = 100
MIXED = "mixed"
LABEL = "Step"
_EXAMPLE_STEPS = 2  # one example a kind, the same for all its problems
_USAGE = f"procbench, procbench:KIND or procbench:KIND,steps=8 (or steps=2-25); kinds are {MIXED}, {', '.join(KINDS)}"


def load_procbench(spec: str, *, limit: int | None, seed: int) -> Task:
    """The task with `limit` problems. Kinds and lengths take turns, so every beginning of the task has its share."""
    argument, options = read_options(spec, _USAGE, {"steps": "2-25"})
    kinds = list(KINDS) if argument in ("", MIXED) else [argument]
    if kinds[0] not in KINDS:
        close = difflib.get_close_matches(argument, KINDS, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise ConfigError(f"{spec!r}: there is no kind {argument!r}{meant}. Write {_USAGE}")
    first, _, last = options["steps"].partition("-")
    low = read_count(spec, first, "steps", 1, MAX_STEPS)
    high = read_count(spec, last or first, "the largest number of steps", low, MAX_STEPS)
    problems = []
    for index in range(DEFAULT_PROBLEMS if limit is None else limit):
        turn, kind = divmod(index, len(kinds))
        problems.append(procbench_problem(kinds[kind], low + turn % (high - low + 1), seed, index))
    return step_task(spec, problems, label=LABEL, source=f"generated: procedures, {spec}, seed {seed}")


def procbench_problem(kind: str, steps: int, seed: int, index: int) -> Problem:
    """Problem `index` of a kind and a number of steps, from the stream that a seed names."""
    procedure = KINDS[kind].make(SeededRng(derive_seed(seed, "procbench", kind, steps, index)), steps)
    states = [spell_state(state) for state in procedure.states]
    return Problem(
        id=f"procbench-{kind}-{steps}-{index:05d}",
        question=_question(kind, procedure),
        reference=spell_states(states),
        metadata={"kind": kind, "steps": steps, "states": states},
    )


def _question(kind: str, procedure: Procedure) -> str:
    example = KINDS[kind].make(SeededRng(derive_seed(0, "procbench", "example", kind)), _EXAMPLE_STEPS)
    return (
        f"{KINDS[kind].rule}\n\nDo the steps in order. After each step write the whole state in square brackets, one "
        f"step a line. For example, for\n\n{_given(example)}\n\nthe answer is\n\n{solution(example.states, LABEL)}\n\n"
        f"Now do this, {len(procedure.states)} steps in all:\n\n{_given(procedure)}"
    )


def _given(procedure: Procedure) -> str:
    actions = (f"{LABEL} {number}: {action}" for number, action in enumerate(procedure.actions, start=1))
    return "\n".join([f"Start: [{procedure.start}]", *actions])
